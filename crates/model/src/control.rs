//! What an operator has stopped: drained hosts and slots, paused branches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::branch::BranchRef;
use crate::names::{HostName, NameError};

/// A host, or one of its slots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostOrSlot {
    /// The host.
    pub host: HostName,
    /// The number of the slot; `None` for all slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
}

impl HostOrSlot {
    /// Whether the executor with this name runs there.
    #[must_use]
    pub fn has(&self, executor: &str) -> bool {
        let Some((host, slot)) = executor.rsplit_once('/') else { return false };
        host == self.host.as_str() && self.slot.is_none_or(|number| slot.parse() == Ok(number))
    }

    /// Whether all of another place is in this one.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.host == other.host && (self.slot.is_none() || self.slot == other.slot)
    }
}

/// `farm1` or `farm1/3`.
impl fmt::Display for HostOrSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "{}/{slot}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

impl FromStr for HostOrSlot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((host, slot)) = text.rsplit_once('/') else {
            return Ok(Self { host: text.parse()?, slot: None });
        };
        match slot.parse().ok().filter(|number: &u32| number.to_string() == slot) {
            Some(number) => Ok(Self { host: host.parse()?, slot: Some(number) }),
            // The name of a host has no slash, so this is an error.
            None => Ok(Self { host: text.parse()?, slot: None }),
        }
    }
}

/// Who stopped something, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The time, in Unix seconds.
    pub at: i64,
    /// The account that requested it, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The reason, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `by kmo: new disk`, without the time; empty if nothing is known.
impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by.as_deref().map(|by| format!("by {by}"));
        let parts = [by.as_deref(), self.reason.as_deref()];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(": "))
    }
}

/// A host or slot that takes no new batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The host or slot.
    #[serde(flatten)]
    pub place: HostOrSlot,
    /// Who drained it.
    #[serde(flatten)]
    pub stopped: Stopped,
}

/// A branch with tests that do not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The branch.
    #[serde(flatten)]
    pub branch: BranchRef,
    /// Who paused it.
    #[serde(flatten)]
    pub stopped: Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> HostOrSlot {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_and_slots_are_parsed_and_written() {
        for text in ["farm1", "farm1/3", "local/0", "a.b-c_d"] {
            assert_eq!(place(text).to_string(), text);
        }
        let bad = ["", "/", "farm1/", "farm1/x", "farm1/03", "farm1/-1", "a/b/0", "-x", "../0", "a b"];
        for bad in bad.into_iter().chain(["farm1/4294967296"]) {
            assert!(bad.parse::<HostOrSlot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_all_its_slots() {
        for (text, executor) in [("farm1", "farm1/0"), ("farm1", "farm1/12"), ("farm1/1", "farm1/1")] {
            assert!(place(text).has(executor), "{text} {executor}");
        }
        for (text, executor) in [("farm1/1", "farm1/12"), ("farm1", "farm2/0"), ("farm1", "farm1")] {
            assert!(!place(text).has(executor), "{text} {executor}");
        }
        assert!(place("a").includes(&place("a/1")) && place("a/1").includes(&place("a/1")));
        assert!(!place("a/1").includes(&place("a")) && !place("a").includes(&place("b/1")));
    }

    #[test]
    fn the_form_of_snapshots_and_records() {
        let stopped = Stopped { at: 7, by: Some("kmo".into()), reason: Some("new disk".into()) };
        assert_eq!(stopped.to_string(), "by kmo: new disk");
        let drained = Drained { place: place("farm1/3"), stopped };
        let text = serde_json::to_string(&drained).unwrap();
        assert_eq!(text, r#"{"host":"farm1","slot":3,"at":7,"by":"kmo","reason":"new disk"}"#);
        assert_eq!(serde_json::from_str::<Drained>(&text).unwrap(), drained);
    }
}
