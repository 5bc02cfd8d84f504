//! `POST /hook` starts a fetch cycle, for a forge that reports pushes. Disabled unless the configuration has `[hook]`.
//!
//! A caller with the token can only start a fetch cycle. The body of the request is not read.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_server::{Client, Limits, Proxies};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audit::{AuditAction, AuditLog, Requester};

/// A forge needs one connection at a time, and the daemon needs its file descriptors for its own work.
const LIMITS: fn() -> Limits = || Limits {
    connections: 32,
    connections_per_address: 16,
    requests: 32,
    requests_per_address: 16,
    streams: 4,
    head_bytes: 16 << 10,
    head: Duration::from_secs(10),
    response: Duration::from_secs(10),
    stall: Duration::from_secs(10),
    ..Limits::default()
};

/// The listener for `[hook]`. A change of the configuration can move or disable it while the daemon runs.
#[derive(Debug)]
pub struct HookListener {
    fetch_now: watch::Sender<()>,
    audit: AuditLog,
    serving: Option<(config::Hook, JoinHandle<()>)>,
}

#[derive(Debug)]
struct HookState {
    token: String,
    fetch_now: watch::Sender<()>,
    audit: AuditLog,
}

impl HookListener {
    /// A hook that does not listen yet. Each accepted request is recorded and sends on `fetch_now`.
    #[must_use]
    pub fn new(fetch_now: watch::Sender<()>, audit: AuditLog) -> Self {
        Self { fetch_now, audit, serving: None }
    }

    /// Starts, moves or stops the listener according to the configuration. Returns the problem to report, if any.
    pub async fn set(&mut self, wanted: Option<&config::Hook>) -> Option<String> {
        let running = self.serving.as_ref().filter(|(_, task)| !task.is_finished()).map(|(hook, _)| hook);
        if running == wanted {
            return None;
        }
        if let Some((_, task)) = self.serving.take() {
            task.abort();
            // The port is free when the task has ended.
            let _ = task.await;
        }
        let hook = wanted?;
        let listener = match TcpListener::bind(hook.listen).await {
            Ok(listener) => listener,
            Err(error) => return Some(format!("[hook] listen = \"{}\": {error}", hook.listen)),
        };
        tracing::info!(listen = %hook.listen, "listening for POST /hook");
        let (fetch_now, audit) = (self.fetch_now.clone(), self.audit.clone());
        let app = app(HookState { token: hook.token.clone(), fetch_now, audit });
        let (stopping, _) = watch::channel(false);
        let never = std::future::pending();
        let task =
            tokio::spawn(http_server::serve(listener, app, (LIMITS(), Proxies::default()), stopping, never));
        self.serving = Some((hook.clone(), task));
        None
    }
}

impl Drop for HookListener {
    fn drop(&mut self) {
        if let Some((_, task)) = self.serving.take() {
            task.abort();
        }
    }
}

fn app(state: HookState) -> Router {
    Router::new().route("/hook", post(hook)).with_state(Arc::new(state))
}

async fn hook(
    State(state): State<Arc<HookState>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // GitLab sends the token in its own header.
    let token = token.or_else(|| headers.get("x-gitlab-token").map(axum::http::HeaderValue::as_bytes));
    if !token.is_some_and(|token| equal(token, state.token.as_bytes())) {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "wrong token\n").into_response();
    }
    state.audit.record(AuditAction::Fetch, Requester::Hook { address: client.address() });
    tracing::info!("POST /hook: starting a fetch cycle");
    match state.fetch_now.send(()) {
        Ok(()) => (StatusCode::ACCEPTED, "starting a fetch cycle\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n").into_response(),
    }
}

/// Compares in a time that does not depend on the number of equal bytes.
fn equal(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |bits, (a, b)| bits | (a ^ b));
    given.len() == token.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use std::net::SocketAddr;

    use super::*;

    async fn request(port: u16, head: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("{head}Host: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Whether nothing listens. A child process of another test holds the socket of this process until its exec closes
    /// it.
    async fn is_closed(address: SocketAddr) -> bool {
        for _ in 0..100 {
            if TcpStream::connect(address).await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn a_request_without_the_token_is_refused() {
        let (fetch_now, mut requested) = watch::channel(());
        let dir = tempfile::tempdir().unwrap();
        let mut hook = HookListener::new(fetch_now, AuditLog::of(dir.path()));
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (first, second) = (free(), free());
        let wanted = |listen, token: &str| config::Hook { listen, token: token.into() };
        assert_eq!(hook.set(Some(&wanted(first, "0123456789abcdef"))).await, None);
        let port = first.port();
        assert_eq!(request(port, "POST /hook HTTP/1.1\r\n").await, "HTTP/1.1 401 Unauthorized");
        let wrong = "POST /hook HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdee\r\n";
        assert_eq!(request(port, wrong).await, "HTTP/1.1 401 Unauthorized");
        assert_eq!(request(port, "GET /hook HTTP/1.1\r\n").await, "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(request(port, "POST /other HTTP/1.1\r\n").await, "HTTP/1.1 404 Not Found");
        assert!(!requested.has_changed().unwrap());
        for header in ["Authorization: Bearer 0123456789abcdef", "X-Gitlab-Token: 0123456789abcdef"] {
            let right = format!("POST /hook HTTP/1.1\r\n{header}\r\n");
            assert_eq!(request(port, &right).await, "HTTP/1.1 202 Accepted");
            assert!(requested.has_changed().unwrap());
            requested.mark_unchanged();
        }
        // The configuration changes to another port, to none, and to a port in use.
        assert_eq!(hook.set(Some(&wanted(second, "fedcba9876543210"))).await, None);
        assert!(is_closed(first).await && TcpStream::connect(second).await.is_ok());
        assert_eq!(hook.set(None).await, None);
        assert!(is_closed(second).await);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let problem = hook.set(Some(&wanted(taken.local_addr().unwrap(), "0123456789abcdef"))).await;
        assert!(problem.unwrap().contains("in use"));
    }

    #[tokio::test]
    async fn incomplete_requests_do_not_block_the_hook() {
        let (fetch_now, requested) = watch::channel(());
        let dir = tempfile::tempdir().unwrap();
        let mut hook = HookListener::new(fetch_now, AuditLog::of(dir.path()));
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let token = "0123456789abcdef".to_owned();
        assert_eq!(hook.set(Some(&config::Hook { listen, token })).await, None);
        let mut held = Vec::new();
        for number in 0..250 {
            let mut stream = TcpStream::connect(listen).await.unwrap();
            let half = b"POST /hook HTTP/1.1\r\nHost: x\r\n";
            stream.write_all(&half[..number % half.len()]).await.ok();
            held.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let right = "POST /hook HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdef\r\n";
        assert_eq!(request(listen.port(), right).await, "HTTP/1.1 202 Accepted");
        assert!(requested.has_changed().unwrap());
        let (entries, _) = AuditLog::of(dir.path()).read(10).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].requester, Requester::Hook { address: listen.ip() });
        drop(held);
    }
}
