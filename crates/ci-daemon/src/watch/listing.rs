//! The subtests of each test file, as printed by `FILE list-tests`; cached by content.
//!
//! A file is listed again only if it, a file of the shell libraries, or the source of a suite on this host has changed. A
//! file that cannot be listed has no subtests and a problem to report; it is retried later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fsx::digest::Hasher;
use model::{Env, SubtestName, TestPath};
use serde::{Deserialize, Serialize};
use testfile::suites::SuiteSource;
use testfile::{HostEnv, TestFile, TestFileError, clones};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The maximum number of files that are listed at the same time.
const LISTINGS_MAX: usize = 4;
/// The time in seconds after which an unchanged file that cannot be listed is retried.
const RETRY_S: i64 = 600;
/// The maximum number of library files that are hashed.
const LIBRARY_FILES: usize = 5000;
const LIBRARY_BYTES: u64 = 1 << 20;
/// The maximum size of a test file, in bytes.
const TEST_FILE_MAX: u64 = 1 << 20;
const STORE_MAX: u64 = 256 << 20;

/// What is listed: a test file in the environment of its group.
pub type ListedFile = (TestPath, Env);

/// Why a file cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It does not exist or cannot be read.
    #[error("{file}: {reason}; correct tests = [...] of its group or ktest_dir")]
    Unreadable {
        /// The file, as a path.
        file: String,
        /// The error of the operating system.
        reason: String,
    },
    /// `list-tests` failed, or its output is not a list of subtests.
    #[error("{0}")]
    Failed(String),
    /// It lists no subtests.
    #[error("{0}: it lists no subtests")]
    Empty(String),
}

/// Runs `FILE list-tests`.
async fn list_tests(
    ktest_dir: &Path,
    suites: Vec<SuiteSource>,
    (test, env): &ListedFile,
) -> Result<Vec<SubtestName>, ListError> {
    let failed = |error: TestFileError| ListError::Failed(error.to_string());
    let file = TestFile::find(Path::new(&test.file()), Some(ktest_dir)).map_err(failed)?;
    let env = env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let env = HostEnv::for_listing(env, suites).map_err(|error| ListError::Failed(error.to_string()))?;
    let subtests = file.list_tests(&env).await.map_err(failed)?;
    if subtests.is_empty() { Err(ListError::Empty(file.path.display().to_string())) } else { Ok(subtests) }
}

/// The known listings, stored in a file between runs of the daemon.
#[derive(Debug, Default)]
pub struct Listings {
    store: Option<PathBuf>,
    known: HashMap<ListedFile, ListingEntry>,
}

#[derive(Debug, Clone)]
struct ListingEntry {
    digest: String,
    state: Result<Arc<[SubtestName]>, Failure>,
}

#[derive(Debug, Clone)]
struct Failure {
    error: ListError,
    /// When, Unix seconds.
    at: i64,
}

/// One listing in the file.
#[derive(Debug, Serialize, Deserialize)]
struct StoredListing {
    test: TestPath,
    #[serde(default, skip_serializing_if = "Env::is_empty")]
    env: Env,
    digest: String,
    subtests: Vec<SubtestName>,
}

impl Listings {
    /// Reads the listings of an earlier run from `store`. If the file is missing or damaged, there are none.
    #[must_use]
    pub fn load(store: &Path) -> Self {
        let bytes = fsx::own::read(store, STORE_MAX).unwrap_or_else(|_| b"[]".to_vec());
        let stored: Vec<StoredListing> = match serde_json::from_slice(&bytes) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!("{}: {error}; all test files are listed again", store.display());
                Vec::new()
            }
        };
        let known = |stored: StoredListing| {
            let state = Ok(stored.subtests.into());
            ((stored.test, stored.env), ListingEntry { digest: stored.digest, state })
        };
        Self { store: Some(store.into()), known: stored.into_iter().map(known).collect() }
    }

    /// Lists the files that are new, changed, or due for a retry, and drops all that are not `wanted`. `now` is in Unix
    /// seconds.
    pub async fn refresh(
        &mut self,
        ktest_dir: &Path,
        suites: Vec<SuiteSource>,
        wanted: &BTreeSet<ListedFile>,
        now: i64,
    ) {
        let (dir, files) = (ktest_dir.to_path_buf(), wanted.clone());
        let fetched: Vec<String> = suites.iter().map(SuiteSource::key).collect();
        let read = move || digests(&dir, &files, &[fetched, clones::placed_versions()].concat());
        let digests = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let had = self.known.len();
        self.known.retain(|listed, _| wanted.contains(listed));
        let mut changed = self.known.len() != had;
        let permits = Arc::new(Semaphore::new(LISTINGS_MAX));
        let mut runs = JoinSet::new();
        for (listed, digest) in digests {
            let digest = match digest {
                Ok(digest) => digest,
                Err(error) => {
                    let file = ktest_dir.join("tests").join(listed.0.file()).display().to_string();
                    let error = ListError::Unreadable { file, reason: error };
                    let state = Err(Failure { error, at: now });
                    self.known.insert(listed, ListingEntry { digest: String::new(), state });
                    continue;
                }
            };
            if self.known.get(&listed).is_some_and(|known| known.digest == digest && !known.is_due(now)) {
                continue;
            }
            let (permits, dir, suites) = (permits.clone(), ktest_dir.to_path_buf(), suites.clone());
            runs.spawn(async move {
                let _permit = permits.acquire().await;
                let state = list_tests(&dir, suites, &listed).await;
                (listed, digest, state)
            });
        }
        while let Some(joined) = runs.join_next().await {
            let Ok((listed, digest, state)) = joined else { continue };
            if let Err(error) = &state {
                tracing::warn!(test = %listed.0, "{error}");
            }
            changed |= state.is_ok();
            let state = state.map(Arc::from).map_err(|error| Failure { error, at: now });
            self.known.insert(listed, ListingEntry { digest, state });
        }
        if changed && let Err(error) = self.save() {
            tracing::warn!("the listings cannot be saved: {error}");
        }
    }

    fn save(&self) -> io::Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut stored: Vec<StoredListing> = self
            .known
            .iter()
            .filter_map(|((test, env), known)| {
                let subtests = known.state.as_ref().ok()?.to_vec();
                Some(StoredListing {
                    test: test.clone(),
                    env: env.clone(),
                    digest: known.digest.clone(),
                    subtests,
                })
            })
            .collect();
        stored.sort_by(|a, b| (&a.test, &a.env).cmp(&(&b.test, &b.env)));
        if let Some(dir) = store.parent() {
            fsx::own::create_dir_all(dir)?;
        }
        fsx::publish::file(store, serde_json::to_vec(&stored)?, fsx::publish::Durability::Cached)?;
        Ok(())
    }

    /// The listings, for the planner.
    #[must_use]
    pub fn all(&self) -> HashMap<ListedFile, Arc<[SubtestName]>> {
        let good = |(listed, known): (&ListedFile, &ListingEntry)| {
            Some((listed.clone(), known.state.as_ref().ok()?.clone()))
        };
        self.known.iter().filter_map(good).collect()
    }

    /// The errors of the files that cannot be listed, sorted.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let bad = |known: &ListingEntry| known.state.as_ref().err().map(|failure| failure.error.to_string());
        self.known.values().filter_map(bad).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl ListingEntry {
    fn is_due(&self, now: i64) -> bool {
        self.state
            .as_ref()
            .is_err_and(|failure| now.saturating_sub(failure.at) >= RETRY_S || now < failure.at)
    }
}

/// The digest of each file together with the libraries and the versions of the suites.
fn digests(
    ktest_dir: &Path,
    wanted: &BTreeSet<ListedFile>,
    suites: &[String],
) -> Vec<(ListedFile, Result<String, String>)> {
    let mut hash = Hasher::new();
    hash.update(library(ktest_dir));
    for suite in suites {
        hash.field(suite.as_bytes());
    }
    let shared = hash.finish();
    let mut files: BTreeMap<&TestPath, Result<String, String>> = BTreeMap::new();
    for (test, _) in wanted {
        files.entry(test).or_insert_with(|| {
            let bytes = fsx::own::read(&ktest_dir.join("tests").join(test.file()), TEST_FILE_MAX)
                .map_err(|error| error.source.to_string())?;
            let mut hash = Hasher::new();
            hash.update(shared);
            hash.update(bytes);
            Ok(hash.finish_hex())
        });
    }
    wanted.iter().map(|listed| (listed.clone(), files[&listed.0].clone())).collect()
}

/// A hash of all files that a test file may source: those in `tests/` and `lib/` that are not test files.
fn library(ktest_dir: &Path) -> [u8; 32] {
    let mut hash = Hasher::new();
    for below in ["tests", "lib"] {
        let files = walkdir::WalkDir::new(ktest_dir.join(below)).sort_by_file_name().into_iter();
        let files = files.filter_entry(|entry| entry.depth() == 0 || !hidden(entry));
        for entry in files.filter_map(Result::ok).take(LIBRARY_FILES) {
            let small = entry.metadata().is_ok_and(|data| data.is_file() && data.len() <= LIBRARY_BYTES);
            if small && entry.path().extension().is_none_or(|ending| ending != "ktest") {
                hash.update(entry.path().as_os_str().as_encoded_bytes());
                hash.update(fsx::own::read(entry.path(), LIBRARY_BYTES).unwrap_or_default());
            }
        }
    }
    hash.finish()
}

fn hidden(entry: &walkdir::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn wanted(names: &[&str]) -> BTreeSet<ListedFile> {
        names.iter().map(|name| (name.parse().unwrap(), Env::default())).collect()
    }

    fn shown(listings: &Listings) -> Vec<String> {
        let all = listings.all().into_iter().map(|((test, _), subtests)| format!("{test}: {subtests:?}"));
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    #[tokio::test]
    async fn list_tests_runs_in_the_sandbox() {
        if sandbox::probe().await.is_err() {
            eprintln!("skipped: list_tests_runs_in_the_sandbox: bubblewrap does not work here");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let (dir, secret) = (temp.path().join("kt"), temp.path().join("secret"));
        std::fs::write(&secret, "x").unwrap();
        let script = format!(
            "#!/bin/bash\n[[ -e {secret} ]] && echo saw.the.secret\n(: >$ktest_dir/x) 2>/dev/null && echo wrote.the.tree\n\
             kill -0 {pid} 2>/dev/null && echo saw.us\n[[ -n ${{CARGO_MANIFEST_DIR-}} ]] && echo saw.the.environment\n\
             : >/tmp/x && echo ok\n",
            secret = secret.display(),
            pid = std::process::id(),
        );
        write(&dir, "tests/t/nosy.ktest", &script);
        let mut listings = Listings::default();
        listings.refresh(&dir, Vec::new(), &wanted(&["t/nosy"]), 0).await;
        assert_eq!(shown(&listings), [r#"t/nosy: ["ok"]"#], "{:?}", listings.problems());
    }

    #[tokio::test]
    async fn a_file_is_listed_once_per_content_and_its_problems_are_reported() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        // Every call prints a different list.
        let script =
            "#!/bin/bash\n. $ktest_dir/tests/lib.sh\n[[ $1 = list-tests ]] && echo $names s$RANDOM$RANDOM\n";
        write(dir, "tests/lib.sh", "names='a b/c a'");
        write(dir, "tests/t/good.ktest", script);
        write(dir, "tests/t/bad.ktest", "#!/bin/bash\necho no such luck >&2\nexit 3\n");
        write(dir, "tests/t/none.ktest", "#!/bin/bash\n");
        write(dir, "tests/t/rubbish.ktest", "#!/bin/bash\necho --help\n");
        let store = dir.join("work/listings.json");
        let all = wanted(&["t/good", "t/bad", "t/none", "t/rubbish", "t/gone"]);
        let mut listings = Listings::load(&store);
        listings.refresh(dir, Vec::new(), &all, 0).await;
        let first = shown(&listings);
        assert!(first.len() == 1 && first[0].starts_with(r#"t/good: ["a", "b/c", "s"#), "{first:?}");
        let problems = listings.problems().join("\n").replace(&dir.display().to_string(), "DIR");
        insta::assert_snapshot!(problems, @r#"
        DIR/tests/t/bad.ktest list-tests: exit code 3: no such luck
        DIR/tests/t/gone.ktest: No such file or directory (os error 2); correct tests = [...] of its group or ktest_dir
        DIR/tests/t/none.ktest: it lists no subtests
        DIR/tests/t/rubbish.ktest list-tests: "--help" is not a subtest: it must not begin with -, . or / or have a part ..
        "#);
        // Neither this process nor the next one lists the file again.
        listings.refresh(dir, Vec::new(), &all, 5).await;
        let mut listings = Listings::load(&store);
        listings.refresh(dir, Vec::new(), &wanted(&["t/good"]), 6).await;
        assert_eq!(shown(&listings), first);
        // A changed library changes the listing.
        write(dir, "tests/lib.sh", "names='z'");
        listings.refresh(dir, Vec::new(), &wanted(&["t/good"]), 7).await;
        let second = shown(&listings);
        assert!(second.len() == 1 && second[0].starts_with(r#"t/good: ["z", "s"#), "{second:?}");
        assert!(listings.problems().is_empty());
    }

    #[test]
    fn a_file_is_listed_again_when_a_suite_changes() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), "tests/t/a.ktest", "");
        let digest = |suites: &[&str]| {
            let suites: Vec<String> = suites.iter().map(|suite| (*suite).to_owned()).collect();
            digests(temp.path(), &wanted(&["t/a"]), &suites).remove(0).1.unwrap()
        };
        let digests = [digest(&[]), digest(&["xfstests 1"]), digest(&["xfstests 2"])];
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[2] != digests[0]);
        assert_eq!(digests[1], digest(&["xfstests 1"]));
    }

    #[test]
    fn a_file_that_failed_is_retried_later() {
        let error = ListError::Failed(String::new());
        let known = ListingEntry { digest: String::new(), state: Err(Failure { error, at: 1000 }) };
        assert_eq!([1000, 1599, 1600, 900].map(|now| known.is_due(now)), [false, false, true, true]);
    }
}
