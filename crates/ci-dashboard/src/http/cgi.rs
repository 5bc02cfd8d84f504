//! CGI (RFC 3875): reads the request from the environment and writes the response to standard output.
//!
//! A web server may map top-level directories such as `/ci`, or any other path, to the program. The mount point of
//! links is derived from `SCRIPT_NAME`.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::public::{mount_point, own_host};
use super::{Encoded, Request, Response};

/// Whether a web server started this process as a CGI program.
#[must_use]
pub fn is_cgi() -> bool {
    std::env::var_os("GATEWAY_INTERFACE").is_some_and(|version| !version.is_empty())
}

/// The request in the environment. `roots` are the top-level directories of the site, such as `/ci`.
#[must_use]
pub fn request(environment: &HashMap<String, String>, roots: &[&str]) -> Request {
    let variable = |name: &str| environment.get(name).map_or("", String::as_str);
    let method = Method::from_bytes(variable("REQUEST_METHOD").as_bytes()).unwrap_or(Method::POST);
    let (mount, path) =
        split_path(variable("SCRIPT_NAME"), variable("PATH_INFO"), variable("REQUEST_URI"), roots);
    let mut headers = HeaderMap::new();
    for (name, value) in environment {
        let Some(name) = name.strip_prefix("HTTP_") else { continue };
        let name = name.replace('_', "-").to_ascii_lowercase();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    let client = variable("REMOTE_ADDR").parse().ok();
    let query = variable("QUERY_STRING").into();
    let is_https = matches!(variable("HTTPS"), "on" | "1") || variable("REQUEST_SCHEME") == "https";
    let origin = own_host(&headers).filter(|_| is_https).map(|host| format!("https://{host}"));
    Request { method, path, query, headers, client, mount, origin, is_forwarded: false, refreshes: false }
}

/// The mount point, and the path below it, which is still encoded.
///
/// Web servers decode `PATH_INFO`, which loses the difference between `/` and `%2F`. If `REQUEST_URI` is set and starts
/// with the name of the script, the path is taken from there.
fn split_path(script: &str, path_info: &str, request_uri: &str, roots: &[&str]) -> (String, String) {
    let script = script.trim_end_matches('/');
    let uri_path = request_uri.split(['?', '#']).next().unwrap_or("");
    let below = match uri_path.strip_prefix(script) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.to_owned(),
        _ => Encoded(path_info).to_string(),
    };
    // A mapped root is part of the path.
    for root in roots {
        if let Some(mount) = script.strip_suffix(root) {
            return (mount_point(mount).unwrap_or_default(), format!("{root}{below}"));
        }
    }
    (mount_point(script).unwrap_or_default(), if below.is_empty() { "/".into() } else { below })
}

/// Writes a response in the CGI format.
pub fn write(response: Response, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, out);
    let status = response.status;
    write!(out, "Status: {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""))?;
    for (name, value) in &response.headers {
        write!(out, "{name}: ")?;
        out.write_all(value.as_bytes())?;
        out.write_all(b"\r\n")?;
    }
    out.write_all(b"\r\n")?;
    response.body.write_to(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Request {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        request(&environment, &["/ci", "/c", "/u"])
    }

    #[test]
    fn the_mount_point_follows_from_the_mapping() {
        let split = |script: &str, info: &str, uri: &str| {
            let request = from(&[
                ("REQUEST_METHOD", "GET"),
                ("SCRIPT_NAME", script),
                ("PATH_INFO", info),
                ("REQUEST_URI", uri),
            ]);
            format!("{} {}", request.mount, request.path)
        };
        assert_eq!(split("/ci", "", "/ci?user=x"), " /ci");
        assert_eq!(split("/c", "/abc/a b/", "/c/abc/a%20b/"), " /c/abc/a%20b/");
        assert_eq!(split("/x/ci", "", ""), "/x /ci");
        assert_eq!(split("/cgi-bin/ci-dashboard", "/c/abc/", ""), "/cgi-bin/ci-dashboard /c/abc/");
        assert_eq!(split("/cgi-bin/ci-dashboard", "", ""), "/cgi-bin/ci-dashboard /");
        assert_eq!(split("//evil.example/ci", "", ""), " /ci");
        assert_eq!(split("/c", "/a/../b", ""), " /c/a/../b");
    }

    #[test]
    fn headers_come_from_the_environment() {
        let request =
            from(&[("REQUEST_METHOD", "HEAD"), ("HTTP_IF_NONE_MATCH", "\"x\""), ("HTTP_BAD\n", "y")]);
        assert_eq!(request.method, Method::HEAD);
        assert_eq!(request.header(http::header::IF_NONE_MATCH), Some("\"x\""));
        assert_eq!(request.headers.len(), 1);
    }
}
