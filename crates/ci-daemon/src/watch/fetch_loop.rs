//! The fetch loop: reads the configuration, fetches the branches, and lists the test files. Each pass sends a [`View`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{Config, ConfigError};
use model::{BranchRef, SubtestName, SuiteName};
use testfile::known_issues::KnownIssues;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::branches::{FetchedBranch, Watcher};
use super::listing::{ListedFile, Listings};
use super::owners::PublishedOwners;
use super::settings::Settings;
use super::suites::FetchedSuite;
use crate::known_failures::LoadedIssues;
use fsx::clock::unix_seconds as now;

/// How long a cycle waits for slow remotes. Branches that are fetched later are sent in another view.
const FETCH_WAIT: Duration = Duration::from_secs(10);

/// The input of the farm after a pass.
#[derive(Debug, Clone)]
pub struct View {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The branches.
    pub branches: BTreeMap<BranchRef, FetchedBranch>,
    /// The test suites that the farm fetches.
    pub suites: BTreeMap<SuiteName, FetchedSuite>,
    /// The subtests of the test files.
    pub listings: HashMap<ListedFile, Arc<[SubtestName]>>,
    /// The known failures of the test files.
    pub known_issues: Arc<KnownIssues>,
    /// The problems of the configuration and the test files, and the branches that were left out.
    pub problems: Vec<String>,
    /// Whether all fetches of this cycle have ended.
    pub complete: bool,
}

impl View {
    /// The errors of the branches and suites that could not be fetched.
    pub fn fetch_errors(&self) -> impl Iterator<Item = String> {
        let suites = self.suites.iter();
        let suites =
            suites.filter_map(|(name, suite)| Some(format!("suite {name}: {}", suite.error.as_ref()?)));
        let branches = self.branches.iter();
        branches
            .filter_map(|(name, branch)| Some(format!("branch {name}: {}", branch.error.as_ref()?)))
            .chain(suites)
    }
}

/// The fetch loop.
#[derive(Debug)]
pub struct FetchLoop {
    settings: Settings,
    watcher: Watcher,
    listings: Listings,
    known_issues: LoadedIssues,
    owners: PublishedOwners,
}

impl FetchLoop {
    /// Reads the configuration, and the listings of an earlier run from `store` in the output directory.
    pub fn new(config: &Path, store: &Path) -> Result<Self, ConfigError> {
        let settings = Settings::load(config)?;
        let store = settings.config().top.output_dir.join(store);
        Ok(Self {
            settings,
            watcher: Watcher::default(),
            listings: Listings::load(&store),
            known_issues: LoadedIssues::default(),
            owners: PublishedOwners::default(),
        })
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        self.settings.config()
    }

    /// Runs one cycle. Waits at most `fetch_wait` for the remotes.
    pub async fn cycle_once(&mut self, fetch_wait: Duration) -> View {
        self.fetch_until(fetch_wait, Watcher::is_idle).await;
        self.view().await
    }

    /// Starts a cycle and waits until `enough` fetches have ended, but at most `fetch_wait`.
    async fn fetch_until(&mut self, fetch_wait: Duration, enough: impl Fn(&Watcher) -> bool) {
        self.settings.reload().await;
        let config = self.settings.config().clone();
        self.watcher.start(&config);
        let deadline = Instant::now() + fetch_wait;
        while !enough(&self.watcher)
            && let Ok(true) = tokio::time::timeout_at(deadline, self.watcher.next(&config, now)).await
        {
        }
    }

    async fn view(&mut self) -> View {
        let config = self.settings.config().clone();
        let suites = self.watcher.suites().clone();
        let sources = suites.values().map(|suite| suite.source.clone()).collect();
        self.listings.refresh(&config.top.ktest_dir, sources, &wanted(&config), now()).await;
        self.known_issues.refresh(&config.top.ktest_dir, now()).await;
        let tests = wanted(&config).into_iter().map(|(test, _)| test).collect();
        self.owners.refresh(&config.top.ktest_dir, &config.top.output_dir, tests).await;
        let mut problems = self.settings.problems().to_vec();
        problems.extend(self.owners.problems.iter().cloned());
        problems.extend(self.known_issues.problems.iter().cloned());
        problems.extend(self.listings.problems());
        let branches = self.watcher.branches();
        let legacy = |(name, branch): (&BranchRef, &FetchedBranch)| {
            Some(format!("branch {name}: {}", branch.legacy_error.as_ref()?))
        };
        problems.extend(branches.iter().filter_map(legacy));
        View {
            branches: self.watcher.branches().clone(),
            suites,
            listings: self.listings.all(),
            known_issues: Arc::clone(&self.known_issues.issues),
            complete: self.watcher.is_idle(),
            problems,
            config,
        }
    }

    /// Runs a cycle every `poll`, and immediately when `fetch_now` changes. Ends when a channel is closed.
    pub async fn run(mut self, views: mpsc::Sender<View>, mut fetch_now: watch::Receiver<()>) {
        loop {
            fetch_now.mark_unchanged();
            // Slow remotes are reported when they respond.
            self.fetch_until(FETCH_WAIT, Watcher::only_slow_left).await;
            let view = self.view().await;
            let config = view.config.clone();
            if views.send(view).await.is_err() {
                return;
            }
            let next = tokio::time::sleep(config.top.poll);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    changed = fetch_now.changed() => match changed {
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

/// The test files to list, each with the environments of the groups that contain it.
fn wanted(config: &Config) -> BTreeSet<ListedFile> {
    let groups = config.all_branches().flat_map(|branch| config.groups_of(branch));
    groups.flat_map(|group| group.tests.iter().map(|test| (test.clone(), group.env.clone()))).collect()
}

/// The path of the listings in the output directory.
#[must_use]
pub fn listing_store() -> PathBuf {
    Path::new(crate::WORK).join("listings.json")
}
