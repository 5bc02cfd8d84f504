//! The builds of the kernels of commits: which do not build, since when, and what broke and fixed them.
//!
//! A commit that does not build is one failure of the build, not a failure of each test: its tests have no verdict about the code.
//! The kernels of a commit are known from its tests: their keys name the kernel, their reasons the error.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{BuiltKernel, CommitId, Counts, ResultKey, Status, TestConfiguration, build_error};
use results::json::{BuildRow, FailedKernelRow};
use results::{BranchEntry, CommitResults, TestEntry};

use crate::branch_history::BranchHistory;
use crate::first_bad::Stretch;
use crate::{CommitStatuses, Names};

/// The maximum number of tests that are read one by one.
const READ_MAX: usize = 16;

/// The builds of the kernels of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitBuilds {
    kernels: BTreeMap<BuiltKernel, KernelBuild>,
    /// Whether a test ran.
    has_run: bool,
}

/// The build of one kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KernelBuild {
    tests: usize,
    has_run: bool,
    failure: Option<BuildFailure>,
}

/// A kernel that does not build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// The first error: `fs/ext4/acl.c:143:2: error: ...`.
    pub error: String,
    /// The number of tests that did not run because of it.
    pub tests: usize,
    /// One of these tests. Its artifacts have the log of the build.
    pub test: String,
}

/// The kernels of tests.
#[derive(Debug, Default)]
pub struct TestKernels {
    kernels: Vec<BuiltKernel>,
    /// The kernel of each test; `None` for one of the store.
    of_tests: Vec<Option<u32>>,
}

impl TestKernels {
    /// The kernels of the tests with these keys.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: HashMap<&str, Option<u32>> = HashMap::new();
        let mut numbers: HashMap<BuiltKernel, u32> = HashMap::new();
        let mut kernels = Vec::new();
        let of_key = |key: &'a str| {
            *known.entry(TestConfiguration::of_key(key).as_str()).or_insert_with(|| {
                let kernel = BuiltKernel::of_key(key)?;
                let next = u32::try_from(kernels.len()).ok()?;
                let number = *numbers.entry(kernel.clone()).or_insert(next);
                if number == next {
                    kernels.push(kernel);
                }
                Some(number)
            })
        };
        let of_tests = keys.into_iter().map(of_key).collect();
        Self { kernels, of_tests }
    }
}

/// The kernels of lists of tests. Most commits have the list of their neighbors.
#[derive(Debug, Default)]
pub struct KernelCache(Vec<(Names, Arc<TestKernels>)>);

impl KernelCache {
    /// The maximum number of lists.
    const MAX: usize = 16;

    /// The kernels of the tests with these names.
    pub fn of(&mut self, names: &Names) -> Arc<TestKernels> {
        if let Some((_, found)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, names)) {
            return Arc::clone(found);
        }
        let found = Arc::new(TestKernels::new(names.iter().map(|name| &**name)));
        self.0.truncate(Self::MAX - 1);
        self.0.insert(0, (Arc::clone(names), Arc::clone(&found)));
        found
    }
}

impl CommitBuilds {
    /// The builds of a commit with these tests. `reason` is called for those that failed to run.
    pub fn new<'a>(
        tests: impl IntoIterator<Item = (&'a str, Status)>,
        reason: impl FnMut(&str) -> Option<String>,
    ) -> Self {
        let tests: Vec<(&str, Status)> = tests.into_iter().collect();
        let kernels = TestKernels::new(tests.iter().map(|(key, _)| *key));
        Self::of_kernels(&kernels, tests, reason)
    }

    fn of_kernels<'a>(
        kernels: &TestKernels,
        tests: impl IntoIterator<Item = (&'a str, Status)>,
        mut reason: impl FnMut(&str) -> Option<String>,
    ) -> Self {
        let mut builds = Self::default();
        let mut of_kernels = vec![KernelBuild::default(); kernels.kernels.len()];
        for ((key, status), kernel) in tests.into_iter().zip(&kernels.of_tests) {
            // A running test has its kernel.
            let runs = status.is_judged() || status == Status::InProgress;
            builds.has_run |= runs;
            let Some(build) = kernel.and_then(|kernel| of_kernels.get_mut(kernel as usize)) else { continue };
            build.tests += 1;
            build.has_run |= runs;
            if status != Status::FailedToRun {
                continue;
            }
            let reason = reason(key).unwrap_or_default();
            let Some(error) = build_error(&reason) else { continue };
            let first = || BuildFailure { error: error.to_owned(), tests: 0, test: key.to_owned() };
            build.failure.get_or_insert_with(first).tests += 1;
        }
        builds.kernels = kernels.kernels.iter().cloned().zip(of_kernels).collect();
        builds
    }

    /// The same from columns. `entry` reads one test, `all` reads the whole commit; the cheaper one is called.
    pub fn of_columns(
        columns: &CommitStatuses,
        kernels: &TestKernels,
        entry: impl Fn(&ResultKey) -> Option<TestEntry>,
        all: impl FnOnce() -> Option<CommitResults>,
    ) -> Self {
        let failed = columns.statuses.iter().filter(|status| **status == Status::FailedToRun).count();
        let results = if failed > READ_MAX { all() } else { None };
        let tests = columns.names.iter().zip(columns.statuses.iter());
        Self::of_kernels(kernels, tests.map(|(name, status)| (&**name, *status)), |key| match &results {
            Some(results) => reason(results, key),
            None if failed > READ_MAX => None,
            None => entry(&key.parse().ok()?)?.decisive.reason,
        })
    }

    /// The kernels that do not build; those of the most tests first.
    #[must_use]
    pub fn failed(&self) -> Vec<(&BuiltKernel, &BuildFailure)> {
        let failed =
            self.kernels.iter().filter_map(|(kernel, build)| Some((kernel, build.failure.as_ref()?)));
        let mut failed: Vec<_> = failed.collect();
        failed.sort_by_key(|(_, failure)| std::cmp::Reverse(failure.tests));
        failed
    }

    /// The kernels that built or did not build, each with its failure.
    pub fn kernels(&self) -> impl Iterator<Item = (&BuiltKernel, Option<&BuildFailure>)> {
        let is_known = |build: &KernelBuild| build.has_run || build.failure.is_some();
        self.kernels
            .iter()
            .filter(move |(_, build)| is_known(build))
            .map(|(kernel, build)| (kernel, build.failure.as_ref()))
    }

    /// The failure of a kernel.
    #[must_use]
    pub fn failure(&self, kernel: &BuiltKernel) -> Option<&BuildFailure> {
        self.kernels.get(kernel)?.failure.as_ref()
    }

    /// Whether a kernel does not build.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.kernels.values().any(|build| build.failure.is_some())
    }

    /// The number of tests that did not run because a kernel does not build.
    #[must_use]
    pub fn tests_not_run(&self) -> usize {
        self.kernels.values().filter_map(|build| build.failure.as_ref()).map(|failure| failure.tests).sum()
    }

    /// Whether no test ran because nothing builds.
    #[must_use]
    pub fn is_total(&self) -> bool {
        !self.has_run && self.has_failed()
    }

    /// What does not build: `build`; `build of aarch64 kasan` if other kernels build; `build for 3 of 60 tests` if other tests of the
    /// same kernel ran. `None` if all kernels build.
    #[must_use]
    pub fn what(&self) -> Option<String> {
        let failed = self.failed();
        let (kernel, _) = failed.first()?;
        if self.is_total() {
            return Some("build".into());
        }
        let more = match failed.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let part = match self.part(kernel) {
            Part::Tests(words) => format!("for {words}"),
            Part::Kernel(name) if kernel.is_default() => format!("of the {name}"),
            Part::Kernel(name) => format!("of {name}"),
        };
        Some(format!("build {part}{more}"))
    }

    /// The part of a commit that needs this kernel, in words.
    fn part(&self, kernel: &BuiltKernel) -> Part {
        match self.kernels.get(kernel) {
            Some(KernelBuild { has_run: true, tests, failure: Some(failure) }) => {
                Part::Tests(format!("{} of {tests} tests", failure.tests))
            }
            _ if kernel.is_default() => Part::Kernel("default kernel".into()),
            _ => Part::Kernel(kernel.to_string()),
        }
    }
}

/// A part of the tests of a commit.
enum Part {
    /// `3 of 60 tests`: these have another kernel of the same flavor.
    Tests(String),
    /// The name of a kernel.
    Kernel(String),
}

/// Kernels of a commit that do not build because of the same error, since the same commit. If nothing builds, that of the kernel with the
/// most tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedKernels {
    /// The kernels.
    pub kernels: Vec<BuiltKernel>,
    /// Which part of the commit does not build: `kasan`, `3 of 60 tests`. Empty if nothing builds.
    pub part: String,
    /// The failure, with the tests of all these kernels.
    pub failure: BuildFailure,
    /// The commits at which the kernels do not build.
    pub stretch: Stretch,
}

impl From<&CommitBuilds> for BuildRow {
    fn from(builds: &CommitBuilds) -> Self {
        let row = |(kernel, failure): (&BuiltKernel, &BuildFailure)| FailedKernelRow {
            kernel: kernel.clone(),
            error: failure.error.clone(),
            tests: failure.tests,
            test: failure.test.clone(),
            first_bad: None,
            last_good: None,
        };
        Self {
            what: builds.what(),
            failed: builds.failed().into_iter().map(row).collect(),
            ..Self::default()
        }
    }
}

/// What a commit means for the build, in words: `broke the build`, `build of kasan failed`, `fixed the build`.
#[must_use]
pub fn words(row: &BuildRow) -> Option<String> {
    let kernels: Vec<String> =
        row.fixed.iter().map(ToString::to_string).filter(|name| !name.is_empty()).collect();
    match (&row.what, row.broke.is_empty()) {
        (Some(what), false) => Some(format!("broke the {what}")),
        (Some(what), true) => Some(format!("{what} failed")),
        (None, _) if row.fixed.is_empty() => None,
        (None, _) if kernels.len() < row.fixed.len() => Some("fixed the build".into()),
        (None, _) => Some(format!("fixed the build of {}", kernels.join(", "))),
    }
}

/// The counts without the tests that did not run because a kernel does not build.
#[must_use]
pub fn other_counts(counts: &Counts, row: &BuildRow) -> Counts {
    let not_run = row.failed.iter().map(|failed| failed.tests).sum::<usize>();
    let not_run = u32::try_from(not_run).unwrap_or(u32::MAX);
    Counts { failed_to_run: counts.failed_to_run.saturating_sub(not_run), ..*counts }
}

/// The builds of a commit as JSON; `None` if all its kernels build.
#[must_use]
pub fn view(results: &CommitResults) -> Option<BuildRow> {
    let builds = CommitBuilds::from(results);
    builds.has_failed().then(|| BuildRow::from(&builds))
}

impl From<&CommitResults> for CommitBuilds {
    fn from(results: &CommitResults) -> Self {
        let tests = results.entries.iter().map(|entry| (entry.key.as_str(), entry.status()));
        Self::new(tests, |key| reason(results, key))
    }
}

fn reason(results: &CommitResults, key: &str) -> Option<String> {
    results.get(&key.parse().ok()?)?.decisive.reason.clone()
}

/// Whether a test did not run because its kernel does not build.
#[must_use]
pub fn is_unbuilt(entry: &TestEntry) -> bool {
    entry.status() == Status::FailedToRun
        && entry.decisive.reason.as_deref().is_some_and(|reason| build_error(reason).is_some())
}

/// What a commit changed for the builds of its kernels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildChange {
    /// The kernels that do not build, and did at the last older commit at which they were built.
    pub broke: Vec<BuiltKernel>,
    /// The kernels that build, and did not before.
    pub fixed: Vec<BuiltKernel>,
    /// The kernels that do not build, for which no older commit shows that they did.
    pub unknown: Vec<BuiltKernel>,
}

/// The builds along a branch. Rows are numbered from the newest commit, which is row 0.
#[derive(Default)]
pub struct BuildHistory {
    commits: Vec<Option<Arc<CommitBuilds>>>,
    /// The kernels as tests that pass where they build; empty if all build everywhere.
    history: BranchHistory,
    kernels: Vec<BuiltKernel>,
}

impl BuildHistory {
    /// The history of a listing, newest first. `builds` reads the builds of a commit. If all kernels build everywhere, only commits
    /// with tests that failed to run are read.
    pub fn of_listing(
        entries: &[BranchEntry],
        mut builds: impl FnMut(&CommitId) -> Option<Arc<CommitBuilds>>,
    ) -> Self {
        let suspected = entries.iter().filter(|entry| entry.counts.failed_to_run > 0);
        if !suspected
            .map(|entry| builds(&entry.commit))
            .any(|builds| builds.is_some_and(|builds| builds.has_failed()))
        {
            return Self::default();
        }
        Self::new(
            entries
                .iter()
                .map(|entry| (entry.counts.total() > 0).then(|| builds(&entry.commit)).flatten())
                .collect(),
        )
    }

    /// The history of commits listed newest first. `None` is a commit without results.
    #[must_use]
    pub fn new(newest_first: Vec<Option<Arc<CommitBuilds>>>) -> Self {
        if !newest_first.iter().flatten().any(|builds| builds.has_failed()) {
            return Self { commits: newest_first, ..Self::default() };
        }
        let kernels: BTreeSet<&BuiltKernel> =
            newest_first.iter().flatten().flat_map(|builds| builds.kernels.keys()).collect();
        let kernels: Vec<BuiltKernel> = kernels.into_iter().cloned().collect();
        // As numbers: only their order matters.
        let names: Names = (0..kernels.len()).map(|at| format!("{at:08}").into_boxed_str()).collect();
        let statuses = |builds: &Arc<CommitBuilds>| {
            let status = |kernel| match builds.kernels.get(kernel) {
                Some(KernelBuild { failure: Some(_), .. }) => Status::Failed,
                Some(KernelBuild { has_run: true, .. }) => Status::Passed,
                _ => Status::Unknown,
            };
            CommitStatuses { names: Arc::clone(&names), statuses: kernels.iter().map(status).collect() }
        };
        let history = BranchHistory::new(newest_first.iter().map(|builds| builds.as_ref().map(statuses)));
        Self { history, kernels, commits: newest_first }
    }

    /// The builds of a commit; `None` without results, and if all kernels of the branch build everywhere.
    #[must_use]
    pub fn at(&self, row: usize) -> Option<&CommitBuilds> {
        self.commits.get(row)?.as_deref()
    }

    /// What a commit changed.
    #[must_use]
    pub fn change(&self, row: usize) -> BuildChange {
        let Some(delta) = self.history.delta(row) else { return BuildChange::default() };
        let named = |ids: &[u32]| ids.iter().filter_map(|id| self.kernel(*id).cloned()).collect();
        let is_oldest = |stretch: &Stretch| stretch.first_bad == row && stretch.last_good.is_none();
        let unknown = self.history.failures().iter().filter(|failure| is_oldest(&failure.stretch));
        let unknown: Vec<u32> = unknown.map(|failure| failure.test).collect();
        BuildChange { broke: named(&delta.broke), fixed: named(&delta.fixed), unknown: named(&unknown) }
    }

    /// The number of tests that can run again because this commit fixed the build of their kernel.
    #[must_use]
    pub fn tests_resumed(&self, row: usize) -> usize {
        let before = |kernel| (row + 1..self.commits.len()).find_map(|row| self.at(row)?.failure(kernel));
        self.change(row).fixed.iter().filter_map(before).map(|failure| failure.tests).sum()
    }

    /// What does not build at a row: the most tests first.
    #[must_use]
    pub fn failed(&self, row: usize) -> Vec<FailedKernels> {
        let Some(builds) = self.at(row) else { return Vec::new() };
        let mut groups: Vec<FailedKernels> = Vec::new();
        for (kernel, failure) in builds.failed() {
            let Some(stretch) = self.stretch(kernel, row) else { continue };
            let (Part::Tests(part) | Part::Kernel(part)) = builds.part(kernel);
            // If nothing builds, it does not matter which kernels did not build before.
            let is_alike = |group: &&mut FailedKernels| {
                let same_commit = builds.is_total() || group.stretch.first_bad == stretch.first_bad;
                group.failure.error == failure.error && same_commit
            };
            if let Some(group) = groups.iter_mut().find(is_alike) {
                group.kernels.push(kernel.clone());
                group.part.push_str(&format!(", {part}"));
                group.failure.tests += failure.tests;
            } else {
                let (kernels, failure) = (vec![kernel.clone()], failure.clone());
                groups.push(FailedKernels { kernels, part, failure, stretch });
            }
        }
        if let ([group], true) = (&mut groups[..], builds.is_total()) {
            group.part.clear();
        }
        groups
    }

    /// The stretch of commits around a row at which a kernel does not build.
    #[must_use]
    pub fn stretch(&self, kernel: &BuiltKernel, row: usize) -> Option<Stretch> {
        let of = |stretch: &Stretch| (stretch.last_bad..=stretch.first_bad).contains(&row);
        let failures = self.history.failures().iter();
        failures
            .filter(|failure| self.kernel(failure.test) == Some(kernel))
            .map(|failure| failure.stretch)
            .find(of)
    }

    /// The kernels that do not build at the newest commit at which they were built, each with the commits at which it fails.
    pub fn failing_now(&self) -> impl Iterator<Item = (&BuiltKernel, Stretch)> {
        let failing = self.history.failures().iter().filter(|failure| failure.stretch.still_fails());
        failing.filter_map(|failure| Some((self.kernel(failure.test)?, failure.stretch)))
    }

    /// The builds of a commit as JSON, with what it changed; `None` if all its kernels build, and did before.
    #[must_use]
    pub fn row(&self, row: usize, entries: &[BranchEntry]) -> Option<BuildRow> {
        let (builds, change) = (self.at(row)?, self.change(row));
        let commit = |row: usize| Some(entries.get(row)?.commit.clone());
        let mut view = BuildRow::from(builds);
        for failed in &mut view.failed {
            let stretch = self.stretch(&failed.kernel, row);
            failed.first_bad = stretch.and_then(|stretch| commit(stretch.first_bad));
            failed.last_good = stretch.and_then(|stretch| commit(stretch.last_good?));
        }
        let view = BuildRow { broke: change.broke, fixed: change.fixed, ..view };
        (view != BuildRow::default()).then_some(view)
    }

    fn kernel(&self, id: u32) -> Option<&BuiltKernel> {
        let at: usize = self.history.name(id).parse().ok()?;
        self.kernels.get(at)
    }
}

#[cfg(test)]
mod tests;
