//! `POST /hook`: somebody pushed, the branches are to be looked at now. Off unless the configuration says where.
//!
//! A caller who shows the token can make the daemon look earlier than it would have, and nothing else; what the caller sends
//! is not read.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The listener, as the configuration has it now.
#[derive(Debug)]
pub struct HookListener {
    hurry: watch::Sender<()>,
    /// What is served, and by whom.
    served: Option<(config::Hook, JoinHandle<()>)>,
}

#[derive(Debug)]
struct HookState {
    token: String,
    hurry: watch::Sender<()>,
}

impl HookListener {
    /// A hook that does not listen yet; `hurry` is changed when somebody pushed.
    #[must_use]
    pub fn new(hurry: watch::Sender<()>) -> Self {
        Self { hurry, served: None }
    }

    /// Listens where the configuration says from now on; gives what is wrong.
    pub async fn set(&mut self, wanted: Option<&config::Hook>) -> Option<String> {
        let running = self.served.as_ref().filter(|(_, task)| !task.is_finished()).map(|(hook, _)| hook);
        if running == wanted {
            return None;
        }
        if let Some((_, task)) = self.served.take() {
            task.abort();
            // The port is free when the task is gone.
            let _ = task.await;
        }
        let hook = wanted?;
        let listener = match TcpListener::bind(hook.listen).await {
            Ok(listener) => listener,
            Err(error) => return Some(format!("[hook] listen = \"{}\": {error}", hook.listen)),
        };
        tracing::info!(listen = %hook.listen, "POST /hook asks for a fetch cycle");
        let app = app(hook.token.clone(), self.hurry.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!("the hook: {error}");
            }
        });
        self.served = Some((hook.clone(), task));
        None
    }
}

impl Drop for HookListener {
    fn drop(&mut self) {
        if let Some((_, task)) = self.served.take() {
            task.abort();
        }
    }
}

fn app(token: String, hurry: watch::Sender<()>) -> Router {
    Router::new().route("/hook", post(pushed)).with_state(Arc::new(HookState { token, hurry }))
}

async fn pushed(State(door): State<Arc<HookState>>, headers: HeaderMap) -> Response {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // GitLab has a header of its own.
    let shown = shown.or_else(|| headers.get("x-gitlab-token").map(axum::http::HeaderValue::as_bytes));
    if !shown.is_some_and(|shown| same(shown, door.token.as_bytes())) {
        let how = [(WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, how, "the token is not right\n").into_response();
    }
    tracing::info!("a caller of the hook asks for a fetch cycle");
    match door.hurry.send(()) {
        Ok(()) => (StatusCode::ACCEPTED, "the branches are looked at now\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n").into_response(),
    }
}

/// Takes as long for a token that is nearly right as for one that is all wrong.
fn same(shown: &[u8], token: &[u8]) -> bool {
    let differs = shown.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b));
    shown.len() == token.len() && std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("{request}Host: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn only_who_shows_the_token_is_heard() {
        let (hurry, mut heard) = watch::channel(());
        let mut hook = HookListener::new(hurry);
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (first, second) = (free(), free());
        let wanted = |listen, token: &str| config::Hook { listen, token: token.into() };
        assert_eq!(hook.set(Some(&wanted(first, "0123456789abcdef"))).await, None);
        let port = first.port();
        assert_eq!(ask(port, "POST /hook HTTP/1.1\r\n").await, "HTTP/1.1 401 Unauthorized");
        let wrong = "POST /hook HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdee\r\n";
        assert_eq!(ask(port, wrong).await, "HTTP/1.1 401 Unauthorized");
        assert_eq!(ask(port, "GET /hook HTTP/1.1\r\n").await, "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(ask(port, "POST /other HTTP/1.1\r\n").await, "HTTP/1.1 404 Not Found");
        assert!(!heard.has_changed().unwrap());
        for header in ["Authorization: Bearer 0123456789abcdef", "X-Gitlab-Token: 0123456789abcdef"] {
            let right = format!("POST /hook HTTP/1.1\r\n{header}\r\n");
            assert_eq!(ask(port, &right).await, "HTTP/1.1 202 Accepted");
            assert!(heard.has_changed().unwrap());
            heard.mark_unchanged();
        }
        // The configuration changes: elsewhere, nowhere, where somebody else listens.
        assert_eq!(hook.set(Some(&wanted(second, "fedcba9876543210"))).await, None);
        assert!(TcpStream::connect(first).await.is_err() && TcpStream::connect(second).await.is_ok());
        assert_eq!(hook.set(None).await, None);
        assert!(TcpStream::connect(second).await.is_err());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let problem = hook.set(Some(&wanted(taken.local_addr().unwrap(), "0123456789abcdef"))).await;
        assert!(problem.unwrap().contains("in use"));
    }
}
