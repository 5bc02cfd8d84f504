//! Kernels that need no build: the commit differs from one with a stored kernel only in files that its build did not read
//! ([`crate::closure`]), so it has the same kernel. One in
//! [`crate::CHECK_PREDICTED`] of them is built all the same and compared. A
//! difference ends the predictions for its configuration.

use fsx::own;
use gitio::Repo;
use model::KernelId;
use walkdir::WalkDir;

use crate::blocking::blocking;
use crate::closure::Closure;
use crate::error::{BuildError, InfrastructureError};
use crate::pack;
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
    pub changes: usize,
}

impl Configuration<'_> {
    fn list(&self) -> std::path::PathBuf {
        self.store.dir().join(NEWEST).join(self.id.as_str())
    }

    fn wrong(&self) -> std::path::PathBuf {
        self.list().with_extension("wrong")
    }

    fn newest(&self) -> Vec<KernelId> {
        let text = own::read_to_string(&self.list(), LIST_BYTES).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Records a kernel whose source files are known.
    pub(crate) fn record(&self, id: &KernelId) -> Result<(), fsx::Error> {
        let others = self.newest().into_iter().filter(|other| other != id);
        let lines = std::iter::once(id.clone()).chain(others).take(COMPARED);
        let text = lines.fold(String::new(), |text, id| text + id.as_str() + "\n");
        let list = self.list();
        own::create_dir_all(&self.store.dir().join(NEWEST))?;
        // Of two builds that end at the same time, one may be missing in the list.
        fsx::publish::file(&list, text.as_bytes(), fsx::publish::Durability::Cached)
    }

    /// The stored kernel that a source tree has, too; `None` if it has to be built.
    pub(crate) async fn predict(&self, repo: &Repo, source_tree: &str) -> Option<Prediction> {
        if own::existing(&self.wrong()).ok()?.is_some() {
            return None;
        }
        for id in self.newest() {
            let Some(Stored::Kernel(meta)) = self.store.read(&id) else { continue };
            let Some(closure) = Closure::of_entry(&self.store.path(&id)) else { continue };
            // The repository may no longer have that commit.
            let Ok(changes) = repo.tree_changes(&meta.source_tree, source_tree).await else { continue };
            let headers = meta.modules.then_some(meta.arch);
            if !changes.iter().any(|change| closure.has(change, headers)) {
                return Some(Prediction { id, meta, changes: changes.len() });
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

    /// Compares a built kernel with the prediction.
    pub(crate) async fn check(
        &self,
        built: (&std::path::Path, &Meta),
        predicted: &Prediction,
    ) -> Result<(), BuildError> {
        let (dir, meta) = (built.0.to_path_buf(), built.1);
        let other = self.store.path(&predicted.id);
        let modules = move || -> Result<bool, BuildError> {
            Ok(pack::modules_hash(&dir)? == pack::modules_hash(&other)?)
        };
        let flavor = &meta.flavor;
        if meta.image_hash == predicted.meta.image_hash && blocking("comparing modules", modules).await?? {
            tracing::info!(flavor, "the kernel is the predicted one");
            return Ok(());
        }
        let (from, to) = (&predicted.meta.source_tree, &meta.source_tree);
        tracing::error!(
            flavor,
            from,
            to,
            "a predicted kernel differs from the built one; this flavor is always built from now on"
        );
        Ok(own::write(&self.wrong(), format!("{from} {to}\n"))?)
    }
}

/// Links all files of an entry, without its description, into a stage.
fn link_entry(from: &std::path::Path, to: &std::path::Path) -> Result<(), BuildError> {
    for entry in WalkDir::new(from).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| InfrastructureError::io(from)(error.into()))?;
        let Ok(relative) = entry.path().strip_prefix(from) else { continue };
        let target = to.join(relative);
        if entry.file_type().is_dir() {
            own::create_dir_all(&target)?;
        } else if entry.file_type().is_symlink() {
            own::link(&own::read_link(entry.path())?, &target)?;
        } else if relative != std::path::Path::new("meta.json") {
            own::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}
