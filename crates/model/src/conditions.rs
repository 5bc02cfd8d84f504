//! What an attempt depended on other than the commit: recorded with its verdict.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, bad};
use crate::suite::SuiteVersion;

/// What a run of a test file depends on: the first 64 bits of a SHA-256 of kernel, test files, environment, root image and
/// machine. Two attempts of a subtest with equal keys ran the same experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExperimentKey(u64);

impl ExperimentKey {
    /// The key with these bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for ExperimentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// From 16 hexadecimal digits, or the 64 of an earlier version.
impl FromStr for ExperimentKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_valid = matches!(text.len(), 16 | 64) && text.bytes().all(is_digit);
        match is_valid.then(|| u64::from_str_radix(&text[..16], 16)) {
            Some(Ok(bits)) => Ok(Self(bits)),
            _ => Err(bad("an experiment key", text, "it must be 16 lower-case hexadecimal digits")),
        }
    }
}

impl TryFrom<String> for ExperimentKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ExperimentKey> for String {
    fn from(key: ExperimentKey) -> Self {
        key.to_string()
    }
}

/// The conditions of an attempt, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conditions {
    /// The test suite that the subtest is from, at the commit of its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteVersion>,
    /// What the run depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentKey>,
    /// The load of the host when the attempt ended, in percent: 100 if as many processes want to run as there are
    /// processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<u32>,
    /// Whether no other batch of the farm ran on the host at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_optional_fields() {
        let text = format!(
            r#"{{"suite":"xfstests {}","experiment":"{}","load":250,"alone":true}}"#,
            "1".repeat(40),
            "0a".repeat(8)
        );
        let all: Conditions = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&all).unwrap(), text);
        assert_eq!(serde_json::from_str::<Conditions>("{}").unwrap(), Conditions::default());
        assert_eq!(serde_json::to_string(&Conditions::default()).unwrap(), "{}");
        for bad in
            ["", "x", &"A".repeat(16), &"a".repeat(15), &"a".repeat(63), &"g".repeat(64), "+aaaaaaaaaaaaaaa"]
        {
            assert!(bad.parse::<ExperimentKey>().is_err(), "{bad:?}");
        }
        let earlier: ExperimentKey = format!("{}{}", "f0".repeat(8), "1".repeat(48)).parse().unwrap();
        assert_eq!(earlier.to_string(), "f0".repeat(8));
    }
}
