//! Links to the views: the inverse of the routing table.

use std::fmt;

use model::{BuiltKernel, CommitId, Status, UserName};

use super::{BranchRef, ControlAction};
use crate::http::Encoded;

/// An address with a further parameter.
#[must_use]
pub fn with_parameter(address: &str, name: &str, value: &str) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{name}={}", Encoded(value))
}

/// Builds links below a mount point. Every part is percent-encoded here; templates escape the result for HTML.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    /// The prefix of every path.
    pub mount: &'a str,
}

impl Links<'_> {
    /// The list of users.
    #[must_use]
    pub fn home(&self) -> String {
        format!("{}/ci", self.mount)
    }

    /// The branches of a user.
    #[must_use]
    pub fn user(&self, user: &UserName) -> String {
        format!("{}/ci?user={}", self.mount, Encoded(user.as_str()))
    }

    /// The commits of a branch.
    #[must_use]
    pub fn branch(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}", self.mount, BranchQuery(at))
    }

    /// The history of a test on a branch.
    #[must_use]
    pub fn history(&self, at: &BranchRef, key: &str) -> String {
        format!("{}/ci?{}&history={}", self.mount, BranchQuery(at), Encoded(key))
    }

    /// A commit, on a branch if it is known.
    #[must_use]
    pub fn commit(&self, at: Option<&BranchRef>, sha: &str) -> String {
        match at {
            Some(at) => format!("{}/ci?{}&commit={}", self.mount, BranchQuery(at), Encoded(sha)),
            None => format!("{}/c/{}/", self.mount, Encoded(sha)),
        }
    }

    /// One test at a commit.
    #[must_use]
    pub fn test(&self, sha: &str, key: &str) -> String {
        format!("{}/c/{}/{}/", self.mount, Encoded(sha), Encoded(key))
    }

    /// One test at a commit, at its failure if it has one.
    #[must_use]
    pub fn verdict(&self, sha: &str, key: &str, status: Option<Status>) -> String {
        let failure = if status.is_some_and(Status::has_failure) { "#failure" } else { "" };
        self.test(sha, key) + failure
    }

    /// The form with which an operator stops or resumes something.
    #[must_use]
    pub fn controls(&self) -> String {
        format!("{}/ci/control", self.mount)
    }

    /// The same for an action at a host, slot or branch. `batch` is the start of the batch to cancel.
    #[must_use]
    pub fn control(&self, action: ControlAction, at: &str, batch: Option<i64>) -> String {
        let batch = batch.map(|batch| format!("&batch={batch}")).unwrap_or_default();
        format!("{}?do={}&at={}{batch}", self.controls(), action.words().word, Encoded(at))
    }

    /// The record of a bisection.
    #[must_use]
    pub fn bisection(&self, id: &str) -> String {
        format!("{}/c/bisect/{}.json", self.mount, Encoded(id))
    }

    /// The coverage of a commit: of all sources, or of one directory or file.
    #[must_use]
    pub fn coverage(&self, sha: &str, path: &str, test: &str) -> String {
        let mut address = format!("{}/c/{}/coverage", self.mount, Encoded(sha));
        let given = [("path", path), ("file", test)].into_iter().filter(|(_, value)| !value.is_empty());
        for (at, (name, value)) in given.enumerate() {
            address.push_str(&format!("{}{name}={}", if at == 0 { '?' } else { '&' }, Encoded(value)));
        }
        address
    }

    /// The builds of the kernels of a commit, or of one of them.
    #[must_use]
    pub fn build(&self, sha: &str, kernel: Option<&BuiltKernel>) -> String {
        let kernel =
            kernel.map_or(String::new(), |kernel| format!("?kernel={}", Encoded(&kernel.to_string())));
        format!("{}/c/{}/build{kernel}", self.mount, Encoded(sha))
    }

    /// The crashes on a branch.
    #[must_use]
    pub fn crashes(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}&crashes", self.mount, BranchQuery(at))
    }

    /// The test files of a commit in all configurations, or the subtests of one file.
    #[must_use]
    pub fn matrix(&self, sha: &str, file: Option<&str>) -> String {
        let file = file.map_or(String::new(), |file| format!("?file={}", Encoded(file)));
        format!("{}/c/{}/matrix{file}", self.mount, Encoded(sha))
    }

    /// The same at the newest commit of a branch with results.
    #[must_use]
    pub fn matrix_of_tip(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}&matrix", self.mount, BranchQuery(at))
    }

    /// The tests of a branch at its newest commits.
    #[must_use]
    pub fn grid(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}&grid", self.mount, BranchQuery(at))
    }

    /// The flaky tests of a branch.
    #[must_use]
    pub fn flaky(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}&flaky", self.mount, BranchQuery(at))
    }

    /// The findings of a branch.
    #[must_use]
    pub fn findings(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}&findings", self.mount, BranchQuery(at))
    }

    /// The feed of a branch.
    #[must_use]
    pub fn feed(&self, at: &BranchRef) -> String {
        format!("{}&format=atom", self.branch(at))
    }

    /// The commits of a branch before and after a force-push: the newest one, or that with this old tip.
    #[must_use]
    pub fn range_diff(&self, at: &BranchRef, of: Option<&CommitId>) -> String {
        let of = of.map(|of| format!("={of}")).unwrap_or_default();
        format!("{}/ci?{}&range-diff{of}", self.mount, BranchQuery(at))
    }

    /// The comparison of two commits or branches.
    #[must_use]
    pub fn compare(&self, user: Option<&UserName>, base: &str, head: &str) -> String {
        let user = user.map(|user| format!("user={}&", Encoded(user.as_str()))).unwrap_or_default();
        format!("{}/ci?{user}compare={}..{}", self.mount, Encoded(base), Encoded(head))
    }

    /// The live status.
    #[must_use]
    pub fn status(&self) -> String {
        format!("{}/ci?status", self.mount)
    }
}

struct BranchQuery<'a>(&'a BranchRef);

impl fmt::Display for BranchQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user={}&branch={}", Encoded(self.0.user.as_str()), Encoded(self.0.branch.as_str()))
    }
}
