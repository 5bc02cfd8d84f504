//! Build trees: a checkout and one object directory per flavor, reused for successive commits under a lock.
//!
//! `NUMBER/src` is the checkout, and `NUMBER/domains/HASH/obj/FLAVOR` is an object directory of a trust domain; those
//! of a developer's own builds are in `NUMBER/obj`. The build writes to its object directory, so everything that this
//! program relies on is in `NUMBER/state/FLAVOR` ([`crate::state`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fsx::lock::{Lock, holder};
use fsx::untrusted::{Dir, Special, UntrustedError};
use fsx::{own, publish};
use model::{CommitId, TrustDomain};

use crate::blocking::blocking;
use crate::cache::{Cache, in_domain, lock};
use crate::dotconfig::DotConfig;
use crate::error::BuildError;
use crate::option::KValue;
use crate::progress::Progress;
use crate::state::{CONFIG_BYTES, OBJECT_LIMITS, ObjectState};

/// A build tree, locked by this process as long as the value exists.
#[derive(Debug)]
pub struct BuildTree {
    dir: PathBuf,
    /// The directory with the objects and states of the trust domain; the checkout is shared.
    domain: PathBuf,
    _lock: Lock,
}

/// The object directory of a flavor, with its state.
#[derive(Debug, Clone)]
pub struct ObjectDir {
    /// The directory that the build writes to.
    pub dir: PathBuf,
    /// The state, which the build cannot write to.
    pub state: ObjectState,
}

/// A build tree before it is locked, ordered by preference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// 0: it has objects of the flavor; 1: it has a checkout; 2: it is new.
    rank: u8,
    /// The time since its last use: a recently used checkout is likely to differ in few commits.
    age: Duration,
    number: usize,
}

/// The number of build trees on a host with this many processors. Each build uses all of them, so there is one tree per
/// 16 processors.
#[must_use]
pub fn default_limit(cpus: usize) -> usize {
    (cpus / 16).max(1)
}

/// Claims a free build tree, preferably one that has built this flavor. If all are in use, waits, and reports that
/// once.
pub async fn claim(
    cache: &Cache,
    limit: usize,
    (flavor, trust): (&str, Option<&TrustDomain>),
    commit: &CommitId,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<BuildTree, BuildError> {
    let purpose = format!("builds {} as {flavor}", commit.short());
    let mut reported = false;
    loop {
        let candidates = candidates(&cache.trees(), limit.max(1), flavor, trust);
        for candidate in &candidates {
            let dir = cache.trees().join(candidate.number.to_string());
            if let Some(lock) = Lock::try_acquire(&dir.join("lock"), &purpose)? {
                let domain = in_domain(&dir, trust);
                return Ok(BuildTree { dir, domain, _lock: lock });
            }
        }
        if !reported {
            reported = true;
            let first = candidates.first().map_or(0, |candidate| candidate.number);
            let holder = holder(&cache.trees().join(first.to_string()).join("lock"));
            on(Progress::WaitingForLock { holder: holder.unwrap_or_else(|| "another process".into()) });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn candidates(trees: &Path, limit: usize, flavor: &str, trust: Option<&TrustDomain>) -> Vec<Candidate> {
    let now = SystemTime::now();
    let mut candidates: Vec<Candidate> = (0..limit)
        .map(|number| {
            let dir = trees.join(number.to_string());
            let rank = match () {
                () if in_domain(&dir, trust).join("obj").join(flavor).is_dir() => 0,
                () if dir.join("src").is_dir() => 1,
                () => 2,
            };
            let used = own::metadata(&dir.join("head")).ok().and_then(|meta| meta.modified().ok());
            let age = used.and_then(|used| now.duration_since(used).ok()).unwrap_or(Duration::MAX);
            Candidate { rank, age, number }
        })
        .collect();
    candidates.sort();
    candidates
}

impl BuildTree {
    /// The objects of a user's working tree: one directory per source path.
    pub async fn of_working_tree(
        cache: &Cache,
        (source, trust): (&Path, Option<&TrustDomain>),
        on: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Self, BuildError> {
        let name = crate::id::hash_fields([source.to_string_lossy().as_ref()]);
        let dir = cache.trees().join(format!("work-{}", name.short()));
        let lock = lock(&dir.join("lock"), &format!("builds {}", source.display()), on).await?;
        Ok(Self { domain: in_domain(&dir, trust), dir, _lock: lock })
    }

    /// The checkout.
    #[must_use]
    pub fn src(&self) -> PathBuf {
        self.dir.join("src")
    }

    fn object_dir(&self, flavor: &str) -> ObjectDir {
        let dir = self.domain.join("obj").join(flavor);
        ObjectDir { dir, state: ObjectState::new(self.domain.join("state").join(flavor)) }
    }

    /// An empty object directory, for a build that reuses nothing.
    pub(crate) async fn empty_objects(&self) -> Result<ObjectDir, BuildError> {
        let root = self.domain.join("clean");
        let objects = ObjectDir { dir: root.join("obj"), state: ObjectState::new(root.join("state")) };
        let empty = {
            let objects = objects.clone();
            move || {
                own::remove_tree(&root)?;
                own::create_dir_all(&objects.dir)?;
                own::create_dir_all(objects.state.dir())
            }
        };
        blocking("removing objects", empty).await??;
        Ok(objects)
    }

    /// The object directory of a flavor. A new one starts as a copy of another flavor's: kbuild records for each object
    /// which options it depends on, so make rebuilds only what the difference affects.
    pub async fn objects(&self, flavor: &str, config: &DotConfig) -> Result<ObjectDir, BuildError> {
        let objects = self.object_dir(flavor);
        own::create_dir_all(objects.state.dir())?;
        if !objects.dir.is_dir() {
            objects.state.clear()?;
            if let Some(other) = self.most_similar(flavor, config) {
                let (from, to) = (other.dir, objects.dir.clone());
                match blocking("copying objects", move || copy_objects(&from, &to)).await? {
                    Ok(()) => {}
                    Err(CopyError::File(error)) => return Err(error.into()),
                    // A hostile build left more files than a copy may have: this flavor starts without objects.
                    Err(CopyError::Objects(error)) => tracing::warn!("{error}"),
                }
            }
            own::create_dir_all(&objects.dir)?;
        }
        Ok(objects)
    }

    /// Checks out a commit. Only files that differ are written.
    pub async fn checkout(
        &self,
        repo: &gitio::Repo,
        commit: &CommitId,
        sandboxed: bool,
    ) -> Result<(), BuildError> {
        let head = self.dir.join("head");
        let before = own::read_to_string(&head, 1000).unwrap_or_default();
        // The commit, and whether its build was able to write to the checkout.
        let now = format!("{commit} {}\n", if sandboxed { "sandboxed" } else { "open" });
        let clean = !before.ends_with(" sandboxed\n");
        if before == now && sandboxed {
            return Ok(own::write(&head, now)?);
        }
        own::remove_file(&head)?;
        let options = gitio::Checkout { clean, ..gitio::Checkout::default() };
        repo.checkout_into(commit, &self.src(), &self.dir.join("index"), options).await?;
        Ok(own::write(&head, now)?)
    }

    /// The complete object directory of the most similar flavor of the same architecture; among equally similar ones,
    /// the most recently used.
    fn most_similar(&self, flavor: &str, config: &DotConfig) -> Option<ObjectDir> {
        let arch = flavor.split('-').next()?;
        let candidate = |entry: own::OwnEntry| {
            let name = entry.name.to_str().filter(|name| name.split('-').next() == Some(arch))?;
            let objects = self.object_dir(name);
            let used = objects.state.completed()?;
            let text = Dir::open(&objects.dir).and_then(|dir| dir.read_to_string(".config", CONFIG_BYTES));
            let unlike = differences(&DotConfig::parse(&text.unwrap_or_default()), config);
            (!objects.state.is_running()).then_some((std::cmp::Reverse(unlike), used, name.to_owned()))
        };
        let entries = own::list(&self.domain.join("obj")).ok()?;
        let (.., name) = entries.into_iter().filter_map(candidate).max()?;
        Some(self.object_dir(&name))
    }
}

/// Options that affect how every object is compiled: flavors that differ in one of them do not share objects.
const GLOBAL_OPTIONS: [&str; 14] = [
    "CC_IS_CLANG",
    "CC_OPTIMIZE_FOR_SIZE",
    "DEBUG_INFO_DWARF5",
    "FUNCTION_TRACER",
    "GCOV_KERNEL",
    "KASAN",
    "KCOV",
    "KCSAN",
    "KMSAN",
    "LTO_CLANG",
    "PREEMPT",
    "PROVE_LOCKING",
    "SMP",
    "UBSAN",
];

/// The number of [`GLOBAL_OPTIONS`] in which two configurations differ.
fn differences(a: &DotConfig, b: &DotConfig) -> usize {
    let on = |config: &DotConfig, name: &str| *config.get(name) == KValue::Yes;
    GLOBAL_OPTIONS.iter().filter(|name| on(a, name) != on(b, name)).count()
}

/// Copies an object directory with modification times. Links, special files and files with several links are left out,
/// and make creates them again. The copy gets its name when it is complete.
pub(crate) fn copy_objects(from: &Path, to: &Path) -> Result<(), CopyError> {
    let mut partial = OsString::from(to);
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    own::remove_tree(&partial)?;
    own::create_dir_all(&partial)?;
    Dir::open(from)?.copy_tree_with_dates(".", &Dir::open(&partial)?, OBJECT_LIMITS, Special::Skip)?;
    Ok(publish::dir(&partial, to, publish::Durability::Cached)?)
}

/// Why a flavor does not start with the objects of another one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    File(#[from] fsx::Error),
    #[error(transparent)]
    Objects(#[from] UntrustedError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_with_objects_of_the_flavor_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(dir.path().join(path)).unwrap();
        make("0/src");
        make("2/obj/f");
        make("3/obj/f");
        std::fs::write(dir.path().join("3/head"), "x").unwrap();
        let order: Vec<usize> = candidates(dir.path(), 5, "f", None).iter().map(|c| c.number).collect();
        assert_eq!(order, [3, 2, 0, 1, 4]);
        assert_eq!((default_limit(2), default_limit(64)), (1, 4));
    }

    fn tree(dir: &Path) -> BuildTree {
        let lock = Lock::try_acquire(&dir.join("lock"), "test").unwrap().unwrap();
        BuildTree { dir: dir.into(), domain: dir.into(), _lock: lock }
    }

    fn add(tree: &BuildTree, name: &str, complete: bool, running: bool) {
        let objects = tree.object_dir(name);
        std::fs::create_dir_all(&objects.dir).unwrap();
        std::fs::create_dir_all(objects.state.dir()).unwrap();
        std::fs::write(objects.dir.join("x.o"), name).unwrap();
        if complete {
            objects.state.set_complete().unwrap();
        }
        if running {
            objects.state.begin(&Dir::open(&objects.dir).unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_new_flavor_starts_with_the_objects_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(dir.path());
        add(&tree, "x86_64-a", true, false);
        add(&tree, "x86_64-b", false, false);
        add(&tree, "x86_64-c", true, true);
        add(&tree, "aarch64-d", true, false);
        let objs = dir.path().join("obj");
        std::fs::create_dir_all(objs.join("x86_64-new.partial")).unwrap();
        let plain = DotConfig::parse("CONFIG_EXT4_FS=y\n");
        let new = tree.objects("x86_64-new", &plain).await.unwrap();
        assert_eq!(std::fs::read_to_string(new.dir.join("x.o")).unwrap(), "x86_64-a");
        assert_eq!(new.state.completed(), None);
        let date = |path: PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(date(new.dir.join("x.o")), date(objs.join("x86_64-a/x.o")));
        assert!(!objs.join("x86_64-new.partial").exists());
        assert_eq!(tree.objects("x86_64-b", &plain).await.unwrap().dir, objs.join("x86_64-b"));
    }

    #[test]
    fn objects_are_not_copied_if_all_would_be_recompiled() {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(dir.path());
        add(&tree, "x86_64-a", true, false);
        add(&tree, "x86_64-gcov", true, false);
        std::fs::write(tree.object_dir("x86_64-gcov").dir.join(".config"), "CONFIG_GCOV_KERNEL=y\n").unwrap();
        let similar = |config: &str| {
            let found = tree.most_similar("x86_64-more", &DotConfig::parse(config)).unwrap();
            found.dir.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(similar("CONFIG_GCOV_KERNEL=y\n"), "x86_64-gcov");
        assert_eq!(similar("CONFIG_EXT4_FS=y\n"), "x86_64-a");
    }
}
