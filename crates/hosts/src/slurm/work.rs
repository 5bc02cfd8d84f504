//! The far end: what a job does on its node.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{Event, Stamped, SubtestName};
use spawn::{Cmd, Exit, Stream, lines};
use tokio::sync::mpsc;

use super::Task;
use super::tail::Tail;
use crate::HostError;

/// A follower that gave no sign of life for so long is dead.
const DEAD: Duration = Duration::from_secs(120);
/// How long a run gets to end by itself.
const GRACE: Duration = Duration::from_secs(10);

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
    let order = task.order.run_order(&task.linux_repo, &task.tests_dir, &task.out, subtests.iter().copied());
    Cmd::new(&ktest[0])
        .args(&ktest[1..])
        .arg("--cache-dir")
        .arg(cache)
        .arg("run")
        .args(order.to_argv())
        .streams(Stream::Null, Stream::Pipe, Stream::Pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
