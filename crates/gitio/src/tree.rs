//! Reads files and trees of a commit, without a checkout.

use std::path::Path;
use std::time::Duration;

use model::CommitId;
use spawn::Limits;

use crate::command::{git, succeeded};
use crate::error::GitError;
use crate::repo::Repo;
use crate::size;

/// The time limit for writing an archive of a few directories.
const ARCHIVE: Limits = Limits { time: Duration::from_secs(300), bytes: 1 << 20 };

impl Repo {
    /// The content of a file of a commit, of at most `max` bytes. A partial clone fetches the file first.
    pub async fn file(&self, commit: &CommitId, path: &str, max: usize) -> Result<Vec<u8>, GitError> {
        // Reports a missing path as such.
        self.path_id(commit, path)?;
        let limits = Limits { time: Duration::from_secs(60), bytes: max };
        let cmd = git(self.git_dir()).args(["cat-file", "blob", &format!("{commit}:{path}")]);
        Ok(self.run("read a file of a commit", cmd, limits).await?.stdout)
    }

    /// The id of a file or directory of a commit, in hexadecimal, which is equal for equal contents.
    pub fn path_id(&self, commit: &CommitId, path: &str) -> Result<String, GitError> {
        let repo = self.local();
        let id = self.object_id(commit)?;
        let unreadable = |error: &(dyn std::error::Error + 'static)| self.unreadable(commit.as_str(), error);
        let tree = self.read_commit(&repo, id)?.tree;
        self.check_object(&repo, tree, size::TREE)?;
        let tree = repo.find_tree(tree).map_err(|error| unreadable(&error))?;
        let entry = tree.lookup_entry_by_path(Path::new(path)).map_err(|error| unreadable(&error))?;
        entry.map(|entry| entry.object_id().to_string()).ok_or_else(|| GitError::NoSuchPath {
            repo: self.path().into(),
            commit: commit.short().into(),
            path: path.into(),
        })
    }

    /// Writes the files of a commit that are below `paths` into the tar archive `to`.
    pub async fn archive(&self, commit: &CommitId, paths: &[String], to: &Path) -> Result<(), GitError> {
        let cmd = git(self.git_dir())
            .args(self.without_filters().await?)
            .args(["archive", "--format=tar", "-o"])
            .arg(std::path::absolute(to).map_err(fsx::Error::of("create", to))?)
            .arg(commit.as_str())
            .arg("--")
            .args(paths);
        let output = cmd.output(ARCHIVE).await?;
        succeeded("make an archive of a commit", self.path(), output).map(|_| ())
    }
}
