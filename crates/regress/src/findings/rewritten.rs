//! Known failures after a branch was rewritten: the first bad commit has another id, or is gone.

use std::collections::BTreeMap;

use model::{CommitId, Finding, FindingKind, Status};

use super::{Examination, KnownFailure, Seen, Subject, digest};

/// The maximum number of newest tested commits that are searched for a result of a test.
const SEARCHED: usize = 20;

/// The newest result of what failed.
enum Newest {
    Fails,
    /// It passes at the commit in this row.
    Passes(usize),
    /// It has no result. `true`: no commit of the branch has any.
    Unknown(bool),
}

impl Examination<'_> {
    /// The known failure that this is after a force-push: the same cause, with a first bad commit that is no longer listed.
    pub(super) fn find_rewritten(&self, seen: &Seen) -> Option<usize> {
        let is_it = |(index, known): &(usize, &KnownFailure)| {
            known.subject == seen.subject
                && known.signature == seen.signature
                && !self.rows.contains_key(&known.first_bad)
                && !self.matched.contains(index)
                // What was fixed and fails at the tip broke again.
                && !(known.fixed && seen.stretch.first_good.is_none())
        };
        self.known.failures.iter().enumerate().find(is_it).map(|(index, _)| index)
    }

    /// What became of the known failures with a first bad commit that is no longer listed. Those that pass at the newest commit with a
    /// result are fixed; nothing is decided while jobs of the branch are queued or running.
    pub(super) fn vanished(&mut self) -> Vec<Finding> {
        let facts = self.facts;
        let is_busy = facts.listed.iter().any(|entry| (facts.has_jobs)(&entry.commit));
        let known = self.known.failures.iter().enumerate();
        let gone: Vec<KnownFailure> = known
            .filter(|(index, known)| {
                !self.matched.contains(index) && !self.rows.contains_key(&known.first_bad)
            })
            .map(|(_, known)| known.clone())
            .collect();
        let mut found: BTreeMap<(FindingKind, CommitId, String), Finding> = BTreeMap::new();
        for known in gone {
            let newest = if is_busy { Newest::Fails } else { self.newest(&known.subject) };
            let row = match newest {
                Newest::Fails | Newest::Unknown(true) => {
                    self.next.failures.push(known);
                    continue;
                }
                // The test no longer exists.
                Newest::Unknown(false) => continue,
                Newest::Passes(row) => row,
            };
            // What existed before findings were recorded is no news.
            if known.fixed || known.id.is_empty() {
                continue;
            }
            let Some(commit) = self.commit(row) else { continue };
            let place = (known.subject.clone(), commit.clone());
            if self.known.settled.contains(&place) {
                self.fixed(known, commit, &mut found);
            } else {
                self.next.settled.insert(place);
                self.next.waits = true;
                self.next.failures.push(known);
            }
        }
        found.into_values().collect()
    }

    fn newest(&self, subject: &Subject) -> Newest {
        let facts = self.facts;
        let tested = (0..facts.listed.len()).filter(|row| facts.listed[*row].counts.total() > 0);
        let mut is_untested = true;
        for row in tested.take(SEARCHED) {
            is_untested = false;
            match subject {
                Subject::Kernel(kernel) => {
                    let failure = facts.builds.at(row).and_then(|builds| builds.failure(kernel));
                    return if failure.is_some() { Newest::Fails } else { Newest::Passes(row) };
                }
                Subject::Test(test) => {
                    let entry = (facts.entry)(&facts.listed[row].commit, test);
                    match entry.map(|entry| entry.status()) {
                        Some(Status::Failed | Status::Flaky) => return Newest::Fails,
                        Some(Status::Passed) => return Newest::Passes(row),
                        _ => {}
                    }
                }
            }
        }
        Newest::Unknown(is_untested)
    }

    fn fixed(
        &self,
        known: KnownFailure,
        commit: CommitId,
        found: &mut BTreeMap<(FindingKind, CommitId, String), Finding>,
    ) {
        let (kind, test) = match known.subject {
            Subject::Test(test) => (FindingKind::Fixed, Some(test)),
            Subject::Kernel(_) => (FindingKind::BuildFixed, None),
        };
        let cause = (kind, known.first_bad.clone(), known.signature.clone());
        let finding = found.entry(cause).or_insert_with(|| Finding {
            id: digest(self.facts.branch, kind, &known.signature, Some(&known.first_bad)),
            kind,
            branch: Some(self.facts.branch.clone()),
            commit: Some(commit),
            tests: Vec::new(),
            tests_total: 0,
            signature: if known.title.is_empty() { known.signature } else { known.title },
            first_bad: Some(known.first_bad),
            last_good: None,
            rate: None,
            at: self.facts.now,
        });
        finding.tests_total = finding.tests_total.saturating_add(u32::from(test.is_some()));
        if finding.tests.len() < model::FINDING_TESTS_MAX {
            finding.tests.extend(test);
        }
    }
}
