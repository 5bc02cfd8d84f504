//! Result directories for tests and demonstrations, written with `results::Writer`, as the daemon does.
//!
//! The same calls give the same results, including the commit ids; only the times of files differ.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{BranchRef, CommitId, Finding, HostName, KernelId, ResultKey, StatusSnapshot, Verdict};
use results::codec::{Mark, encode_commit};
use results::layout::Layout;
use results::notes::{BuildNote, Note};
use results::{CommitDetails, CommitResults, LogKind, PlainFile, VerdictRecord, Writer, findings};
use tokio::runtime::Runtime;

/// A results directory that is being filled. Errors panic.
pub struct ResultsFixture {
    writer: Writer,
    runtime: Runtime,
    scratch: PathBuf,
}

/// The result of a subtest.
#[derive(Debug, Clone)]
pub struct TestResult {
    record: VerdictRecord,
    log: Option<String>,
}

impl TestResult {
    /// A verdict without other data.
    #[must_use]
    pub fn new(commit: &CommitId, key: &str, verdict: Verdict, millis: u64) -> Self {
        let key: ResultKey = key.parse().expect("a result key");
        let record = VerdictRecord::new(commit.clone(), key, verdict, Duration::from_millis(millis));
        Self { record, log: None }
    }

    /// Sets the host and the start in Unix seconds.
    #[must_use]
    pub fn on(mut self, host: &str, slot: u32, started: i64) -> Self {
        let host: HostName = host.parse().expect("a host name");
        (self.record.host, self.record.slot, self.record.started) = (Some(host), Some(slot), Some(started));
        self
    }

    /// Sets the kernel.
    #[must_use]
    pub fn kernel(mut self, kernel: KernelId) -> Self {
        self.record.kernel = Some(kernel);
        self
    }

    /// Sets the commit at which the attempt ran.
    #[must_use]
    pub fn inherited_from(mut self, source: &CommitId) -> Self {
        self.record.ran_at = Some(source.clone());
        self
    }

    /// Sets the crash title.
    #[must_use]
    pub fn crash(mut self, title: &str) -> Self {
        self.record.crash = Some(title.into());
        self
    }

    /// Sets the log, as plain text.
    #[must_use]
    pub fn log(mut self, text: impl Into<String>) -> Self {
        self.log = Some(text.into());
        self
    }
}

impl ResultsFixture {
    /// Opens a results directory, and creates it if it does not exist.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::fs::create_dir_all(dir).expect("a directory for results");
        let writer = Writer::open(dir).expect("a result store");
        let scratch = dir.join(".fixture.log");
        Self { writer, runtime, scratch }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.writer.output_dir()
    }

    /// Writes no directory per test: their number would be that of the results of all listed commits.
    pub fn without_directories(&self) -> &Self {
        self.writer.set_compat_tree(0).expect("a setting of the store");
        self
    }

    /// Writes the listing of a branch, newest commit first, with messages.
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

    /// Writes authors and dates of listed commits.
    pub fn authors(&self, commits: &[(&CommitId, &str, i64)]) -> &Self {
        let details = commits.iter().map(|(commit, author, date)| {
            let (tree, author) = (commit.as_str().to_owned(), (*author).to_owned());
            ((*commit).clone(), CommitDetails { tree, author, date: *date })
        });
        self.runtime.block_on(self.writer.set_details(details.collect())).expect("details are written");
        self
    }

    /// Writes the message of a commit.
    pub fn message(&self, commit: &CommitId, message: &str) -> &Self {
        self.runtime.block_on(self.writer.set_commit_message(commit, message)).expect("a message is written");
        self
    }

    /// Records a verdict, and its log if it has one.
    pub fn test(&self, result: TestResult) -> &Self {
        let TestResult { record, log } = result;
        let (commit, key) = (record.commit.clone(), record.key.clone());
        self.runtime.block_on(async {
            let recorded = self.writer.record(record).await.expect("a verdict is recorded");
            if let Some(text) = log {
                std::fs::write(&self.scratch, text).expect("a log is written");
                self.writer
                    .publish_log(&commit, &key, recorded.attempt, LogKind::Subtest, plain(&self.scratch))
                    .await
                    .expect("a log is published");
            }
        });
        self
    }

    /// Publishes the log of a VM for the subtests that have their first verdict.
    pub fn full_log(&self, commit: &CommitId, keys: &[&str], text: &str) -> &Self {
        std::fs::write(&self.scratch, text).expect("a log is written");
        let attempts: Vec<(ResultKey, u32)> =
            keys.iter().map(|key| (key.parse().expect("a result key"), 1)).collect();
        self.runtime
            .block_on(self.writer.publish_logs(commit, &attempts, LogKind::Full, plain(&self.scratch)))
            .expect("a log is published");
        self
    }

    /// Publishes an artifact that these subtests share.
    pub fn artifact(&self, commit: &CommitId, keys: &[&str], name: &str, text: &str) -> &Self {
        std::fs::write(&self.scratch, text).expect("an artifact is written");
        let keys: Vec<ResultKey> = keys.iter().map(|key| key.parse().expect("a result key")).collect();
        let name = name.parse().expect("the name of an artifact");
        self.runtime
            .block_on(self.writer.publish_artifact(commit, &keys, name, plain(&self.scratch)))
            .expect("an artifact is published");
        self
    }

    /// Records a build. It becomes durable with the next verdict.
    pub fn build(&self, build: BuildNote) -> &Self {
        self.writer.note(Note::Build(build)).expect("a build is recorded");
        self
    }

    /// Records that a test of a commit waits for an idle slot, because it ran at another one with the same code. It becomes
    /// durable with the next verdict.
    pub fn waiting(&self, commit: &CommitId, key: &str, source: &CommitId) -> &Self {
        let tests = vec![(key.parse().expect("a result key"), source.clone())];
        self.writer.note(Note::SameCode { commit: commit.clone(), tests }).expect("a test waits");
        self
    }

    /// Records findings of a branch, and what was said of the first of them. They become durable with the next verdict.
    pub fn findings(&self, branch: &str, findings: Vec<Finding>, mark: Option<findings::Mark>) -> &Self {
        let first = findings.first().map(|finding| finding.id.clone());
        let note = Note::Findings { branch: branch.into(), findings, known: "{}".into() };
        self.writer.note(note).expect("findings are recorded");
        if let (Some(finding), Some(mark)) = (first, mark) {
            self.writer.note(Note::Mark { finding, mark }).expect("a mark is recorded");
        }
        self
    }

    /// Records the id of the patch of a commit. It becomes durable with the next verdict.
    pub fn patch(&self, commit: &CommitId, id: &str) -> &Self {
        self.writer.note(Note::Patch { commit: commit.clone(), patch: Some(id.into()) }).expect("a patch");
        self
    }

    /// Records a running subtest and its log so far.
    pub fn running(&self, commit: &CommitId, key: &str, started: i64, log: &str) -> &Self {
        let key: ResultKey = key.parse().expect("a result key");
        self.writer
            .in_progress(commit, vec![key.clone()], started, "local".parse().ok(), Some(0))
            .expect("a test is in progress");
        let mut live = self.writer.live_log(commit, &key, LogKind::Subtest).expect("a live log");
        live.write_all(log.as_bytes()).expect("a live log is written");
        self
    }

    /// Writes the status snapshot.
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
        self.runtime.block_on(self.writer.directories_written()).expect("the directories are written");
        drop(self.writer);
        if let Err(error) = std::fs::remove_file(&self.scratch) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "the scratch file is removed");
        }
    }
}

/// Writes the blob of a commit in one step, for directories that are too large to record verdict by verdict. Open a
/// [`ResultsFixture`] afterwards to list it. The entries must be sorted by key.
pub fn write_blob(dir: &Path, results: &CommitResults) {
    let path = Layout::new(dir).blob(&results.commit);
    std::fs::write(path, encode_commit(results, Mark::default())).expect("a blob is written");
}

/// A commit id derived from `words`.
#[must_use]
pub fn commit_id(words: &str) -> CommitId {
    hex(words, 40).parse().expect("40 hexadecimal digits")
}

/// A kernel id derived from `words`.
#[must_use]
pub fn kernel_id(words: &str) -> KernelId {
    hex(words, 64).parse().expect("64 hexadecimal digits")
}

fn plain(path: &Path) -> PlainFile {
    PlainFile::open(path).expect("the file was just written")
}

/// Pseudo-random digits derived from `words` (64-bit FNV-1a, once for every 16 digits).
fn hex(words: &str, digits: usize) -> String {
    let mut text = String::new();
    for block in 0u8.. {
        if text.len() >= digits {
            break;
        }
        let hash = words.bytes().chain([block]).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The finalizer of splitmix64: the high digits of FNV are too similar.
        let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let hash = hash ^ hash >> 31;
        text.push_str(&format!("{hash:016x}"));
    }
    text.truncate(digits);
    text
}
