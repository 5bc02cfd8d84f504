//! Requests of users to the running daemon, as files in `requests/` of the output directory.
//!
//! `ci-status rerun` and the dashboard write them. ci-daemon moves a request to `requests/taken/` when it starts to
//! handle it and removes it when it is done. No request writes results.

use std::fs::{self, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use model::{BranchRef, CommitId, HostName, HostOrSlot, ResultKey};
use serde::{Deserialize, Serialize};

use crate::findings::Mark;

/// The directory of the requests, in the output directory.
pub const DIRECTORY: &str = "requests";
/// The directory of taken requests, in [`DIRECTORY`].
pub const TAKEN: &str = "taken";
/// The version of the format.
pub const VERSION: u32 = 1;
/// The size limit of a request in bytes.
pub const SIZE_MAX: u64 = 64 << 10;
/// The maximum number of files that [`pending`] reads.
const FILES_MAX: usize = 1000;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`]
    pub version: u32,
    /// The address of the client on behalf of which the dashboard wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The kind of request, with its arguments.
    #[serde(flatten)]
    pub kind: RequestKind,
}

/// The kind of a request, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// Run a test again.
    Rerun(Rerun),
    /// Remove the listing of a branch that is no longer in the configuration.
    #[serde(alias = "forget")]
    Unlist(BranchRef),
    /// Find the first bad commit of a test.
    Bisect(Bisect),
    /// End the bisection with this id.
    CancelBisection(String),
    /// Run a test at the tip of a branch until its fix is believed.
    Believe(Believe),
    /// End the claim with this id.
    CancelBelieve(String),
    /// Start no new batches on a host or slot; what runs there finishes.
    Drain(Drain),
    /// Start batches on a drained host or slot again.
    Resume(HostOrSlot),
    /// Stop the batch of a slot. Its tests without a verdict get the verdict Failed to run.
    CancelBatch(CancelBatch),
    /// Run no further tests of a branch; what runs finishes.
    PauseBranch(PauseBranch),
    /// Run the tests of a paused branch again.
    ResumeBranch(BranchRef),
    /// Send a finding, or record what somebody said of it.
    Notify(NotifyRequest),
}

/// A request to the senders of findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyRequest {
    /// Send a finding now; a mail goes to its recipients, moderated or not.
    Send {
        /// The id of the finding.
        finding: String,
        /// The sender in the configuration; all that match the finding if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
    },
    /// Send a message without a finding, to the operator if mails are moderated.
    Test {
        /// The sender in the configuration.
        sender: String,
    },
    /// Record what somebody said of a finding.
    Mark {
        /// The id of the finding.
        finding: String,
        /// What was said.
        mark: Mark,
    },
}

/// A host or slot to drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The host or slot.
    #[serde(flatten)]
    pub place: HostOrSlot,
    /// Why. It must fulfill [`is_reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A batch to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelBatch {
    /// The host.
    pub host: HostName,
    /// The number of its slot.
    pub slot: u32,
    /// The time at which the batch was claimed, in Unix seconds: a later batch of the slot is not stopped.
    pub started: i64,
}

/// A branch to pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseBranch {
    /// The branch.
    #[serde(flatten)]
    pub branch: BranchRef,
    /// Why. It must fulfill [`is_reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a text can be shown as the reason of a request: one line of at most 200 bytes.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= 200 && !text.contains(char::is_control)
}

impl RequestKind {
    /// The reason that the user gave.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Drain(drain) => drain.reason.as_deref(),
            Self::PauseBranch(pause) => pause.reason.as_deref(),
            _ => None,
        }
    }
}

/// How far the daemon is with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// The daemon has not taken it.
    Waiting,
    /// The daemon has taken it, and has not finished it.
    Taken,
    /// It is finished, or there was no such request.
    Ended,
}

/// A test at a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerun {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
}

/// A test that failed on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Believe {
    /// The branch.
    pub branch: BranchRef,
    /// The test.
    pub key: ResultKey,
    /// The confidence in percent.
    pub confidence: u8,
}

/// A test that fails on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bisect {
    /// The branch.
    pub branch: BranchRef,
    /// The test.
    pub key: ResultKey,
    /// The commits to search; without them, those from the newest pass before the newest failures to the oldest of these failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<BisectRange>,
}

/// Two commits of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BisectRange {
    /// The commit before the oldest suspect.
    pub base: CommitId,
    /// The newest suspect, at which the test fails.
    pub head: CommitId,
}

/// Writes a request atomically and returns its file. `address` is that of the client, for a request over HTTP.
pub fn submit(output_dir: &Path, kind: RequestKind, address: Option<IpAddr>) -> io::Result<PathBuf> {
    let directory = output_dir.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    // The daemon may run as another user.
    let mode = Permissions::from_mode(0o644);
    let mut file =
        tempfile::Builder::new().prefix(".").suffix(".tmp").permissions(mode).tempfile_in(&directory)?;
    serde_json::to_writer(&mut file, &Request { version: VERSION, address, kind })?;
    file.as_file().sync_all()?;
    // The request keeps the random name of the temporary file.
    let name = file.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.trim_start_matches('.').trim_end_matches(".tmp").to_owned();
    let path = directory.join(format!("{name}.json"));
    file.persist_noclobber(&path)?;
    Ok(path)
}

/// Whether the text can be the name of a request file.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let stem = name.strip_suffix(".json");
    stem.is_some_and(|stem| {
        (1..=100).contains(&stem.len()) && stem.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The state of a request.
#[must_use]
pub fn state(output_dir: &Path, file: &str) -> RequestState {
    let directory = output_dir.join(DIRECTORY);
    let exists = |path: PathBuf| is_file_name(file) && path.symlink_metadata().is_ok();
    if exists(directory.join(file)) {
        RequestState::Waiting
    } else if exists(directory.join(TAKEN).join(file)) {
        RequestState::Taken
    } else {
        RequestState::Ended
    }
}

/// The requested reruns that are not done, in no particular order.
#[must_use]
pub fn pending_reruns(output_dir: &Path) -> Vec<Rerun> {
    let reruns = pending(output_dir).into_iter().filter_map(|(_, kind)| match kind {
        RequestKind::Rerun(rerun) => Some(rerun),
        _ => None,
    });
    reruns.collect()
}

/// The requests that are not done, with the names of their files, in no particular order. Unreadable requests are skipped, and only
/// the first [`FILES_MAX`] files are read.
#[must_use]
pub fn pending(output_dir: &Path) -> Vec<(String, RequestKind)> {
    let directory = output_dir.join(DIRECTORY);
    let files =
        [directory.join(TAKEN), directory].into_iter().filter_map(|directory| fs::read_dir(directory).ok());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
    let paths = files.flatten().filter_map(|entry| Some(entry.ok()?.path())).filter(wanted);
    let named = |path: PathBuf| Some((path.file_name()?.to_str()?.to_owned(), read(&path)?));
    paths.take(FILES_MAX).filter_map(named).collect()
}

fn read(path: &Path) -> Option<RequestKind> {
    let data = fs::symlink_metadata(path).ok()?;
    if !data.is_file() || data.len() > SIZE_MAX {
        return None;
    }
    let request: Request = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (request.version == VERSION).then_some(request.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rerun_is_pending_until_its_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pending_reruns(dir.path()).is_empty());
        let rerun = |key: &str| Rerun { commit: "a".repeat(40).parse().unwrap(), key: key.parse().unwrap() };
        let first = submit(dir.path(), RequestKind::Rerun(rerun("fs.a.x")), None).unwrap();
        submit(dir.path(), RequestKind::Rerun(rerun("fs.a.y")), None).unwrap();
        submit(dir.path(), RequestKind::Unlist("kmo/old".parse().unwrap()), None).unwrap();
        let text = fs::read_to_string(&first).unwrap();
        assert_eq!(
            text,
            format!(r#"{{"version":1,"rerun":{{"commit":"{}","key":"fs.a.x"}}}}"#, "a".repeat(40))
        );
        let drain = Drain { place: "farm1/3".parse().unwrap(), reason: Some("new disk".into()) };
        let path = submit(dir.path(), RequestKind::Drain(drain), None).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, r#"{"version":1,"drain":{"host":"farm1","slot":3,"reason":"new disk"}}"#);
        fs::remove_file(path).unwrap();
        let taken = dir.path().join(DIRECTORY).join(TAKEN);
        fs::create_dir(&taken).unwrap();
        fs::rename(&first, taken.join("x.json")).unwrap();
        fs::write(dir.path().join(DIRECTORY).join("bad.json"), "{").unwrap();
        let mut keys: Vec<_> = pending_reruns(dir.path()).iter().map(|rerun| rerun.key.to_string()).collect();
        keys.sort();
        assert_eq!(keys, ["fs.a.x", "fs.a.y"]);
        assert_eq!(pending(dir.path()).len(), 3);
        assert_eq!(state(dir.path(), "x.json"), RequestState::Taken);
        assert_eq!(state(dir.path(), "bad.json"), RequestState::Waiting);
        for name in ["y.json", "../x.json", "taken/x.json", "", ".json", "x"] {
            assert_eq!(state(dir.path(), name), RequestState::Ended, "{name}");
        }
        fs::remove_file(taken.join("x.json")).unwrap();
        assert_eq!(pending_reruns(dir.path()).len(), 1);
    }
}
