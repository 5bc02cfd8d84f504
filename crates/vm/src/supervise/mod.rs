//! Determines the verdicts of the subtests that run in one VM, from its console. A state machine without I/O.
//!
//! The caller passes console lines and the time, and gets a list of actions. Each subtest that starts gets exactly one
//! verdict, unless the VM dies for a reason outside the tested code: then it gets none, and the outcome contains the
//! reason.
//!
//! ```text
//! Booting --KTEST UP--> BetweenSubtests --TEST--> Running --verdict--> BetweenSubtests --KTEST EXIT--> Exited
//!    |                        |                      |
//!    +---- panic, limit ------+----------------------+-----------------------------------------> Dying
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use model::SubtestName;
use model::marker::Marker;
use model::verdict::Verdict;

mod action;
mod ktap;
mod protocol;
mod reason;
mod running;

use self::ktap::{KtapConsole, KtapLine};
pub use action::{Action, FinishedSubtest, TimeLimits, VmEnd, VmOutcome};
pub use protocol::{ConsoleLine, LibraryLines, Protocol, Token};
use protocol::{KmsgClock, Once};
use running::{DeathCause, KernelTrouble, RunningSubtest, When};

/// The line that the guest prints when it is up.
pub const UP: &str = "========= KTEST UP";
/// The line that the guest prints when `run-tests` ends, followed by the exit status.
pub const EXIT: &str = "========= KTEST EXIT ";

/// The time from a panic, or from the sysrq that lists the blocked tasks of a hung kernel, until the kill. The console
/// output in this time belongs to the report.
const REPORT_TIME: Duration = Duration::from_secs(3);

/// The time from the last line of a panic until the kill. Another processor may still print.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The time from the announcement of a reset to the reset. Later, a reset has another cause.
const ANNOUNCED: Duration = Duration::from_secs(300);

#[derive(Debug)]
enum VmState {
    Booting,
    /// With the last subtest, if its verdict is not reported yet.
    BetweenSubtests(Option<RunningSubtest>),
    Running(RunningSubtest),
    /// `run-tests` has ended. With the last subtest, if its verdict is not reported yet.
    Exited(Option<RunningSubtest>),
    /// The VM is killed or exits by itself within [`REPORT_TIME`].
    Dying {
        running: Option<RunningSubtest>,
        cause: DeathCause,
    },
}

/// Supervises one VM.
#[derive(Debug)]
pub struct Supervisor {
    pending: BTreeSet<SubtestName>,
    state: VmState,
    deadline: Option<Duration>,
    limits: TimeLimits,
    protocol: Protocol,
    kmsg: KmsgClock,
    messages: Once,
    /// Whether a kernel prints on this console; otherwise only programs do.
    has_kernel: bool,
    /// Kernel trouble that no subtest has caused.
    other_trouble: Option<KernelTrouble>,
    /// The title of kernel trouble during the boot.
    boot_trouble: Option<String>,
    ktap: KtapConsole,
    /// Whether the kernel panicked.
    panicked: bool,
    init_failure: Option<String>,
    /// The last line before the first subtest that has the format of a message of the test file.
    file_message: Option<String>,
    started: u32,
    cut_short: bool,
    exit_status: Option<u8>,
    /// The number of resets by subtests that are still accepted.
    reboots_left: u32,
    /// The running subtest has reset the guest, which is not up again.
    rebooting: bool,
}

impl Supervisor {
    /// Supervises a VM that starts at `now` and runs these subtests. All times are relative to the start of the run.
    #[must_use]
    pub fn new(
        subtests: impl IntoIterator<Item = SubtestName>,
        limits: TimeLimits,
        protocol: Protocol,
        now: Duration,
    ) -> Self {
        Self {
            pending: subtests.into_iter().collect(),
            state: VmState::Booting,
            deadline: Some(now.saturating_add(limits.boot)),
            limits,
            protocol,
            kmsg: KmsgClock::default(),
            messages: Once::default(),
            has_kernel: true,
            other_trouble: None,
            boot_trouble: None,
            ktap: KtapConsole::default(),
            panicked: false,
            init_failure: None,
            file_message: None,
            started: 0,
            cut_short: false,
            exit_status: None,
            reboots_left: 0,
            rebooting: false,
        }
    }

    /// Accepts this number of resets that subtests announce. The caller starts another guest with the same disks for each.
    pub fn allow_reboots(&mut self, most: u32) {
        self.reboots_left = most;
    }

    /// The subtests for a guest after [`VmOutcome::Rebooting`]: the running one and those that have not started, in the order
    /// of `all`.
    #[must_use]
    pub fn remaining(&self, all: &[SubtestName]) -> Vec<SubtestName> {
        let running = self.running().map(|(name, _)| name);
        let left = all.iter().filter(|name| self.pending.contains(*name));
        running.into_iter().chain(left).cloned().collect()
    }

    /// Supervises programs without a VM. No kernel prints on their output, so none of its lines is kernel trouble.
    #[must_use]
    pub fn without_kernel(self) -> Self {
        Self { has_kernel: false, ..self }
    }

    /// The latest time for the next call of [`Supervisor::tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The running subtest and the time of its start.
    #[must_use]
    pub fn running(&self) -> Option<(&SubtestName, Duration)> {
        match &self.state {
            VmState::Running(running) | VmState::Dying { running: Some(running), .. }
                if !running.has_ended() =>
            {
                Some((&running.subtest, running.started))
            }
            _ => None,
        }
    }

    /// The number of subtests that started in this VM.
    #[must_use]
    pub fn started(&self) -> u32 {
        self.started
    }

    /// Whether a subtest ended the whole `run-tests` call early, so that the following subtests did not start.
    #[must_use]
    pub fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// The exit status of `run-tests`, or of the command that the VM was started for; `None` until it exits.
    #[must_use]
    pub fn exit_status(&self) -> Option<u8> {
        self.exit_status
    }

    /// The title of the trouble that the kernel reported during the boot.
    #[must_use]
    pub fn boot_trouble(&self) -> Option<&str> {
        self.boot_trouble.as_deref()
    }

    /// Whether the guest is up and `run-tests` has not ended.
    #[must_use]
    pub fn runs_tests(&self) -> bool {
        matches!(self.state, VmState::BetweenSubtests(_) | VmState::Running(_))
    }

    /// Whether the kernel panicked, or hung until the time limit of a subtest: its memory is worth a look.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        match &self.state {
            VmState::Dying { cause, .. } => !matches!(cause, DeathCause::GivenUp { .. }),
            VmState::Booting => self.panicked,
            _ => false,
        }
    }

    /// Parses a console line: removes the token of the protocol.
    #[must_use]
    pub fn read(&self, line: &str) -> ConsoleLine {
        self.protocol.read(line)
    }

    /// Handles a console line.
    pub fn line(&mut self, line: &ConsoleLine, now: Duration) -> Vec<Action> {
        self.log(&line.text, now);
        self.kmsg.line(line);
        let stamps = self.kmsg.has_stamps() || !self.has_kernel;
        let counts = !line.is_authentic() || self.messages.accepts(line, stamps);
        let of_library = counts && self.protocol.of_library(line);
        if of_library && let Some(ktap) = self.ktap.line(line.message()) {
            if let (KtapLine::Request(request), VmState::Running(running)) = (ktap, &mut self.state) {
                running.ktap = Some(request);
            }
            return vec![];
        }
        if line.is_authentic()
            && let Some(actions) = self.init_line(line.message(), now)
        {
            return actions;
        }
        // The kernel's message can be behind a copy that is not finished.
        if !line.is_authentic() || !counts {
            self.check_for_trouble(&line.text, now);
        }
        if self.before_tests() {
            // Of several traps the first is the cause: `reason::trap`.
            let trapped = self.file_message.as_deref().is_some_and(|text| reason::trap(text).is_some());
            if !trapped && (line.text.contains(".ktest:") || reason::trap(&line.text).is_some()) {
                self.file_message = Some(line.text.clone());
            }
        }
        if !of_library {
            return vec![];
        }
        let Some(marker) = Marker::parse_text(line.message()) else { return vec![] };
        let through_kmsg = self.protocol.library == LibraryLines::Kmsg && !line.is_authentic();
        if through_kmsg && marker.is_verdict_or_start() && !self.kmsg.accepts(&line.text, now) {
            return vec![];
        }
        self.marker(marker, now)
    }

    /// Handles a message of the guest's init; `None` if it is another message.
    fn init_line(&mut self, message: &str, now: Duration) -> Option<Vec<Action>> {
        if message == UP && self.rebooting {
            self.rebooting = false;
            if let VmState::Running(running) = &self.state {
                self.deadline = Some(now.saturating_add(running.limit));
            }
            return Some(vec![Action::GuestUp]);
        }
        if message == UP && matches!(self.state, VmState::Booting) {
            self.state = VmState::BetweenSubtests(None);
            // Many kernels warn during each boot, which no subtest has caused.
            self.boot_trouble = self.other_trouble.take().map(|trouble| trouble.title());
            self.deadline = Some(now.saturating_add(self.limits.subtest));
            return Some(vec![Action::GuestUp]);
        }
        if let Some(status) = message.strip_prefix(EXIT) {
            return Some(self.exit(status.trim(), now));
        }
        let message = message.strip_prefix("ktest: ").filter(|text| text.contains(" init failed"))?;
        if self.before_tests() {
            self.init_failure = Some(reason::init_failure(message, self.file_message.as_deref()));
        }
        Some(vec![])
    }

    fn before_tests(&self) -> bool {
        matches!(self.state, VmState::BetweenSubtests(_)) && self.started == 0
    }

    fn log(&mut self, line: &str, now: Duration) {
        if let VmState::Running(running) | VmState::Dying { running: Some(running), .. } = &mut self.state {
            running.log_line(line, now);
        }
    }

    fn check_for_trouble(&mut self, line: &str, now: Duration) {
        if !self.has_kernel || self.kmsg.is_copy(line) {
            return;
        }
        let trouble = crash::trouble(line);
        // Many kernels warn during each boot, which no subtest has caused.
        if self.rebooting && !trouble.as_ref().is_some_and(|trouble| trouble.fatal) {
            return;
        }
        match &mut self.state {
            VmState::Running(running)
            | VmState::BetweenSubtests(Some(running))
            | VmState::Exited(Some(running))
            | VmState::Dying { running: Some(running), .. } => running.check(line, trouble.as_ref(), now),
            _ => self.check_without_subtest(line, trouble.as_ref()),
        }
        if trouble.is_some_and(|trouble| trouble.fatal) {
            self.panicked = true;
            self.die_of_panic(now);
        } else if self.panicked && ends_panic(line) {
            self.deadline = self.deadline.map(|deadline| deadline.min(now + LAST_LINES));
        }
    }

    fn check_without_subtest(&mut self, line: &str, trouble: Option<&crash::Trouble>) {
        match (&mut self.other_trouble, trouble) {
            (Some(report), _) => report.add(line),
            (none, Some(trouble)) => {
                *none = Some(KernelTrouble::new(When::BeforeFirst, &trouble.text, line));
            }
            (None, None) => {}
        }
    }

    fn die_of_panic(&mut self, now: Duration) {
        let running = match std::mem::replace(&mut self.state, VmState::Exited(None)) {
            VmState::Running(running) => Some(running),
            VmState::BetweenSubtests(ended) => ended,
            // A kernel that panics during boot has not started a subtest: `ended` handles the trouble.
            VmState::Booting => {
                self.state = VmState::Booting;
                self.deadline = Some(now + REPORT_TIME);
                return;
            }
            other @ (VmState::Dying { .. } | VmState::Exited(_)) => {
                self.state = other;
                return;
            }
        };
        self.state = VmState::Dying { running, cause: DeathCause::Panic };
        self.deadline = Some(now + REPORT_TIME);
    }

    fn marker(&mut self, marker: Marker, now: Duration) -> Vec<Action> {
        if matches!(self.state, VmState::Dying { .. }) {
            return vec![];
        }
        match marker {
            Marker::Start(name) => self.start(name, now),
            Marker::Passed(name) => {
                let verdict = self.ktap_verdict(&name, now).unwrap_or(Verdict::Passed);
                self.finish(&name, verdict, now)
            }
            Marker::Failed(name) => {
                let reason = self.failure_reason();
                self.finish(&name, Verdict::Failed { reason }, now)
            }
            Marker::NotRun(name, reason) => self.finish(&name, Verdict::NotRun { reason }, now),
            Marker::Watchdog(limit) => {
                if let (VmState::Running(running), false) = (&mut self.state, self.limits.interactive) {
                    running.limit = limit.saturating_mul(self.limits.watchdog_scale);
                    self.deadline = Some(now.saturating_add(running.limit));
                }
                vec![]
            }
            Marker::ExpectedReboot => {
                if let VmState::Running(running) = &mut self.state {
                    running.expects_reboot = (self.reboots_left > 0).then_some(now);
                }
                vec![]
            }
            Marker::Monitor(command) => vec![Action::Monitor(command)],
            Marker::Success | Marker::Failure => vec![],
        }
    }

    fn start(&mut self, name: SubtestName, now: Duration) -> Vec<Action> {
        if matches!(self.state, VmState::Booting | VmState::Exited(_)) || !self.pending.contains(&name) {
            return Vec::new();
        }
        let mut actions = self.settle(now);
        if let VmState::Running(running) = std::mem::replace(&mut self.state, VmState::BetweenSubtests(None))
        {
            let reason = format!("ended without a verdict: {name} started");
            actions.push(running.finish(Verdict::Failed { reason }, now));
        }
        self.pending.remove(&name);
        self.started += 1;
        self.deadline = Some(now.saturating_add(self.limits.subtest));
        actions.push(Action::Started(name.clone()));
        let trouble = self.other_trouble.take();
        self.state = VmState::Running(RunningSubtest::new(name, self.limits.subtest, trouble, now));
        actions
    }

    /// Ends the running subtest if its name is `name`. [`Self::settle`] reports its verdict.
    fn finish(&mut self, name: &SubtestName, verdict: Verdict, now: Duration) -> Vec<Action> {
        match std::mem::replace(&mut self.state, VmState::BetweenSubtests(None)) {
            VmState::Running(mut running) if running.subtest == *name => {
                let limit = if self.pending.is_empty() { self.limits.shutdown } else { self.limits.subtest };
                self.deadline = Some(now.saturating_add(limit));
                running.end(verdict, now);
                self.state = VmState::BetweenSubtests(Some(running));
            }
            other => self.state = other,
        }
        vec![]
    }

    /// Reports the verdict of the subtest that ended last, if it is not reported yet.
    pub(crate) fn settle(&mut self, now: Duration) -> Vec<Action> {
        let ended = match &mut self.state {
            VmState::BetweenSubtests(ended) | VmState::Exited(ended) => ended.take(),
            _ => None,
        };
        ended.map(|ended| ended.finish_ended(now)).into_iter().collect()
    }

    /// The verdict of the KTAP case that the running subtest requested, if it requested one.
    fn ktap_verdict(&mut self, name: &SubtestName, now: Duration) -> Option<Verdict> {
        let VmState::Running(running) = &mut self.state else { return None };
        let request = running.ktap.take().filter(|_| running.subtest == *name)?;
        let (verdict, log) = self.ktap.verdict(&request);
        for line in log {
            running.log_line(&line, now);
        }
        Some(verdict)
    }

    /// The reason why the running subtest failed.
    fn failure_reason(&self) -> String {
        match &self.state {
            VmState::Running(running) => reason::failure(&running.log),
            _ => String::new(),
        }
    }

    fn exit(&mut self, status: &str, now: Duration) -> Vec<Action> {
        self.exit_status = status.parse().ok();
        let last = match std::mem::replace(&mut self.state, VmState::Exited(None)) {
            VmState::Running(mut running) => {
                self.cut_short = true;
                let reason = format!("ended without a verdict: run-tests exited with status {status}");
                running.end(Verdict::Failed { reason }, now);
                Some(running)
            }
            VmState::BetweenSubtests(ended) => ended,
            other => {
                self.state = other;
                return vec![];
            }
        };
        self.state = VmState::Exited(last);
        self.deadline = Some(now.saturating_add(self.limits.shutdown));
        // A user may work in the VM for a long time.
        if self.limits.interactive { self.settle(now) } else { vec![] }
    }

    /// Checks the time limits.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return vec![];
        }
        match std::mem::replace(&mut self.state, VmState::Exited(None)) {
            VmState::Dying { running, .. } if self.limits.interactive => {
                self.deadline = None;
                let verdict = Verdict::Failed { reason: "kernel panic".into() };
                running.map(|running| running.finish(verdict, now)).into_iter().collect()
            }
            VmState::Booting if self.limits.interactive => {
                self.state = VmState::Booting;
                self.deadline = None;
                vec![]
            }
            VmState::Running(running) if self.rebooting => {
                let reason = format!("the guest did not boot again within {} s", self.limits.boot.as_secs());
                self.state = VmState::Dying { running: Some(running), cause: DeathCause::GivenUp { reason } };
                self.deadline = None;
                vec![Action::Kill]
            }
            VmState::Running(running) => {
                let limit = running.limit;
                self.state = VmState::Dying { running: Some(running), cause: DeathCause::TimeOut { limit } };
                self.deadline = Some(now + REPORT_TIME);
                vec![Action::Sysrq('w')]
            }
            state => {
                self.state = state;
                self.deadline = None;
                vec![Action::Kill]
            }
        }
    }

    /// Ends the VM. The running subtest fails with this reason; before the first subtest, `init` fails.
    pub fn give_up(&mut self, reason: String) -> Vec<Action> {
        let running = match std::mem::replace(&mut self.state, VmState::Exited(None)) {
            VmState::Running(running) => Some(running),
            VmState::Dying { running, .. } => running,
            VmState::Booting | VmState::BetweenSubtests(_) if self.started == 0 => {
                self.init_failure = Some(reason);
                return vec![Action::Kill];
            }
            VmState::Booting => None,
            VmState::BetweenSubtests(ended) => ended,
            VmState::Exited(ended) => {
                self.state = VmState::Exited(ended);
                return vec![Action::Kill];
            }
        };
        self.state = VmState::Dying { running, cause: DeathCause::GivenUp { reason } };
        vec![Action::Kill]
    }

    /// Handles the end of the VM: determines the verdict of the running subtest, and the consequence for the others.
    pub fn ended(&mut self, end: VmEnd, now: Duration) -> (Vec<Action>, VmOutcome) {
        self.deadline = None;
        if let Some(reason) = self.init_failure.take() {
            return (vec![], VmOutcome::InitFailed(reason));
        }
        let settled = self.settle(now);
        match std::mem::replace(&mut self.state, VmState::Exited(None)) {
            VmState::Booting => (vec![], self.boot_failure(end)),
            VmState::Exited(_) => (settled, VmOutcome::Complete),
            VmState::BetweenSubtests(_) => match end {
                VmEnd::Died(cause) if !self.pending.is_empty() => (settled, VmOutcome::Infrastructure(cause)),
                _ => (settled, VmOutcome::Lost),
            },
            VmState::Running(running) => match end {
                VmEnd::Guest
                    if running.expects_reboot.is_some_and(|at| now.saturating_sub(at) <= ANNOUNCED) =>
                {
                    self.reboot(running, now)
                }
                VmEnd::Died(cause) => (vec![], VmOutcome::Infrastructure(cause)),
                VmEnd::Guest | VmEnd::Killed => {
                    let end =
                        if self.has_kernel { "the guest powered off or reset" } else { "run-tests ended" };
                    let reason = format!("{end} while it ran");
                    (vec![running.finish(Verdict::Failed { reason }, now)], VmOutcome::Lost)
                }
            },
            VmState::Dying { running: Some(running), cause } => {
                (vec![running.finish_dying(cause, now)], VmOutcome::Lost)
            }
            VmState::Dying { running: None, .. } => (vec![], VmOutcome::Lost),
        }
    }

    /// Waits for the next guest, in which the subtest continues.
    fn reboot(&mut self, mut running: RunningSubtest, now: Duration) -> (Vec<Action>, VmOutcome) {
        running.expects_reboot = None;
        self.reboots_left -= 1;
        self.rebooting = true;
        // Its clock starts again.
        self.kmsg = KmsgClock::default();
        self.deadline = Some(now.saturating_add(self.limits.boot));
        self.state = VmState::Running(running);
        (vec![], VmOutcome::Rebooting)
    }

    fn boot_failure(&mut self, end: VmEnd) -> VmOutcome {
        if let Some(trouble) = &self.other_trouble {
            let reason = format!("the kernel crashed while booting: {}", trouble.title());
            return VmOutcome::NoBoot { reason, crashed: true };
        }
        match end {
            VmEnd::Died(cause) => VmOutcome::Infrastructure(cause),
            VmEnd::Guest => VmOutcome::NoBoot {
                reason: "the guest powered off or reset before it had booted".into(),
                crashed: false,
            },
            VmEnd::Killed => VmOutcome::NoBoot {
                reason: format!("the guest did not boot within {} s", self.limits.boot.as_secs()),
                crashed: false,
            },
        }
    }
}

/// Whether the line is the last one of a panic, after which the kernel waits or resets the machine.
fn ends_panic(line: &str) -> bool {
    let text = crash::line::split(line).text;
    text.starts_with("Rebooting in ") || text.starts_with("---[ end Kernel panic")
}

#[cfg(test)]
mod tests;
