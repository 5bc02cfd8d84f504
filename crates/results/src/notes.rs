//! What the daemon reports for scripts in addition to verdicts: builds of kernels, requests of users.

use std::time::Duration;

use model::{BuiltKernel, CommitId, Env, ExperimentKey, Finding, HostName, KernelId, ResultKey, TestPath};

use crate::findings::{Mark, SenderState};
use crate::requests::RequestKind;

/// A row of a table for scripts. It becomes durable with the next verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A batch has its kernel, or cannot have one.
    Build(BuildNote),
    /// A user requested something.
    Request(RequestNote),
    /// A request is finished.
    RequestEnded {
        /// The name of its file.
        file: String,
        /// The time, Unix seconds.
        at: i64,
        /// The result.
        end: RequestEnd,
    },
    /// An experiment, and the key of its code.
    Code {
        /// The experiment.
        experiment: ExperimentKey,
        /// The same with the code of the kernel instead of its content.
        code: ExperimentKey,
    },
    /// The patch of a commit.
    Patch {
        /// The commit.
        commit: CommitId,
        /// Its id, as of `git patch-id --stable`; `None` if the commit has none.
        patch: Option<String>,
    },
    /// New findings of a branch. Those with the id of a recorded one are ignored.
    Findings {
        /// The branch as `user/branch`, or another name for the state of the farm.
        branch: String,
        /// The findings, in the order in which they are to be sent.
        findings: Vec<Finding>,
        /// What is known of the branch from now on.
        known: String,
    },
    /// How far a sender of findings is.
    Sender {
        /// Its state.
        state: SenderState,
        /// The number of the finding that it has sent.
        sent: Option<i64>,
    },
    /// A sender is no longer in the configuration. One with its name that is added later begins with the findings to come.
    SenderRemoved {
        /// Its name.
        name: String,
    },
    /// What somebody said of a finding.
    Mark {
        /// The id of the finding.
        finding: String,
        /// What was said.
        mark: Mark,
    },
    /// Tests of a commit that wait for an idle slot: each ran at another commit whose kernel has the same code.
    SameCode {
        /// The commit.
        commit: CommitId,
        /// The tests, and where each of them ran.
        tests: Vec<(ResultKey, CommitId)>,
    },
}

/// A build of a kernel, or its reuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildNote {
    /// The commit.
    pub commit: CommitId,
    /// The test file of the batch.
    pub file: TestPath,
    /// The environment of the batch, with the architecture and the flavor.
    pub env: Env,
    /// The kernel; `None` if it does not build.
    pub kernel: Option<KernelId>,
    /// SHA-256 (hex) of the boot image.
    pub image_hash: Option<String>,
    /// The start, Unix seconds.
    pub started: i64,
    /// The time to find, build or download the kernel.
    pub duration: Duration,
    /// The host.
    pub host: HostName,
    /// The slot of the host.
    pub slot: u32,
    /// The result.
    pub outcome: BuildOutcome,
    /// The first error of a build that failed.
    pub error: Option<String>,
}

/// A build of a kernel, or its reuse, as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBuild {
    /// The test file of the batch.
    pub file: String,
    /// The architecture and the flavor that the batch selects.
    pub kernel: BuiltKernel,
    /// The result.
    pub outcome: BuildOutcome,
    /// The start, Unix seconds.
    pub started: i64,
    /// The time to find, build or download the kernel.
    pub duration: Duration,
    /// The host.
    pub host: Option<String>,
    /// The slot of the host.
    pub slot: Option<u32>,
}

/// The result of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildOutcome {
    /// The kernel was built.
    Built,
    /// The kernel was in the store.
    Reused,
    /// The kernel was downloaded.
    Fetched,
    /// The kernel does not build.
    Failed,
}

impl BuildOutcome {
    /// The result with this word, which the schema restricts.
    pub(crate) fn of_word(word: &str) -> Self {
        let all = [Self::Built, Self::Reused, Self::Fetched];
        all.into_iter().find(|outcome| outcome.word() == word).unwrap_or(Self::Failed)
    }

    /// `built`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Reused => "reused",
            Self::Fetched => "fetched",
            Self::Failed => "failed",
        }
    }
}

/// A request of a user. Readers of the database can see it: it has no address of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestNote {
    /// The time, Unix seconds.
    pub at: i64,
    /// What was requested.
    pub kind: RequestKind,
    /// The account on the host that requested it.
    pub account: String,
    /// The name of the request file.
    pub file: String,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestEnd {
    /// It was carried out.
    Done,
    /// It could not be carried out, with the reason.
    Failed(String),
    /// It was not carried out, with the reason.
    Refused(String),
}

impl RequestEnd {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Failed(reason) | Self::Refused(reason) => Some(reason),
        }
    }
}
