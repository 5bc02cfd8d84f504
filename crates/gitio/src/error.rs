//! Errors of git operations.

use std::path::PathBuf;

use spawn::SpawnError;

/// Why a git operation failed. Each message states what failed, where, and what to do if that is known.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It is not a repository, or not readable.
    #[error("{}: cannot open it as a git repository: {reason}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The message of gix.
        reason: String,
    },
    /// The repository keeps its refs in a format that gix does not read.
    #[error(
        "{}: repositories with refs in the reftable format are not supported; convert it: git refs migrate --ref-format=files",
        path.display()
    )]
    RefStorage {
        /// The directory.
        path: PathBuf,
    },
    /// The remote is a shallow clone.
    #[error(
        "cannot fetch from {remote}: it is a shallow clone, which is not supported; run there: git fetch --unshallow"
    )]
    Shallow {
        /// The remote.
        remote: String,
    },
    /// The remote and the repository have different object formats.
    #[error(
        "cannot fetch from {remote} into {}: one uses SHA-1 and the other SHA-256; use a repository of the same format",
        repo.display()
    )]
    ObjectFormat {
        /// The remote.
        remote: String,
        /// The repository.
        repo: PathBuf,
    },
    /// The repository does not have the requested commit.
    #[error("{}: no such commit: {spec}; check the name, or fetch it", repo.display())]
    NoSuchCommit {
        /// The repository.
        repo: PathBuf,
        /// The requested revision, cut to 100 characters.
        spec: String,
    },
    /// A ref of a remote points to a tag of a tree or a file.
    #[error("{remote}: {git_ref} is not a commit; give a branch, or a tag of a commit")]
    NotACommit {
        /// The remote.
        remote: String,
        /// The ref.
        git_ref: String,
    },
    /// The commit has no file or directory at this path.
    #[error("{}: commit {commit} has no {path}", repo.display())]
    NoSuchPath {
        /// The repository.
        repo: PathBuf,
        /// The commit, abbreviated.
        commit: String,
        /// The path in its tree.
        path: String,
    },
    /// The branch has no commits.
    #[error("{}: HEAD has no commit yet", repo.display())]
    Unborn {
        /// The repository.
        repo: PathBuf,
    },
    /// An object cannot be read.
    #[error("{}: cannot read {object}: {reason}; try git fsck", repo.display())]
    Object {
        /// The repository.
        repo: PathBuf,
        /// The object, or its description.
        object: String,
        /// The message of gix.
        reason: String,
    },
    /// The remote has no such ref.
    #[error("{remote} has no ref {git_ref}; check the branch name")]
    NoSuchRef {
        /// The remote.
        remote: String,
        /// The ref.
        git_ref: String,
    },
    /// A remote cannot be reached, or refuses the request.
    #[error("cannot fetch from {remote}: {message}")]
    Fetch {
        /// The remote.
        remote: String,
        /// The message of git.
        message: String,
    },
    /// A remote does not accept a commit.
    #[error("cannot push commit {commit} to {remote}: {message}")]
    Push {
        /// The commit, abbreviated.
        commit: String,
        /// The remote.
        remote: String,
        /// The message of git.
        message: String,
    },
    /// A tree cannot be written.
    #[error("cannot check out {commit} into {}: {message}", dir.display())]
    Checkout {
        /// The commit, abbreviated.
        commit: String,
        /// The directory.
        dir: PathBuf,
        /// The message of git.
        message: String,
    },
    /// A tree cannot be written: it is too large, or git refuses it because of a file such as `.git/config` or `../x`.
    #[error("commit {commit}: its tree cannot be checked out: {message}")]
    InvalidTree {
        /// The commit, abbreviated.
        commit: String,
        /// The message of git, or the limit.
        message: String,
    },
    /// A ref that another program wrote.
    #[error(
        "{}: {name} exists and was not written by ktest-ci, so it is not overwritten; to hand it over to ktest-ci, delete \
         it: git -C {} update-ref -d {name}",
        repo.display(),
        repo.display()
    )]
    ForeignRef {
        /// The repository.
        repo: PathBuf,
        /// The ref.
        name: String,
    },
    /// A ref cannot exist together with another ref, because one is a directory of the other.
    #[error(
        "{}: {name} cannot exist together with {other}; rename the branch, or delete {other}: git -C {} update-ref -d {other}",
        repo.display(),
        repo.display()
    )]
    RefConflict {
        /// The repository.
        repo: PathBuf,
        /// The ref to write.
        name: String,
        /// The existing ref.
        other: String,
    },
    /// Another operation of git failed.
    #[error("{}: cannot {action}: {message}", repo.display())]
    Command {
        /// A verb with its object: "create the repository".
        action: &'static str,
        /// The repository.
        repo: PathBuf,
        /// The message of git.
        message: String,
    },
    /// A file or directory of this program cannot be accessed.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// The git command could not be run until it exits.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}
