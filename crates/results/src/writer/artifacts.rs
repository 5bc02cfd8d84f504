//! Artifacts other than logs: the build log, the kernel configuration. Those of a later attempt replace those of an
//! earlier one.

use model::{CommitId, ResultKey};

use super::Writer;
use super::logs::PlainFile;
use super::packs::FileName;
use crate::error::Result;

impl Writer {
    /// Publishes a plain file as the artifact `NAME.br` of recorded tests, which share one stream. `name` is a plain
    /// file name other than that of a log. Returns when it is durable.
    pub async fn publish_artifact(
        &self,
        commit: &CommitId,
        keys: &[ResultKey],
        name: &'static str,
        plain: PlainFile,
    ) -> Result<()> {
        let owners = keys.iter().map(|key| (key.clone(), 0)).collect();
        self.store(commit, owners, FileName::Artifact(name), plain).await
    }
}
