//! The one thing that can be asked for beyond reading: that ci-daemon looks at its remotes now, as a forge asks after a
//! push. Off unless the server was given a token; a CGI program never has it.
//!
//! Nothing is written: the daemon that the status snapshot names gets the signal for which it waits (SIGUSR1), once it
//! is certain that the process is one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use results::Reader;
use results::json::ErrorView;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::response::{Response, kind};

/// The shortest token, in bytes.
const TOKEN_MIN: usize = 16;
/// What the kernel calls the daemon's process.
const DAEMON: &str = "ci-daemon";

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It cannot be read.
    #[error("{path}: the hook's token cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read it.
    #[error("{0}: others may read the hook's token; chmod 600 it")]
    Open(PathBuf),
    /// It can be guessed.
    #[error("{0}: the hook's token has fewer than {TOKEN_MIN} characters; make one: openssl rand -hex 32")]
    Short(PathBuf),
}

/// Who may ask, and when somebody did.
pub struct Hook {
    token: [u8; 32],
    last: AtomicI64,
}

#[derive(Serialize)]
struct Asked {
    asked: &'static str,
}

impl Hook {
    /// With the token in a file that only its owner may read.
    pub fn from_file(path: &Path) -> Result<Self, HookError> {
        use std::os::unix::fs::PermissionsExt as _;
        let read = |source| HookError::Read { path: path.into(), source };
        let mode = path.metadata().map_err(read)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(HookError::Open(path.into()));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let token = text.trim();
        if token.len() < TOKEN_MIN {
            return Err(HookError::Short(path.into()));
        }
        Ok(Self::new(token))
    }

    /// With this token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self { token: Sha256::digest(token).into(), last: AtomicI64::new(0) }
    }

    /// Answers a `POST` at the time `now`, in Unix seconds.
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap, reader: &Reader, now: i64) -> Response {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        // Digests are compared: how long that takes says nothing of the token.
        let known = given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given.trim())) == self.token);
        if !known {
            return refusal(StatusCode::UNAUTHORIZED, "the hook wants Authorization: Bearer TOKEN")
                .with(header::WWW_AUTHENTICATE, "Bearer")
                .finished(&Method::POST);
        }
        let asked = Asked { asked: "ci-daemon looks at its remotes now" };
        // More than once a second helps nobody.
        let answer = if self.last.swap(now, Ordering::Relaxed) == now {
            accepted(&asked)
        } else {
            match wake(reader) {
                Ok(()) => accepted(&asked),
                Err(why) => {
                    tracing::warn!("the hook was called in vain: {why}");
                    refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no ci-daemon of these results runs on this host",
                    )
                }
            }
        };
        answer.finished(&Method::POST)
    }
}

fn accepted(asked: &Asked) -> Response {
    Response::new(StatusCode::ACCEPTED, kind::JSON, serde_json::to_vec(asked).unwrap_or_default())
}

fn refusal(status: StatusCode, error: &str) -> Response {
    let view = ErrorView { error: error.into() };
    Response::new(status, kind::JSON, serde_json::to_vec(&view).unwrap_or_default())
}

/// Signals the daemon that wrote the snapshot.
fn wake(reader: &Reader) -> Result<(), String> {
    let snapshot =
        reader.snapshot().map_err(|error| error.to_string())?.ok_or("there is no status snapshot")?;
    let pid =
        i32::try_from(snapshot.pid).ok().and_then(Pid::from_raw).ok_or("the snapshot names no process")?;
    // Opened first, looked at then: the process cannot become another in between.
    let process =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("process {}: {error}", snapshot.pid))?;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", snapshot.pid)).unwrap_or_default();
    if name.trim_end() != DAEMON {
        return Err(format!("process {} is {:?}, not {DAEMON}", snapshot.pid, name.trim_end()));
    }
    pidfd_send_signal(process, Signal::USR1).map_err(|error| format!("process {}: {error}", snapshot.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_opens_and_only_a_daemon_is_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let hook = Hook::new("0123456789abcdef");
        for wrong in
            [HeaderMap::new(), headers("Bearer x"), headers("Basic 0123456789abcdef"), headers("Bearer ")]
        {
            assert_eq!(hook.answer(&wrong, &reader, 1).status, 401);
        }
        let right = headers("Bearer 0123456789abcdef");
        assert_eq!(hook.answer(&right, &reader, 1).status, 503, "no snapshot");
        // This very process is no daemon: had it got the signal, it would be dead.
        let snapshot = format!("{{\"pid\": {}}}", std::process::id());
        std::fs::write(dir.path().join("ci-daemon-status.json"), snapshot).unwrap();
        assert_eq!(hook.answer(&right, &reader, 2).status, 503);
        assert_eq!(hook.answer(&right, &reader, 2).status, 202, "asked for already");
        std::fs::write(dir.path().join("ci-daemon-status.json"), "{\"pid\": 4294967295}").unwrap();
        assert_eq!(hook.answer(&right, &reader, 3).status, 503);
    }

    #[test]
    fn tokens_are_kept_well() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(matches!(Hook::from_file(&file), Err(HookError::Read { .. })));
        let write = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("0123456789abcdef\n", 0o644);
        assert!(matches!(Hook::from_file(&file), Err(HookError::Open(_))));
        write("short\n", 0o600);
        assert!(matches!(Hook::from_file(&file), Err(HookError::Short(_))));
        write("0123456789abcdef\n", 0o600);
        assert_eq!(Hook::from_file(&file).unwrap().token, Hook::new("0123456789abcdef").token);
    }
}
