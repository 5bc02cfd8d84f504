//! The force-pushes of a branch: which commit of the old version became which one of the new version. One file per branch,
//! `pushes.<user>.<branch>.json` of the output directory.
//!
//! ci-daemon writes the files. Others only read them.

use std::path::{Path, PathBuf};

use fsx::publish::Durability;
use model::{BranchRef, CommitId};
use serde::{Deserialize, Serialize};

use crate::branch_file;

/// The number of force-pushes of a branch that are kept.
pub const PUSHES_MAX: usize = 5;
/// The maximum number of commits of each version that are compared.
pub const COMMITS_MAX: usize = 200;
/// The size limit of a file in bytes.
const SIZE_MAX: u64 = 4 << 20;
const PREFIX: &str = "pushes.";
const SUFFIX: &str = ".json";

/// The last force-pushes of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushes {
    /// The tip of the branch up to which pushes are recorded.
    pub tip: CommitId,
    /// The force-pushes, newest first.
    pub pushes: Vec<Push>,
}

/// A force-push: the new tip of the branch is not a descendant of the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// When the farm saw it, Unix seconds.
    pub at: i64,
    /// The old tip.
    pub old: CommitId,
    /// The new tip.
    pub new: CommitId,
    /// The commits of both versions that differ, newest first.
    pub pairs: Vec<PushedCommit>,
    /// The number of commits above the base of the branch that are in both versions, below those of `pairs`.
    #[serde(default)]
    pub unchanged: usize,
    /// Whether a version has more commits than were compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
    /// Why the versions are not compared, one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A commit of the old version, of the new one, or of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedCommit {
    /// What became of it.
    pub mark: Mark,
    /// The commit of the old version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<CommitId>,
    /// The commit of the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<CommitId>,
    /// The subject of the newer of both.
    pub subject: String,
}

/// What became of a commit, as `git range-diff` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// The patch and the message are the same.
    #[serde(rename = "=")]
    Kept,
    /// The patch or the message is another one.
    #[serde(rename = "!")]
    Changed,
    /// Only in the new version.
    #[serde(rename = ">")]
    New,
    /// Only in the old version.
    #[serde(rename = "<")]
    Gone,
}

impl Mark {
    /// The mark of `git range-diff`, and a word for it.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Kept => ("=", "kept"),
            Self::Changed => ("!", "changed"),
            Self::New => (">", "new"),
            Self::Gone => ("<", "gone"),
        }
    }
}

/// Why the pushes of a branch cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PushesError {
    /// The name of the branch is too long for a file.
    #[error(transparent)]
    Name(#[from] crate::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// The content of the file.
    #[error("{}: not read: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The error.
        source: serde_json::Error,
    },
}

/// The file of a branch; an error if its name is too long.
pub fn path(output_dir: &Path, at: &BranchRef) -> crate::Result<PathBuf> {
    let name = branch_file::file_name(at)?;
    let name = name.trim_start_matches("branch.").trim_end_matches(".capnp");
    Ok(output_dir.join(format!("{PREFIX}{name}{SUFFIX}")))
}

/// The branch of a file with this name.
fn branch_of(file_name: &str) -> Option<BranchRef> {
    let name = file_name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    branch_file::parse(&format!("branch.{name}.capnp"))
}

/// The force-pushes of a branch; `None` if none are recorded.
pub fn read(output_dir: &Path, at: &BranchRef) -> Result<Option<Pushes>, PushesError> {
    let path = path(output_dir, at)?;
    let text = match fsx::own::read_to_string(&path, SIZE_MAX) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_str(&text).map(Some).map_err(|source| PushesError::Invalid { path, source })
}

/// Writes the force-pushes of a branch. A reader sees the previous or the new ones.
pub fn write(output_dir: &Path, at: &BranchRef, pushes: &Pushes) -> Result<(), PushesError> {
    let path = path(output_dir, at)?;
    match serde_json::to_string(pushes) {
        Ok(text) => Ok(fsx::publish::file(&path, text, Durability::Synced)?),
        Err(source) => Err(PushesError::Invalid { path, source }),
    }
}

/// Removes the file of a branch.
pub fn remove(output_dir: &Path, at: &BranchRef) -> Result<(), PushesError> {
    fsx::own::remove_file(&path(output_dir, at)?)?;
    Ok(())
}

/// The branches with recorded pushes, sorted.
pub fn branches(output_dir: &Path) -> Result<Vec<BranchRef>, PushesError> {
    let entries = fsx::own::list(output_dir)?;
    let mut found: Vec<BranchRef> =
        entries.iter().filter_map(|entry| branch_of(entry.path.file_name()?.to_str()?)).collect();
    found.sort();
    Ok(found)
}

impl Pushes {
    /// No pushes yet.
    #[must_use]
    pub fn new(tip: CommitId) -> Self {
        Self { tip, pushes: Vec::new() }
    }

    /// Adds the newest push, and drops the oldest ones beyond [`PUSHES_MAX`].
    pub fn add(&mut self, push: Push) {
        self.tip = push.new.clone();
        self.pushes.insert(0, push);
        self.pushes.truncate(PUSHES_MAX);
    }

    /// The commits that must stay in the repository: the tip, and the old tips.
    #[must_use]
    pub fn kept(&self) -> Vec<CommitId> {
        let mut kept: Vec<CommitId> = self.pushes.iter().map(|push| push.old.clone()).collect();
        kept.push(self.tip.clone());
        kept.sort();
        kept.dedup();
        kept
    }
}

impl Push {
    /// The commits of the old version.
    pub fn old_commits(&self) -> impl Iterator<Item = &CommitId> {
        self.pairs.iter().filter_map(|pair| pair.old.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: char) -> CommitId {
        String::from(digit).repeat(40).parse().unwrap()
    }

    fn push(old: char, new: char) -> Push {
        let pair = PushedCommit {
            mark: Mark::Changed,
            old: Some(commit(old)),
            new: Some(commit(new)),
            subject: "ext4: fix \"it\" <b>".into(),
        };
        Push {
            at: 7,
            old: commit(old),
            new: commit(new),
            pairs: vec![pair],
            unchanged: 3,
            is_cut: false,
            problem: None,
        }
    }

    #[test]
    fn the_last_pushes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at: BranchRef = "kmo/next/ext4".parse().unwrap();
        assert_eq!(read(dir.path(), &at).unwrap(), None);
        let mut pushes = Pushes::new(commit('0'));
        for pair in ['0', '1', '2', '3', '4', '5', '6'].windows(2) {
            pushes.add(push(pair[0], pair[1]));
        }
        let tips: Vec<&str> = pushes.pushes.iter().map(|push| &push.old.as_str()[..1]).collect();
        assert_eq!((tips, &pushes.tip), (vec!["5", "4", "3", "2", "1"], &commit('6')));
        assert_eq!(pushes.kept().len(), 6);
        write(dir.path(), &at, &pushes).unwrap();
        assert_eq!(read(dir.path(), &at).unwrap(), Some(pushes));
        assert!(dir.path().join("pushes.kmo.next%2Fext4.json").is_file());
        assert_eq!(branches(dir.path()).unwrap(), std::slice::from_ref(&at));
        std::fs::write(path(dir.path(), &at).unwrap(), "{").unwrap();
        let error = read(dir.path(), &at).unwrap_err().to_string();
        assert!(error.contains("pushes.kmo.next%2Fext4.json: not read"), "{error}");
        remove(dir.path(), &at).unwrap();
        assert_eq!(branches(dir.path()).unwrap(), []);
    }
}
