//! The secret of those who may ask for more than pages. It comes from a file that nobody else may read, and is compared
//! in constant time.

use std::path::{Path, PathBuf};

use http::header::{self, HeaderMap};
use sha2::{Digest as _, Sha256};

/// The shortest token, in bytes.
const TOKEN_MIN: usize = 16;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("{path}: the token cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read it.
    #[error("{0}: others may read the token; chmod 600 it")]
    Open(PathBuf),
    /// It can be guessed.
    #[error("{0}: the token has fewer than {TOKEN_MIN} characters; make one: openssl rand -hex 32")]
    Short(PathBuf),
}

/// A token, of which only the digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in a file that only its owner may read.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        use std::os::unix::fs::PermissionsExt as _;
        let read = |source| TokenError::Read { path: path.into(), source };
        let mode = path.metadata().map_err(read)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(TokenError::Open(path.into()));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let token = text.trim();
        if token.len() < TOKEN_MIN {
            return Err(TokenError::Short(path.into()));
        }
        Ok(Self::new(token))
    }

    /// This token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether it is what somebody gave. Digests are compared: how long that takes says nothing of the token.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        Self::new(given.trim()) == *self
    }
}

/// What `Authorization: Bearer` gives.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_well() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(matches!(Token::from_file(&file), Err(TokenError::Read { .. })));
        let write = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("0123456789abcdef\n", 0o644);
        assert!(matches!(Token::from_file(&file), Err(TokenError::Open(_))));
        write("short\n", 0o600);
        assert!(matches!(Token::from_file(&file), Err(TokenError::Short(_))));
        write("0123456789abcdef\n", 0o600);
        let token = Token::from_file(&file).unwrap();
        assert!(token.is("0123456789abcdef") && token.is(" 0123456789abcdef\n"));
        assert!(!token.is("") && !token.is("0123456789abcdeF"));
        assert_eq!(format!("{token:?}"), "Token");
    }
}
