//! The paths of the store's files below `output_dir` (docs/formats.md). No function here does I/O.

use std::path::{Path, PathBuf};

use model::{CommitId, ResultKey};

use crate::types::Attempt;

/// The historical durations.
pub const DURATIONS: &str = "test_durations.capnp";
/// The database.
pub const DATABASE: &str = "results.db";
/// The status snapshot.
pub const SNAPSHOT: &str = "ci-daemon-status.json";
/// The writer's private directory: its lock and temporary files.
pub const PRIVATE: &str = ".store";

/// The directory of the packs.
pub const PACKS: &str = ".packs";

/// The kind of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// The console lines of one subtest.
    Subtest,
    /// The whole VM run.
    Full,
}

impl LogKind {
    /// The file name of the finished log.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Subtest => "log.br",
            Self::Full => "full_log.br",
        }
    }

    /// The name in the database.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        self.live_file()
    }

    /// The size of this log of an attempt; 0 if it has none.
    pub(crate) fn bytes(self, attempt: &Attempt) -> u64 {
        match self {
            Self::Subtest => attempt.log_bytes,
            Self::Full => attempt.full_log_bytes,
        }
    }

    /// The file name of the growing log, which is plain text.
    #[must_use]
    pub fn live_file(self) -> &'static str {
        match self {
            Self::Subtest => "log",
            Self::Full => "full_log",
        }
    }
}

/// The paths of one directory of results.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout below `output_dir`.
    pub fn new(output_dir: impl Into<PathBuf>) -> Self {
        Self { dir: output_dir.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The writer's private directory.
    #[must_use]
    pub fn private(&self) -> PathBuf {
        self.dir.join(PRIVATE)
    }

    /// The list of the commits with running tests.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.private().join("running")
    }

    /// The blob of a commit.
    #[must_use]
    pub fn blob(&self, commit: &CommitId) -> PathBuf {
        self.dir.join(format!("{commit}.capnp"))
    }

    /// The directory of a commit.
    #[must_use]
    pub fn commit(&self, commit: &CommitId) -> PathBuf {
        self.dir.join(commit.as_str())
    }

    /// The directory of a test at a commit.
    #[must_use]
    pub fn test(&self, commit: &CommitId, key: &ResultKey) -> PathBuf {
        self.commit(commit).join(key.as_str())
    }

    /// The directory of the logs of an attempt other than the decisive one.
    #[must_use]
    pub fn attempt(&self, commit: &CommitId, key: &ResultKey, number: u32) -> PathBuf {
        self.test(commit, key).join(format!("attempt.{number}"))
    }

    /// The directory of the packs.
    #[must_use]
    pub fn packs(&self) -> PathBuf {
        self.dir.join(PACKS)
    }

    /// A pack of a commit, from 1.
    #[must_use]
    pub fn pack(&self, commit: &CommitId, number: u32) -> PathBuf {
        self.dir.join(PACKS).join(pack_name(commit, number))
    }

    /// The blob of the durations.
    #[must_use]
    pub fn durations(&self) -> PathBuf {
        self.dir.join(DURATIONS)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// The write-ahead log of the database. It exists while the database is open; it is not empty if a writer did not
    /// stop cleanly.
    #[must_use]
    pub fn database_log(&self) -> PathBuf {
        self.dir.join(format!("{DATABASE}-wal"))
    }

    /// The status snapshot.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.dir.join(SNAPSHOT)
    }
}

/// The file name of a pack of a commit.
#[must_use]
pub fn pack_name(commit: &CommitId, number: u32) -> String {
    format!("{commit}.{number}.pack")
}

/// The commit and the number of the pack with this file name.
#[must_use]
pub fn pack_of(file_name: &str) -> Option<(CommitId, u32)> {
    let (commit, number) = file_name.strip_suffix(".pack")?.split_once('.')?;
    let (commit, number): (CommitId, u32) = (commit.parse().ok()?, number.parse().ok()?);
    (pack_name(&commit, number) == file_name).then_some((commit, number))
}

/// The commit of a blob or directory with this name.
#[must_use]
pub fn commit_of(file_name: &str) -> Option<CommitId> {
    file_name.strip_suffix(".capnp").unwrap_or(file_name).parse().ok()
}
