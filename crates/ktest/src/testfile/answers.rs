//! What `deps` answered, kept on disk by what the answer depends on: the file, the shell libraries of its tree, the
//! environment it was asked in.
//!
//! A kept answer is never wrong for want of looking: whatever of the tree's scripts changed, the key is another.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::{HostEnv, TestFile};
use crate::declare::Variables;

/// Raised when the answers are evaluated in another way.
const VERSION: &str = "1";
/// Answers that nobody asked for so long are removed.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// The folder of the answers.
pub(super) struct Answers {
    dir: PathBuf,
}

impl Answers {
    pub(super) fn of(cache: &Path) -> Self {
        Self { dir: cache.join("answers") }
    }

    pub(super) fn find(&self, key: &str) -> Option<Variables> {
        let path = self.dir.join(key);
        let variables = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let used = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = used {
            tracing::debug!("{}: {error}", path.display());
        }
        Some(variables)
    }

    /// Keeps an answer, if that is possible: without it the next one is slower, no more.
    pub(super) fn keep(&self, key: &str, variables: &Variables) {
        let kept = || -> std::io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            self.sweep();
            let new = tempfile::NamedTempFile::new_in(&self.dir)?;
            serde_json::to_writer(&new, variables)?;
            new.persist(self.dir.join(key)).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = kept() {
            tracing::debug!("{}: {error}", self.dir.display());
        }
    }

    fn sweep(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            if modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEEP)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What an answer depends on, as a hash; `None` if the file cannot be read.
pub(super) fn key(file: &TestFile, env: &HostEnv) -> Option<String> {
    let mut hash = Sha256::new();
    let mut add = |text: &[u8]| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(VERSION.as_bytes());
    add(&fs::read(&file.path).ok()?);
    // Not the output folder: each slot of a host has its own.
    for text in [&file.path, &file.ktest_dir, &env.deps_dir] {
        add(text.as_os_str().as_encoded_bytes());
    }
    add(env.arch.map_or("", model::Arch::as_str).as_bytes());
    add(&[u8::from(env.confined)]);
    add(env.kernel_version.as_bytes());
    for (name, value) in &env.env {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    // What the caller's own environment tells a test file: a flavor, where a suite's source is.
    let mut told: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ktest_"))
        .map(|(name, value)| [name.into_encoded_bytes(), value.into_encoded_bytes()].join(&b'='))
        .collect();
    told.sort();
    // What lies in the folder of `require-git`: with a suite's source there, a file asks for more.
    let mut cloned: Vec<_> =
        fs::read_dir(&env.deps_dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    cloned.sort();
    for text in told.into_iter().chain(cloned.into_iter().map(OsString::into_encoded_bytes)) {
        add(&text);
    }
    let mut stamps = Vec::new();
    for place in ["tests", "lib", "cross.conf"] {
        scripts(&file.ktest_dir.join(place), &mut stamps);
    }
    stamps.sort();
    for stamp in &stamps {
        add(stamp.as_bytes());
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How deep scripts are looked for, and how many: a tree that is larger is somebody's data.
const DEPTH: usize = 8;
const MOST: usize = 20_000;

/// Every file that is no test file, by what changes when it is written. Test files do not source each other.
fn scripts(place: &Path, stamps: &mut Vec<String>) {
    let mut stack = vec![(place.to_path_buf(), 0)];
    while let Some((path, depth)) = stack.pop() {
        // A link counts as what it leads to.
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() && depth < DEPTH {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            stack.extend(
                entries.filter(|entry| entry.file_name() != ".git").map(|entry| (entry.path(), depth + 1)),
            );
        } else if meta.is_file()
            && path.extension().is_none_or(|ending| ending != "ktest")
            && stamps.len() < MOST
        {
            let time = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            stamps.push(format!("{} {} {} {time:?}", path.display(), meta.ino(), meta.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[tokio::test]
    async fn an_answer_is_asked_for_once_until_something_changes() {
        // The file counts its calls in a folder beside its tree's scripts.
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
        // Who runs the file has it evaluated.
        file.deps(&[], &env).await.unwrap();
        assert_eq!(calls(), 4);
        env.deps_dir = dir.path().join("deps");
        file.deps_cached(&env, &cache).await.unwrap();
        fs::create_dir_all(env.deps_dir.join("tool")).unwrap();
        file.deps_cached(&env, &cache).await.unwrap();
        assert_eq!(calls(), 6);
        // Rubbish where an answer lies is no answer.
        for entry in fs::read_dir(cache.join("answers")).unwrap() {
            fs::write(entry.unwrap().path(), "{").unwrap();
        }
        assert_eq!(file.deps_cached(&env, &cache).await.unwrap().mem_mib, 128);
        assert_eq!(calls(), 7);
    }
}
