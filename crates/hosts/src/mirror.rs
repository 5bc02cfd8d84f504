//! The mirror on a host: a bare repository that receives commits, each with its own ref.

use std::path::Path;

use fsx::lock::Lock;
use gitio::Repo;
use model::{CommitId, RefName};

use crate::error::HostError;

/// The ref of a commit in the mirror.
pub(crate) fn commit_ref(commit: &CommitId) -> RefName {
    format!("refs/ktest/{commit}").parse().expect("hexadecimal digits make a valid ref")
}

/// Those of the commits that the mirror does not have.
pub(crate) async fn missing(mirror: &Path, commits: Vec<CommitId>) -> Result<Vec<CommitId>, HostError> {
    let mut missing = Vec::new();
    for commit in commits {
        if !has_commit(mirror, &commit).await? {
            missing.push(commit);
        }
    }
    Ok(missing)
}

/// Whether the mirror has the commit with all its objects. Creates the mirror if it does not exist.
pub(crate) async fn has_commit(mirror: &Path, commit: &CommitId) -> Result<bool, HostError> {
    let path = mirror.with_extension("lock");
    let _lock = Lock::acquire(&path, "creates the mirror", |_| {}).await?;
    let repo = Repo::create_mirror(mirror).await?;
    // git creates the ref after it has received all objects.
    Ok(repo.resolve(commit_ref(commit).as_str()).is_ok())
}
