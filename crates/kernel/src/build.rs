//! One build, from the request to the kernel in the store: found, waited for, or made.
//!
//! For a commit the name is known before anything is configured, so a stored kernel costs milliseconds. Two requests
//! for one name build once.

use std::path::{Path, PathBuf};
use std::time::Instant;

use gitio::{GitError, Repo};
use model::{CommitId, KernelId};

use crate::cache::{Cache, Lock, make_dir};
use crate::compile::{Compile, Compiled};
use crate::dotconfig::DotConfig;
use crate::error::BuildError;
use crate::flavor::Flavor;
use crate::make::{Layout, Make};
use crate::option::KValue;
use crate::pack;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::sandbox;
use crate::store::{Kernel, META_VERSION, Meta, Store, Stored, hash_fields};
use crate::toolchain::Toolchain;
use crate::tree::{self, Tree};

/// What a kernel is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder with a kernel's source, as it is; never written to.
    WorkingTree(PathBuf),
    /// A commit of a repository, which may be bare.
    Commit {
        /// The repository.
        repo: PathBuf,
        /// The commit.
        commit: CommitId,
    },
}

/// A kernel that is wanted.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// From what.
    pub source: Source,
    /// With which configuration.
    pub flavor: Flavor,
    /// How many compiles at once.
    pub jobs: usize,
    /// Whether make runs in bubblewrap, without network and view of the host.
    pub sandbox: bool,
    /// Options that may fail to take their value, by name, with `CONFIG_` or without.
    pub tolerate: Vec<String>,
    /// Where make's output goes. Not written if the kernel was in the store already.
    pub out_log: PathBuf,
}

impl BuildRequest {
    fn tolerates(&self, name: &str) -> bool {
        self.tolerate.iter().any(|text| text.trim().strip_prefix("CONFIG_").unwrap_or(text.trim()) == name)
    }

    /// What did not take, unless all of it is tolerated.
    pub(crate) fn refuse(&self, unmet: &[crate::check::Unmet]) -> Result<(), BuildError> {
        let refused: Vec<_> =
            unmet.iter().filter(|unmet| !self.tolerates(&unmet.option.name)).cloned().collect();
        if refused.is_empty() { Ok(()) } else { Err(BuildError::Requirements { unmet: refused }) }
    }
}

/// Gets a kernel: from the store, or by building it. Safe to cancel: make dies with all it started, and the next
/// build repairs what it left.
pub async fn build(
    request: &BuildRequest,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let requirements = &request.flavor.requirements;
    let toolchain = Toolchain::probe(requirements.arch, requirements.compiler_name()).await?;
    let plan = Plan::new(&request.flavor)?;
    match &request.source {
        Source::Commit { repo, commit } => {
            from_commit(request, cache, toolchain, &plan, repo, commit, on).await
        }
        Source::WorkingTree(source) => from_working_tree(request, cache, toolchain, &plan, source, on).await,
    }
}

/// The name of the kernel that a request for a commit is about, if the store has no answer for it yet. For a working
/// tree nobody knows the name before it is built: `None`.
pub async fn missing(request: &BuildRequest, cache: &Cache) -> Result<Option<KernelId>, BuildError> {
    let Source::Commit { repo, commit } = &request.source else { return Ok(None) };
    let requirements = &request.flavor.requirements;
    let toolchain = Toolchain::probe(requirements.arch, requirements.compiler_name()).await?;
    let source_tree = Repo::open(repo)?.tree_id(commit)?;
    let id = Plan::new(&request.flavor)?.id(&source_tree, &toolchain);
    let store = Store::of(cache);
    let there = store.find(&id).and_then(|stored| from_store(request, &store, &id, stored)).is_some();
    Ok((!there).then_some(id))
}

async fn from_commit(
    request: &BuildRequest,
    cache: &Cache,
    toolchain: Toolchain,
    plan: &Plan,
    repo: &Path,
    commit: &CommitId,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let store = Store::of(cache);
    let repo = Repo::open(repo)?;
    if !repo.has_commit(commit) {
        return Err(GitError::NoSuchCommit { repo: repo.path().into(), spec: commit.to_string() }.into());
    }
    let source_tree = repo.tree_id(commit)?;
    let id = plan.id(&source_tree, &toolchain);
    if let Some(answer) = store.find(&id).and_then(|stored| from_store(request, &store, &id, stored)) {
        return answer;
    }
    let what = format!("builds {}", commit.short());
    let _building = Lock::acquire(&store.lock_path(&id), &what, on).await?;
    if let Some(answer) = store.find(&id).and_then(|stored| from_store(request, &store, &id, stored)) {
        return answer;
    }
    let begun = Instant::now();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let name = request.flavor.name();
    let tree = tree::claim(cache, tree::default_limit(cpus), &name, commit, on).await?;
    on(Progress::CheckingOut);
    tree.checkout(&repo, commit, request.sandbox).await?;
    if !tree.src().join("Kconfig").is_file() {
        let text = format!("commit {}: no kernel source, it has no Kconfig; see -k", commit.short());
        return Err(BuildError::Source(text));
    }
    let (src, obj) = (tree.src(), tree.obj(&name, &configuration(request, plan)).await?);
    let layout = Layout::new(&src, &obj, request.sandbox);
    let make = make(request, cache, toolchain, layout).await?;
    let compiled = match (Compile { request, plan, make: &make }).run(on).await {
        Err(CompileError::Failed { reason, certain }) => {
            if certain {
                store.publish_failure(&id, &reason, &request.out_log)?;
            }
            return Err(BuildError::DoesNotBuild { reason, log: request.out_log.clone() });
        }
        Err(CompileError::Other(error)) => return Err(error),
        Ok(compiled) => compiled,
    };
    on(Progress::Publishing);
    let Packed { stage, meta } = pack(&store, &make, plan, &compiled, source_tree, begun).await?;
    store.publish(&id, stage, &meta)?;
    Ok(store.kernel(&id, &meta, false))
}

/// What is asked of a configuration before it is made: the fragment, and who compiles.
fn configuration(request: &BuildRequest, plan: &Plan) -> DotConfig {
    let mut wanted = plan.fragment.clone();
    if request.flavor.requirements.compiler_name().contains("clang") {
        wanted.set("CC_IS_CLANG", KValue::Yes);
    }
    wanted
}

/// What the store has is the answer, be it a failure; `None` if what it has is not good enough for this request.
fn from_store(
    request: &BuildRequest,
    store: &Store,
    id: &KernelId,
    stored: Stored,
) -> Option<Result<Kernel, BuildError>> {
    match stored {
        // What was missing when it was built (a Rust compiler, say) may be there by now.
        Stored::Kernel(meta) if request.refuse(&meta.unmet).is_err() => None,
        Stored::Kernel(meta) => Some(Ok(store.kernel(id, &meta, true))),
        Stored::Failed { reason, log } => {
            // The log of the first time, where the caller looks for it.
            let copied = request.out_log.parent().map_or(Ok(()), std::fs::create_dir_all);
            let log = match copied.and_then(|()| std::fs::copy(&log, &request.out_log)) {
                Ok(_) => request.out_log.clone(),
                Err(_) => log,
            };
            Some(Err(BuildError::DoesNotBuild { reason, log }))
        }
    }
}

async fn from_working_tree(
    request: &BuildRequest,
    cache: &Cache,
    toolchain: Toolchain,
    plan: &Plan,
    source: &Path,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let source = check_working_tree(source, toolchain.arch)?;
    let store = Store::of(cache);
    let begun = Instant::now();
    let tree = Tree::of_working_tree(cache, &source, on).await?;
    let layout = Layout::new(
        &source,
        &tree.obj(&request.flavor.name(), &configuration(request, plan)).await?,
        request.sandbox,
    );
    let make = make(request, cache, toolchain, layout).await?;
    let compiled = match (Compile { request, plan, make: &make }).run(on).await {
        Err(CompileError::Failed { reason, .. }) => {
            return Err(BuildError::DoesNotBuild { reason, log: request.out_log.clone() });
        }
        Err(CompileError::Other(error)) => return Err(error),
        Ok(compiled) => compiled,
    };
    on(Progress::Publishing);
    let Packed { stage, meta } = pack(&store, &make, plan, &compiled, String::new(), begun).await?;
    // Nobody knows what a working tree holds until it is built: the name is that of the result.
    let modules = pack::modules_hash(stage.path())?;
    let id = hash_fields(["working tree", &meta.image_hash, &meta.config_hash, &modules, &meta.release]);
    let _publishing = Lock::acquire(&store.lock_path(&id), "publishes", on).await?;
    if let Some(Stored::Kernel(there)) = store.find(&id) {
        return Ok(store.kernel(&id, &there, true));
    }
    store.publish(&id, stage, &meta)?;
    Ok(store.kernel(&id, &meta, false))
}

/// The source's absolute path, if it can be built outside itself.
fn check_working_tree(source: &Path, arch: model::Arch) -> Result<PathBuf, BuildError> {
    let refuse = |text: &str| Err(BuildError::Source(format!("{}: {text}", source.display())));
    if !source.join("Makefile").is_file() || !source.join("Kconfig").is_file() {
        return refuse("no kernel source tree here; give one with -k");
    }
    let generated = format!("arch/{}/include/generated", crate::toolchain::srcarch(arch));
    if [".config", "include/config", &generated].iter().any(|path| source.join(path).exists()) {
        return refuse(
            "was built in place; run `make mrproper` in it first (it deletes .config, keep a copy)",
        );
    }
    source.canonicalize().map_err(|error| BuildError::io(source, &error))
}

async fn make(
    request: &BuildRequest,
    cache: &Cache,
    toolchain: Toolchain,
    layout: Layout,
) -> Result<Make, BuildError> {
    toolchain.check_programs().await?;
    for path in [&layout.src_seen, &layout.obj_seen] {
        let text = path.to_string_lossy();
        if text.contains(|c: char| c.is_whitespace() || c == ':') {
            let why = "kernels cannot be built at a path with blanks or colons; move it (KTEST_CACHE_DIR sets the cache)";
            return Err(BuildError::Source(format!("{text}: {why}")));
        }
    }
    let sandbox = if request.sandbox {
        sandbox::probe().await?;
        Some(sandbox::root_entries())
    } else {
        None
    };
    if toolchain.ccache {
        make_dir(&cache.ccache())?;
    }
    let append = request.flavor.requirements.make_append.clone();
    Ok(Make { layout, toolchain, jobs: request.jobs, append, sandbox, ccache: cache.ccache(), out: None })
}

/// Why compiling gave nothing.
pub(crate) enum CompileError {
    /// The source's fault.
    Failed { reason: String, certain: bool },
    /// Anything else.
    Other(BuildError),
}

impl From<BuildError> for CompileError {
    fn from(error: BuildError) -> Self {
        Self::Other(error)
    }
}

/// A filled stage and what is said about it.
struct Packed {
    stage: tempfile::TempDir,
    meta: Meta,
}

async fn pack(
    store: &Store,
    make: &Make,
    plan: &Plan,
    compiled: &Compiled,
    source_tree: String,
    begun: Instant,
) -> Result<Packed, BuildError> {
    let stage = store.stage()?;
    let files = pack::fill(stage.path(), make, compiled).await?;
    let meta = Meta {
        version: META_VERSION,
        arch: make.toolchain.arch,
        release: files.release,
        image: files.image,
        image_hash: files.image_hash,
        vmlinux: files.vmlinux,
        modules: files.modules,
        initrd: None,
        package: None,
        config_hash: hash_fields([compiled.config_text.as_str()]).to_string(),
        unmet: compiled.unmet.clone(),
        unknown_options: compiled.unknown.clone(),
        flavor: plan.flavor.clone(),
        compiler: make.toolchain.version.clone(),
        source_tree,
        objects: compiled.objects,
        build_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Packed { stage, meta })
}

/// Where a finished configuration's boot image is, below the object folder, and its make target.
pub(crate) fn image_of(arch: model::Arch, config: &DotConfig) -> (&'static str, &'static str) {
    match arch {
        // QEMU starts such an ELF file directly: nothing to pack when it is built, nothing to unpack at boot.
        // Where KASAN watches the first steps of a PVH start, the kernel ends before its first word (seen with 6.1).
        model::Arch::X86_64
            if *config.get("PVH") == crate::KValue::Yes && *config.get("KASAN") != crate::KValue::Yes =>
        {
            ("vmlinux", "vmlinux")
        }
        model::Arch::X86_64 => ("bzImage", "arch/x86/boot/bzImage"),
        model::Arch::Aarch64 => ("Image", "arch/arm64/boot/Image"),
    }
}
