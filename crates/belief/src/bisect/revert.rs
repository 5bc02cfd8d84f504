//! The revert: whether the newest commit passes without the first bad commit.

use model::CommitId;

use super::record::Revert;
use super::{Bisection, Phase};

impl Bisection {
    /// The commit that is being verified, if a revert of it is of use: not that of a merge in which the search will continue.
    #[must_use]
    pub fn to_revert(&self) -> Option<&CommitId> {
        let Phase::Verifying(verifying) = &self.phase else { return None };
        let culprit = self.suspect(*verifying.class.end());
        let is_open = culprit.second_parent.is_none() && !verifying.with_revert;
        is_open.then_some(&culprit.commit)
    }

    /// Sets the commit that is the newest one without the culprit. The verification of that culprit runs it, too.
    pub fn set_revert(&mut self, revert: Revert) {
        self.revert = Some(revert);
        if let Phase::Verifying(verifying) = &self.phase {
            let with_revert = self.has_revert_of(*verifying.class.end());
            self.run_revert(with_revert);
        }
    }

    /// The revert cannot be run: the verification ends without it.
    pub fn drop_revert(&mut self) {
        self.revert = None;
        self.run_revert(false);
        self.evaluate();
    }

    /// The revert.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        self.revert.as_ref()
    }

    fn run_revert(&mut self, with_revert: bool) {
        if let Phase::Verifying(verifying) = &mut self.phase {
            verifying.with_revert = with_revert;
        }
    }

    /// Whether the revert is one of the commit at this position.
    pub(super) fn has_revert_of(&self, at: usize) -> bool {
        self.revert.as_ref().is_some_and(|revert| revert.culprit == self.suspect(at).commit)
    }
}
