//! What can be asked for beyond reading, the first of two: that ci-daemon looks at its remotes now, as a forge asks after a
//! push. Off unless the server was given a token; a CGI program never has it.
//!
//! Nothing is written: the daemon that the status snapshot names gets the signal for which it waits (SIGUSR1), once it
//! is certain that the process is one.

use std::sync::atomic::{AtomicI64, Ordering};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use results::Reader;
use results::json::ErrorView;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use crate::response::{Response, kind};
use crate::token::{Token, bearer};

/// What the kernel calls the daemon's process.
const DAEMON: &str = "ci-daemon";

/// Who may ask, and when somebody did.
pub struct Hook {
    token: Token,
    last: AtomicI64,
}

#[derive(Serialize)]
struct Asked {
    asked: &'static str,
}

impl Hook {
    /// For whoever has the token.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token, last: AtomicI64::new(0) }
    }

    /// Answers a `POST` at the time `now`, in Unix seconds.
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap, reader: &Reader, now: i64) -> Response {
        let known = bearer(headers).is_some_and(|given| self.token.is(given));
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
        let hook = Hook::new(Token::new("0123456789abcdef"));
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
}
