//! The types that the supervisor takes (limits, VM ends) and returns (actions, outcomes).

use std::time::Duration;

use model::SubtestName;
use model::verdict::Verdict;

/// Time limits. The caller scales them for a guest without KVM.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// From the start of QEMU to `KTEST UP`.
    pub boot: Duration,
    /// A subtest without its own limit; also `init`, and the time between two subtests.
    pub subtest: Duration,
    /// From the last verdict until the VM exits.
    pub shutdown: Duration,
    /// The factor by which WATCHDOG limits are multiplied.
    pub watchdog_scale: u32,
    /// A user works in the VM: no limits, and no kill after a panic.
    pub interactive: bool,
}

impl TimeLimits {
    /// No limits, for an interactive VM.
    #[must_use]
    pub fn interactive() -> Self {
        let forever = Duration::MAX;
        Self { boot: forever, subtest: forever, shutdown: forever, watchdog_scale: 1, interactive: true }
    }
}

/// An action that the caller must carry out or report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Report that the guest is up.
    GuestUp,
    /// Report the start of a subtest.
    Started(SubtestName),
    /// Report the verdict of a subtest.
    Finished(FinishedSubtest),
    /// Check a request of the guest to the QEMU monitor, and carry it out if it is allowed.
    Monitor(String),
    /// Send this SysRq key.
    Sysrq(char),
    /// Kill the VM, then call [`Supervisor::ended`](super::Supervisor::ended).
    Kill,
}

/// A subtest with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSubtest {
    /// The subtest.
    pub subtest: SubtestName,
    /// Its verdict.
    pub verdict: Verdict,
    /// The time it ran.
    pub duration: Duration,
    /// The crash title, if there was kernel trouble.
    pub crash: Option<String>,
    /// Its console lines; the last one is the status line.
    pub log: Vec<u8>,
}

/// How the VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmEnd {
    /// The guest powered off or reset.
    Guest,
    /// The caller killed it after [`Action::Kill`].
    Killed,
    /// QEMU exited by itself, with the reason.
    Died(String),
}

/// The consequence of the end of a VM for the subtests that did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmOutcome {
    /// `run-tests` ended. A subtest that did not start will not start in another VM either, unless another subtest
    /// ended `run-tests` early.
    Complete,
    /// The VM ended early. The remaining subtests can run in a new one.
    Lost,
    /// The running subtest reset the guest, as it had announced. The next guest continues it
    /// ([`Supervisor::remaining`](super::Supervisor::remaining)).
    Rebooting,
    /// The guest did not boot.
    NoBoot {
        /// The reason, in one line.
        reason: String,
        /// Whether the kernel reported a crash; otherwise it was silent.
        crashed: bool,
    },
    /// `FILE init` failed, with the reason.
    InitFailed(String),
    /// A failure outside the tested code.
    Infrastructure(String),
}
