//! The address at which clients reach the site. Behind a proxy, it differs from the address on which the server
//! listens.
//!
//! Links in pages start with the mount point. Links in documents that are read elsewhere, such as feeds, also have the
//! origin. The headers of a proxy are used only if the proxy is trusted, and the configured origin takes precedence.

use http::header::{self, HeaderMap, HeaderName};

use super::Request;

const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The headers that the response to a proxied request depends on.
pub(super) const VARY: &str = "X-Forwarded-Prefix, X-Forwarded-Host, X-Forwarded-Proto";

/// The configured address of the site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublicAddress {
    /// `https://ci.example.org`, without a trailing slash.
    origin: Option<String>,
    /// Empty, or `/ktest`.
    mount: String,
}

/// The path cannot be a mount point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the path of a mount point; it is like /ktest and consists of letters, digits and /-._~"
)]
pub struct MountError(String);

impl PublicAddress {
    /// The address from a URL such as `https://ci.example.org/ktest/`. A top-level directory of the site (`roots`) at
    /// its end is not part of the mount point. A URL that cannot be used gives the default.
    #[must_use]
    pub fn from_url(url: &str, roots: &[&str]) -> Self {
        let Ok(uri) = url.parse::<http::Uri>() else { return Self::default() };
        let origin = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => Some(format!("{scheme}://{authority}")),
            _ => None,
        };
        let path = uri.path().trim_end_matches('/');
        let above = roots.iter().find_map(|root| path.strip_suffix(root)).unwrap_or(path);
        Self { origin, mount: mount_point(above).unwrap_or_default() }
    }

    /// The same site below another path.
    pub fn mounted_at(self, path: &str) -> Result<Self, MountError> {
        let mount = mount_point(path).ok_or_else(|| MountError(path.into()))?;
        Ok(Self { mount, ..self })
    }

    /// Completes a request: its origin, its mount point unless the web server set it, and the path below the mount
    /// point. The proxy may or may not have removed the mount point from the path.
    #[must_use]
    pub fn locate(&self, mut request: Request, is_trusted_proxy: bool) -> Request {
        let forwarded = |name: &HeaderName| {
            let value = request.headers.get(name).filter(|_| is_trusted_proxy)?;
            // If there are several proxies, each appends to the list; clients see the first.
            value.to_str().ok()?.split(',').next().map(|value| value.trim().to_owned())
        };
        let prefix = forwarded(&PREFIX).and_then(|prefix| mount_point(&prefix));
        request.origin = self.origin.clone().or_else(|| {
            let (host, scheme) = (forwarded(&HOST).filter(|host| is_host(host)), forwarded(&SCHEME));
            if host.is_none() && scheme.is_none() && request.origin.is_some() {
                return request.origin.clone();
            }
            let scheme = if scheme.as_deref() == Some("https") { "https" } else { "http" };
            host.or_else(|| own_host(&request.headers)).map(|host| format!("{scheme}://{host}"))
        });
        request.is_forwarded = [PREFIX, HOST, SCHEME].iter().any(|name| request.headers.contains_key(name));
        if request.mount.is_empty() {
            request.mount = prefix.unwrap_or_else(|| self.mount.clone());
        }
        let below = request.path.strip_prefix(&request.mount);
        if let Some(below) = below.filter(|below| below.is_empty() || below.starts_with('/')) {
            request.path = if below.is_empty() { "/".into() } else { below.into() };
        }
        request
    }
}

/// The path as a mount point: empty for the root, without a trailing slash. `None` if the path has other characters, or
/// if a client would read it as a host.
pub(super) fn mount_point(path: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    let is_known = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
    let is_plain = path.is_empty() || (path.starts_with('/') && !path.contains("//"));
    let is_resolved = !path.split('/').any(|name| matches!(name, "." | ".."));
    (is_known && is_plain && is_resolved && path.len() <= 200).then(|| path.into())
}

pub(super) fn own_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    is_host(host).then(|| host.into())
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 300
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOTS: &[&str] = &["/ci", "/c", "/u"];

    fn located(public: &PublicAddress, path: &str, headers: &[(&str, &str)], trusted: bool) -> String {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.with_header(name.parse().unwrap(), value);
        }
        let Request { origin, mount, path, .. } = public.locate(request, trusted);
        format!("{} {mount} {path}", origin.unwrap_or_default())
    }

    #[test]
    fn the_mount_point_is_the_path_of_the_url() {
        for (url, expected) in [
            ("https://ci.example.org", "https://ci.example.org  /ci"),
            ("https://ci.example.org/", "https://ci.example.org  /ci"),
            ("http://ci.example.org:8080/ktest", "http://ci.example.org:8080 /ktest /ci"),
            ("https://ci.example.org/a/ktest///", "https://ci.example.org /a/ktest /ci"),
            ("https://ci.example.org/ktest/ci", "https://ci.example.org /ktest /ci"),
            ("https://ci.example.org/ci", "https://ci.example.org  /ci"),
            ("https://ci.example.org/a b", "  /ci"),
            ("https://ci.example.org/a//b", "https://ci.example.org  /ci"),
            ("https://ci.example.org/a/../b", "https://ci.example.org  /ci"),
        ] {
            assert_eq!(located(&PublicAddress::from_url(url, ROOTS), "/ci", &[], true), expected, "{url}");
        }
    }

    #[test]
    fn a_proxy_may_remove_the_mount_point_or_not() {
        let public = PublicAddress::default().mounted_at("/ktest/").unwrap();
        for (path, expected) in [
            ("/ktest/ci", " /ktest /ci"),
            ("/ktest", " /ktest /"),
            ("/ktest/", " /ktest /"),
            ("/ci", " /ktest /ci"),
            ("/ktestx/ci", " /ktest /ktestx/ci"),
        ] {
            assert_eq!(located(&public, path, &[], false), expected, "{path}");
        }
        assert!(PublicAddress::default().mounted_at("//evil.example").is_err());
        assert!(PublicAddress::default().mounted_at("ktest").is_err());
    }

    #[test]
    fn headers_are_used_only_from_a_trusted_proxy() {
        let none = PublicAddress::default();
        let headers = [
            ("host", "127.0.0.1:8080"),
            ("x-forwarded-host", "ci.example.org"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/ktest"),
        ];
        assert_eq!(located(&none, "/ci", &headers, true), "https://ci.example.org /ktest /ci");
        assert_eq!(located(&none, "/ktest/ci", &headers, true), "https://ci.example.org /ktest /ci");
        assert_eq!(located(&none, "/ci", &headers, false), "http://127.0.0.1:8080  /ci");
        let configured = PublicAddress::from_url("https://farm.example/x", ROOTS);
        assert_eq!(located(&configured, "/ci", &headers, true), "https://farm.example /ktest /ci");
        assert_eq!(located(&configured, "/ci", &headers[..3], true), "https://farm.example /x /ci");
        for value in ["//evil.example", "/a\"b", "https://evil.example", "/..", "/a/../b", "/\u{e9}"] {
            assert_eq!(located(&none, "/ci", &[("x-forwarded-prefix", value)], true), "  /ci", "{value}");
        }
        let list = [("x-forwarded-host", "ci.example.org, 10.0.0.1"), ("x-forwarded-proto", "https, http")];
        assert_eq!(located(&none, "/ci", &list, true), "https://ci.example.org  /ci");
        for value in ["evil.example/x", "a b", "", "a@b"] {
            assert_eq!(located(&none, "/ci", &[("x-forwarded-host", value)], true), "  /ci", "{value}");
        }
    }
}
