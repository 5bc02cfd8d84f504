//! Artifacts other than logs: the build log, the kernel configuration. Those of a later attempt replace those of an
//! earlier one.

use model::{ArtifactName, CommitId, ResultKey};

use super::Writer;
use super::logs::PlainFile;
use super::packs::FileName;
use crate::error::Result;

impl Writer {
    /// Publishes a plain file as the artifact `NAME.br` of recorded tests, which share one stream. Returns when it
    /// is durable.
    pub async fn publish_artifact(
        &self,
        commit: &CommitId,
        keys: &[ResultKey],
        name: ArtifactName,
        plain: PlainFile,
    ) -> Result<()> {
        let owners = keys.iter().map(|key| (key.clone(), 0)).collect();
        self.store(commit, owners, FileName::Artifact(name), plain).await
    }
}
