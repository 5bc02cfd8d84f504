//! Bisections, as pages of a test show them: the result in one line, and a bar for each suspect.

use std::collections::HashMap;

use model::{CommitId, ResultKey};
use results::bisections::{self, BisectionRecord};

use super::Context;
use crate::page::cut;
use crate::route::BranchRef;

/// The width of a bar of probability 1, in pixels.
const BAR_WIDTH: f64 = 80.0;
/// Suspects with less have no bar.
const LEAST: f64 = 0.001;

/// The result of a bisection.
pub struct BisectionLine {
    pub test: String,
    /// `found`, `running` and so on.
    pub state: &'static str,
    pub summary: String,
    /// The address of its record.
    pub href: String,
}

/// The probability of a suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub percent: String,
    pub width: u64,
}

/// The newest bisection of one of these tests on a branch.
pub fn newest(context: Context<'_>, at: &BranchRef, tests: &[ResultKey]) -> Option<BisectionRecord> {
    let found = bisections::of_tests(context.store.reader().output_dir(), tests);
    found.into_iter().find(|found| found.branch == *at)
}

/// The result of a bisection in a line.
pub fn line(context: Context<'_>, found: &BisectionRecord) -> BisectionLine {
    BisectionLine {
        test: cut(found.record.test.as_str(), 120),
        state: found.record.state.word(),
        summary: cut(&found.record.summary(), 300),
        href: context.links().bisection(&found.record.id),
    }
}

/// Whether a failure at a commit is one that the bisection explains: of a suspect, or of a commit that is newer. `listed` are
/// the commits of the branch, newest first.
pub fn explains<'a>(
    found: &BisectionRecord,
    mut listed: impl Iterator<Item = &'a CommitId>,
    sha: &CommitId,
) -> bool {
    let (base, head) = found.range();
    if found.has_commit(sha) {
        return sha != base;
    }
    // The commit is listed before the head.
    listed.any(|commit| commit == sha) && listed.any(|commit| commit == head)
}

/// The bars of the suspects: of a merge in which the search continues, and of the commits that it merged.
pub fn bars(found: &BisectionRecord) -> HashMap<CommitId, Bar> {
    // A merge is a suspect of its own search, too: the outermost one is for the merge with all that it merged.
    let searches = std::iter::once(&found.record).chain(found.record.outer.iter().rev());
    let likely = searches.flat_map(|record| &record.posterior).filter(|suspect| suspect.probability >= LEAST);
    let bar = |probability: f64| Bar {
        percent: format!("{:.1} %", probability * 100.0),
        width: (probability.clamp(0.0, 1.0) * BAR_WIDTH).ceil() as u64,
    };
    likely.map(|suspect| (suspect.commit.clone(), bar(suspect.probability))).collect()
}
