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

/// Whether the mirror has the commit with all its objects. Creates the mirror if it does not exist.
pub(crate) async fn has_commit(mirror: &Path, commit: &CommitId) -> Result<bool, HostError> {
    let path = mirror.with_extension("lock");
    let _lock = Lock::acquire(&path, "creates the mirror", |_| {}).await?;
    let repo = Repo::create_mirror(mirror).await?;
    // git creates the ref after it has received all objects.
    Ok(repo.resolve(commit_ref(commit).as_str()).is_ok())
}
