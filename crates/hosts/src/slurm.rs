//! A batch as a job of a Slurm cluster: submitted, followed, requeued with what is left, cancelled.
//!
//! The job and its follower share a folder (the output folder, on a file system that all nodes see): the job appends events
//! there, the follower gives a sign of life. A job that sees none ends itself, so it does not outlive a dead follower.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{Event, Stamped, SubtestName};
use serde::{Deserialize, Serialize};
use spawn::{Cmd, Exit, Limits, SpawnError, Stream, lines};
use tokio::sync::mpsc;

use crate::HostError;
use crate::frame::RunOrder;
use crate::run::Said;

/// How often the job's events are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often the cluster is asked how the job stands.
const ASK: Duration = Duration::from_secs(3);
/// A follower that gave no sign of life for so long is dead.
const DEAD: Duration = Duration::from_secs(120);
/// How long a cluster may be away before the batch is given up.
const AWAY: Duration = Duration::from_secs(3600);
/// After its end a job's last words may take so long to be seen here.
const LATE: Duration = Duration::from_secs(10);
/// How long a run gets to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// What a job asks of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Memory in MiB: the guest's, and what building needs beside it.
    pub mem_mib: u64,
    /// Processors.
    pub cpus: u32,
    /// Wall time.
    pub time: Duration,
    /// `--constraint`: the architecture, as a feature of the nodes, unless the configuration says otherwise.
    pub constraint: String,
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
}

/// Building takes so much memory, in MiB, at least.
const BUILD_MIB: u64 = 4096;
/// QEMU and the runner take so much beside the guest, in MiB.
const BESIDE_MIB: u64 = 1024;
/// Building and booting may take so long.
const BUILD: Duration = Duration::from_secs(3600);
/// No batch is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Needs {
    /// From what a test file declares: memory in MiB, processors, the time limit of one of so many subtests.
    #[must_use]
    pub fn declared(
        mem_mib: u64,
        cpus: Option<u32>,
        limit: Duration,
        subtests: usize,
        constraint: String,
    ) -> Self {
        let count = u32::try_from(subtests.max(1)).unwrap_or(u32::MAX);
        Self {
            mem_mib: mem_mib.saturating_add(BESIDE_MIB).max(BUILD_MIB),
            cpus: cpus.unwrap_or(4).max(1),
            time: BUILD.saturating_add(limit.saturating_mul(count)).min(LONGEST),
            constraint,
            partition: None,
            account: None,
        }
    }
}

/// A batch for the cluster.
#[derive(Debug, Clone)]
pub struct Job {
    /// What the farm calls the cluster.
    pub name: String,
    /// A name that one job at a time has; an older one of the same name is cancelled.
    pub slot: String,
    /// What it asks for.
    pub needs: Needs,
    /// The `ktest` command on the nodes.
    pub ktest: String,
    /// The cache folder on the nodes.
    pub cache_dir: Option<PathBuf>,
    /// What it does.
    pub task: Task,
}

/// What a job does, as it finds it in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The repository that has the commit; the nodes see it at this path.
    pub linux_repo: PathBuf,
    /// The tree with the tests; likewise.
    pub tests_dir: PathBuf,
    /// The output folder; likewise.
    pub out: PathBuf,
    /// What to run.
    pub order: RunOrder,
}

/// How a job stands, as `squeue` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits (again).
    Pending,
    /// It runs, or is about to begin or end.
    Active,
    /// It is over, in this word.
    Over(String),
    /// The cluster knows it no more.
    Unknown,
    /// The cluster does not answer.
    Away(String),
}

/// What `squeue --noheader --format=%T --states=all --jobs=ID` said.
#[must_use]
pub fn state(exit: Exit, stdout: &str, stderr: &str) -> State {
    let word = stdout.lines().map(str::trim).find(|line| !line.is_empty());
    match (exit.success(), word) {
        (true, None) => State::Unknown,
        (true, Some("PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SUSPENDED")) => State::Pending,
        (true, Some("RUNNING" | "CONFIGURING" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" | "RESIZING")) => {
            State::Active
        }
        (true, Some(word)) => State::Over(word.to_lowercase().replace('_', " ")),
        (false, _) if stderr.contains("Invalid job id") => State::Unknown,
        (false, _) => {
            let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
            State::Away(line.unwrap_or("squeue said nothing").into())
        }
    }
}

/// The number in the answer of `sbatch --parsable`: `12` or `12;cluster`.
#[must_use]
pub fn job_id(stdout: &str) -> Option<u64> {
    stdout.lines().last()?.trim().split(';').next()?.parse().ok()
}

/// The folder that job and follower share.
fn spool(out: &Path) -> PathBuf {
    out.join(".slurm")
}

/// The name of a job.
fn job_name(slot: &str) -> String {
    format!("ktest-{slot}")
}

/// How a job is submitted; its script is on standard input.
#[must_use]
pub fn submit(job: &Job) -> Cmd {
    let Needs { mem_mib, cpus, time, constraint, partition, account } = &job.needs;
    let spool = spool(&job.task.out);
    let mut cmd = Cmd::new("sbatch")
        .args(["--parsable", "--requeue", "--nodes=1", "--ntasks=1", "--open-mode=append", "--export=NIL"])
        .arg(format!("--job-name={}", job_name(&job.slot)))
        .arg(format!("--mem={mem_mib}M"))
        .arg(format!("--cpus-per-task={cpus}"))
        .arg(format!("--time={}", time.as_secs().div_ceil(60)))
        .arg(format!("--constraint={constraint}"))
        .arg(format!("--output={}", spool.join("job-log").display()))
        .arg(format!("--chdir={}", spool.display()));
    if let Some(partition) = partition {
        cmd = cmd.arg(format!("--partition={partition}"));
    }
    if let Some(account) = account {
        cmd = cmd.arg(format!("--account={account}"));
    }
    cmd.input(script(job))
}

/// The environment of the daemon stays here; a node's own is made from nothing.
fn script(job: &Job) -> String {
    let mut there = Cmd::new(&job.ktest);
    if let Some(dir) = &job.cache_dir {
        there = there.arg("--cache-dir").arg(dir);
    }
    let there = there.args(["host", "slurm-job"]).arg(spool(&job.task.out));
    let home = "HOME=$(getent passwd \"$(id -u)\" | cut -d: -f6)";
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ["#!/bin/sh", path, home, "export PATH HOME", &format!("exec {there}"), ""].join("\n")
}

/// Tells the job to end when the follower ends before it.
struct Follower(PathBuf);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("stop"), "");
    }
}

/// Submits the batch and follows it to its end; the exit code of `ktest run`.
pub async fn run(job: &Job, say: &mut dyn FnMut(Said<'_>)) -> Result<Option<i32>, HostError> {
    let spool = spool(&job.task.out);
    let io = |error: std::io::Error| HostError::io(&spool, &error);
    // What an earlier batch left: a job that still lives there finds its folder gone, and ends.
    match std::fs::remove_dir_all(&spool) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    std::fs::create_dir_all(&spool).map_err(io)?;
    let text = serde_json::to_string(&job.task).expect("plain data");
    std::fs::write(spool.join("task.json"), text).map_err(io)?;
    let follower = Follower(spool.clone());
    sign_of_life(&spool, 0).map_err(io)?;
    // A job of this name is one that nobody follows any more.
    let _ = Cmd::new("scancel").arg(format!("--name={}", job_name(&job.slot))).output(limits()).await;
    let output = submit(job).output(limits()).await.map_err(|error| unreachable(job, &missing(&error)))?;
    let Some(id) = job_id(&output.text()).filter(|_| output.exit.success()) else {
        return Err(unreachable(job, &output.complaint()));
    };
    say(Said::Complaint(&format!("Slurm job {id}: {}", submit(job))));
    let mut follow = Follow {
        job,
        spool,
        id,
        at: 0,
        events: Tail::default(),
        errors: Tail::default(),
        told: String::new(),
    };
    let end = follow.follow(say).await;
    drop(follower);
    if !matches!(end, Ok(Some(_))) {
        let _ = Cmd::new("scancel").arg(id.to_string()).output(limits()).await;
    }
    end
}

fn limits() -> Limits {
    Limits { time: Duration::from_secs(60), bytes: 1 << 20 }
}

fn missing(error: &SpawnError) -> String {
    match error {
        SpawnError::NotFound { program, .. } => {
            format!("{program} is not installed; apt-get install slurm-client")
        }
        error => error.to_string(),
    }
}

fn unreachable(job: &Job, why: &str) -> HostError {
    HostError::Unreachable { host: job.name.clone(), why: why.into() }
}

fn sign_of_life(spool: &Path, count: u64) -> std::io::Result<()> {
    std::fs::write(spool.join("alive"), count.to_string())
}

struct Follow<'a> {
    job: &'a Job,
    spool: PathBuf,
    id: u64,
    /// How often it was requeued, as far as was seen.
    at: u32,
    events: Tail,
    errors: Tail,
    told: String,
}

impl Follow<'_> {
    fn lost(&self, what: &str) -> HostError {
        HostError::Lost { host: self.job.name.clone(), what: format!("Slurm job {} {what}", self.id) }
    }

    async fn follow(&mut self, say: &mut dyn FnMut(Said<'_>)) -> Result<Option<i32>, HostError> {
        let mut asked = Instant::now();
        let mut over: Option<(Instant, String)> = None;
        let mut away: Option<Instant> = None;
        for count in 1.. {
            tokio::time::sleep(LOOK).await;
            if count % 20 == 0 {
                sign_of_life(&self.spool, count).map_err(|error| HostError::io(&self.spool, &error))?;
            }
            if self.read(say) {
                away = None;
            }
            if let Some(code) = self.ended() {
                self.read(say);
                return Ok(code);
            }
            if let Some((since, what)) = &over
                && since.elapsed() > LATE
            {
                return Err(self.lost(what));
            }
            if asked.elapsed() < ASK {
                continue;
            }
            asked = Instant::now();
            let state = self.ask().await;
            if !matches!(state, State::Over(_) | State::Unknown) {
                over = None;
            }
            match state {
                State::Pending => self.phase("waiting for a node of the cluster", say),
                State::Active => {
                    self.told.clear();
                    away = None;
                }
                State::Over(word) => drop(over.get_or_insert((Instant::now(), format!("is {word}")))),
                State::Unknown => {
                    over.get_or_insert((Instant::now(), "is gone, the cluster does not know it".into()));
                }
                State::Away(why) => {
                    self.phase(&format!("the cluster does not answer: {why}"), say);
                    if away.get_or_insert_with(Instant::now).elapsed() > AWAY {
                        return Err(self.lost("cannot be followed, the cluster is away for an hour"));
                    }
                }
            }
        }
        Ok(None)
    }

    fn phase(&mut self, what: &str, say: &mut dyn FnMut(Said<'_>)) {
        if self.told != what {
            self.told = what.into();
            let event =
                Stamped { v: model::EVENT_VERSION, at_ms: 0, event: Event::Phase { what: what.into() } };
            say(Said::Event(&serde_json::to_string(&event).expect("events are plain data")));
        }
    }

    async fn ask(&self) -> State {
        let squeue = Cmd::new("squeue").args(["--noheader", "--format=%T", "--states=all"]);
        match squeue.arg(format!("--jobs={}", self.id)).output(limits()).await {
            Ok(output) => state(output.exit, &output.text(), &String::from_utf8_lossy(&output.stderr)),
            Err(error) => State::Away(error.to_string()),
        }
    }

    fn file(&self, name: &str, at: u32) -> PathBuf {
        self.spool.join(format!("{name}.{at}"))
    }

    /// Says what is new; true if something is.
    fn read(&mut self, say: &mut dyn FnMut(Said<'_>)) -> bool {
        let mut any = false;
        loop {
            let next = self.file("events", self.at + 1).exists();
            for line in self.events.read(&self.file("events", self.at)) {
                say(Said::Event(&line));
                any = true;
            }
            for line in self.errors.read(&self.file("errors", self.at)) {
                say(Said::Complaint(&line));
                any = true;
            }
            if !next {
                return any;
            }
            // Requeued: the node of before says nothing any more.
            self.at += 1;
            (self.events, self.errors) = (Tail::default(), Tail::default());
            say(Said::Complaint(&format!("Slurm job {} was requeued, what is left runs again", self.id)));
        }
    }

    /// The exit code, once the job has written it.
    fn ended(&self) -> Option<Option<i32>> {
        let text = std::fs::read_to_string(self.file("end", self.at)).ok()?;
        Some(text.trim().parse().ok())
    }
}

/// What was read of a file that grows.
#[derive(Debug, Default)]
struct Tail {
    at: u64,
    partial: Vec<u8>,
}

/// So much is read at a time, and no line is longer, in bytes.
const READ: u64 = 8 << 20;

impl Tail {
    /// The lines that are new and whole.
    fn read(&mut self, path: &Path) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.take(READ).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        self.at += bytes.len() as u64;
        let mut lines = Vec::new();
        for byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            } else if (self.partial.len() as u64) < READ {
                self.partial.push(byte);
            }
        }
        lines
    }
}

/// `ktest host slurm-job`: runs on a node what is left of the batch. `ktest` is the command to run, as an argv list.
pub async fn work(spool: &Path, cache: &Path, ktest: &[std::ffi::OsString]) -> Result<(), HostError> {
    let io = |error: std::io::Error| HostError::io(spool, &error);
    let text = std::fs::read_to_string(spool.join("task.json")).map_err(io)?;
    let task: Task = serde_json::from_str(&text)
        .map_err(|error| HostError::Here(format!("{}: {error}", spool.display())))?;
    let count: u32 =
        std::env::var("SLURM_RESTART_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let judged = judged(spool, count);
    let left: Vec<&SubtestName> = task.order.subtests.iter().filter(|name| !judged.contains(*name)).collect();
    let mut events = std::fs::File::create(spool.join(format!("events.{count}"))).map_err(io)?;
    let mut errors = std::fs::File::create(spool.join(format!("errors.{count}"))).map_err(io)?;
    let code = if left.is_empty() && !task.order.subtests.is_empty() {
        let event = Stamped { v: model::EVENT_VERSION, at_ms: 0, event: Event::RunFinished { exit_code: 0 } };
        let line = serde_json::to_string(&event).expect("events are plain data");
        writeln!(events, "{line}").map_err(io)?;
        Some(0)
    } else {
        let cmd = command(&task, &left, cache, ktest);
        follow_child(&cmd, spool, &mut events, &mut errors).await?
    };
    let Some(code) = code else { return Ok(()) };
    // Written last, and whole: the events are all there.
    let part = spool.join("end.part");
    std::fs::write(&part, code.to_string()).map_err(io)?;
    std::fs::rename(&part, spool.join(format!("end.{count}"))).map_err(io)
}

/// Runs the command to its end; none if nobody follows the job any more.
async fn follow_child(
    cmd: &Cmd,
    spool: &Path,
    events: &mut std::fs::File,
    errors: &mut std::fs::File,
) -> Result<Option<i32>, HostError> {
    let io = |error: std::io::Error| HostError::io(spool, &error);
    let mut child = cmd.start()?;
    let (events_to, mut lines_of) = mpsc::channel(64);
    let (errors_to, mut complaints) = mpsc::channel(64);
    if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
        tokio::spawn(lines::send(stdout, events_to));
        tokio::spawn(lines::send(stderr, errors_to));
    }
    let mut life = Life::new(spool);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let (mut talking, mut complaining) = (true, true);
    let exit = loop {
        tokio::select! {
            line = lines_of.recv(), if talking => match line {
                Some(line) => writeln!(events, "{line}").map_err(io)?,
                None => talking = false,
            },
            line = complaints.recv(), if complaining => match line {
                Some(line) => writeln!(errors, "{line}").map_err(io)?,
                None => complaining = false,
            },
            exit = child.wait(), if !talking => break exit?,
            _ = tick.tick() => if !life.goes_on() {
                child.stop(GRACE).await?;
                return Ok(None);
            },
        }
    };
    Ok(Some(match exit {
        Exit::Code(code) => code,
        Exit::Signal(_) => 125,
    }))
}

/// Whether somebody follows the job: judged by change, not by the clock, which may be another machine's.
struct Life {
    spool: PathBuf,
    last: String,
    since: Instant,
}

impl Life {
    fn new(spool: &Path) -> Self {
        Self { spool: spool.into(), last: String::new(), since: Instant::now() }
    }

    fn goes_on(&mut self) -> bool {
        if self.spool.join("stop").exists() || !self.spool.is_dir() {
            return false;
        }
        let now = std::fs::read_to_string(self.spool.join("alive")).unwrap_or_default();
        if now != self.last {
            (self.last, self.since) = (now, Instant::now());
        }
        self.since.elapsed() < DEAD
    }
}

/// The subtests that had their verdict before the job was requeued.
fn judged(spool: &Path, count: u32) -> BTreeSet<SubtestName> {
    let mut judged = BTreeSet::new();
    for at in 0..count {
        for line in Tail::default().read(&spool.join(format!("events.{at}"))) {
            if let Ok(Some(Stamped { event: Event::Verdict { subtest, .. }, .. })) = Stamped::parse(&line) {
                judged.insert(subtest);
            }
        }
    }
    judged
}

fn command(task: &Task, subtests: &[&SubtestName], cache: &Path, ktest: &[std::ffi::OsString]) -> Cmd {
    let file = |test: &model::TestPath| task.tests_dir.join("tests").join(test.file());
    let order = &task.order;
    let mut cmd =
        Cmd::new(&ktest[0]).args(&ktest[1..]).arg("--cache-dir").arg(cache).args(["run", "--events", "-k"]);
    cmd = match (&order.commit, &order.kernel) {
        (None, Some(kernel)) => cmd.arg(kernel.as_str()),
        (None, None) => cmd.arg(&task.linux_repo),
        (Some(commit), _) => cmd.arg(&task.linux_repo).arg("--commit").arg(commit.as_str()),
    };
    cmd = cmd.arg("--tests-dir").arg(&task.tests_dir).arg("--out").arg(&task.out);
    if let Some(arch) = order.arch {
        cmd = cmd.arg("--arch").arg(arch.as_str());
    }
    for option in &order.tolerate {
        cmd = cmd.arg("--tolerate").arg(option);
    }
    for test in &order.merge {
        cmd = cmd.arg("--merge").arg(file(test));
    }
    for (key, value) in order.env.iter() {
        cmd = cmd.arg("--env").arg(format!("{key}={value}"));
    }
    cmd.arg(file(&order.test)).args(subtests.iter().map(|name| name.as_str())).streams(
        Stream::Null,
        Stream::Pipe,
        Stream::Pipe,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let needs = Needs::declared(2048, Some(2), Duration::from_secs(600), 3, "aarch64".into());
        Job {
            name: "big".into(),
            slot: "ab-0".into(),
            needs: Needs { partition: Some("kernel".into()), ..needs },
            ktest: "ktest".into(),
            cache_dir: Some("/srv/it's".into()),
            task: Task {
                linux_repo: "/srv/linux.git".into(),
                tests_dir: "/srv/kt".into(),
                out: "/srv/out/0".into(),
                order: RunOrder {
                    commit: Some("0123456789abcdef0123456789abcdef01234567".parse().unwrap()),
                    kernel: None,
                    test: "t/a".parse().unwrap(),
                    subtests: vec!["x".parse().unwrap(), "y".parse().unwrap()],
                    merge: Vec::new(),
                    tolerate: Vec::new(),
                    env: model::Env::default(),
                    arch: None,
                },
            },
        }
    }

    #[test]
    fn what_is_submitted() {
        insta::assert_snapshot!(submit(&job()), @"sbatch --parsable --requeue --nodes=1 --ntasks=1 --open-mode=append --export=NIL --job-name=ktest-ab-0 --mem=4096M --cpus-per-task=2 --time=90 --constraint=aarch64 --output=/srv/out/0/.slurm/job-log --chdir=/srv/out/0/.slurm --partition=kernel");
        let script = script(&job());
        assert!(
            script.ends_with("\nexec ktest --cache-dir '/srv/it'\\''s' host slurm-job /srv/out/0/.slurm\n"),
            "{script}"
        );
        let needs = Needs::declared(u64::MAX, None, Duration::MAX, 0, String::new());
        assert_eq!((needs.mem_mib, needs.cpus, needs.time), (u64::MAX, 4, LONGEST));
    }

    #[test]
    fn what_slurm_answers() {
        assert_eq!(job_id("12\n"), Some(12));
        assert_eq!(job_id("12;big\n"), Some(12));
        assert_eq!(job_id("sbatch: error"), None);
        let ok = Exit::Code(0);
        assert_eq!(state(ok, "PENDING\n", ""), State::Pending);
        assert_eq!(state(ok, "COMPLETING\n", ""), State::Active);
        assert_eq!(state(ok, "OUT_OF_MEMORY\n", ""), State::Over("out of memory".into()));
        assert_eq!(state(ok, "\n", ""), State::Unknown);
        let no = Exit::Code(1);
        assert_eq!(state(no, "", "slurm_load_jobs error: Invalid job id specified\n"), State::Unknown);
        let away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)";
        assert_eq!(state(no, "", away), State::Away(away.into()));
    }

    #[test]
    fn a_requeued_job_runs_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let verdict = |name: &str| {
            format!(
                r#"{{"v":1,"at_ms":0,"event":"verdict","subtest":"{name}","status":"Passed","duration_ms":1,"dir":"out/x"}}"#
            )
        };
        let text = format!("rubbish\n{}\n{}", verdict("x"), verdict("y"));
        std::fs::write(dir.path().join("events.0"), text).unwrap();
        // The last line was cut off: nobody has seen that verdict.
        let names: Vec<String> = judged(dir.path(), 1).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["x"]);
        assert!(judged(dir.path(), 0).is_empty());
    }

    #[test]
    fn a_growing_file_is_read_by_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut tail = Tail::default();
        assert!(tail.read(&path).is_empty());
        std::fs::write(&path, "a\nb").unwrap();
        assert_eq!(tail.read(&path), ["a"]);
        std::fs::write(&path, "a\nbc\n\n").unwrap();
        assert_eq!(tail.read(&path), ["bc", ""]);
    }
}
