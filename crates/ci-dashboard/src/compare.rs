//! Two commits against each other, test by test: what broke, what was mended, what fails on both sides.
//!
//! A merge of two lists that are sorted by name; a test in neither of the interesting classes is only counted.

use std::cmp::Ordering;
use std::time::Duration;

use model::Status;
use results::TestEntry;
use serde::Serialize;

/// How a test's two sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Passed in the base, fails in the head.
    Broke,
    /// Fails in the head, and had no verdict in the base that says something.
    Failing,
    /// Fails on both sides.
    StillFailing,
    /// Failed in the base, passes in the head.
    Fixed,
    /// Ran in the base, could not run (or does not apply) in the head.
    Stopped,
    /// Could not run (or did not apply) in the base, and passes in the head.
    Resumed,
    /// Passed on both sides and takes much longer in the head.
    Slower,
    /// Only the base has it.
    Gone,
    /// Only the head has it, where it does not fail.
    New,
}

impl Kind {
    /// All of them, those that need somebody first.
    pub const ALL: [Self; 9] = [
        Self::Broke,
        Self::Failing,
        Self::Fixed,
        Self::StillFailing,
        Self::Stopped,
        Self::Resumed,
        Self::Slower,
        Self::Gone,
        Self::New,
    ];
}

/// A test that differs, or fails on both sides.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// How.
    pub kind: Kind,
    /// In the base.
    pub base: Option<&'a TestEntry>,
    /// In the head.
    pub head: Option<&'a TestEntry>,
}

impl Change<'_> {
    /// The test.
    #[must_use]
    pub fn name(&self) -> &str {
        self.head.or(self.base).map_or("", |entry| entry.key.as_str())
    }
}

/// The differences, in the order of [`Kind::ALL`], by name within each, and how many tests are alike.
#[must_use]
pub fn compare<'a>(base: &'a [TestEntry], head: &'a [TestEntry]) -> (Vec<Change<'a>>, usize) {
    let (mut changes, mut alike) = (Vec::new(), 0);
    let (mut olds, mut news) = (base.iter().peekable(), head.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.key.cmp(&new.key),
        };
        let base = if order == Ordering::Greater { None } else { olds.next() };
        let head = if order == Ordering::Less { None } else { news.next() };
        match kind(base, head) {
            Some(kind) => changes.push(Change { kind, base, head }),
            None => alike += 1,
        }
    }
    let rank = |kind: Kind| Kind::ALL.iter().position(|other| *other == kind);
    changes.sort_by_key(|change| rank(change.kind));
    (changes, alike)
}

fn kind(base: Option<&TestEntry>, head: Option<&TestEntry>) -> Option<Kind> {
    use Status::{Failed, Passed};
    let (Some(old), Some(new)) = (base, head) else {
        return match head {
            None => Some(Kind::Gone),
            Some(new) if new.status == Failed => Some(Kind::Failing),
            Some(_) => Some(Kind::New),
        };
    };
    match (old.status, new.status) {
        (Passed, Failed) => Some(Kind::Broke),
        (Failed, Failed) => Some(Kind::StillFailing),
        (_, Failed) => Some(Kind::Failing),
        (Failed, Passed) => Some(Kind::Fixed),
        (Passed, Passed) => much_longer(old.duration, new.duration).then_some(Kind::Slower),
        (_, Passed) => Some(Kind::Resumed),
        // Nobody knows yet.
        (_, Status::InProgress) => None,
        (Passed | Failed, _) => Some(Kind::Stopped),
        _ => None,
    }
}

/// Half as long again and a second at least: less than that is noise between two runs.
fn much_longer(old: Duration, new: Duration) -> bool {
    !old.is_zero() && new > old.mul_f32(1.5) && new - old >= Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<TestEntry> {
        let mut entries: Vec<TestEntry> = text
            .split_whitespace()
            .map(|word| {
                let (name, rest) = word.split_once(':').unwrap();
                let status = match &rest[..1] {
                    "p" => Status::Passed,
                    "f" => Status::Failed,
                    "n" => Status::NotRun,
                    "i" => Status::InProgress,
                    _ => Status::FailedToRun,
                };
                let mut entry = TestEntry::new(format!("t.{name}").parse().unwrap(), status);
                entry.duration = Duration::from_millis(rest[1..].parse().unwrap_or(100));
                entry
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    #[test]
    fn each_kind() {
        let base = entries("a:p b:f c:f d:p e:n f:p1000 g:p h:r i:p4000 j:n k:p n:p");
        let head = entries("a:f b:f c:p d:r e:f f:p2100 h:p i:p4400 j:n k:p l:p m:f n:i");
        let (changes, alike) = compare(&base, &head);
        let words: Vec<_> = changes.iter().map(|change| (change.name(), change.kind)).collect();
        assert_eq!(
            words,
            [
                ("t.a", Kind::Broke),
                ("t.e", Kind::Failing),
                ("t.m", Kind::Failing),
                ("t.c", Kind::Fixed),
                ("t.b", Kind::StillFailing),
                ("t.d", Kind::Stopped),
                ("t.h", Kind::Resumed),
                ("t.f", Kind::Slower),
                ("t.g", Kind::Gone),
                ("t.l", Kind::New),
            ]
        );
        assert_eq!(alike, 4);
    }

    proptest::proptest! {
        /// Every test of either side is told once, or counted as alike; the same against itself differs in nothing.
        #[test]
        fn nothing_is_lost(base in "([a-e]:[pfnri] ){0,5}", head in "([a-e]:[pfnri] ){0,5}") {
            let unique = |text: &str| {
                let mut entries = entries(text);
                entries.dedup_by(|a, b| a.key == b.key);
                entries
            };
            let (base, head) = (unique(&base), unique(&head));
            let (changes, alike) = compare(&base, &head);
            let names: std::collections::BTreeSet<_> = base.iter().chain(&head).map(|e| e.key.as_str()).collect();
            proptest::prop_assert_eq!(changes.len() + alike, names.len());
            let (same, _) = compare(&head, &head);
            proptest::prop_assert!(same.iter().all(|change| change.kind == Kind::StillFailing));
        }
    }
}
