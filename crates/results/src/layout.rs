//! Where each file of the store lies below `output_dir` (formats.md), and nothing else: no function here does I/O.

use std::path::{Path, PathBuf};

use model::{CommitId, ResultKey};

/// The historical durations.
pub const DURATIONS: &str = "test_durations.capnp";
/// The status snapshot.
pub const SNAPSHOT: &str = "ci-daemon-status.json";
/// What only the writer uses: its lock, the journal, files being made.
pub const PRIVATE: &str = ".store";

/// Which log of a subtest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// The subtest's own console lines.
    Subtest,
    /// The whole VM run.
    Full,
}

impl LogKind {
    /// The finished log's file name.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Subtest => "log.br",
            Self::Full => "full_log.br",
        }
    }

    /// The file name while the log grows, plain.
    #[must_use]
    pub fn live_file(self) -> &'static str {
        match self {
            Self::Subtest => "log",
            Self::Full => "full_log",
        }
    }
}

/// The paths of one folder of results.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout below `output_dir`.
    pub fn new(output_dir: impl Into<PathBuf>) -> Self {
        Self { dir: output_dir.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The writer's own folder.
    #[must_use]
    pub fn private(&self) -> PathBuf {
        self.dir.join(PRIVATE)
    }

    /// The blob of a commit.
    #[must_use]
    pub fn blob(&self, commit: &CommitId) -> PathBuf {
        self.dir.join(format!("{commit}.capnp"))
    }

    /// The folder of a commit.
    #[must_use]
    pub fn commit(&self, commit: &CommitId) -> PathBuf {
        self.dir.join(commit.as_str())
    }

    /// The folder of a test at a commit.
    #[must_use]
    pub fn test(&self, commit: &CommitId, key: &ResultKey) -> PathBuf {
        self.commit(commit).join(key.as_str())
    }

    /// The folder of an attempt's logs that does not stand.
    #[must_use]
    pub fn attempt(&self, commit: &CommitId, key: &ResultKey, number: u32) -> PathBuf {
        self.test(commit, key).join(format!("attempt.{number}"))
    }

    /// The durations' blob.
    #[must_use]
    pub fn durations(&self) -> PathBuf {
        self.dir.join(DURATIONS)
    }

    /// The status snapshot.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.dir.join(SNAPSHOT)
    }
}

/// The commit that a blob or a folder of this name belongs to.
#[must_use]
pub fn commit_of(file_name: &str) -> Option<CommitId> {
    file_name.strip_suffix(".capnp").unwrap_or(file_name).parse().ok()
}
