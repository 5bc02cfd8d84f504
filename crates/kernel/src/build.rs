//! One build, from the request to the kernel in the store.
//!
//! The id of a commit's kernel is known before it is configured, so a stored kernel is found in milliseconds.
//! Concurrent requests for one id cause only one build.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fsx::own;
use fsx::untrusted::Scratch;
use gitio::{GitError, Repo};
use model::{CommitId, KernelId, TrustDomain};
use sandbox::Sandbox;

use crate::blocking::blocking;
use crate::cache::{Cache, lock};
use crate::closure;
use crate::compile::Compilation;
use crate::dotconfig::DotConfig;
use crate::error::{BuildError, CompileError, InfrastructureError, SourceError};
use crate::id::hash_fields;
use crate::make::{BaseCcache, Layout, Make};
use crate::option::KValue;
use crate::pack;
use crate::plan::BuildPlan;
use crate::predict::Configuration;
use crate::progress::Progress;
use crate::request::{BuildRequest, KernelSource};
use crate::store::{Kernel, META_VERSION, Meta, Store, Stored};
use crate::toolchain::Toolchain;
use crate::tree::{self, BuildTree};
use crate::verify;

/// Gets a kernel from the store, or builds it. To cancel, drop the future: make and its child processes are killed, and
/// the next build repairs the object directory.
pub async fn build(
    request: &BuildRequest,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let requirements = &request.flavor.requirements;
    let toolchain = Toolchain::probe(requirements.arch, requirements.compiler_name()).await?;
    let plan = BuildPlan::new(&request.flavor)?;
    match &request.source {
        KernelSource::Commit { repo, commit } => {
            from_commit(request, cache, toolchain, &plan, (repo, commit), on).await
        }
        KernelSource::WorkingTree(source) => {
            from_working_tree(request, cache, toolchain, &plan, source, on).await
        }
    }
}

/// The id of the kernel of a commit, if the store has no result for it. `None` for a working tree: its id is not known
/// before it is built.
pub async fn missing_kernel(request: &BuildRequest, cache: &Cache) -> Result<Option<KernelId>, BuildError> {
    let KernelSource::Commit { repo, commit } = &request.source else { return Ok(None) };
    let requirements = &request.flavor.requirements;
    let toolchain = Toolchain::probe(requirements.arch, requirements.compiler_name()).await?;
    let source_tree = Repo::open(repo)?.tree_id(commit)?;
    let id = BuildPlan::new(&request.flavor)?.id(&source_tree, &toolchain, request.trust.as_ref());
    let store = Store::of(cache);
    let stored = stored_result(request, &store, &id).is_some();
    Ok((!stored).then_some(id))
}

async fn from_commit(
    request: &BuildRequest,
    cache: &Cache,
    toolchain: Toolchain,
    plan: &BuildPlan,
    (repo, commit): (&Path, &CommitId),
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let store = Store::of(cache);
    let repo = Repo::open(repo)?;
    if !repo.has_commit(commit) {
        return Err(GitError::NoSuchCommit { repo: repo.path().into(), spec: commit.to_string() }.into());
    }
    let source_tree = repo.tree_id(commit)?;
    let id = plan.id(&source_tree, &toolchain, request.trust.as_ref());
    if let Some(result) = stored_result(request, &store, &id) {
        return result;
    }
    let _lock = lock(&store.lock_path(&id), &format!("builds {}", commit.short()), on).await?;
    // The process that held the lock may have built it.
    if let Some(result) = stored_result(request, &store, &id) {
        return result;
    }
    let others = Configuration { store: &store, id: plan.id("", &toolchain, request.trust.as_ref()) };
    let predicted = others.predict(request, &repo, &source_tree).await;
    if let Some(predicted) = &predicted {
        on(predicted.progress());
        if !predicted.is_checked {
            return others.adopt(&id, predicted, &source_tree).await;
        }
    }
    let begun = Instant::now();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let name = request.flavor.name();
    let tree =
        tree::claim(cache, tree::default_limit(cpus), (&name, request.trust.as_ref()), commit, on).await?;
    on(Progress::CheckingOut);
    tree.checkout(&repo, commit, request.sandbox).await?;
    if !own::is_file(&tree.src().join("Kconfig"))? {
        return Err(SourceError::NoKconfig(commit.short().to_string()).into());
    }
    let objects = tree.objects(&name, &requested_config(request, plan)).await?;
    let layout = Layout::new(&tree.src(), &objects, request.sandbox);
    let make = make(request, cache, toolchain, layout).await?;
    match compile_and_pack(request, plan, &make, &store, source_tree.clone(), begun, on).await {
        Ok(packed) => {
            let meta = &packed.meta;
            if request.is_verified() {
                verify::compare(request, cache, plan, &make, &tree, meta, on).await?;
            }
            others.publish(&id, &packed, predicted.as_ref()).await?;
            make.trim_base_ccache().await;
            Ok(store.kernel(&id, meta, false))
        }
        Err(CompileError::Failed { reason, certain }) => {
            if certain {
                others.does_not_build(predicted.as_ref(), &source_tree)?;
                store.publish_failure(&id, &reason, &request.out_log)?;
            }
            Err(BuildError::DoesNotBuild { reason, log: request.out_log.clone() })
        }
        Err(CompileError::Other(error)) => Err(error),
    }
}

/// The requested configuration, as far as it is known before Kconfig runs.
fn requested_config(request: &BuildRequest, plan: &BuildPlan) -> DotConfig {
    let mut config = plan.fragment.clone();
    if request.flavor.requirements.compiler_name().contains("clang") {
        config.set("CC_IS_CLANG", KValue::Yes);
    }
    config
}

/// The stored result of a request, which may be a failure; `None` if there is no result that this request can use.
fn stored_result(request: &BuildRequest, store: &Store, id: &KernelId) -> Option<Result<Kernel, BuildError>> {
    match store.find(id)? {
        // A program that was missing during that build (a Rust compiler) may be installed now.
        Stored::Kernel(meta) if request.refuse(&meta.unmet).is_err() => None,
        Stored::Kernel(meta) => Some(Ok(store.kernel(id, &meta, true))),
        Stored::Failed { reason, log } => {
            // The caller expects the log of the failed build at its own path.
            let copied = request.out_log.parent().map_or(Ok(()), own::create_dir_all);
            let log = match copied.and_then(|()| own::copy(&log, &request.out_log)) {
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
    plan: &BuildPlan,
    source: &Path,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let source = check_working_tree(source, toolchain.arch)?;
    let store = Store::of(cache);
    let begun = Instant::now();
    let tree = BuildTree::of_working_tree(cache, (&source, request.trust.as_ref()), on).await?;
    let objects = tree.objects(&request.flavor.name(), &requested_config(request, plan)).await?;
    let layout = Layout::new(&source, &objects, request.sandbox);
    let make = make(request, cache, toolchain, layout).await?;
    let packed = compile_and_pack(request, plan, &make, &store, String::new(), begun, on).await;
    let Packed { stage, meta, .. } = match packed {
        Ok(packed) => packed,
        Err(CompileError::Failed { reason, .. }) => {
            return Err(BuildError::DoesNotBuild { reason, log: request.out_log.clone() });
        }
        Err(CompileError::Other(error)) => return Err(error),
    };
    // The content of a working tree has no id, so the kernel id is derived from the result.
    let modules = pack::modules_hash(stage.path())?;
    let id = hash_fields(["working tree", &meta.image_hash, &meta.config_hash, &modules, &meta.release]);
    let _lock = lock(&store.lock_path(&id), "publishes it", on).await?;
    if let Some(Stored::Kernel(stored)) = store.find(&id) {
        return Ok(store.kernel(&id, &stored, true));
    }
    store.publish(&id, &stage, &meta)?;
    Ok(store.kernel(&id, &meta, false))
}

/// The absolute path of a source tree that can be built with a separate object directory.
fn check_working_tree(source: &Path, arch: model::Arch) -> Result<PathBuf, BuildError> {
    if !own::is_file(&source.join("Makefile"))? || !own::is_file(&source.join("Kconfig"))? {
        return Err(SourceError::NoSourceTree(source.into()).into());
    }
    let generated = format!("arch/{}/include/generated", crate::toolchain::srcarch(arch));
    for path in [".config", "include/config", &generated] {
        if own::existing(&source.join(path))?.is_some() {
            return Err(SourceError::BuiltInPlace(source.into()).into());
        }
    }
    Ok(source.canonicalize().map_err(InfrastructureError::io(source))?)
}

async fn make(
    request: &BuildRequest,
    cache: &Cache,
    toolchain: Toolchain,
    layout: Layout,
) -> Result<Make, BuildError> {
    toolchain.check_programs().await?;
    for path in [&layout.make_src, &layout.make_obj] {
        if path.to_string_lossy().contains(|c: char| c.is_whitespace() || c == ':') {
            return Err(SourceError::UnusablePath(path.clone()).into());
        }
    }
    let sandbox = if request.sandbox {
        sandbox::probe().await.map_err(InfrastructureError::Sandbox)?;
        Some(Sandbox::new())
    } else {
        None
    };
    let ccache = cache.ccache(request.trust.as_ref());
    if toolchain.ccache {
        own::create_dir_all(&ccache)?;
    }
    let base_ccache = base_ccache(request, cache)?;
    let append = request.flavor.requirements.make_append.clone();
    let jobs = request.jobs;
    Ok(Make { layout, toolchain, jobs, append, sandbox, ccache, base_ccache, use_ccache: true, out: None })
}

/// The compiler cache that the builds of the base write and those of other trust domains read, if there is one.
fn base_ccache(request: &BuildRequest, cache: &Cache) -> Result<Option<BaseCcache>, BuildError> {
    let Some(trust) = &request.trust else { return Ok(None) };
    let (dir, writable) = (cache.base_ccache(), *trust == TrustDomain::base());
    if writable {
        own::create_dir_all(&dir)?;
    }
    Ok(own::is_dir(&dir)?.then_some(BaseCcache { dir, writable }))
}

/// A filled stage and its description.
pub(crate) struct Packed {
    pub stage: Scratch,
    pub meta: Meta,
    /// Whether the stage has the list of the source files that were read.
    pub has_closure: bool,
}

async fn compile_and_pack(
    request: &BuildRequest,
    plan: &BuildPlan,
    make: &Make,
    store: &Store,
    source_tree: String,
    begun: Instant,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Packed, CompileError> {
    let compiled = (Compilation { request, plan, make }).run(on).await?;
    on(Progress::Publishing);
    let (stage, module_dir) = (store.stage()?, store.scratch()?);
    let contents = pack::fill(stage.path(), module_dir.path(), make, &compiled).await?;
    let meta = Meta {
        version: META_VERSION,
        arch: make.toolchain.arch,
        release: contents.release,
        image: contents.image,
        image_hash: contents.image_hash,
        code: contents.code,
        vmlinux: contents.vmlinux,
        modules: contents.modules,
        initrd: None,
        package: None,
        config_hash: hash_fields([compiled.config_text.as_str()]).to_string(),
        unmet: compiled.unmet,
        unknown_options: compiled.unknown,
        flavor: plan.flavor.clone(),
        compiler: make.toolchain.version.clone(),
        source_tree,
        same_as: None,
        objects: compiled.objects,
        build_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let (layout, config) = (make.layout.clone(), compiled.config.clone());
    let read = blocking("reading the files that make left", move || closure::read(&layout, &config)).await?;
    if let Some(read) = &read {
        own::write(&stage.path().join(closure::LIST), read.text())?;
    }
    Ok(Packed { stage, meta, has_closure: read.is_some() })
}
