//! A request as data: the same for the server, for CGI and for tests.
//!
//! Path and query are decoded here, once and strictly: bad escapes, bytes that are not UTF-8 and control characters
//! are refused before any handler sees them.

use http::{HeaderMap, Method};

/// The longest path with query that is read, in bytes.
pub const TARGET_MAX: usize = 8 * 1024;

/// What a client asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `HEAD`; others are refused.
    pub method: Method,
    /// The path below the mount point, still percent-encoded, with its leading slash.
    pub path: String,
    /// What stands behind `?`, still encoded.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// What stands before every link: empty, or `/prefix` where the dashboard does not sit at the root.
    pub mount: String,
}

impl Request {
    /// A plain `GET` of a path with an optional query.
    #[must_use]
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path: path.into(), query: query.into(), ..Self::default() }
    }

    /// The same request with a header more; values that cannot be a header are left out.
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

/// Why a path or query cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `%` without two hexadecimal digits.
    #[error("a % in the address is not followed by two hexadecimal digits")]
    Escape,
    /// The bytes are not UTF-8.
    #[error("the address is not UTF-8")]
    Utf8,
    /// A control character.
    #[error("the address holds a control character")]
    Control,
    /// Longer than [`TARGET_MAX`].
    #[error("the address is too long")]
    Long,
}

/// Percent-decodes one path segment or query value; `plus` says whether `+` means a space.
pub fn decode(text: &str, plus: bool) -> Result<String, DecodeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(DecodeError::Escape) };
                bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
            }
            b'+' if plus => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| DecodeError::Utf8)?;
    if text.chars().any(char::is_control) {
        return Err(DecodeError::Control);
    }
    Ok(text)
}

/// The segments of a path, decoded each for itself, so that `%2F` never makes a new one.
pub fn segments(path: &str) -> Result<Vec<String>, DecodeError> {
    if path.len() > TARGET_MAX {
        return Err(DecodeError::Long);
    }
    path.split('/').skip(1).map(|segment| decode(segment, false)).collect()
}

/// The pairs of a query, in order; a name without `=` has an empty value.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, DecodeError> {
    if query.len() > TARGET_MAX {
        return Err(DecodeError::Long);
    }
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Percent-encodes a query value or path segment: everything but unreserved characters.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a>(pub &'a str);

impl std::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~@/:,".contains(&b);
        let mut rest = self.0;
        while !rest.is_empty() {
            let end = rest.bytes().position(|b| !plain(b)).unwrap_or(rest.len());
            f.write_str(&rest[..end])?;
            let escaped = rest[end..].chars().next().map_or(0, char::len_utf8);
            for byte in &rest.as_bytes()[end..end + escaped] {
                write!(f, "%{byte:02X}")?;
            }
            rest = &rest[end + escaped..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        assert_eq!(decode("a%2Fb+c", true).unwrap(), "a/b c");
        assert_eq!(decode("a+b", false).unwrap(), "a+b");
        assert_eq!(decode("%", false), Err(DecodeError::Escape));
        assert_eq!(decode("%4", false), Err(DecodeError::Escape));
        assert_eq!(decode("%zz", false), Err(DecodeError::Escape));
        assert_eq!(decode("%c0%ae", false), Err(DecodeError::Utf8));
        assert_eq!(decode("%00", false), Err(DecodeError::Control));
        assert_eq!(segments("/c/a%2Fb/").unwrap(), ["c", "a/b", ""]);
        assert_eq!(
            pairs("a=1&b&&c=%3D").unwrap(),
            [("a".into(), "1".into()), ("b".into(), String::new()), ("c".into(), "=".into())]
        );
        assert_eq!(pairs(&"a".repeat(TARGET_MAX + 1)), Err(DecodeError::Long));
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_decodes(text in "[^\\p{Cc}]{0,40}") {
            proptest::prop_assert_eq!(decode(&Encoded(&text).to_string(), true).unwrap(), text);
        }

        #[test]
        fn no_target_panics(target in "\\PC{0,80}") {
            let _ = (segments(&target), pairs(&target));
        }
    }
}
