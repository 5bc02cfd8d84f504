//! The fetch cycle: configuration, branches, listings, again and again; each pass tells the daemon what it found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{Config, ConfigError};
use model::{BranchRef, SubtestName};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::branches::{FetchedBranch, Watcher};
use super::listing::{ListedFile, Listings};
use super::settings::Settings;
use fsx::clock::unix_seconds as now;

/// A cycle waits so long for slow remotes; what comes later is told when it comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wanted and known after a pass.
#[derive(Debug, Clone)]
pub struct View {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The branches.
    pub branches: BTreeMap<BranchRef, FetchedBranch>,
    /// The subtests of the test files.
    pub listings: HashMap<ListedFile, Arc<[SubtestName]>>,
    /// What is wrong with configuration and test files, and which branches were left out.
    pub problems: Vec<String>,
    /// Whether every branch has been looked at in this cycle.
    pub complete: bool,
}

impl View {
    /// The branches that could not be fetched, with the reasons.
    pub fn fetch_errors(&self) -> impl Iterator<Item = String> {
        self.branches
            .iter()
            .filter_map(|(name, branch)| Some(format!("branch {name}: {}", branch.error.as_ref()?)))
    }
}

/// The fetch loop.
#[derive(Debug)]
pub struct FetchLoop {
    settings: Settings,
    watcher: Watcher,
    listings: Listings,
}

impl FetchLoop {
    /// Reads the configuration; the listings of an earlier run are in `store`, below the output directory.
    pub fn new(config: &Path, store: &Path) -> Result<Self, ConfigError> {
        let settings = Settings::load(config)?;
        let store = settings.config().output_dir.join(store);
        Ok(Self { settings, watcher: Watcher::default(), listings: Listings::load(&store) })
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        self.settings.config()
    }

    /// One cycle: reads the configuration, looks at all branches, for at most `patience`, lists the test files.
    pub async fn cycle_once(&mut self, patience: Duration) -> View {
        self.settings.reload();
        let config = self.settings.config().clone();
        self.watcher.start(&config);
        let deadline = Instant::now() + patience;
        while let Ok(true) = tokio::time::timeout_at(deadline, self.watcher.next(&config, now)).await {}
        self.view().await
    }

    async fn view(&mut self) -> View {
        let config = self.settings.config().clone();
        self.listings.refresh(&config.ktest_dir, &wanted(&config), now()).await;
        let mut problems = self.settings.problems().to_vec();
        problems.extend(self.listings.problems());
        View {
            branches: self.watcher.seen().clone(),
            listings: self.listings.all(),
            complete: self.watcher.is_idle(),
            problems,
            config,
        }
    }

    /// Cycles for ever, every `poll` and at once when `hurry` changes, until nobody listens.
    pub async fn run(mut self, views: mpsc::Sender<View>, mut hurry: watch::Receiver<()>) {
        loop {
            hurry.mark_unchanged();
            let view = self.cycle_once(PATIENCE).await;
            let config = view.config.clone();
            if views.send(view).await.is_err() {
                return;
            }
            let next = tokio::time::sleep(config.poll);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    asked = hurry.changed() => match asked {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    true = self.watcher.next(&config, now), if !self.watcher.is_idle() => {
                        let view = self.view().await;
                        if views.send(view).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// The test files to be listed: each with the environments of the groups that name it.
fn wanted(config: &Config) -> BTreeSet<ListedFile> {
    let groups = config.all_branches().flat_map(|branch| config.groups_of(branch));
    groups.flat_map(|group| group.tests.iter().map(|test| (test.clone(), group.env.clone()))).collect()
}

/// Where the listings are kept, below the output directory.
#[must_use]
pub fn listing_store() -> PathBuf {
    Path::new(crate::WORK).join("listings.json")
}
