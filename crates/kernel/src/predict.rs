//! Kernels that need no build: the commit differs from one with a stored kernel only in files that its build did not read
//! ([`crate::closure`]), so it has the same kernel. One in
//! [`crate::CHECK_PREDICTED`] of them is built all the same and compared. A
//! difference ends the predictions for its configuration.

use std::path::{Path, PathBuf};

use fsx::own;
use gitio::Repo;
use model::KernelId;
use walkdir::WalkDir;

use crate::blocking::blocking;
use crate::build::Packed;
use crate::closure::BuildFiles;
use crate::error::{BuildError, InfrastructureError};
use crate::pack;
use crate::progress::Progress;
use crate::request::BuildRequest;
use crate::store::{Kernel, Meta, Store, Stored};

/// The number of kernels of one configuration that are compared with a commit, the newest first.
const COMPARED: usize = 16;
/// The maximum size of a list of kernels, in bytes.
const LIST_BYTES: u64 = 1 << 16;
/// The directory of the store with the newest kernels of each configuration.
const NEWEST: &str = ".newest";

/// The kernels of one configuration: all but the source is the same.
#[derive(Debug)]
pub(crate) struct Configuration<'a> {
    /// The store.
    pub store: &'a Store,
    /// What the kernel id is without a source.
    pub id: KernelId,
}

/// A kernel of another commit that this commit has, too.
#[derive(Debug)]
pub(crate) struct Prediction {
    /// The id of that kernel.
    pub id: KernelId,
    /// Its description.
    pub meta: Box<Meta>,
    /// The number of files in which the commits differ.
    changes: usize,
    /// Whether it is built all the same, to check this.
    pub is_checked: bool,
}

impl Prediction {
    /// The prediction as a step of a build.
    pub(crate) fn progress(&self) -> Progress {
        Progress::Predicted { kernel: self.id.clone(), changes: self.changes, checked: self.is_checked }
    }
}

impl Configuration<'_> {
    fn list(&self) -> PathBuf {
        self.store.dir().join(NEWEST).join(self.id.as_str())
    }

    fn wrong(&self) -> PathBuf {
        self.list().with_extension("wrong")
    }

    fn newest(&self) -> Vec<KernelId> {
        let text = own::read_to_string(&self.list(), LIST_BYTES).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Records a kernel whose source files are known.
    fn record(&self, id: &KernelId) -> Result<(), fsx::Error> {
        let others = self.newest().into_iter().filter(|other| other != id);
        let lines = std::iter::once(id.clone()).chain(others).take(COMPARED);
        let text = lines.fold(String::new(), |text, id| text + id.as_str() + "\n");
        let list = self.list();
        own::create_dir_all(&self.store.dir().join(NEWEST))?;
        // Of two builds that end at the same time, one may be missing in the list.
        fsx::publish::file(&list, text.as_bytes(), fsx::publish::Durability::Cached)
    }

    /// The stored kernel that a source tree has, too; `None` if it has to be built.
    pub(crate) async fn predict(
        &self,
        request: &BuildRequest,
        repo: &Repo,
        source_tree: &str,
    ) -> Option<Prediction> {
        if !request.predicts() || own::existing(&self.wrong()).ok()?.is_some() {
            return None;
        }
        for id in self.newest() {
            let Some(Stored::Kernel(meta)) = self.store.read(&id) else { continue };
            if request.refuse(&meta.unmet).is_err() {
                continue;
            }
            let headers = meta.modules.then_some(meta.arch);
            let Some(files) = BuildFiles::of_entry(&self.store.path(&id), headers) else { continue };
            // The repository may no longer have that commit.
            let Ok(changes) = repo.tree_changes(&meta.source_tree, source_tree).await else { continue };
            if !files.has_any(&changes) {
                let is_checked = request.is_prediction_checked();
                return Some(Prediction { id, meta, changes: changes.len(), is_checked });
            }
        }
        None
    }

    /// Publishes the predicted kernel under the id of the commit. Its files are those of the other one.
    pub(crate) async fn adopt(
        &self,
        id: &KernelId,
        predicted: &Prediction,
        source_tree: &str,
    ) -> Result<Kernel, BuildError> {
        let stage = self.store.stage()?;
        let (from, to) = (self.store.path(&predicted.id), stage.path().to_path_buf());
        blocking("linking a kernel", move || link_entry(&from, &to)).await??;
        let meta = Meta {
            source_tree: source_tree.into(),
            same_as: Some(predicted.id.clone()),
            objects: 0,
            build_ms: 0,
            ..(*predicted.meta).clone()
        };
        self.store.publish(id, &stage, &meta)?;
        self.record(id)?;
        Ok(self.store.kernel(id, &meta, true))
    }

    /// Publishes a built kernel, after comparing it with the prediction.
    pub(crate) async fn publish(
        &self,
        id: &KernelId,
        packed: &Packed,
        predicted: Option<&Prediction>,
    ) -> Result<(), BuildError> {
        let Packed { stage, meta, has_closure } = packed;
        if let Some(predicted) = predicted {
            let (built, other) = (stage.path().to_path_buf(), self.store.path(&predicted.id));
            let modules = move || -> Result<bool, BuildError> {
                Ok(pack::modules_hash(&built)? == pack::modules_hash(&other)?)
            };
            if meta.image_hash == predicted.meta.image_hash
                && blocking("comparing modules", modules).await??
            {
                tracing::info!(flavor = meta.flavor, "the kernel is the predicted one");
            } else {
                self.end(predicted, &meta.source_tree)?;
            }
        }
        self.store.publish(id, stage, meta)?;
        if *has_closure {
            self.record(id)?;
        }
        Ok(())
    }

    /// Handles a commit that does not build.
    pub(crate) fn does_not_build(
        &self,
        predicted: Option<&Prediction>,
        source_tree: &str,
    ) -> Result<(), BuildError> {
        predicted.map_or(Ok(()), |predicted| self.end(predicted, source_tree))
    }

    /// Ends the predictions for this configuration, because one was wrong.
    fn end(&self, predicted: &Prediction, source_tree: &str) -> Result<(), BuildError> {
        let Meta { source_tree: from, flavor, .. } = &*predicted.meta;
        tracing::error!(
            flavor,
            from,
            to = source_tree,
            "a predicted kernel differs from the built one; all kernels of this configuration are built from now on"
        );
        Ok(own::write(&self.wrong(), format!("{from} {source_tree}\n"))?)
    }
}

/// Links all files of an entry, without its description, into a stage.
fn link_entry(from: &Path, to: &Path) -> Result<(), BuildError> {
    for entry in WalkDir::new(from).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| InfrastructureError::io(from)(error.into()))?;
        let Ok(relative) = entry.path().strip_prefix(from) else { continue };
        let target = to.join(relative);
        if entry.file_type().is_dir() {
            own::create_dir_all(&target)?;
        } else if entry.file_type().is_symlink() {
            own::link(&own::read_link(entry.path())?, &target)?;
        } else if relative != Path::new("meta.json") {
            own::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}
