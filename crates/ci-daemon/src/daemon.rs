//! The daemon: a loop of passes around the farm, until nothing is left to do or somebody stops it.
//!
//! Stopped or killed at any moment, it loses no verdict that was reported: the next start clears what is said to run
//! and repeats what has no verdict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ConfigError;
use model::StatusSnapshot;
use results::retention::Policy;
use results::{Error, Writer};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::clock::now;
use crate::executor::run::Told;
use crate::farm::{Ears, Farm};
use crate::progress::Progress;
use crate::scout::{Scout, View, listing_store};
use crate::snapshot::Identity;

/// How often the status snapshot is written.
const SNAPSHOT: Duration = Duration::from_secs(2);
/// How often old results are removed.
const RETENTION: Duration = Duration::from_secs(3600);
/// The first cycle of `--once` waits for slow remotes as long as they may take.
const FIRST: Duration = Duration::from_secs(3600);
/// So many jobs left are counted exactly for the progress display.
const COUNTED: usize = 100_000;

/// How the daemon is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The `ktest` command.
    pub ktest: PathBuf,
    /// End when nothing is left to do.
    pub once: bool,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was left to do.
    Done,
    /// It was asked to stop.
    Stopped,
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration, the first time.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The results.
    #[error(transparent)]
    Results(#[from] Error),
    /// The `ktest` command is not there.
    #[error("{}: no such command; install ktest beside ci-daemon, or say --ktest PATH", .0.display())]
    NoKtest(PathBuf),
    /// There is nobody to do the work.
    #[error("no host can run anything; add [host.local] with slots = N to the configuration")]
    NoHosts,
    /// No branch could be looked at.
    #[error("no branch could be fetched; the first says: {0}")]
    NoBranches(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> DaemonError {
    move |source| DaemonError::Io { what, source }
}

/// The signals that stop the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

fn listen(kind: SignalKind) -> Result<Signal, DaemonError> {
    signal(kind).map_err(io("cannot listen to signals"))
}

impl Signals {
    fn listen() -> Result<Self, DaemonError> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Resolves when the daemon is asked to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs the daemon. Must run on a multi-threaded runtime.
pub async fn run(options: &Options, progress: &mut Progress) -> Result<Ending, DaemonError> {
    if !options.ktest.is_file() {
        return Err(DaemonError::NoKtest(options.ktest.clone()));
    }
    let mut signals = Signals::listen()?;
    let mut asked = listen(SignalKind::user_defined1())?;
    let mut scout = Scout::new(&options.config, &listing_store())?;
    let output_dir = scout.config().output_dir.clone();
    let writer = open(&output_dir).await?;
    let identity = Identity { started: now(), pid: std::process::id() };
    tracing::info!(config = %options.config.display(), output_dir = %output_dir.display(), "ci-daemon starts");
    // What the last daemon said is over.
    let (version, written) = (env!("CARGO_PKG_VERSION").into(), identity.started);
    let Identity { started, pid } = identity;
    writer.write_snapshot(&StatusSnapshot { written, started, pid, version, ..StatusSnapshot::default() })?;
    progress.say("looking at the branches");
    let first = tokio::select! {
        view = scout.cycle_once(if options.once { FIRST } else { Duration::ZERO }) => view,
        () = signals.stop() => return Ok(Ending::Stopped),
    };
    if options.once {
        check_first(&first)?;
    }
    let (mut farm, ears) = Farm::new(first.clone(), writer.clone(), options.ktest.clone(), identity);
    farm.take_view(first).await;
    let (views_to, views) = mpsc::channel(1);
    let (hurry_to, hurry) = watch::channel(());
    let scout = tokio::spawn(scout.run(views_to, hurry));
    let hurry = tokio::spawn(async move {
        while asked.recv().await.is_some() && hurry_to.send(()).is_ok() {
            tracing::info!("asked for a fetch cycle");
        }
    });
    let ending = tokio::select! {
        () = signals.stop() => Ending::Stopped,
        () = drive(options.once, &mut farm, ears, views, progress) => Ending::Done,
    };
    hurry.abort();
    let word = match ending {
        Ending::Done => "nothing is left to do",
        Ending::Stopped => "stopping; once more stops at once",
    };
    progress.say(word);
    tracing::info!("{word}");
    // Dropping what it waits for ends the fetches.
    scout.abort();
    let end = async {
        match ending {
            Ending::Done => farm.finish().await,
            Ending::Stopped => farm.stop().await,
        }
    };
    tokio::select! {
        () = end => {}
        () = signals.stop() => tracing::warn!("stopped at once"),
    }
    Ok(ending)
}

/// Opens the results for writing, as a daemon that has just started.
async fn open(output_dir: &Path) -> Result<Writer, DaemonError> {
    let writer = Writer::open(output_dir)?;
    let recovery = writer.recovery();
    tracing::info!(records = recovery.records, "the journal was read");
    // What runs left behind was not published; the results are locked, so nobody is writing there.
    clear_work(&output_dir.join(crate::WORK));
    let stale = writer.clear_stale_in_progress().await?;
    if stale > 0 {
        tracing::info!("{stale} tests were running when the last daemon ended; they run again");
    }
    Ok(writer)
}

fn clear_work(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!("{}: cannot be removed: {error}", path.display());
        }
    }
}

/// Without a host or a branch, `--once` would have nothing to do, which is not what was meant.
fn check_first(view: &View) -> Result<(), DaemonError> {
    if crate::wants::slots(&view.config).is_empty() {
        return Err(DaemonError::NoHosts);
    }
    let nothing = view.branches.values().all(|seen| seen.commits.is_empty());
    let error = view.branches.values().find_map(|seen| seen.error.clone());
    match error {
        Some(error) if nothing => Err(DaemonError::NoBranches(error)),
        _ => Ok(()),
    }
}

/// Passes around the farm; ends only with `once`, when nothing is left to do.
async fn drive(
    once: bool,
    farm: &mut Farm,
    mut ears: Ears,
    mut views: mpsc::Receiver<View>,
    progress: &mut Progress,
) {
    let mut snapshots = tokio::time::interval(SNAPSHOT);
    snapshots.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retention = tokio::time::interval(RETENTION);
    let mut remover: Option<tokio::task::JoinHandle<()>> = None;
    progress.left(|| farm.left(COUNTED));
    loop {
        let mut changed = true;
        tokio::select! {
            Some(view) = views.recv() => {
                farm.take_view(view).await;
                progress.left(|| farm.left(COUNTED));
            }
            Some(end) = ears.ends.recv() => {
                farm.on_end(end).await;
                while let Ok(end) = ears.ends.try_recv() {
                    farm.on_end(end).await;
                }
            }
            Some(told) = ears.told.recv() => {
                hear(farm, progress, told);
                changed = false;
            }
            _ = snapshots.tick() => {
                farm.snapshot_once();
                changed = false;
            }
            _ = retention.tick() => if remover.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                remover = Some(tokio::spawn(retention_once(farm.writer().clone(), farm.keep())));
            },
        }
        if !changed {
            continue;
        }
        farm.refill_once();
        if once && ears.ends.is_empty() && farm.is_done() {
            while let Ok(told) = ears.told.try_recv() {
                hear(farm, progress, told);
            }
            return;
        }
    }
}

fn hear(farm: &mut Farm, progress: &mut Progress, told: Told) {
    if let Told::Verdict { job, verdict, duration } = &told {
        progress.verdict(job, verdict, *duration);
    }
    farm.on_told(told);
    progress.batches(farm.batches());
}

/// Removes the results that are past keeping: planned first, and if the plan cannot be made nothing is removed.
async fn retention_once(writer: Writer, keep: usize) {
    let policy = Policy { commits: keep, ..Policy::default() };
    let planner = writer.clone();
    let plan = tokio::task::spawn_blocking(move || planner.plan_retention(policy)).await;
    let result = match plan {
        Ok(Ok(plan)) if plan.remove.is_empty() => return,
        Ok(Ok(plan)) => {
            tracing::info!("{plan}");
            writer.apply(plan).await
        }
        Ok(Err(error)) => Err(error),
        Err(error) => {
            tracing::error!("retention: {error}");
            return;
        }
    };
    if let Err(error) = result {
        tracing::error!("retention: {error}; it is tried again in an hour");
    }
}
