//! Detects responses that are not from a dashboard: a log-in page, a captive portal, a proxy that refuses the request.
//!
//! Such a response is an error that contains the address that it came from. It is never cached and never treated as a
//! result.

use reqwest::blocking::Response;
use reqwest::header::{self, HeaderName};
use reqwest::{StatusCode, Url};

use crate::problem::Problem;

/// The advice for a server that requires a log-in.
const TOKEN: &str = "give a token of the server with --token-file";

/// The error for a response to a request of `asked`, if its head shows that no dashboard sent it.
pub fn head(asked: &Url, response: &Response) -> Option<Problem> {
    let (status, last) = (response.status(), response.url());
    let text = |name: HeaderName| response.headers().get(name)?.to_str().ok();
    let reason = match status {
        StatusCode::UNAUTHORIZED => format!("the server requires a log-in ({status}); {TOKEN}"),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::NETWORK_AUTHENTICATION_REQUIRED => format!(
            "a proxy or the network requires a log-in ({status}); log in to the network, or write the user and the \
             password into the proxy's address ($https_proxy, $http_proxy)"
        ),
        StatusCode::FORBIDDEN => {
            format!("the server refuses access without a log-in ({status}); {TOKEN}")
        }
        status if status.is_success() => match text(header::CONTENT_ENCODING).map(str::trim) {
            Some(encoding) if !matches!(encoding, "" | "br" | "identity") => format!(
                "the response is compressed with {encoding:.40?}, which was not requested; disable the compression \
                 of the proxy for this address"
            ),
            _ => return None,
        },
        _ => return None,
    };
    Some(Problem::Foreign { url: last.to_string(), reason: format!("{reason}{}", redirected(asked, last)) })
}

/// The error for an empty body of a JSON view.
pub fn empty(last: &str, bytes: &[u8]) -> Option<Problem> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
    if text.is_empty() {
        let reason = "the response is empty, not the JSON of a dashboard; check the server or the proxy at this address";
        return Some(Problem::Foreign { url: last.into(), reason: reason.into() });
    }
    None
}

/// The error for an endless chain of redirects.
pub fn redirects(url: &Url, error: &reqwest::Error) -> Problem {
    let last = error.url().unwrap_or(url);
    let reason = format!(
        "too many redirects{}; probably a log-in that needs a browser; {TOKEN}",
        redirected(url, last)
    );
    Problem::Foreign { url: last.to_string(), reason }
}

fn redirected(asked: &Url, last: &Url) -> String {
    if asked == last { String::new() } else { format!(" (redirected from {asked})") }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use super::super::{CommitFormat, Remote};
    use crate::backend::Backend as _;

    /// A server that answers each request with the response for its path, or else with that for `/`. The channel
    /// receives the token of each request.
    fn server(routes: Vec<(&'static str, String)>) -> (String, std::sync::mpsc::Receiver<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or("/");
                let route = routes.iter().find(|(route, _)| *route != "/" && path.starts_with(route));
                let route = route.or_else(|| routes.iter().find(|(route, _)| *route == "/"));
                stream.write_all(route.map_or("", |(_, response)| response).as_bytes()).ok();
                let token = request.lines().find_map(|line| line.strip_prefix("authorization: "));
                sender.send(token.unwrap_or("").to_owned()).ok();
            }
        });
        (address, receiver)
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn remote(address: &str) -> Remote {
        Remote::open(address, CommitFormat::Json, (Duration::from_secs(5), None)).unwrap()
    }

    /// The error of the list of branches.
    fn error(routes: Vec<(&'static str, String)>) -> String {
        let (address, _receiver) = server(routes);
        remote(&address).users().unwrap_err().to_string().replace(&address, "http://ci")
    }

    const LOGIN: &str = "<!doctype html><title>Log in</title>";

    #[test]
    fn a_log_in_page_is_reported_with_its_address() {
        let login = ("/login", answer("200 OK\r\nContent-Type: text/html", LOGIN));
        let moved = ("/", answer("302 Found\r\nLocation: /login?next=ci", ""));
        assert!(error(vec![moved, login]).contains("http://ci/login?next=ci"));
        for page in [
            answer("200 OK\r\nContent-Type: text/HTML; charset=utf-8", LOGIN),
            answer("200 OK\r\nContent-Type: application/json", &format!("\u{feff}\n  {LOGIN}")),
            answer("200 OK", LOGIN),
        ] {
            let text = error(vec![("/", page)]);
            assert!(
                text.starts_with("http://ci/ci?format=json: ") && text.contains("--token-file"),
                "{text}"
            );
            assert!(text.contains("a web page \"Log in\""), "{text}");
        }
    }

    #[test]
    fn refusals_have_advice() {
        for (head, body, expected) in [
            ("401 Unauthorized", "", "requires a log-in (401 Unauthorized); give a token"),
            ("403 Forbidden", LOGIN, "refuses access without a log-in (403 Forbidden); give a token"),
            ("407 Proxy Authentication Required", "", "$https_proxy"),
            ("511 Network Authentication Required", LOGIN, "log in to the network"),
            ("200 OK", "", "the response is empty"),
            ("204 No Content", "", "the response is empty"),
            ("200 OK\r\nContent-Encoding: compress", "[]", "compressed with \"compress\""),
            ("200 OK\r\nContent-Type: text/plain", "hello", "not the JSON of a dashboard"),
            ("302 Found\r\nLocation: /", "", "too many redirects"),
            ("500 Internal Server Error", "{\"error\": \"broken\"}", "broken"),
        ] {
            let text = error(vec![("/", answer(head, body))]);
            assert!(text.contains(expected) && !text.contains('\n'), "{head}: {text}");
        }
    }

    #[test]
    fn a_redirect_reads_no_file_of_this_host() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&secret, "[{\"user\": \"secret\"}]").unwrap();
        let file = format!("file://{}", secret.path().display());
        for place in [
            file.as_str(),
            "file:///dev/zero",
            "ftp://127.0.0.1/x",
            "data:application/json,[]",
            "gopher://x/",
        ] {
            let text = error(vec![("/", answer(&format!("302 Found\r\nLocation: {place}"), ""))]);
            assert!(!text.contains("secret\"") && !text.contains('\n'), "{place}: {text}");
        }
    }

    #[test]
    fn json_that_is_too_deep_is_an_error() {
        for body in [
            "[".repeat(3_000_000),
            "{\"a\":".repeat(1_000_000),
            format!("[{{\"user\":{}", "[".repeat(1_000_000)),
        ] {
            let text = error(vec![("/", answer("200 OK\r\nContent-Type: application/json", &body))]);
            assert!(text.contains("not the JSON of a dashboard") && text.len() < 1000, "{text}");
        }
    }

    #[test]
    fn a_response_without_an_end_is_cut_off() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _request = stream.read(&mut [0; 4096]);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n").ok();
                let piece = vec![b'['; 1 << 20];
                while stream.write_all(&piece).is_ok() {}
            }
        });
        let remote = Remote::open(&address, CommitFormat::Json, (Duration::from_secs(60), None)).unwrap();
        let text = remote.users().unwrap_err().to_string();
        assert!(text.contains("the response is larger than 256 MiB"), "{text}");
    }

    #[test]
    fn a_compressed_log_is_read_in_part() {
        let mut bomb = Vec::new();
        let parameters = brotli::enc::BrotliEncoderParams { quality: 1, ..Default::default() };
        let zeros = std::io::Read::take(std::io::repeat(0), 64 << 20);
        brotli::BrotliCompress(&mut std::io::BufReader::new(zeros), &mut bomb, &parameters).unwrap();
        let log = crate::backend::LogContent::fetched(bomb.into(), true, false, "http://ci/log.br".into());
        let (bytes, is_whole) = log.read(1 << 20).unwrap();
        assert!(bytes.len() == 1 << 20 && !is_whole);
    }

    #[test]
    fn a_log_in_page_is_not_a_log_or_an_artifact() {
        let login = answer("200 OK\r\nContent-Type: text/html", LOGIN);
        let (address, _receiver) = server(vec![("/", login)]);
        let (remote, commit) = (remote(&address), "a".repeat(40).parse().unwrap());
        let key = "x.y".parse().unwrap();
        for error in [
            remote.log(&commit, &key, results::LogKind::Subtest).err(),
            remote.artifact(&commit, &key, "trace").err(),
            remote.commit(&commit).err(),
            remote.growth(&commit, &key, results::LogKind::Subtest, 5).err(),
            remote.artifacts(&commit, &key).err(),
            remote.snapshot().err(),
        ] {
            assert!(error.unwrap().to_string().contains("web page"));
        }
    }

    #[test]
    fn a_token_is_sent_only_to_its_server() {
        let (other, foreign) = server(vec![("/", answer("200 OK", "[]"))]);
        let moved = answer(&format!("302 Found\r\nLocation: {other}/x"), "");
        let (address, own) = server(vec![("/", moved)]);
        let token = Some("secret".to_owned());
        let remote = Remote::open(&address, CommitFormat::Json, (Duration::from_secs(5), token)).unwrap();
        remote.users().unwrap();
        assert_eq!(own.recv().unwrap(), "Bearer secret");
        // The host is the same and the port differs.
        assert_eq!(foreign.recv().unwrap(), "");
    }
}
