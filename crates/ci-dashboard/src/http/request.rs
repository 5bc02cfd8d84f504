//! A request as data, in the same form for the server, for CGI and for tests.
//!
//! The path and the query are decoded here, once and strictly: bad escapes, invalid UTF-8 and control characters are
//! refused before a handler sees them.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The maximum length of a path or query, in bytes.
pub const TARGET_MAX: usize = 8 * 1024;

/// The characters that are escaped in a link: all except unreserved characters and those without a meaning in a segment
/// or value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b'/')
    .remove(b':')
    .remove(b',');

/// The request of a client.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path below the mount point, still percent-encoded, with its leading slash.
    pub path: String,
    /// The part after `?`, still encoded.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The address of the client, if it is known.
    pub client: Option<IpAddr>,
    /// The prefix of every link: empty, or `/prefix` if the dashboard is not at the root.
    pub mount: String,
    /// The start of absolute links, such as `https://ci.example.org`; `None` if it is not known.
    pub origin: Option<String>,
    /// Whether the headers of a proxy can change the response.
    pub is_forwarded: bool,
    /// Whether the server refreshes the cache after a response that [needs it](super::Response::needs_refresh).
    pub refreshes: bool,
}

impl Request {
    /// A plain `GET` of a path with an optional query.
    #[must_use]
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path: path.into(), query: query.into(), ..Self::default() }
    }

    /// The same request with an additional header; an invalid value is ignored.
    #[must_use]
    pub fn with_header(mut self, name: http::HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why a path or query cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `%` without two hexadecimal digits.
    #[error("the address has a % without two hexadecimal digits after it")]
    Escape,
    /// The bytes are not UTF-8.
    #[error("the address is not valid UTF-8")]
    Utf8,
    /// A control character.
    #[error("the address contains a control character")]
    Control,
    /// Longer than [`TARGET_MAX`].
    #[error("the address is too long")]
    Long,
}

/// Percent-decodes one path segment or query value.
pub fn decode(text: &str) -> Result<String, DecodeError> {
    let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' && !(is_hex(bytes.next()) && is_hex(bytes.next())) {
            return Err(DecodeError::Escape);
        }
    }
    let text = percent_decode_str(text).decode_utf8().map_err(|_| DecodeError::Utf8)?;
    if text.chars().any(char::is_control) {
        return Err(DecodeError::Control);
    }
    Ok(text.into_owned())
}

/// The pairs of a query or form, in order; `+` is a space, and a name without `=` has an empty value.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, DecodeError> {
    if query.len() > TARGET_MAX {
        return Err(DecodeError::Long);
    }
    let query = query.replace('+', " ");
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Percent-encodes a path segment or query value.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a>(pub &'a str);

impl std::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        utf8_percent_encode(self.0, ESCAPED).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        assert_eq!(decode("a%2Fb+c").unwrap(), "a/b+c");
        assert_eq!(decode("%"), Err(DecodeError::Escape));
        assert_eq!(decode("%4"), Err(DecodeError::Escape));
        assert_eq!(decode("%zz"), Err(DecodeError::Escape));
        assert_eq!(decode("%%41"), Err(DecodeError::Escape));
        assert_eq!(decode("%c0%ae"), Err(DecodeError::Utf8));
        assert_eq!(decode("%00"), Err(DecodeError::Control));
        assert_eq!(
            pairs("a=1&b&&c=%3D&d=x+y%2Bz").unwrap(),
            [
                ("a".into(), "1".into()),
                ("b".into(), String::new()),
                ("c".into(), "=".into()),
                ("d".into(), "x y+z".into())
            ]
        );
        assert_eq!(pairs(&"a".repeat(TARGET_MAX + 1)), Err(DecodeError::Long));
    }

    proptest::proptest! {
        #[test]
        fn encoded_text_decodes(text in "[^\\p{Cc}]{0,40}") {
            let encoded = Encoded(&text).to_string();
            proptest::prop_assert_eq!(decode(&encoded).unwrap(), text.clone());
            proptest::prop_assert_eq!(&pairs(&format!("a={encoded}")).unwrap()[0].1, &text);
        }

        #[test]
        fn no_target_panics(target in "\\PC{0,80}") {
            let _ = (decode(&target), pairs(&target));
        }
    }
}
