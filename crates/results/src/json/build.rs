//! The builds of the kernels of a commit, as JSON.

use model::{BuiltKernel, CommitId};
use serde::{Deserialize, Serialize};

/// The builds of a commit. The tests that did not run because of them are also in the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRow {
    /// What does not build: `build`, `build of aarch64 kasan`; absent if everything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The kernels that do not build; those of the most tests first.
    #[serde(default)]
    pub failed: Vec<FailedKernelRow>,
    /// The kernels with a build that this commit broke. Only in listings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<BuiltKernel>,
    /// The kernels with a build that this commit fixed. Only in listings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<BuiltKernel>,
}

/// A kernel that does not build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedKernelRow {
    /// The architecture and the flavor; each is absent if the tests select none.
    #[serde(flatten)]
    pub kernel: BuiltKernel,
    /// The first error.
    pub error: String,
    /// The number of tests that did not run because of it.
    pub tests: usize,
    /// One of these tests. Its artifacts have the log of the build.
    pub test: String,
    /// The first commit at which it does not build. Only in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<CommitId>,
    /// The last commit at which it built. Only in listings, and if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<CommitId>,
}
