//! What a run tells while it runs: one JSON object a line (`ktest run --events`), the protocol of the farm.
//!
//! Additions are new optional fields or new kinds of event; readers skip kinds they do not know. Anything else
//! raises [`EVENT_VERSION`], and a reader refuses a version it does not know.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::names::{CommitId, KernelId, SubtestName, TestPath};
use crate::verdict::Verdict;

/// The version of the protocol that this build speaks.
pub const EVENT_VERSION: u32 = 1;

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// [`EVENT_VERSION`] of the sender.
    pub v: u32,
    /// Milliseconds since the run began (a monotonic clock).
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    RunStarted {
        /// The test file.
        test: TestPath,
        /// The subtests that will get a verdict, in order.
        subtests: Vec<SubtestName>,
        /// The commit whose kernel is tested, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<CommitId>,
    },
    /// The kernel is being configured and built.
    BuildStarted,
    /// What the run is busy with while nothing else is told: `checking out`, `making the root image`.
    Phase {
        /// A few words, in the present participle.
        what: String,
    },
    /// Where the build stands; at most a few a second.
    BuildProgress {
        /// Objects made so far.
        done: u32,
        /// Objects to be made, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u32>,
    },
    /// The store lacks the kernel, and it is about to be built. Only of a run that was told to ask (`--ask-kernel`): it
    /// waits for a line on its standard input, so that the kernel can be put into the store meanwhile.
    KernelWanted {
        /// Its name.
        kernel: KernelId,
    },
    /// The kernel is there.
    KernelReady {
        /// Its name in the store.
        kernel: KernelId,
        /// SHA-256 of the boot image.
        image_hash: String,
        /// Whether it was in the store already.
        cached: bool,
        /// How long getting it took, in ms.
        duration_ms: u64,
    },
    /// The kernel does not build; every subtest's verdict follows.
    BuildFailed {
        /// The first compiler error.
        reason: String,
    },
    /// A VM starts.
    BootStarted {
        /// 1 for the first VM of the run.
        vm: u32,
        /// `kvm` or `tcg`.
        accel: String,
    },
    /// The guest is up and about to run subtests.
    Booted {
        /// Which VM.
        vm: u32,
        /// From starting QEMU to the guest's first word, in ms.
        duration_ms: u64,
    },
    /// A subtest starts.
    SubtestStarted {
        /// Which.
        subtest: SubtestName,
    },
    /// Console lines since the last such event, as they stand in the logs. Only of a run that was told to tell them
    /// (`--log-events`); up to 8 MiB a subtest.
    Log {
        /// The subtest that runs; none between subtests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subtest: Option<SubtestName>,
        /// The lines, each with its time stamp (`00012 ...`), without line ends.
        lines: Vec<String>,
    },
    /// A subtest has its verdict, and its `status`, `log` and `duration` files are written.
    Verdict {
        /// Which.
        subtest: SubtestName,
        /// What.
        #[serde(flatten)]
        verdict: Verdict,
        /// How long it ran, in ms.
        duration_ms: u64,
        /// The crash's title, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crash: Option<String>,
        /// Where in the kernel's source it crashed, as `FILE:LINE`, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Its folder, below the output directory.
        dir: PathBuf,
    },
    /// Something other than the tested code is broken; what has no verdict yet must run elsewhere or later.
    Infrastructure {
        /// One line: what, and what to do.
        what: String,
    },
    /// The last event. Absent: the run did not end by itself.
    RunFinished {
        /// The exit code that follows.
        exit_code: u8,
    },
}

impl Stamped {
    /// One event from one line of the protocol; `Ok(None)` for a kind of event this build does not know.
    pub fn parse(line: &str) -> Result<Option<Self>, EventError> {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
            event: String,
        }
        let head: Head = serde_json::from_str(line)?;
        if head.v != EVENT_VERSION {
            return Err(EventError::Version(head.v));
        }
        if !KINDS.contains(&head.event.as_str()) {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(line)?))
    }
}

const KINDS: [&str; 14] = [
    "run_started",
    "build_started",
    "phase",
    "build_progress",
    "kernel_wanted",
    "kernel_ready",
    "build_failed",
    "boot_started",
    "booted",
    "subtest_started",
    "log",
    "verdict",
    "infrastructure",
    "run_finished",
];

/// Why a line is not an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not JSON of the right shape.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// From another generation.
    #[error(
        "event protocol version {0}, this build speaks {EVENT_VERSION}; install the same ktest on both hosts"
    )]
    Version(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_back_and_unknown_kinds_are_skipped() {
        let event = Stamped {
            v: 1,
            at_ms: 1234,
            event: Event::Verdict {
                subtest: "punch".parse().unwrap(),
                verdict: Verdict::Failed { reason: "kernel BUG".into() },
                duration_ms: 5,
                crash: None,
                source: None,
                dir: "out/a.punch".into(),
            },
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"v":1,"at_ms":1234,"event":"verdict","subtest":"punch","status":"Failed","reason":"kernel BUG","duration_ms":5,"dir":"out/a.punch"}"#
        );
        assert_eq!(Stamped::parse(&line).unwrap(), Some(event));
        assert_eq!(Stamped::parse(r#"{"v":1,"at_ms":0,"event":"from_the_future","x":1}"#).unwrap(), None);
        assert!(matches!(Stamped::parse(r#"{"v":2,"event":"verdict"}"#), Err(EventError::Version(2))));
        assert!(Stamped::parse("rubbish").is_err());
        assert!(Stamped::parse(r#"{"v":1,"at_ms":0,"event":"verdict","subtest":"../x y"}"#).is_err());
    }
}
