//! Requests to receivers over HTTP.

use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::{Method, StatusCode, redirect};

/// The maximum length of an answer in an error.
const ANSWER_MAX: usize = 200;

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `POST`.
    pub method: &'static str,
    /// The address.
    pub url: String,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for HttpRequest {
    /// Without the headers, which have tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Why a message is not sent. No text has a token or a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A later attempt can succeed.
    #[error("{0}")]
    Later(String),
    /// The receiver does not accept the message.
    #[error("refused: {0}")]
    Refused(String),
}

/// Sends a request, without following redirects: a token is for the configured host only.
pub fn send(request: &HttpRequest, timeout: Duration) -> Result<(), SendError> {
    let url = place(&request.url);
    let later = |error: &dyn std::error::Error| SendError::Later(format!("{url}: {}", causes(error)));
    let client = Client::builder()
        .timeout(timeout)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("ktest-ci/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| later(&error.without_url()))?;
    let method = Method::from_bytes(request.method.as_bytes()).unwrap_or(Method::POST);
    let mut builder = client.request(method, &request.url).body(request.body.clone());
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let answer = builder.send().map_err(|error| later(&error.without_url()))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut start = Vec::new();
    let _ = std::io::Read::read_to_end(&mut std::io::Read::take(answer, 4096), &mut start);
    let start = without_secrets(&crate::text::line(&String::from_utf8_lossy(&start), ANSWER_MAX), request);
    let text = format!("{url}: HTTP {status}{}{start}", if start.is_empty() { "" } else { ": " });
    // What an operator can repair, as a token or an address, is tried again.
    Err(if REFUSED.contains(&status) { SendError::Refused(text) } else { SendError::Later(text) })
}

/// The answers of a receiver that understands the message and does not accept it.
const REFUSED: [StatusCode; 6] = [
    StatusCode::BAD_REQUEST,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::URI_TOO_LONG,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

/// A text without the tokens of a request, which an answer can repeat.
fn without_secrets(text: &str, request: &HttpRequest) -> String {
    let tokens = request.headers.iter().filter(|(name, _)| ["authorization", "private-token"].contains(name));
    tokens.fold(text.to_owned(), |text, (_, value)| {
        let token = value.rsplit(' ').next().unwrap_or_default();
        if token.is_empty() { text } else { text.replace(token, "***") }
    })
}

/// The scheme and the host of an address: its path and its query can have a secret.
fn place(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    crate::text::line(&text, 300)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn answered(answer: &'static str) -> Result<(), SendError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/secret/in?token=secret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let headers = vec![("authorization", "Bearer secret".to_owned())];
        let request = HttpRequest { method: "POST", url, headers, body: b"{}".to_vec() };
        assert!(!format!("{request:?}").contains("Bearer"));
        let result = send(&request, Duration::from_secs(10));
        server.join().unwrap();
        if let Err(error) = &result {
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        result
    }

    #[test]
    fn temporary_errors_are_told_from_final_ones() {
        answered("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").unwrap();
        for (answer, later) in [
            ("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nwait", true),
            ("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 422 No\r\ncontent-length: 16\r\n\r\nno \u{1b}[31m secret", false),
            ("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 302 There\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", true),
            ("nonsense\r\n\r\n", true),
        ] {
            let error = answered(answer).unwrap_err();
            assert_eq!(matches!(error, SendError::Later(_)), later, "{error:?}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }
}
