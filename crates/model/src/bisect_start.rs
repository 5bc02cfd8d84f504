//! When the farm bisects a failure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, as_text, bad};

/// How the bisections of the tests of a group begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BisectStart {
    /// By themselves, for a confirmed failure after commits that the group does not test.
    #[default]
    Auto,
    /// When a user asks for one.
    Ask,
    /// Never.
    Off,
}

impl BisectStart {
    const TABLE: [(Self, &'static str); 3] = [(Self::Auto, "auto"), (Self::Ask, "ask"), (Self::Off, "off")];
}

impl fmt::Display for BisectStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::TABLE.iter().find(|(start, _)| start == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for BisectStart {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::TABLE.iter().find(|(_, name)| *name == text).map(|(start, _)| *start);
        found.ok_or_else(|| bad("a start of bisections", text, "use auto, ask or off"))
    }
}

as_text!(BisectStart);
