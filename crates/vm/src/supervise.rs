//! What the console of one VM means for the subtests that run in it: a state machine without I/O.
//!
//! It is fed lines and the time, and answers with what is to be done. Each subtest that starts gets exactly one
//! verdict, unless the VM dies for a reason outside of it: then it gets none and the end says so.
//!
//! ```text
//! Booting --KTEST UP--> Between --TEST--> Running --verdict--> Between --KTEST EXIT--> Over
//!    |                     |                 |
//!    +--- panic, limit ----+-----------------+---------------------------------------> Dying
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use model::SubtestName;
use model::marker::{Marker, StatusLine};
use model::verdict::Verdict;

use crate::console::Capped;

/// How long things may take; scaled by the caller where there is no KVM.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From starting QEMU to `KTEST UP`.
    pub boot: Duration,
    /// One subtest, unless it sets its own limit; also `init`, and the time between two subtests.
    pub subtest: Duration,
    /// From the last verdict to the end of the VM.
    pub shutdown: Duration,
    /// What WATCHDOG limits are multiplied with.
    pub watchdog_scale: u32,
    /// Somebody looks at the VM: there are no limits, and it is not ended after a panic.
    pub stay: bool,
}

impl Limits {
    /// For somebody who looks at the VM.
    #[must_use]
    pub fn none() -> Self {
        let forever = Duration::MAX;
        Self { boot: forever, subtest: forever, shutdown: forever, watchdog_scale: 1, stay: true }
    }
}

/// From a panic, or from asking a hung kernel for its blocked tasks, to the kill.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// What is kept of a subtest's log: half from its beginning, half from its end.
const LOG_CAP: usize = 16 << 20;
/// Characters of what a test file says that become a reason.
const LONGEST_REASON: usize = 400;
/// How many console lines from the first sign of trouble on are looked at for the crash's title.
const EVIDENCE_LINES: usize = 600;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The guest is up.
    Up,
    /// A subtest runs now.
    Started(SubtestName),
    /// A subtest has its verdict.
    Finished(Finished),
    /// The guest asks for something of the QEMU monitor (unchecked).
    Monitor(String),
    /// Send this magic-sysrq key.
    Sysrq(char),
    /// End the VM; then call [`Supervisor::ended`].
    Kill,
}

/// A subtest and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Which.
    pub subtest: SubtestName,
    /// What.
    pub verdict: Verdict,
    /// How long it ran.
    pub duration: Duration,
    /// The crash's title, where the kernel had trouble.
    pub crash: Option<String>,
    /// Its console lines; the last one is the status line.
    pub log: Vec<u8>,
}

/// How the VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmEnd {
    /// The guest powered off or reset.
    Guest,
    /// We killed it, as asked.
    Killed,
    /// QEMU died by itself: why.
    Died(String),
}

/// What is to become of the subtests that did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// `run-tests` came to its end; what it did not start it never will, unless a subtest cut it short.
    Complete,
    /// The VM is gone before the end; the rest can run in a fresh one.
    Lost,
    /// The guest never came up: why, and whether the kernel itself said so.
    NoBoot {
        /// One line.
        reason: String,
        /// The kernel crashed (rather than being silent).
        crashed: bool,
    },
    /// `FILE init` failed: its words.
    InitFailed(String),
    /// Something outside of the tested code.
    Infrastructure(String),
}

#[derive(Debug)]
enum State {
    Booting,
    Between,
    Running(Running),
    Over,
    /// The VM is to be killed, or ends by itself, within [`LAST_WORDS`].
    Dying {
        running: Option<Running>,
        why: Dying,
    },
}

#[derive(Debug, Clone)]
enum Dying {
    Panicked,
    TimedOut {
        limit: Duration,
    },
    /// It did what it must not.
    GivenUp {
        reason: String,
    },
}

#[derive(Debug)]
struct Running {
    subtest: SubtestName,
    since: Duration,
    limit: Duration,
    log: Capped,
    trouble: Option<Evidence>,
}

#[derive(Debug)]
struct Evidence {
    first: String,
    lines: Vec<String>,
}

impl Evidence {
    /// The crash's name.
    fn title(&self) -> String {
        let reports = crash::reports(&self.lines.join("\n"));
        reports.into_iter().next().map_or_else(|| self.first.clone(), |report| report.title)
    }

    /// The crash's name, and the line that gave it away where that says more.
    fn reason(&self, title: &str) -> String {
        let essence = title.rsplit(": ").next().unwrap_or(title);
        if self.first.contains(essence) { title.into() } else { format!("{title}: {}", self.first) }
    }
}

/// Supervises one VM.
#[derive(Debug)]
pub struct Supervisor {
    pending: BTreeSet<SubtestName>,
    state: State,
    deadline: Option<Duration>,
    limits: Limits,
    /// Trouble before or between subtests.
    other_trouble: Option<Evidence>,
    init_failure: Option<String>,
    /// The last line before the first subtest in which the test file speaks of itself.
    file_said: Option<String>,
    started: u32,
    cut_short: bool,
    exit_status: Option<u8>,
    killed_for: Option<&'static str>,
}

impl Supervisor {
    /// A VM that starts `now` and is to run these subtests. `now` counts from the beginning of the run.
    #[must_use]
    pub fn new(subtests: impl IntoIterator<Item = SubtestName>, limits: Limits, now: Duration) -> Self {
        Self {
            pending: subtests.into_iter().collect(),
            state: State::Booting,
            deadline: Some(now.saturating_add(limits.boot)),
            limits,
            other_trouble: None,
            init_failure: None,
            file_said: None,
            started: 0,
            cut_short: false,
            exit_status: None,
            killed_for: None,
        }
    }

    /// When [`Supervisor::tick`] wants to be called, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The subtest that runs, and since when.
    #[must_use]
    pub fn running(&self) -> Option<(&SubtestName, Duration)> {
        match &self.state {
            State::Running(running) | State::Dying { running: Some(running), .. } => {
                Some((&running.subtest, running.since))
            }
            _ => None,
        }
    }

    /// How many subtests have started in this VM.
    #[must_use]
    pub fn started(&self) -> u32 {
        self.started
    }

    /// Whether a subtest ended the whole `run-tests` call, so that the ones after it had no chance.
    #[must_use]
    pub fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// How `run-tests`, or the one command that the VM was started for, ended; None: it has not, or not by itself.
    #[must_use]
    pub fn exit_status(&self) -> Option<u8> {
        self.exit_status
    }

    /// Whether the guest is up and has not said that it comes to its end.
    #[must_use]
    pub fn at_work(&self) -> bool {
        matches!(self.state, State::Between | State::Running(_))
    }

    /// Takes a console line.
    pub fn line(&mut self, line: &str, now: Duration) -> Vec<Act> {
        self.keep(line, now);
        self.look_for_trouble(line, now);
        if line == UP && matches!(self.state, State::Booting) {
            self.state = State::Between;
            self.other_trouble = None;
            self.deadline = Some(now.saturating_add(self.limits.subtest));
            return vec![Act::Up];
        }
        if let Some(status) = line.strip_prefix(EXIT) {
            return self.exit(status.trim(), now);
        }
        if let Some(words) = line.strip_prefix("ktest: ").filter(|words| words.contains(" init failed")) {
            if matches!(self.state, State::Between) && self.started == 0 {
                self.init_failure = Some(self.why_init_failed(words));
            }
            return vec![];
        }
        if matches!(self.state, State::Between) && self.started == 0 && line.contains(".ktest:") {
            self.file_said = Some(line.into());
        }
        Marker::parse(line).map_or_else(Vec::new, |marker| self.marker(marker, now))
    }

    /// The last thing that the test file said of itself, if it did; `words` name the file and its exit code.
    fn why_init_failed(&self, words: &str) -> String {
        let path = words.split(" init failed").next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or(path);
        let own = |said: &&String| !file.is_empty() && said.contains(&format!("{file}:"));
        match self.file_said.as_ref().filter(own) {
            Some(said) => format!("init failed: {}", said.chars().take(LONGEST_REASON).collect::<String>()),
            None => words.into(),
        }
    }

    fn keep(&mut self, line: &str, now: Duration) {
        if let State::Running(running) | State::Dying { running: Some(running), .. } = &mut self.state {
            running.log.line(&format!("{:05} {line}", now.as_secs()));
        }
    }

    fn look_for_trouble(&mut self, line: &str, now: Duration) {
        let slot = match &mut self.state {
            State::Running(running) | State::Dying { running: Some(running), .. } => &mut running.trouble,
            _ => &mut self.other_trouble,
        };
        let trouble = crash::trouble(line);
        match slot {
            Some(evidence) if evidence.lines.len() < EVIDENCE_LINES => evidence.lines.push(line.into()),
            Some(_) => {}
            None => {
                if let Some(trouble) = &trouble {
                    *slot = Some(Evidence { first: trouble.text.clone(), lines: vec![line.into()] });
                }
            }
        }
        if trouble.is_some_and(|trouble| trouble.fatal)
            && !matches!(self.state, State::Dying { .. } | State::Over)
        {
            let running = match std::mem::replace(&mut self.state, State::Over) {
                State::Running(running) => Some(running),
                State::Booting => {
                    self.state = State::Booting;
                    self.deadline = Some(now + LAST_WORDS);
                    return;
                }
                _ => None,
            };
            self.state = State::Dying { running, why: Dying::Panicked };
            self.deadline = Some(now + LAST_WORDS);
        }
    }

    fn marker(&mut self, marker: Marker, now: Duration) -> Vec<Act> {
        if matches!(self.state, State::Dying { .. }) {
            return vec![];
        }
        match marker {
            Marker::Start(name) => self.start(name, now),
            Marker::Passed(name) => self.said(&name, Verdict::Passed, now),
            Marker::Failed(name) => {
                let reason = self.last_words(&name);
                self.said(&name, Verdict::Failed { reason }, now)
            }
            Marker::NotRun(name, reason) => self.said(&name, Verdict::NotRun { reason }, now),
            Marker::Watchdog(limit) => {
                if let (State::Running(running), false) = (&mut self.state, self.limits.stay) {
                    running.limit = limit.saturating_mul(self.limits.watchdog_scale);
                    self.deadline = Some(now.saturating_add(running.limit));
                }
                vec![]
            }
            Marker::Monitor(command) => vec![Act::Monitor(command)],
            Marker::Success | Marker::Failure => vec![],
        }
    }

    fn start(&mut self, name: SubtestName, now: Duration) -> Vec<Act> {
        let mut acts = Vec::new();
        if matches!(self.state, State::Booting | State::Over) || !self.pending.contains(&name) {
            return acts;
        }
        if let State::Running(running) = std::mem::replace(&mut self.state, State::Between) {
            let reason = format!("ended without a verdict: {name} began");
            acts.push(finish(running, Verdict::Failed { reason }, now));
        }
        self.pending.remove(&name);
        self.started += 1;
        self.other_trouble = None;
        let mut log = Capped::new(LOG_CAP);
        log.line(&format!("{:05} ========= TEST   {name}", now.as_secs()));
        let limit = self.limits.subtest;
        self.deadline = Some(now.saturating_add(limit));
        acts.push(Act::Started(name.clone()));
        self.state = State::Running(Running { subtest: name, since: now, limit, log, trouble: None });
        acts
    }

    fn said(&mut self, name: &SubtestName, verdict: Verdict, now: Duration) -> Vec<Act> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Running(running) if running.subtest == *name => {
                let limit = if self.pending.is_empty() { self.limits.shutdown } else { self.limits.subtest };
                self.deadline = Some(now.saturating_add(limit));
                vec![finish(running, verdict, now)]
            }
            other => {
                self.state = other;
                vec![]
            }
        }
    }

    /// What a subtest that says FAILED says about it.
    fn last_words(&self, name: &SubtestName) -> String {
        match &self.state {
            State::Running(running) if running.subtest == *name => complaint(&running.log),
            _ => String::new(),
        }
    }

    fn exit(&mut self, status: &str, now: Duration) -> Vec<Act> {
        self.exit_status = status.parse().ok();
        match std::mem::replace(&mut self.state, State::Over) {
            State::Running(running) => {
                self.cut_short = true;
                self.deadline = Some(now.saturating_add(self.limits.shutdown));
                let reason = format!("ended without a verdict: run-tests exited with status {status}");
                vec![finish(running, Verdict::Failed { reason }, now)]
            }
            State::Between => {
                self.deadline = Some(now.saturating_add(self.limits.shutdown));
                vec![]
            }
            other => {
                self.state = other;
                vec![]
            }
        }
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: Duration) -> Vec<Act> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return vec![];
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Dying { running, .. } if self.limits.stay => {
                self.deadline = None;
                let reason = "kernel panic".to_string();
                running.map(|running| finish(running, Verdict::Failed { reason }, now)).into_iter().collect()
            }
            State::Booting if self.limits.stay => {
                self.state = State::Booting;
                self.deadline = None;
                vec![]
            }
            State::Running(running) => {
                let limit = running.limit;
                self.state = State::Dying { running: Some(running), why: Dying::TimedOut { limit } };
                self.deadline = Some(now + LAST_WORDS);
                vec![Act::Sysrq('w')]
            }
            state => {
                self.killed_for = match &state {
                    State::Booting => Some("boot"),
                    State::Between => Some("between"),
                    _ => None,
                };
                self.state = state;
                self.deadline = None;
                vec![Act::Kill]
            }
        }
    }

    /// Ends the VM; the subtest that runs has failed, for this reason.
    pub fn give_up(&mut self, reason: String) -> Vec<Act> {
        let running = match std::mem::replace(&mut self.state, State::Over) {
            State::Running(running) => Some(running),
            State::Dying { running, .. } => running,
            State::Booting | State::Between if self.started == 0 => {
                self.init_failure = Some(reason);
                return vec![Act::Kill];
            }
            State::Booting | State::Between => None,
            // What it had to say is said.
            State::Over => return vec![Act::Kill],
        };
        self.state = State::Dying { running, why: Dying::GivenUp { reason } };
        vec![Act::Kill]
    }

    /// The VM is gone: the last verdict, if a subtest ran, and what that means for the rest.
    pub fn ended(&mut self, end: VmEnd, now: Duration) -> (Vec<Act>, Ending) {
        self.deadline = None;
        if let Some(words) = self.init_failure.take() {
            return (vec![], Ending::InitFailed(words));
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Booting => (vec![], self.no_boot(end)),
            State::Over => (vec![], Ending::Complete),
            State::Between => match end {
                VmEnd::Died(why) if !self.pending.is_empty() => (vec![], Ending::Infrastructure(why)),
                _ => (vec![], Ending::Lost),
            },
            State::Running(running) => match end {
                VmEnd::Died(why) => (vec![], Ending::Infrastructure(why)),
                VmEnd::Guest | VmEnd::Killed => {
                    let reason = "the guest powered off or reset while it ran".into();
                    (vec![finish(running, Verdict::Failed { reason }, now)], Ending::Lost)
                }
            },
            State::Dying { running: Some(running), why } => {
                let reason = match &why {
                    Dying::Panicked => "kernel panic".into(),
                    Dying::GivenUp { reason } => reason.clone(),
                    Dying::TimedOut { limit } => format!("timed out after {} s", limit.as_secs()),
                };
                (vec![finish_dying(running, &why, reason, now)], Ending::Lost)
            }
            State::Dying { running: None, .. } => (vec![], Ending::Lost),
        }
    }

    fn no_boot(&mut self, end: VmEnd) -> Ending {
        if let Some(evidence) = &self.other_trouble {
            let reason = format!("the kernel crashed while booting: {}", evidence.title());
            return Ending::NoBoot { reason, crashed: true };
        }
        match end {
            VmEnd::Died(why) => Ending::Infrastructure(why),
            VmEnd::Guest => Ending::NoBoot {
                reason: "the guest powered off or reset before it was up".into(),
                crashed: false,
            },
            VmEnd::Killed => Ending::NoBoot {
                reason: format!("the guest was not up after {} s", self.limits.boot.as_secs()),
                crashed: false,
            },
        }
    }
}

/// How far back the reason of a failure is looked for.
const COMPLAINT_LINES: usize = 200;

/// The line that says best why a subtest failed: the last `FILE:LINE: failed ...` of the shell library, else the last
/// line that the kernel did not print.
fn complaint(log: &Capped) -> String {
    let lines: Vec<String> = log.backwards().take(COMPLAINT_LINES).collect();
    let ours = lines.iter().map(|line| crash::strip(line).text.trim()).find(|text| {
        text.split_once(": failed")
            .is_some_and(|(place, _)| place.contains(".ktest:") && !place.contains(' '))
    });
    let said = || {
        let text = lines.iter().map(|line| line.trim());
        text.filter(|text| !text.is_empty() && !text.starts_with("========="))
            .find(|text| !crash::strip(text).printk)
    };
    let words = ours.or_else(said).unwrap_or("it said FAILED");
    words.chars().take(300).collect()
}

/// The line by which the guest says that it is up.
pub const UP: &str = "========= KTEST UP";
/// The line, with the exit status, by which the guest says that `run-tests` ended.
pub const EXIT: &str = "========= KTEST EXIT ";

fn finish_dying(running: Running, why: &Dying, reason: String, now: Duration) -> Act {
    match why {
        Dying::Panicked => finish(running, Verdict::Failed { reason }, now),
        // What a hung kernel prints when it is asked for its blocked tasks is no crash of its own.
        Dying::TimedOut { .. } | Dying::GivenUp { .. } => {
            let crash = running.trouble.as_ref().map(Evidence::title);
            let reason = crash.as_ref().map_or_else(|| reason.clone(), |title| format!("{title}; {reason}"));
            close(running, Verdict::Failed { reason }, crash, now)
        }
    }
}

/// The verdict on a subtest that said `verdict`: trouble in the kernel overrules it.
fn finish(running: Running, verdict: Verdict, now: Duration) -> Act {
    let Some(evidence) = &running.trouble else { return close(running, verdict, None, now) };
    let title = evidence.title();
    let reason = evidence.reason(&title);
    close(running, Verdict::Failed { reason }, Some(title), now)
}

fn close(mut running: Running, verdict: Verdict, crash: Option<String>, now: Duration) -> Act {
    let duration = now.saturating_sub(running.since);
    let status = StatusLine { subtest: &running.subtest, verdict: &verdict, duration }.to_string();
    if let Verdict::Failed { reason } = &verdict {
        running.log.line(&format!("{:05} ktest: failed: {reason}", now.as_secs()));
    }
    running.log.line(&format!("{:05} {status}", now.as_secs()));
    Act::Finished(Finished { subtest: running.subtest, verdict, duration, crash, log: running.log.bytes() })
}

#[cfg(test)]
mod tests;
