//! The token of an action. It is read from a file that only its owner can read, and compared in constant time.

use std::path::{Path, PathBuf};

use headers::authorization::{Authorization, Bearer};
use headers::{HeaderMap, HeaderMapExt as _};

/// The minimum length of a token, in bytes.
const TOKEN_MIN: usize = 16;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read, or other users can read it.
    #[error("the token cannot be used")]
    File(#[from] fsx::secret::SecretError),
    /// It is too easy to guess.
    #[error("{0}: the token has fewer than {TOKEN_MIN} characters; create one with: openssl rand -hex 32")]
    Short(PathBuf),
}

/// A token; only its digest is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token from a file that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let token = fsx::secret::read(path)?;
        if token.len() < TOKEN_MIN {
            return Err(TokenError::Short(path.into()));
        }
        Ok(Self::new(&token))
    }

    /// A token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(fsx::digest::sha256(token))
    }

    /// Whether a client sent this token. Compares digests, in a time that does not depend on the token.
    #[must_use]
    pub fn is(&self, sent: &str) -> bool {
        Self::new(sent.trim()) == *self
    }
}

/// The token of `Authorization: Bearer TOKEN`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.typed_get::<Authorization<Bearer>>().map(|authorization| authorization.token().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_private_file_with_a_long_token_is_accepted() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(matches!(Token::from_file(&file), Err(TokenError::File(_))));
        let write = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("0123456789abcdef\n", 0o644);
        assert!(matches!(Token::from_file(&file), Err(TokenError::File(_))));
        write("short\n", 0o600);
        assert!(matches!(Token::from_file(&file), Err(TokenError::Short(_))));
        write("0123456789abcdef\n", 0o600);
        let token = Token::from_file(&file).unwrap();
        assert!(token.is("0123456789abcdef") && token.is(" 0123456789abcdef\n"));
        assert!(!token.is("") && !token.is("0123456789abcdeF"));
        assert_eq!(format!("{token:?}"), "Token");
    }
}
