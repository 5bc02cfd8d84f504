//! What the events of one `ktest run` mean for its batch: one synchronous function from a line to actions.
//!
//! A subtest gets at most one verdict, the first. What has none when the child is gone was not judged: it goes back.
//! Nothing that the child prints makes this panic or leave the output directory.

use std::path::{Component, PathBuf};

use model::event::EventError;
use model::{Event, KernelId, ResultKey, Stamped, SubtestName, TestPath, Verdict};
use spawn::Exit;

/// `ktest run`'s exit code for what it cannot make sense of.
const USAGE: u8 = 2;

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing was heard yet.
    #[default]
    Starting,
    /// The kernel is being built.
    Building,
    /// A VM is on its way up.
    Booting,
    /// Subtests run.
    Testing,
}

impl Phase {
    /// The word of the status snapshot.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Building => "building",
            Self::Booting => "booting",
            Self::Testing => "testing",
        }
    }
}

/// A verdict to be published and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Which job of the batch, by position.
    pub job: usize,
    /// Its verdict.
    pub verdict: Verdict,
    /// How long the subtest ran, in ms.
    pub duration_ms: u64,
    /// The crash's title, where there was one.
    pub crash: Option<String>,
    /// Its folder, relative to the output directory and inside it.
    pub dir: PathBuf,
    /// The kernel that ran and the SHA-256 of its image, where one was made.
    pub kernel: Option<(KernelId, String)>,
}

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The job runs now: publish it as in progress.
    Begin(usize),
    /// Publish and record the verdict; then the job is done.
    Record(Box<Judged>),
    /// Say it in the executor's log.
    Say(String),
    /// Stop the child: what it says cannot be used.
    Stop,
}

/// One job of a batch.
#[derive(Debug, Clone)]
struct Item {
    subtest: SubtestName,
    key: ResultKey,
    judged: bool,
}

/// A batch while its child runs.
#[derive(Debug, Clone)]
pub struct BatchState {
    test: TestPath,
    items: Vec<Item>,
    phase: Phase,
    built: Option<(u32, Option<u32>)>,
    current: Option<usize>,
    kernel: Option<(KernelId, String)>,
    trouble: Option<String>,
    finished: Option<u8>,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every subtest has its verdict.
    Complete,
    /// `ktest run` refused what it was asked for (its exit code 2), in one line: what has no verdict cannot be run.
    Refused(String),
    /// Something other than the tested code is broken; what has no verdict goes back.
    Infrastructure(String),
}

impl BatchState {
    /// A batch of these subtests of one test file.
    #[must_use]
    pub fn new(test: TestPath, jobs: impl IntoIterator<Item = (SubtestName, ResultKey)>) -> Self {
        let items = jobs.into_iter().map(|(subtest, key)| Item { subtest, key, judged: false }).collect();
        Self {
            test,
            items,
            phase: Phase::default(),
            built: None,
            current: None,
            kernel: None,
            trouble: None,
            finished: None,
        }
    }

    /// One line of the child's standard output.
    pub fn on_line(&mut self, line: &str) -> Vec<Action> {
        match Stamped::parse(line) {
            Ok(Some(stamped)) => self.on_event(stamped.event),
            Ok(None) => Vec::new(),
            Err(error @ EventError::Version(_)) => self.distrust(error.to_string()),
            Err(EventError::Json(_)) => {
                let line: String = line.chars().take(200).collect();
                vec![Action::Say(format!("not an event, skipped: {line:?}"))]
            }
        }
    }

    /// One event.
    pub fn on_event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::RunStarted { test, .. } if test != self.test => {
                self.distrust(format!("ktest runs {test} where {} was asked for", self.test))
            }
            Event::RunStarted { subtests, .. } => vec![Action::Say(format!("{} subtests", subtests.len()))],
            Event::BuildStarted => {
                self.phase = Phase::Building;
                vec![Action::Say("building the kernel".into())]
            }
            Event::Phase { what } => vec![Action::Say(what)],
            Event::BuildProgress { done, total } => {
                self.phase = Phase::Building;
                self.built = Some((done, total));
                Vec::new()
            }
            Event::KernelReady { kernel, image_hash, cached, duration_ms } => {
                let how = if cached { "from the store" } else { "built" };
                let say = format!("kernel {} {how} in {} s", kernel.short(), duration_ms / 1000);
                self.kernel = Some((kernel, image_hash));
                vec![Action::Say(say)]
            }
            Event::BuildFailed { reason } => {
                vec![Action::Say(format!("the kernel does not build: {reason}"))]
            }
            Event::BootStarted { vm, accel } => {
                self.phase = Phase::Booting;
                self.current = None;
                vec![Action::Say(format!("VM {vm} starts ({accel})"))]
            }
            Event::Booted { vm, duration_ms } => {
                self.phase = Phase::Testing;
                vec![Action::Say(format!("VM {vm} is up after {duration_ms} ms"))]
            }
            Event::SubtestStarted { subtest } => self.begin(&subtest),
            Event::Verdict { subtest, verdict, duration_ms, crash, dir } => {
                self.judge(&subtest, verdict, duration_ms, crash, dir)
            }
            Event::Infrastructure { what } => {
                let say = format!("infrastructure: {what}");
                self.trouble.get_or_insert(what);
                vec![Action::Say(say)]
            }
            Event::RunFinished { exit_code } => {
                self.finished = Some(exit_code);
                Vec::new()
            }
        }
    }

    fn begin(&mut self, subtest: &SubtestName) -> Vec<Action> {
        self.phase = Phase::Testing;
        let Some(job) = self.find(subtest) else {
            return vec![Action::Say(format!("{subtest} starts, which nobody asked for"))];
        };
        self.current = Some(job);
        if self.items[job].judged {
            return vec![Action::Say(format!("{subtest} starts again, its first verdict stands"))];
        }
        vec![Action::Begin(job), Action::Say(format!("{subtest} starts"))]
    }

    fn judge(
        &mut self,
        subtest: &SubtestName,
        verdict: Verdict,
        duration_ms: u64,
        crash: Option<String>,
        dir: PathBuf,
    ) -> Vec<Action> {
        let Some(job) = self.find(subtest) else {
            return vec![Action::Say(format!("a verdict of {subtest}, which nobody asked for, is dropped"))];
        };
        if self.current == Some(job) {
            self.current = None;
        }
        if self.items[job].judged {
            return vec![Action::Say(format!("a second verdict of {subtest} is dropped, the first stands"))];
        }
        if !dir.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return self
                .distrust(format!("the folder of {subtest} is outside the output directory: {dir:?}"));
        }
        self.items[job].judged = true;
        let reason = verdict.reason().map_or(String::new(), |reason| format!(": {reason}"));
        let say = format!("{subtest}: {}{reason} ({duration_ms} ms)", verdict.status());
        let kernel = self.kernel.clone();
        let judged = Judged { job, verdict, duration_ms, crash, dir, kernel };
        vec![Action::Say(say), Action::Record(Box::new(judged))]
    }

    fn distrust(&mut self, why: String) -> Vec<Action> {
        let say = Action::Say(why.clone());
        self.trouble.get_or_insert(why);
        vec![say, Action::Stop]
    }

    fn find(&self, subtest: &SubtestName) -> Option<usize> {
        self.items.iter().position(|item| item.subtest == *subtest)
    }

    /// Something on our side went wrong (a verdict could not be recorded): the job has no verdict after all.
    pub fn fail(&mut self, job: Option<usize>, why: String) {
        if let Some(item) = job.and_then(|job| self.items.get_mut(job)) {
            item.judged = false;
        }
        self.trouble.get_or_insert(why);
    }

    /// The child is gone; `complaint` is the last line of its standard error.
    #[must_use]
    pub fn end(&self, exit: Exit, complaint: &str) -> BatchEnd {
        let left: Vec<&str> = self.unfinished().map(|(_, subtest, _)| subtest.as_str()).collect();
        match (&self.trouble, left.first()) {
            // Trouble that the run got over is none.
            (_, None) if self.finished.is_some() => BatchEnd::Complete,
            (Some(trouble), _) => BatchEnd::Infrastructure(trouble.clone()),
            (None, Some(_)) if self.finished == Some(USAGE) && exit == Exit::Code(USAGE.into()) => {
                BatchEnd::Refused(
                    if complaint.is_empty() { "ktest run refused it" } else { complaint }.into(),
                )
            }
            (None, Some(first)) if self.finished.is_some() => BatchEnd::Infrastructure(format!(
                "ktest run finished ({exit}) without a verdict for {} subtests, the first is {first}",
                left.len()
            )),
            _ => {
                let last = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
                BatchEnd::Infrastructure(format!("ktest run ended before its last event ({exit}){last}"))
            }
        }
    }

    /// The jobs without a verdict: position, subtest, key.
    pub fn unfinished(&self) -> impl Iterator<Item = (usize, &SubtestName, &ResultKey)> {
        let items = self.items.iter().enumerate();
        items.filter(|(_, item)| !item.judged).map(|(at, item)| (at, &item.subtest, &item.key))
    }

    /// The key of a job.
    #[must_use]
    pub fn key(&self, job: usize) -> Option<&ResultKey> {
        self.items.get(job).map(|item| &item.key)
    }

    /// How many jobs it has, and how many have their verdict.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.items.len(), self.items.iter().filter(|item| item.judged).count())
    }

    /// The subtest that runs now.
    #[must_use]
    pub fn current(&self) -> Option<&SubtestName> {
        self.current.map(|at| &self.items[at].subtest)
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Objects built and to be built, while the kernel is being built.
    #[must_use]
    pub fn built(&self) -> Option<(u32, Option<u32>)> {
        self.built.filter(|_| self.phase == Phase::Building)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> BatchState {
        let job = |name: &str| (name.parse().unwrap(), format!("fs.a.{name}").parse().unwrap());
        BatchState::new("fs/a".parse().unwrap(), [job("x"), job("y")])
    }

    fn feed(state: &mut BatchState, events: &[&str]) -> String {
        let mut said = String::new();
        for event in events {
            for action in state.on_line(&format!(r#"{{"v":1,"at_ms":0,{event}}}"#)) {
                match action {
                    Action::Record(judged) => said.push_str(&format!(
                        "record {} {:?} {} {}\n",
                        judged.job,
                        judged.verdict,
                        judged.dir.display(),
                        judged.kernel.is_some()
                    )),
                    other => said.push_str(&format!("{other:?}\n")),
                }
            }
        }
        said
    }

    const X_PASSED: &str =
        r#""event":"verdict","subtest":"x","status":"Passed","duration_ms":7,"dir":"out/a.x""#;
    const Y_FAILED: &str = r#""event":"verdict","subtest":"y","status":"Failed","reason":"oops","duration_ms":7,"dir":"out/a.y""#;
    const FINISHED: &str = r#""event":"run_finished","exit_code":1"#;

    #[test]
    fn a_whole_run() {
        let mut state = batch();
        let kernel = format!(
            r#""event":"kernel_ready","kernel":"{:064}","image_hash":"h","cached":false,"duration_ms":61000"#,
            0
        );
        let mut said = feed(
            &mut state,
            &[
                r#""event":"run_started","test":"fs/a","subtests":["x","y"]"#,
                r#""event":"build_started""#,
                r#""event":"build_progress","done":3,"total":9"#,
            ],
        );
        assert_eq!((state.phase(), state.built()), (Phase::Building, Some((3, Some(9)))));
        let events = [
            &kernel,
            r#""event":"boot_started","vm":1,"accel":"tcg""#,
            r#""event":"booted","vm":1,"duration_ms":1200"#,
            r#""event":"subtest_started","subtest":"x""#,
        ];
        said += &feed(&mut state, &events);
        assert_eq!((state.phase(), state.current().unwrap().as_str()), (Phase::Testing, "x"));
        said +=
            &feed(&mut state, &[X_PASSED, r#""event":"subtest_started","subtest":"y""#, Y_FAILED, FINISHED]);
        insta::assert_snapshot!(said, @r#"
        Say("2 subtests")
        Say("building the kernel")
        Say("kernel 000000000000 built in 61 s")
        Say("VM 1 starts (tcg)")
        Say("VM 1 is up after 1200 ms")
        Begin(0)
        Say("x starts")
        Say("x: Passed (7 ms)")
        record 0 Passed out/a.x true
        Begin(1)
        Say("y starts")
        Say("y: Failed: oops (7 ms)")
        record 1 Failed { reason: "oops" } out/a.y true
        "#);
        assert_eq!(state.end(Exit::Code(1), ""), BatchEnd::Complete);
        assert_eq!(state.progress(), (2, 2));
    }

    #[test]
    fn the_first_verdict_stands_and_strangers_are_dropped() {
        let mut state = batch();
        let again = X_PASSED.replace("Passed", "Not run").replace("\"duration", "\"reason\":\"\",\"duration");
        let said = feed(
            &mut state,
            &[
                X_PASSED,
                &again,
                r#""event":"subtest_started","subtest":"x""#,
                &X_PASSED.replace(r#":"x""#, r#":"z""#),
            ],
        );
        insta::assert_snapshot!(said, @r#"
        Say("x: Passed (7 ms)")
        record 0 Passed out/a.x false
        Say("a second verdict of x is dropped, the first stands")
        Say("x starts again, its first verdict stands")
        Say("a verdict of z, which nobody asked for, is dropped")
        "#);
    }

    #[test]
    fn what_has_no_verdict_goes_back() {
        let end = |events: &[&str], exit| {
            let mut state = batch();
            feed(&mut state, events);
            let left: Vec<_> = state.unfinished().map(|(_, subtest, _)| subtest.to_string()).collect();
            (state.end(exit, ""), left.join(" "))
        };
        let infra = |text: &str| BatchEnd::Infrastructure(text.into());
        assert_eq!(
            end(&[X_PASSED], Exit::Signal(9)),
            (infra("ktest run ended before its last event (killed by signal 9)"), "y".into())
        );
        assert_eq!(
            end(&[X_PASSED, FINISHED], Exit::Code(1)),
            (
                infra("ktest run finished (exit code 1) without a verdict for 1 subtests, the first is y"),
                "y".into()
            )
        );
        let disk = r#""event":"infrastructure","what":"no space left""#;
        assert_eq!(end(&[disk, Y_FAILED, FINISHED], Exit::Code(125)), (infra("no space left"), "x".into()));
        assert_eq!(
            end(&[X_PASSED, Y_FAILED], Exit::Signal(15)),
            (infra("ktest run ended before its last event (killed by signal 15)"), String::new())
        );
    }

    #[test]
    fn a_refused_file_is_no_infrastructure_failure() {
        let mut state = batch();
        let finished = FINISHED.replace('1', "2");
        feed(&mut state, &[X_PASSED, &finished]);
        let why = "fs/a.ktest: config-no-vm: not supported";
        assert_eq!(state.end(Exit::Code(2), why), BatchEnd::Refused(why.into()));
        assert!(matches!(state.end(Exit::Signal(9), why), BatchEnd::Infrastructure(_)));
        assert_eq!(
            batch().end(Exit::Code(2), why),
            BatchEnd::Infrastructure(format!("ktest run ended before its last event (exit code 2): {why}"))
        );
    }

    #[test]
    fn a_verdict_that_could_not_be_recorded_is_none() {
        let mut state = batch();
        feed(&mut state, &[X_PASSED, Y_FAILED]);
        state.fail(Some(0), "disk full".into());
        assert_eq!(state.unfinished().map(|(at, ..)| at).collect::<Vec<_>>(), [0]);
        assert_eq!(state.end(Exit::Code(1), ""), BatchEnd::Infrastructure("disk full".into()));
    }

    #[test]
    fn rubbish_is_skipped_and_strange_speakers_are_stopped() {
        let mut state = batch();
        assert!(matches!(&state.on_line("make: *** oops")[..], [Action::Say(_)]));
        assert!(matches!(&state.on_line("")[..], [Action::Say(_)]));
        assert!(state.on_line(r#"{"v":1,"at_ms":0,"event":"new_kind"}"#).is_empty());
        assert_eq!(
            state.end(Exit::Code(0), ""),
            BatchEnd::Infrastructure("ktest run ended before its last event (exit code 0)".into())
        );
        assert_eq!(state.on_line(r#"{"v":2,"at_ms":0,"event":"run_finished"}"#).last(), Some(&Action::Stop));
        let mut state = batch();
        let wrong = r#""event":"run_started","test":"fs/b","subtests":[]"#;
        assert!(feed(&mut state, &[wrong]).ends_with("Stop\n"));
        assert!(
            matches!(state.end(Exit::Code(0), ""), BatchEnd::Infrastructure(why) if why.contains("fs/b"))
        );
        for dir in ["../x", "/etc", "a/../../b"] {
            let mut state = batch();
            assert!(feed(&mut state, &[&X_PASSED.replace("out/a.x", dir)]).ends_with("Stop\n"), "{dir}");
            assert_eq!(state.progress(), (2, 0));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,80}") {
            let _ = batch().on_line(&line);
        }
    }
}
