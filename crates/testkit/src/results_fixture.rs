//! Result directories for tests and demonstrations, written through `results::Writer` like the daemon's.
//!
//! The same calls make the same results, down to the commit ids; only the files' times differ.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{BranchRef, CommitId, HostName, KernelId, ResultKey, StatusSnapshot, Verdict};
use results::codec::{Mark, encode_commit};
use results::layout::Layout;
use results::{CommitResults, LogKind, VerdictRecord, Writer};
use tokio::runtime::Runtime;

/// A directory of results that is being made. Panics where something cannot be written.
pub struct ResultsFixture {
    writer: Writer,
    runtime: Runtime,
    scratch: PathBuf,
}

/// One test's result.
#[derive(Debug, Clone)]
pub struct TestResult {
    record: VerdictRecord,
    log: Option<String>,
}

impl TestResult {
    /// A verdict without anything beside it.
    #[must_use]
    pub fn new(commit: &CommitId, key: &str, verdict: Verdict, millis: u64) -> Self {
        let key: ResultKey = key.parse().expect("a result key");
        let record = VerdictRecord::new(commit.clone(), key, verdict, Duration::from_millis(millis));
        Self { record, log: None }
    }

    /// Where it ran and when it started (Unix seconds).
    #[must_use]
    pub fn on(mut self, host: &str, slot: u32, started: i64) -> Self {
        let host: HostName = host.parse().expect("a host name");
        (self.record.host, self.record.slot, self.record.started) = (Some(host), Some(slot), Some(started));
        self
    }

    /// On which kernel.
    #[must_use]
    pub fn kernel(mut self, kernel: KernelId) -> Self {
        self.record.kernel = Some(kernel);
        self
    }

    /// The title of the crash.
    #[must_use]
    pub fn crash(mut self, title: &str) -> Self {
        self.record.crash = Some(title.into());
        self
    }

    /// The plain text of its log.
    #[must_use]
    pub fn log(mut self, text: impl Into<String>) -> Self {
        self.log = Some(text.into());
        self
    }
}

impl ResultsFixture {
    /// In a directory that is made if it is not there.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::fs::create_dir_all(dir).expect("a directory for results");
        let writer = Writer::open(dir).expect("a result store");
        let scratch = dir.join(".fixture.log");
        Self { writer, runtime, scratch }
    }

    /// The listing of a branch, newest commit first, with messages.
    pub fn branch(&self, user: &str, branch: &str, commits: &[(CommitId, String)]) -> &Self {
        let branch = BranchRef {
            user: user.parse().expect("a user name"),
            branch: branch.parse().expect("a branch name"),
        };
        self.runtime
            .block_on(self.writer.set_branch(&branch, commits.to_vec()))
            .expect("a branch listing is written");
        self
    }

    /// The message of a commit.
    pub fn message(&self, commit: &CommitId, message: &str) -> &Self {
        self.runtime.block_on(self.writer.set_commit_message(commit, message)).expect("a message is written");
        self
    }

    /// A verdict, and its log if it has one.
    pub fn test(&self, result: TestResult) -> &Self {
        let TestResult { record, log } = result;
        let (commit, key) = (record.commit.clone(), record.key.clone());
        self.runtime.block_on(async {
            let recorded = self.writer.record(record).await.expect("a verdict is recorded");
            if let Some(text) = log {
                std::fs::write(&self.scratch, text).expect("a log is written");
                self.writer
                    .publish_log(&commit, &key, recorded.attempt, LogKind::Subtest, &self.scratch)
                    .await
                    .expect("a log is published");
            }
        });
        self
    }

    /// A log of the whole VM run, shared by tests that have their first verdict.
    pub fn full_log(&self, commit: &CommitId, keys: &[&str], text: &str) -> &Self {
        std::fs::write(&self.scratch, text).expect("a log is written");
        let attempts: Vec<(ResultKey, u32)> =
            keys.iter().map(|key| (key.parse().expect("a result key"), 1)).collect();
        self.runtime
            .block_on(self.writer.publish_logs(commit, &attempts, LogKind::Full, &self.scratch))
            .expect("a log is published");
        self
    }

    /// A test that runs now, and its log so far.
    pub fn running(&self, commit: &CommitId, key: &str, started: i64, log: &str) -> &Self {
        let key: ResultKey = key.parse().expect("a result key");
        self.writer
            .in_progress(commit, vec![key.clone()], started, "local".parse().ok(), Some(0))
            .expect("a test is in progress");
        let mut live = self.writer.live_log(commit, &key, LogKind::Subtest).expect("a live log");
        live.write_all(log.as_bytes()).expect("a live log is written");
        self
    }

    /// What the daemon does.
    pub fn snapshot(&self, snapshot: &StatusSnapshot) -> &Self {
        self.writer.write_snapshot(snapshot).expect("a snapshot is written");
        self
    }

    /// Publishes everything.
    pub fn publish(&self) -> &Self {
        self.runtime.block_on(self.writer.flush()).expect("the results are published");
        self
    }

    /// Publishes everything and closes the store.
    pub fn finish(self) {
        self.runtime.block_on(self.writer.flush()).expect("the results are published");
        drop(self.writer);
        if let Err(error) = std::fs::remove_file(&self.scratch) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "the scratch file is removed");
        }
    }
}

/// Writes the blob of a commit at once, for directories too large to be recorded verdict by verdict; to be listed by a
/// [`ResultsFixture`] that is opened afterwards. Entries must be sorted by key.
pub fn write_blob(dir: &Path, results: &CommitResults) {
    let path = Layout::new(dir).blob(&results.commit);
    std::fs::write(path, encode_commit(results, Mark::default())).expect("a blob is written");
}

/// A commit id that is the same for the same words.
#[must_use]
pub fn commit_id(words: &str) -> CommitId {
    hex(words, 40).parse().expect("40 hexadecimal digits")
}

/// A kernel id that is the same for the same words.
#[must_use]
pub fn kernel_id(words: &str) -> KernelId {
    hex(words, 64).parse().expect("64 hexadecimal digits")
}

/// Digits that look random and follow from the words (64-bit FNV-1a, once for every 16 digits).
fn hex(words: &str, digits: usize) -> String {
    let mut text = String::new();
    for block in 0u8.. {
        if text.len() >= digits {
            break;
        }
        let hash = words.bytes().chain([block]).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // FNV alone leaves the high digits alike (the rest of splitmix64).
        let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let hash = hash ^ hash >> 31;
        text.push_str(&format!("{hash:016x}"));
    }
    text.truncate(digits);
    text
}
