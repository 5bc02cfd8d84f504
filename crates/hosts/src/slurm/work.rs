//! The remote side of a job: runs `ktest run` on a node.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fsx::own;
use fsx::publish::{self, Durability};
use model::{Event, Stamped, SubtestName};
use spawn::{Cmd, Exit, Stream, lines};
use tokio::sync::mpsc;

use super::job::Task;
use super::tail::Tail;
use crate::error::{HostError, LocalError};

/// A submitter without a heartbeat for this time is considered dead.
const DEAD_TIME: Duration = Duration::from_secs(120);
/// The time for a run to exit after SIGTERM.
const STOP_TIME: Duration = Duration::from_secs(10);

/// `ktest host slurm-job`: runs the remaining subtests of a batch on a node. `ktest` is the command as an argv list.
pub async fn work(spool: &Path, cache: &Path, ktest: &[std::ffi::OsString]) -> Result<(), HostError> {
    let path = spool.join("task.json");
    let text = own::read_to_string(&path, 64 << 20)?;
    let task: Task = serde_json::from_str(&text).map_err(|cause| LocalError::Task { path, cause })?;
    let count: u32 =
        std::env::var("SLURM_RESTART_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let finished = finished(spool, count);
    let remaining: Vec<&SubtestName> =
        task.order.subtests.iter().filter(|name| !finished.contains(*name)).collect();
    let mut events = own::create(&spool.join(format!("events.{count}")))?;
    let mut errors = own::create(&spool.join(format!("errors.{count}")))?;
    let code = if remaining.is_empty() && !task.order.subtests.is_empty() {
        let event = Stamped { v: model::EVENT_VERSION, at_ms: 0, event: Event::RunFinished { exit_code: 0 } };
        let line = serde_json::to_string(&event).expect("events are plain data");
        writeln!(events, "{line}").map_err(LocalError::io(spool))?;
        Some(0)
    } else {
        let cmd = command(&task, &remaining, cache, ktest);
        run(&cmd, spool, &mut events, &mut errors).await?
    };
    let Some(code) = code else { return Ok(()) };
    // Published last, after all events.
    Ok(publish::file(&spool.join(format!("end.{count}")), code.to_string(), Durability::Cached)?)
}

/// Runs the command until it exits. Returns `None` if the submitter is dead.
async fn run(
    cmd: &Cmd,
    spool: &Path,
    events: &mut std::fs::File,
    errors: &mut std::fs::File,
) -> Result<Option<i32>, HostError> {
    let io = LocalError::io::<std::io::Error>(spool);
    let mut child = cmd.start()?;
    let (stdout_sender, mut stdout_lines) = mpsc::channel(64);
    let (stderr_sender, mut stderr_lines) = mpsc::channel(64);
    if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
        tokio::spawn(lines::send(stdout, stdout_sender));
        tokio::spawn(lines::send(stderr, stderr_sender));
    }
    let mut submitter = SubmitterWatch::new(spool);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let (mut stdout_open, mut stderr_open) = (true, true);
    let exit = loop {
        tokio::select! {
            line = stdout_lines.recv(), if stdout_open => match line {
                Some(line) => writeln!(events, "{line}").map_err(&io)?,
                None => stdout_open = false,
            },
            line = stderr_lines.recv(), if stderr_open => match line {
                Some(line) => writeln!(errors, "{line}").map_err(&io)?,
                None => stderr_open = false,
            },
            exit = child.wait(), if !stdout_open => break exit?,
            _ = tick.tick() => if !submitter.is_alive() {
                child.stop(STOP_TIME).await?;
                return Ok(None);
            },
        }
    };
    Ok(Some(match exit {
        Exit::Code(code) => code,
        Exit::Signal(_) => 125,
    }))
}

/// Watches the heartbeat of the submitter. Only a change of its content counts, because the clock of the submitter's
/// machine may be wrong.
struct SubmitterWatch {
    spool: PathBuf,
    last: String,
    changed: Instant,
}

impl SubmitterWatch {
    fn new(spool: &Path) -> Self {
        Self { spool: spool.into(), last: String::new(), changed: Instant::now() }
    }

    fn is_alive(&mut self) -> bool {
        if self.spool.join("stop").exists() || !self.spool.is_dir() {
            return false;
        }
        let sign = own::read_to_string(&self.spool.join("alive"), 1000).unwrap_or_default();
        if sign != self.last {
            (self.last, self.changed) = (sign, Instant::now());
        }
        self.changed.elapsed() < DEAD_TIME
    }
}

/// The subtests that got their verdict before the job was requeued.
fn finished(spool: &Path, count: u32) -> BTreeSet<SubtestName> {
    let mut finished = BTreeSet::new();
    for requeue in 0..count {
        for line in Tail::default().read(&spool.join(format!("events.{requeue}"))) {
            if let Ok(Some(Stamped { event: Event::Verdict { subtest, .. }, .. })) = Stamped::parse(&line) {
                finished.insert(subtest);
            }
        }
    }
    finished
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
    fn a_requeued_job_runs_the_remaining_subtests() {
        let dir = tempfile::tempdir().unwrap();
        let verdict = |name: &str| {
            format!(
                r#"{{"v":1,"at_ms":0,"event":"verdict","subtest":"{name}","status":"Passed","duration_ms":1,"dir":"out/x"}}"#
            )
        };
        let text = format!("no json\n{}\n{}", verdict("x"), verdict("y"));
        std::fs::write(dir.path().join("events.0"), text).unwrap();
        // The last line is incomplete: its verdict was not reported.
        let names: Vec<String> = finished(dir.path(), 1).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["x"]);
        assert!(finished(dir.path(), 0).is_empty());
    }
}
