//! The events of a run, one JSON object per line (`ktest run --events`): the protocol between the farm and a run.
//!
//! Optional fields and new kinds of event may be added; readers skip unknown kinds. Any other change increments
//! [`EVENT_VERSION`], and readers refuse an unknown version.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conditions::{Conditions, ExperimentKey};
use crate::host_report::HostReport;
use crate::names::{CommitId, KernelId, SubtestName, TestPath};
use crate::verdict::Verdict;

/// The protocol version of this build.
pub const EVENT_VERSION: u32 = 1;
/// The interval of [`Event::Heartbeat`].
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// In the infrastructure error `kernel NAME is not on the mirror: CAUSE`. The daemon stops to run tests on this kernel.
pub const KERNEL_NOT_FOUND: &str = "is not on the mirror";

/// The start of the infrastructure error for a cached build that differs from a clean one. The daemon shows the error
/// to the operator.
pub const CACHED_BUILD_DIFFERS: &str = "the cached build differs";

/// An event with its time stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// The [`EVENT_VERSION`] of the sender.
    pub v: u32,
    /// Milliseconds since the start of the run, on a monotonic clock.
    pub at_ms: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    RunStarted {
        /// The test file.
        test: TestPath,
        /// The subtests that will get a verdict, in order.
        subtests: Vec<SubtestName>,
        /// The commit of the kernel, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<CommitId>,
    },
    /// The kernel is being configured and built.
    BuildStarted,
    /// What the run does between other events: `checking out`, `making the root image`.
    Phase {
        /// A few words that start with a present participle.
        what: String,
    },
    /// The progress of the build, at most a few times a second.
    BuildProgress {
        /// Objects built so far.
        done: u32,
        /// Objects to build, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u32>,
    },
    /// The kernel store does not have the kernel. Only with `--ask-kernel`: the run waits for a line on its standard
    /// input before it builds the kernel, so that the kernel can be added to the store first.
    KernelWanted {
        /// Its id.
        kernel: KernelId,
    },
    /// The kernel is available.
    KernelReady {
        /// Its id in the kernel store.
        kernel: KernelId,
        /// SHA-256 of the boot image.
        image_hash: String,
        /// True if it was already in the store.
        cached: bool,
        /// True if it was downloaded.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fetched: bool,
        /// The time to find, build or download the kernel, in ms.
        duration_ms: u64,
    },
    /// The kernel does not build. The verdicts of all subtests follow.
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
        /// What the verdicts of this VM depend on, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        experiment: Option<ExperimentKey>,
        /// The same with the code of the kernel instead of its content. It is equal if kernels differ only in line numbers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<ExperimentKey>,
    },
    /// The guest has booted and is about to run subtests.
    Booted {
        /// The VM.
        vm: u32,
        /// The time from the start of QEMU to the first line of the guest, in ms.
        duration_ms: u64,
    },
    /// A subtest starts.
    SubtestStarted {
        /// The subtest.
        subtest: SubtestName,
    },
    /// The run is alive. Sent about every 15 s ([`HEARTBEAT`]) from the start until the last event.
    Heartbeat {
        /// The state of the host. An older `ktest` sends none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostReport>,
    },
    /// Console lines since the previous event of this kind, as in the log. Only with `--log-events`; up to 8 MiB per
    /// subtest.
    Log {
        /// The running subtest; `None` between subtests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subtest: Option<SubtestName>,
        /// The lines, each with its time stamp (`00012 ...`), without newlines.
        lines: Vec<String>,
    },
    /// A subtest has its verdict. Its `status`, `log` and `duration` files are complete.
    Verdict {
        /// The subtest.
        subtest: SubtestName,
        /// The verdict.
        #[serde(flatten)]
        verdict: Verdict,
        /// Its duration in ms.
        duration_ms: u64,
        /// The crash title, if it crashed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crash: Option<String>,
        /// The source line of the crash as `FILE:LINE`, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Its directory, relative to the output directory.
        dir: PathBuf,
        /// What the attempt depended on.
        #[serde(flatten)]
        conditions: Conditions,
    },
    /// An infrastructure error. Subtests without a verdict must be retried, later or on another host.
    Infrastructure {
        /// One line: what failed and what to do.
        what: String,
    },
    /// The last event. It is missing if the run was killed.
    RunFinished {
        /// The exit code that follows.
        exit_code: u8,
    },
}

impl Stamped {
    /// Parses a line of the protocol; `Ok(None)` for an unknown kind of event.
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
        if !EVENT_KINDS.contains(&head.event.as_str()) {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(line)?))
    }
}

const EVENT_KINDS: [&str; 15] = [
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
    "heartbeat",
    "log",
    "verdict",
    "infrastructure",
    "run_finished",
];

/// Why a line is not an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It is not JSON, or not an event.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// Its protocol version is not the one of this build.
    #[error(
        "event protocol version {0}, this build has version {EVENT_VERSION}; install the same ktest on both hosts"
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
                conditions: Conditions::default(),
            },
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"v":1,"at_ms":1234,"event":"verdict","subtest":"punch","status":"Failed","reason":"kernel BUG","duration_ms":5,"dir":"out/a.punch"}"#
        );
        assert_eq!(Stamped::parse(&line).unwrap(), Some(event));
        for (more, load) in [("", None), (r#","host":{"load":50,"new":1}"#, Some(50))] {
            let line = format!(r#"{{"v":1,"at_ms":0,"event":"heartbeat"{more}}}"#);
            let Some(Stamped { event: Event::Heartbeat { host }, .. }) = Stamped::parse(&line).unwrap()
            else {
                panic!("{line}")
            };
            assert_eq!(host.and_then(|host| host.load), load);
        }
        assert_eq!(Stamped::parse(r#"{"v":1,"at_ms":0,"event":"from_the_future","x":1}"#).unwrap(), None);
        assert!(matches!(Stamped::parse(r#"{"v":2,"event":"verdict"}"#), Err(EventError::Version(2))));
        assert!(Stamped::parse("rubbish").is_err());
        assert!(Stamped::parse(r#"{"v":1,"at_ms":0,"event":"verdict","subtest":"../x y"}"#).is_err());
    }
}
