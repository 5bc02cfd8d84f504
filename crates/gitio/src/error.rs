//! What can go wrong with a repository.

use std::path::PathBuf;

use spawn::SpawnError;

/// Why git did not do it. Each message says where, what and what to do.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Not a repository, or not readable.
    #[error("{}: cannot be opened as a git repository: {why}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// What gix says.
        why: String,
    },
    /// A revision that means no commit.
    #[error("{}: no such commit: {spec}; check the name, or fetch it", repo.display())]
    NoSuchCommit {
        /// The repository.
        repo: PathBuf,
        /// The revision as it was given, cut to 100 characters.
        spec: String,
    },
    /// A branch without commits.
    #[error("{}: HEAD has no commit yet", repo.display())]
    Unborn {
        /// The repository.
        repo: PathBuf,
    },
    /// Something in it cannot be read.
    #[error("{}: {what} cannot be read: {why}; try git fsck", repo.display())]
    Object {
        /// The repository.
        repo: PathBuf,
        /// What.
        what: String,
        /// What gix says.
        why: String,
    },
    /// The remote has no such ref.
    #[error("{remote} has no ref {git_ref}; check the branch's name")]
    NoSuchRef {
        /// The remote.
        remote: String,
        /// The ref.
        git_ref: String,
    },
    /// A remote cannot be reached, or refuses.
    #[error("cannot fetch from {remote}: {complaint}")]
    Fetch {
        /// The remote.
        remote: String,
        /// What git says.
        complaint: String,
    },
    /// A tree cannot be written.
    #[error("cannot check out {commit} into {}: {complaint}", dir.display())]
    Checkout {
        /// The commit, shortened.
        commit: String,
        /// The folder.
        dir: PathBuf,
        /// What git says.
        complaint: String,
    },
    /// A file or folder of ours.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The git command did not run to its end.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}
