//! The owner of a test: who is to be asked about its failures.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The maximum length of an owner, in bytes.
const BYTES_MAX: usize = 200;

/// `Name <mail>` or any other text in one line, without control characters and characters that change the direction of text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// The text is not an owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an owner has 1 to {BYTES_MAX} bytes without control characters")]
pub struct OwnerError;

impl Owner {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hidden = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        let text = text.trim();
        if text.is_empty() || text.len() > BYTES_MAX || text.contains(is_hidden) {
            return Err(OwnerError);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Owner {
    type Error = OwnerError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_owners_are_refused() {
        let owner: Owner = " Mira Ö <mira@example.org> ".parse().unwrap();
        assert_eq!(owner.as_str(), "Mira Ö <mira@example.org>");
        for text in
            ["", " ", "a\nb", "a\u{1b}[31mb", "a\u{202e}b", "a\0b", &"x".repeat(201), &"x".repeat(10 << 10)]
        {
            assert_eq!(text.parse::<Owner>(), Err(OwnerError), "{text:?}");
            assert!(serde_json::from_value::<Owner>(text.into()).is_err());
        }
        assert_eq!(serde_json::to_string(&owner).unwrap(), "\"Mira Ö <mira@example.org>\"");
    }
}
