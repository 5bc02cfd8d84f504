//! HTTP requests to one dashboard: conditional, several at a time, with limits on size and time.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use results::json::ErrorView;
use rustls::CertificateError;

use super::cache::{Cache, Header};
use super::foreign;
use crate::problem::Problem;

/// The maximum number of concurrent requests.
const AT_ONCE: usize = 8;
/// The size limit of a response in bytes; a commit with 20,000 tests takes about 5 MB.
const RESPONSE_MAX: u64 = 256 << 20;
/// The size limit of an error response in bytes.
const ERROR_MAX: u64 = 64 << 10;
/// The number of bytes of a response that are searched for the title of a web page.
const PAGE_START: usize = 16 << 10;
/// The maximum length of a quoted web page title, in characters.
const TITLE_MAX: usize = 80;
/// The time limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a response.
#[derive(Debug, Clone)]
pub struct Body {
    /// The bytes as published.
    pub bytes: Arc<[u8]>,
    /// Whether they are compressed with brotli.
    pub brotli: bool,
    /// The address, after redirects.
    pub url: String,
}

/// A dashboard.
#[derive(Debug)]
pub struct Http {
    client: Client,
    /// The time limit of a request, from the connection attempt to the last byte of the response.
    timeout: Duration,
    base: Url,
    cache: Cache,
    /// The responses since the last [`Http::clear_memory`]; `None` means not found.
    memory: Mutex<HashMap<Url, Option<Body>>>,
}

impl Http {
    /// The dashboard at `address`, with or without the `/ci` of its pages. Each request has the time limit `timeout`
    /// and this token, which is not sent to another host after a redirect.
    pub fn open(
        address: &str,
        cache: Cache,
        (timeout, token): (Duration, Option<String>),
    ) -> Result<Self, Problem> {
        let base = base(address)?;
        let agent = format!("ci-status/{}", model::build::version());
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Problem::TokenText)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let client = Client::builder().user_agent(agent).connect_timeout(CONNECT_TIMEOUT);
        let client = client.default_headers(headers).build();
        let client = client.map_err(|error| failed(&base, &error))?;
        Ok(Self { client, timeout, base, cache, memory: Mutex::default() })
    }

    /// The address of a view: `ci?...&format=json`.
    pub fn view(&self, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.file(&["ci"]);
        url.query_pairs_mut().extend_pairs(parameters).append_pair("format", "json");
        url
    }

    /// The address of a file, given its segments below the base address.
    pub fn file(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Drops the responses in memory, so that the server is asked again.
    pub fn clear_memory(&self) {
        self.memory().clear();
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<Url, Option<Body>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response for an address; `None` if it is not found.
    pub fn get(&self, url: &Url) -> Result<Option<Body>, Problem> {
        if let Some(known) = self.memory().get(url) {
            return Ok(known.clone());
        }
        let body = self.fetch(url)?;
        self.memory().insert(url.clone(), body.clone());
        Ok(body)
    }

    /// Sends a request. The client's own time limit restarts with each chunk of the body; that of a request does not.
    fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, Problem> {
        request.timeout(self.timeout).send().map_err(|error| {
            if error.is_timeout() && error.is_connect() && self.timeout > CONNECT_TIMEOUT {
                let reason = format!("no connection within {}", humantime::format_duration(CONNECT_TIMEOUT));
                return Problem::Remote { url: url.to_string(), reason };
            }
            if error.is_redirect() {
                return foreign::redirects(url, &error);
            }
            if error.is_timeout() { self.timed_out(url) } else { failed(url, &error) }
        })
    }

    fn read(&self, url: &Url, response: Response) -> Result<Vec<u8>, Problem> {
        let remote = |reason: String| Problem::Remote { url: url.to_string(), reason };
        let mut bytes = Vec::new();
        let read = response.take(RESPONSE_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| {
            if is_timeout(&error) {
                self.timed_out(url)
            } else {
                remote(format!("the transfer failed: {error}"))
            }
        })?;
        if bytes.len() as u64 > RESPONSE_MAX {
            return Err(remote(format!("the response is larger than {} MiB", RESPONSE_MAX >> 20)));
        }
        Ok(bytes)
    }

    fn timed_out(&self, url: &Url) -> Problem {
        let limit = humantime::format_duration(self.timeout);
        let reason = format!("no complete response within {limit}; give more time with --timeout");
        Problem::Remote { url: url.to_string(), reason }
    }

    fn fetch(&self, url: &Url) -> Result<Option<Body>, Problem> {
        let cached = self.cache.get(url.as_str());
        let mut headers = HeaderMap::new();
        if let Some((header, _)) = &cached {
            condition(&mut headers, header::IF_NONE_MATCH, header.etag.as_deref());
            condition(&mut headers, header::IF_MODIFIED_SINCE, header.last_modified.as_deref());
        }
        let response = self.send(self.client.get(url.clone()).headers(headers), url)?;
        if let (StatusCode::NOT_MODIFIED, Some((header, body))) = (response.status(), cached) {
            return Ok(Some(Body { bytes: body.into(), brotli: header.brotli, url: url.to_string() }));
        }
        let Some(response) = present(url, response)? else { return Ok(None) };
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let mut header = Header {
            url: url.to_string(),
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
            brotli: text(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "br"),
            length: 0,
        };
        let (is_html, last) = (is_html(response.headers()), response.url().to_string());
        let bytes = self.read(url, response)?;
        if let Some(title) = page_title(&bytes).filter(|_| is_html) {
            return Err(Problem::WebPage { url: url.to_string(), address: last, title });
        }
        header.length = bytes.len() as u64;
        self.cache.put(&header, &bytes);
        Ok(Some(Body { bytes: bytes.into(), brotli: header.brotli, url: last }))
    }

    /// Sends JSON, and returns the body of the response. Any status but success is an error.
    pub fn post(&self, url: &Url, body: Vec<u8>) -> Result<Vec<u8>, Problem> {
        let request =
            self.client.post(url.clone()).header(header::CONTENT_TYPE, "application/json").body(body);
        let response = self.send(request, url)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(Problem::NoToken(url.to_string()));
        }
        // A dashboard without the action refuses the method, or does not have the address.
        let refused = [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];
        if refused.contains(&response.status()) {
            return Err(Problem::NoRequests(url.to_string()));
        }
        if response.status() == StatusCode::NOT_FOUND {
            let mut bytes = Vec::new();
            let _ = response.take(ERROR_MAX).read_to_end(&mut bytes);
            let reason = error_of(&bytes).ok_or_else(|| Problem::NoRequests(url.to_string()))?;
            return Err(Problem::Remote { url: url.to_string(), reason });
        }
        match present(url, response)? {
            Some(response) => self.read(url, response),
            None => Err(Problem::NoRequests(url.to_string())),
        }
    }

    /// The bytes of a growing file starting at `offset`, never from the cache; `None` if it is not found.
    pub fn rest(&self, url: &Url, offset: u64) -> Result<Option<Vec<u8>>, Problem> {
        let request = self.client.get(url.clone()).header(header::RANGE, format!("bytes={offset}-"));
        let response = self.send(request, url)?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(Some(Vec::new()));
        }
        let Some(response) = present(url, response)? else { return Ok(None) };
        let (is_html, address) = (is_html(response.headers()), response.url().to_string());
        let mut bytes = self.read(url, response)?;
        if let Some(title) = page_title(&bytes).filter(|_| is_html) {
            return Err(Problem::WebPage { url: url.to_string(), address, title });
        }
        if status != StatusCode::PARTIAL_CONTENT {
            let known = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes.drain(..known);
        }
        Ok(Some(bytes))
    }

    /// The size of a file; `None` if it is not found or the server does not send its size.
    pub fn size(&self, url: &Url) -> Result<Option<u64>, Problem> {
        let response = self.send(self.client.head(url.clone()), url)?;
        let Some(response) = present(url, response)? else { return Ok(None) };
        if is_html(response.headers()) {
            let address = response.url().to_string();
            return Err(Problem::WebPage { url: url.to_string(), address, title: String::new() });
        }
        let length = response.headers().get(header::CONTENT_LENGTH);
        Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
    }
}

/// Runs `work` for each item, several at a time. Returns the results in the order of the items.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..items.len().min(AT_ONCE)).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker does not panic")).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, answer)| answer).collect()
}

/// The address of a dashboard, from that of it or of its start page.
pub fn base(address: &str) -> Result<Url, Problem> {
    let bad = |reason: &str| Problem::Address { address: address.into(), reason: reason.into() };
    let mut url = Url::parse(address).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("it must begin with http:// or https:// and a host"));
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/ci").unwrap_or(path).to_owned();
    url.set_path(&format!("{path}/"));
    Ok(url)
}

fn condition(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// The response; `None` if it is not found. Any other status, or a response that no dashboard sends, is an error.
fn present(url: &Url, response: Response) -> Result<Option<Response>, Problem> {
    if let Some(problem) = foreign::head(url, &response) {
        return Err(problem);
    }
    let address = response.url().clone();
    match response.status() {
        status if status.is_success() => Ok(Some(response)),
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        status => {
            let mut bytes = Vec::new();
            let _ = response.take(ERROR_MAX).read_to_end(&mut bytes);
            let reason = error_of(&bytes).map(|reason| format!(": {reason}")).unwrap_or_default();
            Err(Problem::Remote {
                url: address.to_string(),
                reason: format!("the server responded with {status}{reason}"),
            })
        }
    }
}

pub fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

/// The title of a web page, which may be empty; `None` if the bytes do not start like a page.
pub fn page_title(bytes: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(PAGE_START)]);
    let lower = start.to_ascii_lowercase();
    let text = lower.trim_start_matches('\u{feff}').trim_start();
    if !["<!doctype html", "<html", "<head", "<?xml", "<!--"].iter().any(|begin| text.starts_with(begin)) {
        return None;
    }
    let title = || {
        let open = lower.find("<title")?;
        let begin = open + lower[open..].find('>')? + 1;
        let end = begin + lower[begin..].find("</title")?;
        Some(start[begin..end].split_whitespace().collect::<Vec<_>>().join(" "))
    };
    Some(title().unwrap_or_default().chars().take(TITLE_MAX).collect())
}

/// Reports the innermost cause, which is the most specific: "connection refused", "invalid peer certificate".
fn failed(url: &Url, error: &reqwest::Error) -> Problem {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(rustls::Error::InvalidCertificate(error)) = inner_error(inner).downcast_ref() {
            return Problem::Certificate { url: url.to_string(), reason: certificate(error) };
        }
        reason = inner.to_string();
        cause = inner.source();
    }
    Problem::Remote { url: url.to_string(), reason }
}

/// Whether the time limit of a request ended this transfer.
fn is_timeout(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    error.kind() == std::io::ErrorKind::TimedOut || inner.is_some_and(reqwest::Error::is_timeout)
}

/// The error inside an I/O error, which `source()` does not return.
fn inner_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    match error.downcast_ref().and_then(std::io::Error::get_ref) {
        Some(inner) => inner_error(inner),
        None => error,
    }
}

/// What is wrong with a certificate, and how to fix it.
fn certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => {
            "this machine does not trust the authority of the certificate; for an authority of your own, set \
             $SSL_CERT_FILE to its certificate (PEM)"
                .into()
        }
        E::Expired | E::ExpiredContext { .. } => {
            "the certificate has expired; renew it on the server, or check the clock of this machine".into()
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "the certificate is not valid yet; check the clock of this machine".into()
        }
        E::NotValidForNameContext { presented, .. } => {
            // `DnsName("ci.example.org")`, `IpAddress(127.0.0.1)`
            let name = |text: &String| {
                let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
                inner.unwrap_or(text).trim_matches('"').to_owned()
            };
            let names: Vec<String> = presented.iter().map(name).collect();
            format!("the certificate is for {}; use the address with that name", names.join(", "))
        }
        E::NotValidForName => "the certificate is for other names; use the address with one of them".into(),
        other => format!("the certificate cannot be trusted: {other}"),
    }
}

/// The message of an error view.
pub fn error_of(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorView>(body).ok().map(|view| view.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_users_give_them() {
        for (address, home) in [
            ("https://ci.example.org", "https://ci.example.org/"),
            ("https://ci.example.org/", "https://ci.example.org/"),
            ("https://ci.example.org/ci?user=kmo&branch=next", "https://ci.example.org/"),
            ("http://127.0.0.1:8080/~dash/ci/#x", "http://127.0.0.1:8080/~dash/"),
            ("https://ci.example.org/dash", "https://ci.example.org/dash/"),
        ] {
            assert_eq!(base(address).unwrap().as_str(), home, "{address}");
        }
        for bad in ["", "ci.example.org", "file:///etc/passwd", "ftp://x/", "http://"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_cannot_escape_their_segment() {
        let http =
            Http::open("https://ci.example.org/dash/ci", Cache::new(None), (Duration::from_secs(1), None))
                .unwrap();
        assert_eq!(
            http.file(&["c", "a/../b?x#y", "log"]).as_str(),
            "https://ci.example.org/dash/c/a%2F..%2Fb%3Fx%23y/log"
        );
        assert_eq!(
            http.view(&[("user", "a&b"), ("branch", "x/y z")]).as_str(),
            "https://ci.example.org/dash/ci?user=a%26b&branch=x%2Fy+z&format=json"
        );
    }

    /// A server that answers each request with an endless body that consists of these chunks, one every 100 ms.
    fn server(head: &'static str) -> Http {
        use std::io::Write as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                std::io::Read::read(&mut stream, &mut request).ok();
                stream.write_all(head.as_bytes()).ok();
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Http::open(&address, Cache::new(None), (Duration::from_millis(700), None)).unwrap()
    }

    #[test]
    fn a_slow_response_ends_at_the_time_limit() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 500 Broken\r\nContent-Length: 1000000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-Endless: ",
        ] {
            let http = server(head);
            let began = std::time::Instant::now();
            let address = http.file(&["ci"]);
            let error = http.get(&address).unwrap_err().to_string();
            assert!(began.elapsed() < Duration::from_secs(10), "{head:?}");
            let expected = if head.contains("500") { "500" } else { "no complete response within 700ms" };
            assert!(error.contains(expected), "{head:?}: {error}");
        }
        let http = server("HTTP/1.1 206 Partial Content\r\nContent-Length: 1000000\r\n\r\n");
        assert!(http.rest(&http.file(&["log"]), 5).unwrap_err().to_string().contains("--timeout"));
    }

    /// A server that answers each request with this response.
    fn replies(reply: &'static str) -> Http {
        use std::io::Write as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let length = std::io::Read::read(&mut stream, &mut request).unwrap_or(0);
                let is_login = request[..length].starts_with(b"GET /login");
                let reply = if reply.contains("302") && is_login { LOGIN } else { reply };
                stream.write_all(reply.as_bytes()).ok();
            }
        });
        Http::open(&address, Cache::new(None), (Duration::from_secs(10), None)).unwrap()
    }

    const LOGIN: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n\
        \n<!DOCTYPE html><html><head><TITLE lang=en>Sign in\n - Example</TITLE></head></html>";

    #[test]
    fn a_web_page_is_reported_with_its_title_and_address() {
        let redirect =
            "HTTP/1.1 302 Found\r\nLocation: /login?next=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        for (reply, place) in [(LOGIN, "/ci"), (redirect, "/login?next=x")] {
            let http = replies(reply);
            let error = http.get(&http.file(&["ci"])).unwrap_err().to_string();
            assert!(error.contains("a web page \"Sign in - Example\""), "{error}");
            assert!(error.contains(place) && error.contains("log-in"), "{error}");
        }
        for status in ["401 Unauthorized", "403 Forbidden", "407 Proxy Authentication Required"] {
            let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let http = replies(Box::leak(reply.into_boxed_str()));
            let error = http.get(&http.file(&["ci"])).unwrap_err().to_string();
            assert!(error.contains(status) && error.contains("log-in"), "{error}");
        }
        for text in ["[]", "{\"error\":\"<html>\"}", "", "00001 <html> in a log\n", "\0\0"] {
            assert_eq!(page_title(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(page_title(b"\xef\xbb\xbf\n <HTML>"), Some(String::new()));
    }

    #[test]
    fn concurrent_work_keeps_the_order() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(each(&items, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(each(&[] as &[u8], |_| ()).is_empty());
    }
}
