//! The kernel of a run: built from a source, or taken from the kernel store by name or id.
//!
//! If the source or the test file is the reason that there is no kernel, the result is a verdict ([`CannotRun`]), not
//! an error.

use std::io::ErrorKind;
use std::path::Path;

use fsx::untrusted::Dir;
use kernel::dotconfig::DotConfig;
use kernel::{
    BuildError, BuildRequest, Cache, Flavor, KOption, Kernel, KernelSource, NamedKernel, Requirements,
    SourceError, Store,
};
use model::{Arch, Event, StoreKernel};
use testfile::{Declarations, HostEnv, TestFile};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::error::{CannotRun, RunError, Stop};
use super::kernel_arg::KernelFrom;
use super::phases::Declared;
use super::request::RunRequest;
use super::results::Results;
use super::summary::UsedKernel;
use crate::report::Reporter;

/// The maximum size of a kernel configuration or a Makefile, in bytes.
const MAX_CONFIG: u64 = 16 << 20;
/// The maximum size of a build log, in bytes.
const MAX_BUILD_LOG: u64 = 1 << 30;

/// The kernel from the store, downloaded if it is missing; `None` if a kernel must be built.
pub(super) async fn from_store(
    request: &RunRequest,
    reporter: &mut Reporter,
) -> Result<Option<Kernel>, RunError> {
    let cache = Cache { dir: request.cache.clone() };
    match &request.kernel {
        KernelFrom::Source(_) => Ok(None),
        KernelFrom::Folder(dir) => {
            let arch = request.order.test.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
            kernel::folder::find(dir, arch).map(Some).map_err(failure)
        }
        KernelFrom::Stored(id) => match Store::of(&cache).get(id) {
            Some(kernel) => Ok(Some(kernel)),
            None => Err(RunError::Usage(format!("the store has no kernel {id}; see ktest kernel list"))),
        },
        KernelFrom::Named(name) => {
            let arch = request.order.test.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
            let store = Store::of(&cache);
            let wanted = match NamedKernel::parse(name, &request.order.test.kernel_repos, arch) {
                Ok(wanted) => wanted,
                // It was fetched before, and no repository is given that could be another one.
                Err(error) => {
                    let complete = format!("{name}/{arch}").parse::<StoreKernel>().ok();
                    let found = store.with_name(name).or_else(|| store.with_name(&complete?));
                    return found.map(Some).ok_or_else(|| RunError::Source(error.to_string()));
                }
            };
            if let Some(kernel) = store.named(&wanted) {
                return Ok(Some(kernel));
            }
            reporter.note(&format!("kernel {name} is not in the store; fetching it"));
            let mut on = |progress: kernel::Progress| {
                if let Event::Phase { what } = progress_event(progress) {
                    tracing::info!("{what}");
                    reporter.step(&what);
                }
            };
            let mirror = kernel::fetch::host_mirror(&wanted).await;
            let kernel = kernel::fetch::fetch(&wanted, &mirror, &cache, &mut on).await;
            kernel.map(Some).map_err(failure)
        }
    }
}

/// The error that ends a run.
pub(super) fn failure(error: BuildError) -> RunError {
    match error {
        BuildError::Source(SourceError::Git(error)) => source_or_host(&error, error.to_string()),
        BuildError::Source(error) => RunError::Source(error.to_string()),
        other => RunError::Infrastructure(other.to_string()),
    }
}

/// The output of `make kernelversion` for a source; empty for a kernel of the store.
pub async fn kernel_version(from: &KernelFrom) -> Result<String, RunError> {
    version(from, None).await
}

/// The maximum size of a Makefile, in bytes.
const MAKEFILE: usize = 4 << 20;

/// The output of `make kernelversion`, derived from the source's Makefile; for a kernel from the store, its release.
pub(super) async fn version(from: &KernelFrom, kernel: Option<&Kernel>) -> Result<String, RunError> {
    let source = match (from, kernel) {
        (_, Some(kernel)) => return Ok(kernel.release.clone()),
        (KernelFrom::Source(source), None) => source,
        (_, None) => return Ok(String::new()),
    };
    let (dir, text) = match source {
        KernelSource::WorkingTree(dir) => {
            let path = dir.join("Makefile");
            let text = fsx::own::read_to_string(&path, MAX_CONFIG).map_err(|error| match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied => {
                    no_kernel_tree(dir)
                }
                ErrorKind::InvalidData | ErrorKind::FileTooLarge => no_kernel_tree(dir),
                _ => RunError::infrastructure(error),
            })?;
            (dir, text)
        }
        KernelSource::Commit { repo, commit } => {
            let no_kernel = |error: gitio::GitError| {
                let text = format!("{}: no kernel at commit {commit}: {error}", repo.display());
                source_or_host(&error, text)
            };
            let opened = gitio::Repo::open(repo).map_err(no_kernel)?;
            let makefile = opened.file(commit, "Makefile", MAKEFILE).await.map_err(no_kernel)?;
            (repo, String::from_utf8_lossy(&makefile).into_owned())
        }
    };
    kernel::kernel_version(&text).ok_or_else(|| no_kernel_tree(dir))
}

/// Classifies an error of git: a wrong name is an error of the user, everything else a failure of this host.
fn source_or_host(error: &gitio::GitError, text: String) -> RunError {
    use gitio::GitError::{NoSuchCommit, NoSuchPath, Unborn};
    match error {
        NoSuchPath { .. } => RunError::Source(text),
        NoSuchCommit { .. } | Unborn { .. } => RunError::Commit(text),
        _ => RunError::Infrastructure(text),
    }
}

fn no_kernel_tree(dir: &Path) -> RunError {
    RunError::Source(format!("{}: not a kernel source tree; pass -k DIR", dir.display()))
}

/// Gets the kernel that the declarations require, and reports it.
pub(super) async fn get(
    run: &Declared<'_>,
    stored: Option<Kernel>,
    results: &mut Results<'_>,
) -> Result<Kernel, Stop> {
    let began = std::time::Instant::now();
    let kernel = find_or_build(run, stored, results).await.and_then(|kernel| {
        let (has, wants) = (kernel.arch, run.declared.kernel.arch);
        if has == wants {
            return Ok(kernel);
        }
        let reason = format!("the kernel is for {has}, the test file requires {wants}");
        Err(CannotRun::because(reason).into())
    });
    match kernel {
        Ok(kernel) => {
            report(&kernel, &run.declared, began, results);
            copy_config(&kernel, results);
            results.summary.kernel = Some(UsedKernel { kernel: kernel.clone(), took: began.elapsed() });
            Ok(kernel)
        }
        Err(Stop::CannotRun(cannot)) => {
            results.reporter.event(Event::BuildFailed { reason: cannot.reason.clone() });
            Err(CannotRun { reason: prefixed(&cannot), ..cannot }.into())
        }
        Err(error) => Err(error),
    }
}

async fn find_or_build(
    run: &Declared<'_>,
    stored: Option<Kernel>,
    results: &mut Results<'_>,
) -> Result<Kernel, Stop> {
    match (stored, &run.request.kernel) {
        (Some(kernel), _) => Ok(kernel),
        (None, KernelFrom::Source(KernelSource::WorkingTree(dir))) if run.declared.no_kbuild => {
            let found = kernel::in_place::find(dir, run.declared.kernel.arch);
            found.map_err(|error| CannotRun::because(error).into())
        }
        (None, KernelFrom::Source(source)) if !run.declared.no_kbuild => build(run, source, results).await,
        (None, _) => Err(CannotRun::because(
            "config-no-kbuild: the kernel is not built from a commit; name one of the store, for example -k debian/trixie",
        )
        .into()),
    }
}

async fn build(run: &Declared<'_>, source: &KernelSource, results: &mut Results<'_>) -> Result<Kernel, Stop> {
    let Declared { request, file, declared, host_env } = run;
    results.reporter.event(Event::BuildStarted);
    let request_to_build = BuildRequest {
        source: source.clone(),
        flavor: flavor(request, file.as_ref(), declared, host_env).await?,
        jobs: request.jobs(),
        sandbox: request.sandbox(),
        tolerate: request.order.test.tolerate.clone(),
        trust: request.order.test.trust_domain.clone(),
        verify_every: request.order.test.verify_builds,
        check_predicted: kernel::CHECK_PREDICTED,
        out_log: results.out.dir().join("out").join("build.log"),
    };
    let cache = Cache { dir: request.cache.clone() };
    if request.order.ask_kernel
        && let Ok(Some(kernel)) = kernel::missing_kernel(&request_to_build, &cache).await
    {
        results.reporter.event(Event::KernelWanted { kernel });
        // The end of input also means that the kernel must be built here.
        let mut answer = String::new();
        let _ = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
    }
    let reporter = &mut *results.reporter;
    let mut on = |progress| reporter.event(progress_event(progress));
    kernel::build(&request_to_build, &cache, &mut on).await.map_err(build_error)
}

/// Copies the kernel's configuration to the output directory. A kernel from the store may have none.
fn copy_config(kernel: &Kernel, results: &mut Results<'_>) {
    let config = match fsx::own::read(&kernel.config, MAX_CONFIG) {
        Err(error) if error.is_not_found() => return,
        config => config.map_err(std::io::Error::from),
    };
    let copied = config.and_then(|config| {
        results.out.handle().write("kernel.config", &config)?;
        // Tests can read it there if the kernel has no /proc/config.gz.
        Ok(Dir::open(&results.out.files())?.write("kernel.config", config)?)
    });
    if let Err(error) = copied {
        results
            .reporter
            .note(&format!("{}: cannot copy it to the output directory: {error}", kernel.config.display()));
    }
}

/// The event has only the compiler's error; the verdict has a prefix.
fn prefixed(cannot: &CannotRun) -> String {
    let CannotRun { reason, log } = cannot;
    if log.is_empty() { reason.clone() } else { model::build_failed_reason(reason) }
}

/// Separates build errors that become a verdict from errors that end the run.
fn build_error(error: BuildError) -> Stop {
    match error {
        BuildError::DoesNotBuild { reason, log } => {
            let log =
                fsx::own::read(&log, MAX_BUILD_LOG).map(|bytes| last(bytes, 1 << 20)).unwrap_or_default();
            // Never empty, because a non-empty log marks an error as the compiler's.
            let log = if log.is_empty() { b"\n".to_vec() } else { log };
            CannotRun { reason, log }.into()
        }
        error @ BuildError::Requirements { .. } => CannotRun::because(error).into(),
        other => failure(other).into(),
    }
}

/// The flavor of this file, merged with the files that share its kernel.
async fn flavor(
    request: &RunRequest,
    file: Option<&TestFile>,
    declared: &Declarations,
    host_env: &HostEnv,
) -> Result<Flavor, RunError> {
    let name = file.map_or("boot".into(), |file| file.test.to_string());
    let mut wishes: Vec<(String, Requirements)> = vec![(name.clone(), declared.kernel.clone())];
    for other in &request.order.test.merge {
        let other = TestFile::find(other, request.order.test.tests_dir.as_deref())?;
        if other.test.as_str() == name {
            continue;
        }
        match other.deps_cached(host_env, &request.cache).await {
            // These files do not need a built kernel.
            Ok(declared) if declared.no_vm || declared.no_kbuild => {}
            Ok(declared) => wishes.push((other.test.to_string(), declared.kernel)),
            // Invalid declarations of another file are reported when that file runs.
            Err(error) => tracing::warn!("not included in the shared kernel: {error}"),
        }
    }
    let flavors = kernel::merge(&wishes).into_iter();
    Ok({ flavors }.find(|flavor| flavor.files.contains(&name)).expect("every file is in a flavor"))
}

fn report(kernel: &Kernel, declared: &Declarations, began: std::time::Instant, results: &mut Results<'_>) {
    let duration = kernel.fetched.unwrap_or_else(|| began.elapsed());
    results.reporter.event(Event::KernelReady {
        kernel: kernel.id.clone(),
        image_hash: kernel.image_hash.clone(),
        cached: kernel.cached,
        fetched: kernel.fetched.is_some(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    });
    for option in &kernel.tolerated {
        results.reporter.note(&format!("tolerated: {option}"));
    }
    if !kernel.unknown_options.is_empty() {
        let list = kernel.unknown_options.join(" ");
        results.reporter.note(&format!("ignored options unknown to this kernel: {list}"));
    }
    let text = fsx::own::read_to_string(&kernel.config, MAX_CONFIG).unwrap_or_default();
    let config = DotConfig::parse(&text);
    let declared = declared.kernel.canonical();
    for (options, what) in [
        (&declared.require, "required options missing in this kernel"),
        (
            &declared.require_soft,
            "optional options missing in this kernel, tests may not be run because of this",
        ),
    ] {
        let lacks = lacking(kernel, options, &config);
        if !lacks.is_empty() {
            results.reporter.note(&format!("{what}: {}", lacks.join(" ")));
        }
    }
}

/// The options that the configuration of a kernel does not have, and that were not reported for another reason.
fn lacking(kernel: &Kernel, options: &[KOption], config: &DotConfig) -> Vec<String> {
    let mut lacks = kernel::check::missing_options(options, config);
    let known = |option: &String| {
        let name = option.split('=').next().unwrap_or(option);
        kernel.tolerated.contains(option) || kernel.unknown_options.iter().any(|unknown| unknown == name)
    };
    lacks.retain(|option| !known(option));
    lacks
}

fn last(mut bytes: Vec<u8>, most: usize) -> Vec<u8> {
    let surplus = bytes.len().saturating_sub(most);
    bytes.drain(..surplus);
    bytes
}

/// The progress of a build, as an event.
pub(crate) fn progress_event(progress: kernel::Progress) -> Event {
    use kernel::Progress;
    match progress {
        Progress::Compiling { done, total } => Event::BuildProgress { done, total },
        Progress::WaitingForLock { holder } => Event::Phase { what: format!("waiting for {holder}") },
        Progress::Fetching { step } => Event::Phase { what: format!("kernel: {step}") },
        Progress::Predicted { kernel, changes, checked: false } => Event::Phase {
            what: format!(
                "kernel: that of {}; the build reads none of the changed files ({changes})",
                kernel.short()
            ),
        },
        Progress::Predicted { kernel, checked: true, .. } => {
            Event::Phase { what: format!("kernel: built to check that it is that of {}", kernel.short()) }
        }
        Progress::CheckingOut => Event::Phase { what: "kernel: checking out".into() },
        Progress::Configuring => Event::Phase { what: "kernel: configuring".into() },
        Progress::Publishing => Event::Phase { what: "kernel: publishing to the store".into() },
    }
}
