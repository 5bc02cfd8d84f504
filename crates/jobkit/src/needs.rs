//! The needs of a job, and whether an executor meets them.
//!
//! The names of tags and amounts have no meaning to the scheduler. An executor that lacks a tag or amount does not meet
//! the need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// The requirement on one tag or amount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// The executor's tag has this value.
    Is(String),
    /// The executor's tag has one of these values.
    OneOf(BTreeSet<String>),
    /// The executor's amount is at least this, in any unit.
    AtLeast(u64),
}

/// All needs of a job. If empty, any executor meets them.
///
/// ```
/// use jobkit::Needs;
/// let needs = Needs::none().is("arch", "x86_64").at_least("memory", 4096);
/// assert_eq!(needs.to_string(), "arch=x86_64 memory>=4096");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Needs(pub BTreeMap<String, Requirement>);

impl Needs {
    /// No needs.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The executor's tag `name` must be `value`.
    #[must_use]
    pub fn is(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), Requirement::Is(value.into()));
        self
    }

    /// The executor's tag `name` must be one of `values`.
    #[must_use]
    pub fn one_of<V: Into<String>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.0.insert(name.into(), Requirement::OneOf(values.into_iter().map(Into::into).collect()));
        self
    }

    /// The executor's amount `name` must be at least `amount`.
    #[must_use]
    pub fn at_least(mut self, name: impl Into<String>, amount: u64) -> Self {
        self.0.insert(name.into(), Requirement::AtLeast(amount));
        self
    }

    /// Whether an executor with these tags and amounts meets the needs.
    #[must_use]
    pub fn met_by(&self, tags: &BTreeMap<String, String>, amounts: &BTreeMap<String, u64>) -> bool {
        self.0.iter().all(|(name, requirement)| match requirement {
            Requirement::Is(value) => tags.get(name) == Some(value),
            Requirement::OneOf(values) => tags.get(name).is_some_and(|has| values.contains(has)),
            Requirement::AtLeast(amount) => amounts.get(name).is_some_and(|has| has >= amount),
        })
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (at, (name, requirement)) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            match requirement {
                Requirement::Is(value) => write!(f, "{gap}{name}={value}")?,
                Requirement::OneOf(values) => {
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    write!(f, "{gap}{name}={}", values.join("|"))?;
                }
                Requirement::AtLeast(amount) => write!(f, "{gap}{name}>={amount}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tag_or_amount_does_not_meet_a_need() {
        let tags = BTreeMap::from([("arch".to_owned(), "x86_64".to_owned())]);
        let amounts = BTreeMap::from([("memory".to_owned(), 4096)]);
        let met = |needs: Needs| needs.met_by(&tags, &amounts);
        assert!(met(Needs::none()));
        assert!(met(Needs::none().is("arch", "x86_64").at_least("memory", 4096)));
        assert!(met(Needs::none().one_of("arch", ["aarch64", "x86_64"])));
        assert!(!met(Needs::none().is("arch", "aarch64")));
        assert!(!met(Needs::none().at_least("memory", 4097)));
        assert!(!met(Needs::none().is("kind", "local")));
        assert!(!met(Needs::none().at_least("disk", 0)));
        assert!(!met(Needs::none().one_of("arch", Vec::<String>::new())));
    }
}
