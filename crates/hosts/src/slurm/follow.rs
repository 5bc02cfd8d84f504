//! The near end of a job: submits it and follows it to its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{Event, Stamped};
use spawn::{Cmd, Limits, SpawnError};

use super::ask::{State, job_id, job_name, state, submit};
use super::tail::Tail;
use super::{Job, spool};
use crate::HostError;
use crate::run::Said;

/// How often the job's events are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often the cluster is asked how the job stands.
const ASK: Duration = Duration::from_secs(3);
/// How long a cluster may be away before the batch is given up.
const AWAY: Duration = Duration::from_secs(3600);
/// After its end a job's last words may take so long to be seen here.
const LATE: Duration = Duration::from_secs(10);

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
