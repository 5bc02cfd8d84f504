//! Artifacts other than logs: the build log, the kernel configuration. They are not in the journal, because no count
//! depends on them. Those of a later attempt replace those of an earlier one.

use std::path::PathBuf;

use model::{CommitId, ResultKey};

use super::Writer;
use super::logs::{PlainFile, compress};
use crate::disk::Durable;
use crate::error::{Error, Result};

impl Writer {
    /// Publishes a plain file as the artifact `NAME.br` of recorded tests, as hard links to one file. `name` must be a
    /// plain file name and not that of a log.
    pub async fn publish_artifact(
        &self,
        commit: &CommitId,
        keys: &[ResultKey],
        name: &'static str,
        plain: PlainFile,
    ) -> Result<()> {
        let (this, commit, keys) = (self.clone(), commit.clone(), keys.to_vec());
        let write = move || this.write_artifact(&commit, &keys, name, plain);
        tokio::task::spawn_blocking(write).await.map_err(|_| Error::Closed)?
    }

    fn write_artifact(
        &self,
        commit: &CommitId,
        keys: &[ResultKey],
        name: &str,
        plain: PlainFile,
    ) -> Result<()> {
        let (layout, disk) = (&self.inner.reader.layout, &self.inner.disk);
        let (compressed, _) = compress(plain)?;
        let mut first: Option<PathBuf> = None;
        for key in keys {
            let directory = layout.test(commit, key);
            disk.make_dir(&directory, Durable::No).map_err(Error::io("create", &directory))?;
            let path = directory.join(format!("{name}.br"));
            match &first {
                None => disk.publish(&path, &compressed, Durable::No),
                Some(first) => disk.link(first, &path, Durable::No),
            }
            .map_err(Error::io("write", &path))?;
            first.get_or_insert(path);
        }
        Ok(())
    }
}
