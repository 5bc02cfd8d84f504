//! The local side of a job: submits it and follows it until it ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fsx::own;
use fsx::untrusted::Dir;
use model::{Event, Stamped};
use spawn::{Cmd, Limits, SpawnError};

use super::cluster::{SlurmState, job_id, job_name, state, submit};
use super::job::{SlurmJob, spool};
use super::tail::Tail;
use crate::error::{ConnectError, HostError};
use crate::run::Output;

/// The interval at which the files of the job are read.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which the state of the job is queried.
const STATE_INTERVAL: Duration = Duration::from_secs(3);
/// The time that a cluster may be unavailable before the batch fails.
const UNAVAILABLE_TIME: Duration = Duration::from_secs(3600);
/// The time for the last events of an ended job to appear on this machine's file system.
const LATE_TIME: Duration = Duration::from_secs(10);

/// Stops the job if the submitter is dropped first.
struct StopOnDrop(PathBuf);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = own::write(&self.0.join("stop"), "");
    }
}

/// Submits a job and follows it until it ends. Returns the exit code of `ktest run`.
pub async fn run(job: &SlurmJob, on: &mut dyn FnMut(Output<'_>)) -> Result<Option<i32>, HostError> {
    let spool = spool(&job.task.out);
    // Remove the directory of an earlier batch. A job that still uses it notices this and exits.
    own::create_dir_all(&job.task.out)?;
    Dir::open(&job.task.out)?.remove_tree(spool.file_name().unwrap_or_default())?;
    own::create_dir_all(&spool)?;
    let text = serde_json::to_string(&job.task).expect("plain data");
    own::write(&spool.join("task.json"), text)?;
    let stop_on_drop = StopOnDrop(spool.clone());
    write_heartbeat(&spool, 0)?;
    // The submitter of an older job with this name is dead.
    let _ = Cmd::new("scancel").arg(format!("--name={}", job_name(&job.slot))).output(limits()).await;
    let output = submit(job).output(limits()).await.map_err(|error| unreachable(job, slurm_error(&error)))?;
    let Some(id) = job_id(&output.text()).filter(|_| output.exit.success()) else {
        return Err(unreachable(job, output.error_line()));
    };
    on(Output::Message(&format!("Slurm job {id}: {}", submit(job))));
    let mut follower = Follower {
        job,
        spool,
        id,
        requeues: 0,
        events: Tail::default(),
        messages: Tail::default(),
        phase: String::new(),
    };
    let end = follower.follow(on).await;
    drop(stop_on_drop);
    if !matches!(end, Ok(Some(_))) {
        let _ = Cmd::new("scancel").arg(id.to_string()).output(limits()).await;
    }
    end
}

fn limits() -> Limits {
    Limits { time: Duration::from_secs(60), bytes: 1 << 20 }
}

fn slurm_error(error: &SpawnError) -> String {
    match error {
        SpawnError::NotFound { program, .. } => {
            format!("{program} is not installed; apt-get install slurm-client")
        }
        error => error.to_string(),
    }
}

fn unreachable(job: &SlurmJob, cause: String) -> HostError {
    HostError::Unreachable { host: job.name.clone(), cause: ConnectError::Slurm(cause) }
}

fn write_heartbeat(spool: &Path, count: u64) -> Result<(), fsx::Error> {
    own::write(&spool.join("alive"), count.to_string())
}

struct Follower<'a> {
    job: &'a SlurmJob,
    spool: PathBuf,
    id: u64,
    /// The number of requeues so far.
    requeues: u32,
    events: Tail,
    messages: Tail,
    /// The last reported phase.
    phase: String,
}

impl Follower<'_> {
    fn lost(&self, problem: &str) -> HostError {
        HostError::Lost { host: self.job.name.clone(), problem: format!("Slurm job {} {problem}", self.id) }
    }

    async fn follow(&mut self, on: &mut dyn FnMut(Output<'_>)) -> Result<Option<i32>, HostError> {
        let mut asked = Instant::now();
        let mut ended: Option<(Instant, String)> = None;
        let mut unavailable: Option<Instant> = None;
        for count in 1.. {
            tokio::time::sleep(READ_INTERVAL).await;
            if count % 20 == 0 {
                write_heartbeat(&self.spool, count)?;
            }
            if self.read(on) {
                unavailable = None;
            }
            if let Some(code) = self.exit_code() {
                self.read(on);
                return Ok(code);
            }
            if let Some((since, problem)) = &ended
                && since.elapsed() > LATE_TIME
            {
                return Err(self.lost(problem));
            }
            if asked.elapsed() < STATE_INTERVAL {
                continue;
            }
            asked = Instant::now();
            let state = self.state().await;
            if !matches!(state, SlurmState::Ended(_) | SlurmState::Unknown) {
                ended = None;
            }
            match state {
                SlurmState::Pending => self.report_phase("waiting for a node of the cluster", on),
                SlurmState::Active => {
                    self.phase.clear();
                    unavailable = None;
                }
                SlurmState::Ended(state) => {
                    ended.get_or_insert((Instant::now(), format!("is {state}")));
                }
                SlurmState::Unknown => {
                    ended.get_or_insert((Instant::now(), "no longer exists in the cluster".into()));
                }
                SlurmState::Unavailable(cause) => {
                    self.report_phase(&format!("the cluster does not respond: {cause}"), on);
                    if unavailable.get_or_insert_with(Instant::now).elapsed() > UNAVAILABLE_TIME {
                        return Err(
                            self.lost("cannot be followed: the cluster has not responded for an hour")
                        );
                    }
                }
            }
        }
        Ok(None)
    }

    fn report_phase(&mut self, what: &str, on: &mut dyn FnMut(Output<'_>)) {
        if self.phase != what {
            self.phase = what.into();
            let event =
                Stamped { v: model::EVENT_VERSION, at_ms: 0, event: Event::Phase { what: what.into() } };
            on(Output::Event(&serde_json::to_string(&event).expect("events are plain data")));
        }
    }

    async fn state(&self) -> SlurmState {
        let squeue = Cmd::new("squeue").args(["--noheader", "--format=%T", "--states=all"]);
        match squeue.arg(format!("--jobs={}", self.id)).output(limits()).await {
            Ok(output) => state(output.exit, &output.text(), &String::from_utf8_lossy(&output.stderr)),
            Err(error) => SlurmState::Unavailable(error.to_string()),
        }
    }

    /// A file of the job after N requeues.
    fn file(&self, name: &str, requeues: u32) -> PathBuf {
        self.spool.join(format!("{name}.{requeues}"))
    }

    /// Passes on new lines. Returns true if there were any.
    fn read(&mut self, on: &mut dyn FnMut(Output<'_>)) -> bool {
        let mut any = false;
        loop {
            let next = self.file("events", self.requeues + 1).exists();
            for line in self.events.read(&self.file("events", self.requeues)) {
                on(Output::Event(&line));
                any = true;
            }
            for line in self.messages.read(&self.file("errors", self.requeues)) {
                on(Output::Message(&line));
                any = true;
            }
            if !next {
                return any;
            }
            // After a requeue, the previous node writes nothing more.
            self.requeues += 1;
            (self.events, self.messages) = (Tail::default(), Tail::default());
            on(Output::Message(&format!(
                "Slurm job {} was requeued; the remaining subtests run again",
                self.id
            )));
        }
    }

    /// The exit code of `ktest run`, once the job has written it.
    fn exit_code(&self) -> Option<Option<i32>> {
        let text = own::read_to_string(&self.file("end", self.requeues), 1000).ok()?;
        Some(text.trim().parse().ok())
    }
}
