//! An on-disk cache of `deps` results, keyed by everything that a result depends on: the file, the shell libraries of
//! its tree, and the environment of the call.
//!
//! An entry is never stale: a change of any script in the tree changes the key.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fsx::digest::Hasher;
use fsx::own;
use fsx::publish::{self, Durability};

use crate::clones::BUILT;
use crate::declare::Variables;
use crate::{HostEnv, TestFile};

/// Part of every key; increase it when the evaluation changes.
const VERSION: &str = "1";
/// Entries that have not been used for this time are removed.
const MAX_AGE: Duration = Duration::from_secs(30 * 86_400);

/// The maximum size of an entry, and of a test file that gets an entry, in bytes.
const MAX_ENTRY: u64 = 16 << 20;
const MAX_TEST_FILE: u64 = 16 << 20;

/// The cache directory.
pub(crate) struct DepsCache {
    dir: PathBuf,
}

impl DepsCache {
    pub(crate) fn of(cache: &Path) -> Self {
        Self { dir: cache.join("declarations") }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Variables> {
        let path = self.dir.join(key);
        let variables = serde_json::from_slice(&own::read(&path, MAX_ENTRY).ok()?).ok()?;
        let touched =
            own::open(&path).map_err(Into::into).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!("{}: {error}", path.display());
        }
        Some(variables)
    }

    /// Stores an entry. A failure is ignored, because the next call evaluates the file again.
    pub(crate) fn put(&self, key: &str, variables: &Variables) {
        let store = || -> std::io::Result<()> {
            own::create_dir_all(&self.dir)?;
            self.sweep();
            publish::file(&self.dir.join(key), serde_json::to_vec(variables)?, Durability::Cached)?;
            Ok(())
        };
        if let Err(error) = store() {
            tracing::debug!("{}: {error}", self.dir.display());
        }
    }

    fn sweep(&self) {
        for entry in own::list(&self.dir).unwrap_or_default() {
            let modified = own::metadata(&entry.path).map_err(Into::into).and_then(|meta| meta.modified());
            if modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAX_AGE)) {
                let _ = own::remove_file(&entry.path);
            }
        }
    }
}

/// The `ktest_*` variables of this process, sorted: test files inherit them.
#[must_use]
pub fn inherited_variables() -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> =
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ktest_")).collect();
    variables.sort();
    variables
}

/// The names of the clones in the directory of the clones.
#[must_use]
pub fn clones_in(deps_dir: &Path) -> Vec<OsString> {
    let entries = own::list(deps_dir).unwrap_or_default().into_iter();
    entries.filter(|entry| entry.name != BUILT && entry.path.is_dir()).map(|entry| entry.name).collect()
}

impl TestFile {
    /// A hash over the file and what it can read in its tree: everything except other test files, which it does not
    /// source. `None` if the tree has too many files to read them all.
    pub fn content(&self) -> Result<Option<String>, fsx::Error> {
        let mut hash = Hasher::new();
        hash.field(fsx::digest::file(&self.path)?);
        let mut files = Vec::new();
        for place in PLACES {
            if !scripts(&self.ktest_dir.join(place), &mut |path, _| files.push(path.to_path_buf())) {
                return Ok(None);
            }
        }
        files.sort();
        for path in files {
            hash.field(path.strip_prefix(&self.ktest_dir).unwrap_or(&path).as_os_str().as_encoded_bytes());
            hash.field(fsx::digest::file(&path)?);
        }
        Ok(Some(hash.finish_hex()))
    }
}

/// The hash of everything that a result depends on; `None` if the file cannot be read.
pub(crate) fn key(file: &TestFile, env: &HostEnv) -> Option<String> {
    let mut hash = Hasher::new();
    let mut add = |text: &[u8]| hash.field(text);
    add(VERSION.as_bytes());
    add(&own::read(&file.path, MAX_TEST_FILE).ok()?);
    // The output directory is not part of the key: each slot of a host has its own.
    for text in [&file.path, &file.ktest_dir, &env.deps_dir] {
        add(text.as_os_str().as_encoded_bytes());
    }
    add(env.arch.map_or("", model::Arch::as_str).as_bytes());
    add(&[u8::from(env.sandboxed)]);
    add(env.kernel_version.as_bytes());
    for (name, value) in &env.env {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    for suite in &env.suites {
        add(suite.key().as_bytes());
    }
    // The caller's variables configure test files too: a flavor, the location of a suite's source.
    let inherited: Vec<_> = inherited_variables()
        .into_iter()
        .map(|(name, value)| [name.into_encoded_bytes(), value.into_encoded_bytes()].join(&b'='))
        .collect();
    // The clones of `require-git`: a file may declare more if the source of a suite is present.
    let mut cloned: Vec<_> =
        own::list(&env.deps_dir).unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    cloned.retain(|name| name != BUILT);
    cloned.sort();
    for text in inherited.into_iter().chain(cloned.into_iter().map(OsString::into_encoded_bytes)) {
        add(&text);
    }
    let mut stamps = Vec::new();
    for place in PLACES {
        scripts(&file.ktest_dir.join(place), &mut |path, meta| {
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            stamps.push(format!("{} {} {} {times:?}", path.display(), meta.ino(), meta.len()));
        });
    }
    stamps.sort();
    for stamp in &stamps {
        add(stamp.as_bytes());
    }
    Some(hash.finish_hex())
}

/// The maximum depth and number of files for which a tree is searched for scripts; a larger tree contains data.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 20_000;

/// Where a tree has what a test file can read.
const PLACES: [&str; 3] = ["tests", "lib", "cross.conf"];

/// Calls `found` with every file that is not a test file: test files do not source each other. Returns false if the tree is
/// too large, and some files were left out.
fn scripts(root: &Path, found: &mut impl FnMut(&Path, &Metadata)) -> bool {
    let mut stack = vec![(root.to_path_buf(), 0)];
    let (mut files, mut is_complete) = (0, true);
    while let Some((path, depth)) = stack.pop() {
        // Follows links: a change of the target changes the stamp.
        let Ok(meta) = own::metadata(&path) else { continue };
        if meta.is_dir() {
            if depth == MAX_DEPTH {
                is_complete = false;
                continue;
            }
            let entries = own::list(&path).unwrap_or_default().into_iter();
            stack.extend(entries.filter(|entry| entry.name != ".git").map(|entry| (entry.path, depth + 1)));
        } else if meta.is_file() && path.extension().is_none_or(|extension| extension != "ktest") {
            if files == MAX_FILES {
                return false;
            }
            files += 1;
            found(&path, &meta);
        }
    }
    is_complete
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tests::tree;

    #[tokio::test]
    async fn a_file_is_evaluated_once_until_something_changes() {
        // The file counts its calls in a file next to the scripts of its tree.
        let (dir, path) = tree(
            r#"echo x >>"${BASH_SOURCE%/tests/*}/calls"; . "${BASH_SOURCE%/*}/../lib.sh"; echo "ktest_mem=$mem""#,
        );
        let lib = dir.path().join("tests/lib.sh");
        fs::write(&lib, "mem=64\n").unwrap();
        let file = TestFile::find(&path, None).unwrap();
        let cache = dir.path().join("cache");
        let calls = || fs::read_to_string(dir.path().join("calls")).unwrap_or_default().lines().count();
        let mut env = HostEnv::default();
        for _ in 0..2 {
            assert_eq!(file.deps_cached(&env, &cache).await.unwrap().mem_mib, 64);
        }
        assert_eq!(calls(), 1);
        fs::write(&lib, "mem=128\n").unwrap();
        assert_eq!(file.deps_cached(&env, &cache).await.unwrap().mem_mib, 128);
        assert_eq!(calls(), 2);
        env.kernel_version = "6.1".into();
        file.deps_cached(&env, &cache).await.unwrap();
        assert_eq!(calls(), 3);
        // A run always evaluates the file.
        file.deps(&[], &env).await.unwrap();
        assert_eq!(calls(), 4);
        env.deps_dir = dir.path().join("deps");
        file.deps_cached(&env, &cache).await.unwrap();
        fs::create_dir_all(env.deps_dir.join("tool")).unwrap();
        file.deps_cached(&env, &cache).await.unwrap();
        assert_eq!(calls(), 6);
        // A damaged entry is ignored.
        for entry in fs::read_dir(cache.join("declarations")).unwrap() {
            fs::write(entry.unwrap().path(), "{").unwrap();
        }
        assert_eq!(file.deps_cached(&env, &cache).await.unwrap().mem_mib, 128);
        assert_eq!(calls(), 7);
    }
}
