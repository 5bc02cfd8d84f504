//! Compares two commits test by test. It has the one table of change kinds, for pages, the command line and JSON.
//!
//! The algorithm merges two lists that are sorted by name. Every test of either side is in exactly one change, or is
//! counted as alike.

use std::cmp::Ordering;
use std::time::Duration;

use belief::{Confidence, FixClaim, FixState};
use model::Status;
use results::TestEntry;
use serde::{Deserialize, Serialize};

use crate::builds::is_unbuilt;

/// How the results of a test differ between the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Passed in the base, fails in the head.
    Broke,
    /// Fails in the head; neither passed nor failed in the base.
    Failing,
    /// Failed in the base, passes in the head.
    Fixed,
    /// Fails on both sides.
    StillFailing,
    /// Flaky on one side, and passed, failed or flaky on the other: neither side accuses a commit.
    Flaky,
    /// Passed, failed or flaky in the base; not run or failed to run in the head.
    Stopped,
    /// Not run in the head, because its kernel does not build; the kernel of the base does. No verdict about the test.
    NotBuilt,
    /// Not run or failed to run in the base; passes in the head.
    Resumed,
    /// Passed on both sides, and took much longer in the head.
    Slower,
    /// Only in the base.
    Gone,
    /// Only in the head, where it does not fail.
    New,
}

/// Whether a change is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The head is better.
    Better,
    /// The head is worse than the base, or fails like the base.
    Worse,
    /// Less is known about the head, or it is slower.
    Doubtful,
    /// Neither better nor worse.
    Neutral,
}

/// The side that explains a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainedBy {
    /// The base, because the head has no failure to explain.
    Base,
    /// The head.
    Head,
}

/// How a kind of change is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindRow {
    /// The kind.
    pub kind: ChangeKind,
    /// A label after a count: "3 broke".
    pub label: &'static str,
    /// Whether it is an improvement.
    pub direction: Direction,
    /// The side with the reason and crash to show.
    pub explained_by: ExplainedBy,
}

/// All kinds in display order: regressions first.
pub const KINDS: [KindRow; 11] = {
    use ChangeKind::{
        Broke, Failing, Fixed, Flaky, Gone, New, NotBuilt, Resumed, Slower, StillFailing, Stopped,
    };
    use Direction::{Better, Doubtful, Neutral, Worse};
    const fn row(
        kind: ChangeKind,
        label: &'static str,
        direction: Direction,
        explained_by: ExplainedBy,
    ) -> KindRow {
        KindRow { kind, label, direction, explained_by }
    }
    [
        row(Broke, "broke", Worse, ExplainedBy::Head),
        row(Failing, "failing, no verdict in the base", Worse, ExplainedBy::Head),
        row(Fixed, "fixed", Better, ExplainedBy::Base),
        row(StillFailing, "failing on both sides", Worse, ExplainedBy::Head),
        row(Flaky, "flaky", Doubtful, ExplainedBy::Head),
        row(Stopped, "no longer run", Doubtful, ExplainedBy::Head),
        row(NotBuilt, "not run: the kernel does not build", Doubtful, ExplainedBy::Head),
        row(Resumed, "now run and passing", Better, ExplainedBy::Base),
        row(Slower, "much slower", Doubtful, ExplainedBy::Head),
        row(Gone, "only in the base", Neutral, ExplainedBy::Base),
        row(New, "only in the head", Neutral, ExplainedBy::Head),
    ]
};

impl ChangeKind {
    /// How this kind is presented.
    #[must_use]
    pub fn row(self) -> KindRow {
        KINDS[self as usize]
    }
}

/// A test that differs between the sides, or fails on both.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// How it differs.
    pub kind: ChangeKind,
    /// The test in the base.
    pub base: Option<&'a TestEntry>,
    /// The test in the head.
    pub head: Option<&'a TestEntry>,
}

impl<'a> Change<'a> {
    /// The name of the test.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.head.or(self.base).map_or("", |entry| entry.key.as_str())
    }

    /// What the attempts in the head prove of a failure in the base.
    #[must_use]
    pub fn fix(&self) -> Option<FixClaim> {
        let (base, head) = (self.base?, self.head?);
        // Their ids do not matter, only that the sides are different commits.
        let at = |entry: &TestEntry, id: &str| Some([entry.observations(&id.repeat(40).parse().ok()?)]);
        let claim = || FixClaim::find(&at(head, "0")?, &at(base, "1")?, 1, Confidence::USUAL);
        (self.kind == ChangeKind::Fixed).then(claim).flatten()
    }

    /// The entry whose reason and crash explain the change.
    #[must_use]
    pub fn explanation(&self) -> Option<&'a TestEntry> {
        match self.kind.row().explained_by {
            ExplainedBy::Base => self.base,
            ExplainedBy::Head => self.head,
        }
    }
}

/// The result of a comparison.
#[derive(Debug, Clone)]
pub struct Comparison<'a> {
    /// The changes, in the order of [`KINDS`], by name within each kind.
    pub changes: Vec<Change<'a>>,
    /// The number of tests that are alike and do not fail.
    pub alike: usize,
}

impl<'a> Comparison<'a> {
    /// The changes of each kind that occurs, in the order of [`KINDS`]. Fixes that are not believed are no improvement yet.
    pub fn by_kind(&self) -> impl Iterator<Item = (KindRow, &[Change<'a>])> {
        self.changes.chunk_by(|a, b| a.kind == b.kind).map(|changes| {
            let row = changes[0].kind.row();
            let is_believed =
                |change: &Change<'a>| change.fix().is_some_and(|fix| fix.state() == FixState::Fixed);
            if row.kind == ChangeKind::Fixed && !changes.iter().all(is_believed) {
                return (KindRow { label: "fixed?", direction: Direction::Neutral, ..row }, changes);
            }
            (row, changes)
        })
    }
}

/// Compares two commits. Both lists must be sorted by key, without duplicate keys.
#[must_use]
pub fn compare<'a>(base: &'a [TestEntry], head: &'a [TestEntry]) -> Comparison<'a> {
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
    changes.sort_by_key(|change| change.kind as usize);
    Comparison { changes, alike }
}

fn kind(base: Option<&TestEntry>, head: Option<&TestEntry>) -> Option<ChangeKind> {
    use Status::{Failed, Flaky, Passed};
    let (Some(old), Some(new)) = (base, head) else {
        return match head {
            None => Some(ChangeKind::Gone),
            Some(new) if new.status() == Failed => Some(ChangeKind::Failing),
            Some(new) if is_unbuilt(new) => Some(ChangeKind::NotBuilt),
            Some(_) => Some(ChangeKind::New),
        };
    };
    // A kernel that does not build is one failure of the build, not one of each test.
    match (is_unbuilt(old), is_unbuilt(new)) {
        (false, true) => return Some(ChangeKind::NotBuilt),
        (true, true) => return None,
        _ => {}
    }
    match (old.status(), new.status()) {
        (Flaky, Passed | Failed | Flaky) | (_, Flaky) => Some(ChangeKind::Flaky),
        (Passed, Failed) => Some(ChangeKind::Broke),
        (Failed, Failed) => Some(ChangeKind::StillFailing),
        (_, Failed) => Some(ChangeKind::Failing),
        (Failed, Passed) => Some(ChangeKind::Fixed),
        (Passed, Passed) => {
            much_longer(old.decisive.duration, new.decisive.duration).then_some(ChangeKind::Slower)
        }
        (_, Passed) => Some(ChangeKind::Resumed),
        // The head has no verdict yet.
        (_, Status::InProgress) => None,
        (Passed | Failed | Flaky, _) => Some(ChangeKind::Stopped),
        _ => None,
    }
}

/// More than 50 % and at least one second longer. Smaller differences are noise.
fn much_longer(old: Duration, new: Duration) -> bool {
    !old.is_zero() && new > old.mul_f32(1.5) && new - old >= Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn entries(text: &str) -> Vec<TestEntry> {
        let mut entries: BTreeMap<String, TestEntry> = BTreeMap::new();
        for word in text.split_whitespace() {
            let (name, rest) = word.split_once(':').unwrap();
            let status = match &rest[..1] {
                "p" => Status::Passed,
                "f" => Status::Failed,
                "n" => Status::NotRun,
                "i" => Status::InProgress,
                "?" => Status::Unknown,
                _ => Status::FailedToRun,
            };
            let mut entry = TestEntry::new(format!("t.{name}").parse().unwrap(), status);
            if rest.starts_with('b') {
                entry.decisive.reason = Some(model::build_failed_reason("a.c:1: error: x"));
            }
            entry.decisive.duration = Duration::from_millis(rest[1..].parse().unwrap_or(100));
            entries.insert(name.into(), entry);
        }
        entries.into_values().collect()
    }

    #[test]
    fn the_table_has_each_kind_at_its_index() {
        for (at, row) in KINDS.iter().enumerate() {
            assert_eq!(row.kind as usize, at);
            assert_eq!(row.kind.row(), *row);
        }
    }

    #[test]
    fn each_kind() {
        let base = entries("a:p b:f c:f d:p e:n f:p1000 g:p h:r i:p4000 j:n k:p n:p");
        let head = entries("a:f b:f c:p d:r e:f f:p2100 h:p i:p4400 j:n k:p l:p m:f n:i");
        let Comparison { changes, alike } = compare(&base, &head);
        let found: Vec<_> = changes.iter().map(|change| (change.name(), change.kind)).collect();
        assert_eq!(
            found,
            [
                ("t.a", ChangeKind::Broke),
                ("t.e", ChangeKind::Failing),
                ("t.m", ChangeKind::Failing),
                ("t.c", ChangeKind::Fixed),
                ("t.b", ChangeKind::StillFailing),
                ("t.d", ChangeKind::Stopped),
                ("t.h", ChangeKind::Resumed),
                ("t.f", ChangeKind::Slower),
                ("t.g", ChangeKind::Gone),
                ("t.l", ChangeKind::New),
            ]
        );
        assert_eq!(alike, 4);
    }

    /// The expected kinds as a table of letters for base and head; `-` if a side does not have the test, `P` for a slow
    /// pass.
    const TABLE: [(ChangeKind, &str); 10] = [
        (ChangeKind::Broke, "pf Pf"),
        (ChangeKind::Failing, "-f nf rf if ?f bf"),
        (ChangeKind::Fixed, "fp fP"),
        (ChangeKind::StillFailing, "ff"),
        (ChangeKind::Stopped, "pn Pn fn pr Pr fr p? P? f?"),
        (ChangeKind::NotBuilt, "pb Pb fb nb rb ib ?b -b"),
        (ChangeKind::Resumed, "np rp ip ?p nP rP iP ?P bp bP"),
        (ChangeKind::Slower, "pP"),
        (ChangeKind::Gone, "p- P- f- n- r- i- ?- b-"),
        (ChangeKind::New, "-p -P -n -r -i -?"),
    ];

    fn naive(base: char, head: char) -> Option<ChangeKind> {
        let pair = format!("{base}{head}");
        TABLE.iter().find(|(_, pairs)| pairs.split(' ').any(|other| other == pair)).map(|(kind, _)| *kind)
    }

    proptest::proptest! {
        /// Compares the merge with a lookup of every test of either side in a table of pairs.
        #[test]
        fn a_merge_finds_what_a_lookup_finds(base in "[pPfnrbi?-]{6}", head in "[pPfnrbi?-]{6}") {
            let side = |letters: &str| {
                let word = |(name, letter): (char, char)| match letter {
                    '-' => String::new(),
                    'P' => format!("{name}:p9000 "),
                    letter => format!("{name}:{letter} "),
                };
                entries(&('a'..).zip(letters.chars()).map(word).collect::<String>())
            };
            let (base_entries, head_entries) = (side(&base), side(&head));
            let found = compare(&base_entries, &head_entries);
            let mut expected = Vec::new();
            for row in KINDS {
                for (name, (old, new)) in ('a'..).zip(base.chars().zip(head.chars())) {
                    if naive(old, new) == Some(row.kind) {
                        expected.push((format!("t.{name}"), row.kind));
                    }
                }
            }
            let kinds: Vec<_> = found.changes.iter().map(|change| (change.name().to_owned(), change.kind)).collect();
            proptest::prop_assert_eq!(&kinds, &expected);
            let names: BTreeSet<_> = base_entries.iter().chain(&head_entries).map(|e| e.key.as_str()).collect();
            proptest::prop_assert_eq!(found.changes.len() + found.alike, names.len());
            proptest::prop_assert_eq!(found.by_kind().map(|(_, changes)| changes.len()).sum::<usize>(), kinds.len());
        }

        #[test]
        fn a_commit_against_itself_only_still_fails(letters in "[pfnri?-]{6}") {
            let words: String = ('a'..).zip(letters.chars()).filter(|(_, l)| *l != '-').map(|(n, l)| format!("{n}:{l} ")).collect();
            let entries = entries(&words);
            let found = compare(&entries, &entries);
            proptest::prop_assert!(found.changes.iter().all(|change| change.kind == ChangeKind::StillFailing));
        }
    }
}
