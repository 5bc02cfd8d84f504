//! The webhook: a forge requests a fetch after a push.
//!
//! Writes nothing. The daemon with the process id in the status snapshot gets SIGUSR1, after a check that the process
//! is a ci-daemon.

use std::sync::atomic::{AtomicI64, Ordering};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use results::Reader;
use results::json::ErrorView;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::token::{Token, bearer};
use crate::http::{Response, content_type};

/// The name of the daemon's process in `/proc/PID/comm`.
const DAEMON: &str = "ci-daemon";

/// The webhook of a server.
#[derive(Debug)]
pub struct Webhook {
    token: Token,
    /// The time of the last call, in Unix seconds.
    last: AtomicI64,
}

#[derive(Serialize)]
struct Accepted {
    asked: &'static str,
}

/// Why the daemon was not signalled.
#[derive(Debug, thiserror::Error)]
enum SignalError {
    #[error(transparent)]
    Results(#[from] results::Error),
    #[error("there is no status snapshot")]
    NoSnapshot,
    #[error("the status snapshot has no valid process id")]
    NoProcess,
    #[error("process {pid} is {name:?}, not {DAEMON}")]
    OtherProcess { pid: u32, name: String },
    #[error("process {pid} cannot be signaled")]
    Process { pid: u32, source: rustix::io::Errno },
}

impl Webhook {
    /// A webhook for clients that send this token.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token, last: AtomicI64::new(0) }
    }

    /// Answers a `POST` at the time `now`, in Unix seconds.
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap, reader: &Reader, now: i64) -> Response {
        let known = bearer(headers).is_some_and(|token| self.token.is(&token));
        if !known {
            return refusal(StatusCode::UNAUTHORIZED, "send the token as Authorization: Bearer TOKEN")
                .with(header::WWW_AUTHENTICATE, "Bearer")
                .finished(&Method::POST);
        }
        // At most one signal per second.
        let response = if self.last.swap(now, Ordering::Relaxed) == now {
            accepted()
        } else {
            match signal_daemon(reader) {
                Ok(()) => accepted(),
                Err(error) => {
                    tracing::warn!("webhook call failed: {}", stdio::WithCauses(&error));
                    refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no ci-daemon for these results runs on this host",
                    )
                }
            }
        };
        response.finished(&Method::POST)
    }
}

fn accepted() -> Response {
    let view = Accepted { asked: "ci-daemon fetches now" };
    Response::new(StatusCode::ACCEPTED, content_type::JSON, serde_json::to_vec(&view).unwrap_or_default())
}

fn refusal(status: StatusCode, error: &str) -> Response {
    let view = ErrorView { error: error.into() };
    Response::new(status, content_type::JSON, serde_json::to_vec(&view).unwrap_or_default())
}

/// Signals the daemon that wrote the snapshot.
fn signal_daemon(reader: &Reader) -> Result<(), SignalError> {
    let pid = reader.snapshot()?.ok_or(SignalError::NoSnapshot)?.pid;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(SignalError::NoProcess)?;
    let failed = |source| SignalError::Process { pid, source };
    // Opened before its name is read, so that the descriptor cannot refer to another process afterwards.
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(failed)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim_end() != DAEMON {
        return Err(SignalError::OtherProcess { pid, name: name.trim_end().into() });
    }
    pidfd_send_signal(process, Signal::USR1).map_err(failed)
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
    fn only_the_token_is_accepted_and_only_a_daemon_is_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let hook = Webhook::new(Token::new("0123456789abcdef"));
        for wrong in
            [HeaderMap::new(), headers("Bearer x"), headers("Basic 0123456789abcdef"), headers("Bearer ")]
        {
            assert_eq!(hook.answer(&wrong, &reader, 1).status, 401);
        }
        let right = headers("Bearer 0123456789abcdef");
        assert_eq!(hook.answer(&right, &reader, 1).status, 503, "no snapshot");
        // This process is not ci-daemon; SIGUSR1 would end it.
        let snapshot = format!("{{\"pid\": {}}}", std::process::id());
        std::fs::write(dir.path().join("ci-daemon-status.json"), snapshot).unwrap();
        assert_eq!(hook.answer(&right, &reader, 2).status, 503);
        assert_eq!(hook.answer(&right, &reader, 2).status, 202, "called within the same second");
        std::fs::write(dir.path().join("ci-daemon-status.json"), "{\"pid\": 4294967295}").unwrap();
        assert_eq!(hook.answer(&right, &reader, 3).status, 503);
    }
}
