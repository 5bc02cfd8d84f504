//! The daemon: a loop of passes around the farm, until nothing is left to do or somebody stops it.
//!
//! Stopped or killed at any moment, it loses no verdict that was reported: the next start clears what is said to run
//! and repeats what has no verdict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ConfigError;
use model::StatusSnapshot;
use results::{Error, Writer};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::clock::now;
use crate::executor::run::Told;
use crate::farm::{Ears, Farm, unconfirmed};
use crate::hook::Hook;
use crate::plan::JobRef;
use crate::progress::Progress;
use crate::scout::{Scout, View, listing_store};
use crate::snapshot::Identity;
use crate::{retention, service};

/// How often what people ask for is looked at.
const REQUESTS: Duration = Duration::from_secs(1);
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
    let (version, written) = (model::build::version().into(), identity.started);
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
    let hook = Hook::new(hurry_to.clone());
    let hurry = tokio::spawn(async move {
        while asked.recv().await.is_some() && hurry_to.send(()).is_ok() {
            tracing::info!("a signal asks for a fetch cycle");
        }
    });
    let mut round = Round { once: options.once, farm: &mut farm, progress, hook };
    service::ready();
    let ending = tokio::select! {
        () = signals.stop() => Ending::Stopped,
        () = round.drive(ears, views) => Ending::Done,
    };
    service::stopping();
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

/// The passes around the farm.
struct Round<'a> {
    once: bool,
    farm: &'a mut Farm,
    progress: &'a mut Progress,
    hook: Hook,
}

impl Round<'_> {
    /// Ends only with `once`, when nothing is left to do.
    async fn drive(&mut self, mut ears: Ears, mut views: mpsc::Receiver<View>) {
        let mut snapshots = ticks(SNAPSHOT);
        let mut requests = ticks(REQUESTS);
        let mut retention = ticks(RETENTION);
        let mut remover: Option<JoinHandle<()>> = None;
        let mut unconfirmed = Some(self.look_for_unconfirmed());
        self.farm.requests_once(true);
        self.set_hook().await;
        self.count_left();
        loop {
            let mut changed = true;
            tokio::select! {
                Some(view) = views.recv() => {
                    self.farm.take_view(view).await;
                    self.set_hook().await;
                    self.count_left();
                }
                Some(end) = ears.ends.recv() => {
                    self.farm.on_end(end).await;
                    while let Ok(end) = ears.ends.try_recv() {
                        self.farm.on_end(end).await;
                    }
                }
                Some(told) = ears.told.recv() => {
                    self.hear(told);
                    changed = false;
                }
                left = found(&mut unconfirmed) => self.farm.confirm_left(&left),
                _ = snapshots.tick() => {
                    self.farm.snapshot_once();
                    service::alive();
                    changed = false;
                }
                _ = requests.tick() => self.farm.requests_once(false),
                _ = retention.tick() => if remover.as_ref().is_none_or(JoinHandle::is_finished) {
                    let (writer, keep) = (self.farm.writer().clone(), self.farm.keep());
                    remover = Some(tokio::spawn(retention::pass(writer, keep)));
                },
            }
            if !changed {
                continue;
            }
            self.farm.refill_once();
            if self.once && self.is_over(&mut ears) && unconfirmed.is_none() {
                return;
            }
        }
    }

    /// Whether nothing is left to do; what was told in the meantime is heard first, since it may lead to more.
    fn is_over(&mut self, ears: &mut Ears) -> bool {
        if !ears.ends.is_empty() || !self.farm.is_done() {
            return false;
        }
        while let Ok(told) = ears.told.try_recv() {
            self.hear(told);
        }
        self.farm.is_done()
    }

    fn hear(&mut self, told: Told) {
        if let Told::Verdict { job, verdict, duration } = &told {
            self.progress.verdict(job, verdict, *duration);
        }
        self.farm.on_told(told);
        self.progress.batches(self.farm.batches());
    }

    fn count_left(&mut self) {
        let farm = &mut *self.farm;
        self.progress.left(|| farm.left(COUNTED));
    }

    async fn set_hook(&mut self) {
        let problem = self.hook.set(self.farm.hook()).await;
        self.farm.set_hook_problem(problem);
    }

    fn look_for_unconfirmed(&self) -> JoinHandle<Vec<JobRef>> {
        let (reader, commits) = (self.farm.writer().reader(), self.farm.newest());
        tokio::task::spawn_blocking(move || unconfirmed(&reader, &commits))
    }
}

/// What the search found, once; never again after that.
async fn found(search: &mut Option<JoinHandle<Vec<JobRef>>>) -> Vec<JobRef> {
    let Some(running) = search else { return std::future::pending().await };
    let found = running.await.unwrap_or_default();
    *search = None;
    found
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
