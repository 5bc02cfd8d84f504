//! Build trees: a checkout and one object folder per flavor, reused from commit to commit under a lock.
//!
//! Whatever way a build ended before, what make finds is consistent: objects of an interrupted make are removed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::CommitId;
use spawn::{Cmd, Limits};

use crate::cache::{Cache, Lock, holder, make_dir};
use crate::dotconfig::DotConfig;
use crate::error::BuildError;
use crate::option::KValue;
use crate::progress::Progress;

/// A build tree, held by this process while the value lives.
#[derive(Debug)]
pub struct Tree {
    dir: PathBuf,
    _lock: Lock,
}

/// What is known of a tree before it is locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Lower is better: has the flavor's objects, then has any source, then is new.
    rank: u8,
    /// Seconds since it was last used: near in time is near in history.
    age: Duration,
    number: usize,
}

/// How many trees a host with so many processors keeps: each build uses all of them, so one for every 16.
#[must_use]
pub fn default_limit(cpus: usize) -> usize {
    (cpus / 16).max(1)
}

/// Claims a free tree, preferring one that has built this flavor; waits, saying so, while all are in use.
pub async fn claim(
    cache: &Cache,
    limit: usize,
    flavor: &str,
    commit: &CommitId,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Tree, BuildError> {
    let what = format!("builds {} as {flavor}", commit.short());
    let mut told = false;
    loop {
        let candidates = candidates(&cache.trees(), limit.max(1), flavor);
        for candidate in &candidates {
            let dir = cache.trees().join(candidate.number.to_string());
            if let Some(lock) = Lock::try_acquire(&dir.join("lock"), &what)? {
                return Ok(Tree { dir, _lock: lock });
            }
        }
        if !told {
            told = true;
            let first = candidates.first().map_or(0, |candidate| candidate.number);
            on(Progress::WaitingForLock {
                holder: holder(&cache.trees().join(first.to_string()).join("lock")),
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn candidates(trees: &Path, limit: usize, flavor: &str) -> Vec<Candidate> {
    let now = SystemTime::now();
    let mut candidates: Vec<Candidate> = (0..limit)
        .map(|number| {
            let dir = trees.join(number.to_string());
            let rank = match () {
                () if dir.join("obj").join(flavor).is_dir() => 0,
                () if dir.join("src").is_dir() => 1,
                () => 2,
            };
            let used = std::fs::metadata(dir.join("head")).and_then(|meta| meta.modified()).ok();
            let age = used.and_then(|used| now.duration_since(used).ok()).unwrap_or(Duration::MAX);
            Candidate { rank, age, number }
        })
        .collect();
    candidates.sort();
    candidates
}

impl Tree {
    /// The objects of a working tree that is not ours: one folder for each source path.
    pub async fn of_working_tree(
        cache: &Cache,
        source: &Path,
        on: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Self, BuildError> {
        let name = crate::store::hash_fields([source.to_string_lossy().as_ref()]);
        let dir = cache.trees().join(format!("work-{}", name.short()));
        let what = format!("builds {}", source.display());
        let lock = Lock::acquire(&dir.join("lock"), &what, on).await?;
        Ok(Self { dir, _lock: lock })
    }

    /// The checkout.
    #[must_use]
    pub fn src(&self) -> PathBuf {
        self.dir.join("src")
    }

    /// The object folder of a flavor with this configuration. A new one begins as a copy of another flavor's: kbuild
    /// remembers for each object which options it read, so only what the difference touches is made again.
    pub async fn obj(&self, flavor: &str, wanted: &DotConfig) -> Result<PathBuf, BuildError> {
        let objs = self.dir.join("obj");
        let dir = objs.join(flavor);
        if !dir.is_dir() {
            make_dir(&objs)?;
            if let Some(other) = seed(&objs, flavor, wanted) {
                copy_objects(&other, &dir).await?;
            }
            make_dir(&dir)?;
        }
        Ok(dir)
    }

    /// Makes the checkout hold a commit; only files that differ are written.
    pub async fn checkout(
        &self,
        repo: &gitio::Repo,
        commit: &CommitId,
        sandboxed: bool,
    ) -> Result<(), BuildError> {
        let head = self.dir.join("head");
        let before = std::fs::read_to_string(&head).unwrap_or_default();
        // What it says: the commit, and whether what built it could write into the checkout.
        let now = format!("{commit} {}\n", if sandboxed { "sandboxed" } else { "open" });
        let clean = !before.ends_with(" sandboxed\n");
        if before == now && sandboxed {
            return std::fs::write(&head, now).map_err(|error| BuildError::io(&head, &error));
        }
        let _ = std::fs::remove_file(&head);
        let how = gitio::Checkout { clean, ..gitio::Checkout::default() };
        repo.checkout_into(commit, &self.src(), &self.dir.join("index"), how).await?;
        std::fs::write(&head, now).map_err(|error| BuildError::io(&head, &error))
    }
}

/// Options that change how every object is compiled: between flavors that differ in one nothing can be used again.
const EVERYWHERE: [&str; 14] = [
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

/// In how many of them a configuration differs.
fn differences(a: &DotConfig, b: &DotConfig) -> usize {
    let on = |config: &DotConfig, name: &str| *config.get(name) == KValue::Yes;
    EVERYWHERE.iter().filter(|name| on(a, name) != on(b, name)).count()
}

/// The whole object folder of another flavor of the same architecture: the one most like it, of those the last used.
fn seed(objs: &Path, flavor: &str, wanted: &DotConfig) -> Option<PathBuf> {
    let arch = flavor.split('-').next()?;
    let whole = |entry: std::fs::DirEntry| {
        let (path, name) = (entry.path(), entry.file_name());
        let same = name.to_str().is_some_and(|name| name.split('-').next() == Some(arch));
        let used = std::fs::metadata(path.join(COMPLETE)).and_then(|meta| meta.modified()).ok()?;
        let config = std::fs::read_to_string(path.join(".config")).unwrap_or_default();
        let unlike = differences(&DotConfig::parse(&config), wanted);
        (same && !path.join(RUNNING).exists()).then_some((std::cmp::Reverse(unlike), used, path))
    };
    let entries = std::fs::read_dir(objs).ok()?;
    entries.filter_map(Result::ok).filter_map(whole).max().map(|(.., path)| path)
}

/// Copies an object folder with its dates; what is there under the name is whole.
async fn copy_objects(from: &Path, to: &Path) -> Result<(), BuildError> {
    let mut half = to.as_os_str().to_owned();
    half.push(".half");
    let half = PathBuf::from(half);
    let io = |error: std::io::Error| BuildError::io(&half, &error);
    if half.exists() {
        std::fs::remove_dir_all(&half).map_err(io)?;
    }
    let cmd = Cmd::new("cp").args(["-a", "--reflink=auto", "--"]).args([from, &half]);
    let output = cmd.output(Limits::seconds(1800)).await?;
    if !output.exit.success() {
        return Err(BuildError::Infrastructure(output.complaint()));
    }
    // Of the other flavor it is whole; of this one it is only when it was built.
    let _ = std::fs::remove_file(half.join(COMPLETE));
    std::fs::rename(&half, to).map_err(io)
}

/// The file in an object folder that says that all objects were made once; its date says when the last time was.
pub(crate) const COMPLETE: &str = ".ktest-complete";

/// The file that stands in an object folder while make runs there.
const RUNNING: &str = ".ktest-running";

/// Marks an object folder as being built, after repairing what an interrupted build left. Blocks on the disk.
pub fn begin(obj: &Path) -> Result<(), BuildError> {
    let marker = obj.join(RUNNING);
    if let Ok(started) = std::fs::metadata(&marker).and_then(|meta| meta.modified()) {
        let removed = remove_since(obj, started);
        tracing::info!(obj = %obj.display(), removed, "an interrupted build is repaired");
    }
    std::fs::write(&marker, "").map_err(|error| BuildError::io(&marker, &error))
}

/// make ended by itself, so every object is whole or was deleted by it.
pub fn end(obj: &Path) {
    let _ = std::fs::remove_file(obj.join(RUNNING));
}

/// Removes what was written since then: a compiler that was killed leaves half an object that looks new. What
/// Kconfig wrote stays: it is written by rename, and its dates tell make which options changed.
fn remove_since(obj: &Path, since: SystemTime) -> usize {
    let mut removed = 0;
    let config = obj.join("include/config");
    let walk = walkdir::WalkDir::new(obj).into_iter().filter_entry(|entry| entry.path() != config);
    for entry in walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        let name = entry.file_name().to_string_lossy();
        let ours = entry.depth() == 1 && (name.starts_with(".config") || name.starts_with(".ktest"));
        let new =
            entry.metadata().ok().and_then(|meta| meta.modified().ok()).is_none_or(|time| time >= since);
        if new && !ours && std::fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_that_know_the_flavor_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(dir.path().join(path)).unwrap();
        make("0/src");
        make("2/obj/f");
        make("3/obj/f");
        std::fs::write(dir.path().join("3/head"), "x").unwrap();
        let order: Vec<usize> = candidates(dir.path(), 5, "f").iter().map(|c| c.number).collect();
        assert_eq!(order, [3, 2, 0, 1, 4]);
        assert_eq!((default_limit(2), default_limit(64)), (1, 4));
    }

    #[tokio::test]
    async fn a_new_flavor_begins_with_the_objects_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let objs = dir.path().join("obj");
        for (name, complete, running) in [
            ("x86_64-a", true, false),
            ("x86_64-b", false, false),
            ("x86_64-c", true, true),
            ("aarch64-d", true, false),
        ] {
            std::fs::create_dir_all(objs.join(name)).unwrap();
            std::fs::write(objs.join(name).join("x.o"), name).unwrap();
            if complete {
                std::fs::write(objs.join(name).join(COMPLETE), "").unwrap();
            }
            if running {
                std::fs::write(objs.join(name).join(RUNNING), "").unwrap();
            }
        }
        std::fs::create_dir_all(objs.join("x86_64-new.half")).unwrap();
        let lock = Lock::try_acquire(&dir.path().join("lock"), "test").unwrap().unwrap();
        let tree = Tree { dir: dir.path().into(), _lock: lock };
        let plain = DotConfig::parse("CONFIG_EXT4_FS=y\n");
        let new = tree.obj("x86_64-new", &plain).await.unwrap();
        assert_eq!(std::fs::read_to_string(new.join("x.o")).unwrap(), "x86_64-a");
        assert!(!new.join(COMPLETE).exists());
        let date = |path: PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(date(new.join("x.o")), date(objs.join("x86_64-a/x.o")));
        assert!(!objs.join("x86_64-new.half").exists());
        assert_eq!(tree.obj("x86_64-b", &plain).await.unwrap(), objs.join("x86_64-b"));
        // What compiles every object in another way is no start for it, however lately it was used.
        let gcov = objs.join("x86_64-gcov");
        std::fs::create_dir_all(&gcov).unwrap();
        std::fs::write(gcov.join(".config"), "CONFIG_GCOV_KERNEL=y\n").unwrap();
        std::fs::write(gcov.join(COMPLETE), "").unwrap();
        assert_eq!(
            seed(&objs, "x86_64-more", &DotConfig::parse("CONFIG_GCOV_KERNEL=y\n")),
            Some(gcov.clone())
        );
        assert_ne!(seed(&objs, "x86_64-more", &plain), Some(gcov));
    }

    #[test]
    fn an_interrupted_build_leaves_no_half_objects() {
        let dir = tempfile::tempdir().unwrap();
        let obj = dir.path();
        let put = |name: &str, ago: u64| {
            let path = obj.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            let time = SystemTime::now() - Duration::from_secs(ago);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        put("fs/old.o", 100);
        put(RUNNING, 50);
        put("fs/half.o", 10);
        put("include/config/NEW", 10);
        put(".config", 10);
        begin(obj).unwrap();
        let there = |name: &str| obj.join(name).exists();
        assert!(there("fs/old.o") && !there("fs/half.o"));
        assert!(there("include/config/NEW") && there(".config") && there(RUNNING));
        end(obj);
        assert!(!there(RUNNING));
        put("fs/whole.o", 0);
        begin(obj).unwrap();
        assert!(there("fs/whole.o"));
    }
}
