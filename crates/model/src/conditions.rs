//! What an attempt depended on other than the commit: recorded with its verdict.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, name, sha256};
use crate::suite::SuiteVersion;

name! {
    /// What a run of a test file depends on, as a SHA-256 in hexadecimal: kernel, test files, environment, root image
    /// and machine. Two attempts of a subtest with equal keys ran the same experiment.
    ExperimentKey
}

impl FromStr for ExperimentKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        sha256("an experiment key", text).map(Self)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_optional_fields() {
        let text = format!(
            r#"{{"suite":"xfstests {}","experiment":"{}","load":250}}"#,
            "1".repeat(40),
            "a".repeat(64)
        );
        let all: Conditions = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&all).unwrap(), text);
        assert_eq!(serde_json::from_str::<Conditions>("{}").unwrap(), Conditions::default());
        assert_eq!(serde_json::to_string(&Conditions::default()).unwrap(), "{}");
        for bad in ["", "x", &"A".repeat(64), &"a".repeat(63), &"g".repeat(64)] {
            assert!(bad.parse::<ExperimentKey>().is_err(), "{bad:?}");
        }
    }
}
