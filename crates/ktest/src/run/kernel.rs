//! The kernel of a run: built from a source, or taken from the kernel store by name or id.
//!
//! A kernel that cannot be had through the fault of its source or of the test file is a verdict ([`NoKernel`]), not an
//! error.

use std::path::{Path, PathBuf};

use kernel::{
    BuildError, BuildRequest, Cache, DistroKernel, Flavor, Kernel, KernelSource, Requirements, Store,
};
use model::{Arch, CommitId, Event, KernelId, StoreKernel};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Run, RunError, RunOptions};
use crate::report::Reporter;
use testfile::declare::Declarations;
use testfile::{HostEnv, TestFile};

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelFrom {
    /// It is built.
    Source(KernelSource),
    /// A distribution's, by name: from the store, brought there when it is missing.
    Named(StoreKernel),
    /// One that was built here before, by its id in the store.
    Stored(KernelId),
}

impl KernelFrom {
    /// The commit that is tested, where one is.
    pub(super) fn commit(&self) -> Option<CommitId> {
        match self {
            Self::Source(KernelSource::Commit { commit, .. }) => Some(commit.clone()),
            _ => None,
        }
    }
}

/// There is no kernel, and that is the commit's (or the file's) own doing.
pub(super) struct NoKernel {
    pub(super) reason: String,
    pub(super) log: Vec<u8>,
}

impl NoKernel {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), log: Vec::new() }
    }
}

/// The kernel itself where the store has it, be it only now; `None` where one is to be built.
pub(super) async fn from_store(
    options: &RunOptions,
    reporter: &mut Reporter,
) -> Result<Option<Kernel>, RunError> {
    let cache = Cache { dir: options.cache.clone() };
    match &options.kernel {
        KernelFrom::Source(_) => Ok(None),
        KernelFrom::Stored(id) => match Store::of(&cache).get(id) {
            Some(kernel) => Ok(Some(kernel)),
            None => Err(RunError::Usage(format!("the store has no kernel {id}; see ktest kernel list"))),
        },
        KernelFrom::Named(name) => {
            let arch = options.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
            let wanted = DistroKernel::parse(name, arch).map_err(failure)?;
            if let Some(kernel) = Store::of(&cache).named(&wanted) {
                return Ok(Some(kernel));
            }
            reporter.note(&format!("kernel {name} is not in the store yet; bringing it"));
            let mut on = |progress: kernel::Progress| {
                if let Event::Phase { what } = progress_event(progress) {
                    tracing::info!("{what}");
                }
            };
            let mirror = debian::HostApt::read().await.mirror(wanted.suite());
            let kernel = kernel::fetch::fetch(&wanted, &mirror, &cache, &mut on).await;
            kernel.map(Some).map_err(failure)
        }
    }
}

/// What keeps a kernel from being had, as the end of a run.
pub(super) fn failure(error: BuildError) -> RunError {
    match error {
        BuildError::Source(error) => RunError::Source(error.to_string()),
        other => RunError::Infrastructure(other.to_string()),
    }
}

/// What `make kernelversion` would say of a source; empty for a kernel of the store.
pub async fn kernel_version(from: &KernelFrom) -> Result<String, RunError> {
    version(from, None).await
}

/// The largest Makefile that is read, in bytes.
const MAKEFILE: usize = 4 << 20;

/// What `make kernelversion` would say, from the source's Makefile; of a kernel of the store, its release.
pub(super) async fn version(from: &KernelFrom, kernel: Option<&Kernel>) -> Result<String, RunError> {
    let source = match (from, kernel) {
        (_, Some(kernel)) => return Ok(kernel.release.clone()),
        (KernelFrom::Source(source), None) => source,
        (_, None) => return Ok(String::new()),
    };
    let (dir, text) = match source {
        KernelSource::WorkingTree(dir) => {
            let path = dir.join("Makefile");
            (dir, std::fs::read_to_string(&path).map_err(|_| no_kernel_tree(dir))?)
        }
        KernelSource::Commit { repo, commit } => {
            let no_kernel = |error: gitio::GitError| {
                RunError::Source(format!("{}: no kernel at commit {commit}: {error}", repo.display()))
            };
            let opened = gitio::Repo::open(repo).map_err(no_kernel)?;
            let makefile = opened.file(commit, "Makefile", MAKEFILE).await.map_err(no_kernel)?;
            (repo, String::from_utf8_lossy(&makefile).into_owned())
        }
    };
    kernel::kernel_version(&text).ok_or_else(|| no_kernel_tree(dir))
}

fn no_kernel_tree(dir: &Path) -> RunError {
    RunError::Source(format!("{}: no kernel source tree; say -k DIR", dir.display()))
}

/// Gets the kernel that these declarations ask for.
pub(super) async fn get(
    options: &RunOptions,
    file: Option<&TestFile>,
    declared: &Declarations,
    host_env: &HostEnv,
    stored: Option<Kernel>,
    run: &mut Run<'_>,
) -> Result<Result<Kernel, NoKernel>, RunError> {
    let began = std::time::Instant::now();
    let kernel = match (stored, &options.kernel) {
        (Some(kernel), _) => Ok(kernel),
        (None, KernelFrom::Source(KernelSource::WorkingTree(dir))) if declared.no_kbuild => {
            kernel::in_place::find(dir, declared.kernel.arch)
                .map_err(|error| NoKernel::because(error.to_string()))
        }
        (None, KernelFrom::Source(source)) if !declared.no_kbuild => {
            run.reporter.event(Event::BuildStarted);
            let flavor = flavor(options, file, declared, host_env).await?;
            let request = BuildRequest {
                source: source.clone(),
                flavor,
                jobs: options.jobs,
                sandbox: options.sandbox,
                tolerate: options.tolerate.clone(),
                out_log: run.out.dir().join("out").join("build.log"),
            };
            let reporter = &mut *run.reporter;
            let cache = Cache { dir: options.cache.clone() };
            if options.ask_kernel
                && let Ok(Some(kernel)) = kernel::missing_kernel(&request, &cache).await
            {
                reporter.event(Event::KernelWanted { kernel });
                // The end of the input is an answer as well: nobody can help, it is built here.
                let mut answer = String::new();
                let _ = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
            }
            let result =
                kernel::build(&request, &cache, &mut |progress| reporter.event(progress_event(progress)))
                    .await;
            match result {
                Ok(kernel) => Ok(kernel),
                Err(error) => Err(judge(error)?),
            }
        }
        (None, _) => Err(NoKernel::because(
            "config-no-kbuild: its kernel is not built from a commit; name one of the store, as in -k debian/trixie",
        )),
    };
    let kernel = match kernel {
        Ok(kernel) if kernel.arch != declared.kernel.arch => {
            let (has, wants) = (kernel.arch, declared.kernel.arch);
            Err(NoKernel::because(format!("the kernel is one for {has}, the test file wants {wants}")))
        }
        other => other,
    };
    match &kernel {
        Ok(kernel) => {
            tell(kernel, declared, began, run);
            keep_config(kernel, run);
        }
        Err(NoKernel { reason, .. }) => run.reporter.event(Event::BuildFailed { reason: reason.clone() }),
    }
    Ok(kernel.map_err(|no| NoKernel { reason: prefixed(&no), log: no.log }))
}

/// The kernel's configuration, beside what else says how to repeat this run. A kernel that came without one has none.
fn keep_config(kernel: &Kernel, run: &mut Run<'_>) {
    let copied = std::fs::copy(&kernel.config, run.out.dir().join("kernel.config"));
    if let Err(error) = copied
        && kernel.config.exists()
    {
        run.reporter.note(&format!("{}: cannot be kept with the results: {error}", kernel.config.display()));
    }
}

/// A compiler's error stands for itself in the event; in a verdict it wants the words before it.
fn prefixed(no: &NoKernel) -> String {
    if no.log.is_empty() { no.reason.clone() } else { format!("kernel does not build: {}", no.reason) }
}

/// Whether an error is a verdict.
fn judge(error: BuildError) -> Result<NoKernel, RunError> {
    match error {
        BuildError::DoesNotBuild { reason, log } => {
            let log = std::fs::read(&log).map(|bytes| last(bytes, 1 << 20)).unwrap_or_default();
            // Never empty: it is what tells a compiler's error from ours.
            let log = if log.is_empty() { b"\n".to_vec() } else { log };
            Ok(NoKernel { reason, log })
        }
        error @ BuildError::Requirements { .. } => Ok(NoKernel::because(error.to_string())),
        BuildError::Source(error) => Err(RunError::Source(error.to_string())),
        BuildError::Infrastructure(error) => Err(RunError::Infrastructure(error.to_string())),
    }
}

/// The flavor of this file, when it shares a kernel with those that it is to be merged with.
async fn flavor(
    options: &RunOptions,
    file: Option<&TestFile>,
    declared: &Declarations,
    host_env: &HostEnv,
) -> Result<Flavor, RunError> {
    let name = file.map_or("boot".into(), |file| file.test.to_string());
    let mut wishes: Vec<(String, Requirements)> = vec![(name.clone(), declared.kernel.clone())];
    for other in &options.merge {
        let other = TestFile::find(other, options.tests_dir.as_deref())?;
        if other.test.as_str() == name {
            continue;
        }
        match other.deps_cached(host_env, &options.cache).await {
            // What needs no kernel of its own has no say.
            Ok(declared) if declared.no_vm || declared.no_kbuild => {}
            Ok(declared) => wishes.push((other.test.to_string(), declared.kernel)),
            // Another file's trouble is that file's; it gets its verdicts when it is run.
            Err(error) => tracing::warn!("left out of the shared kernel: {error}"),
        }
    }
    let flavors = kernel::merge(&wishes).into_iter();
    Ok({ flavors }.find(|flavor| flavor.files.contains(&name)).expect("every file is in a flavor"))
}

fn tell(kernel: &Kernel, declared: &Declarations, began: std::time::Instant, run: &mut Run<'_>) {
    run.reporter.event(Event::KernelReady {
        kernel: kernel.id.clone(),
        image_hash: kernel.image_hash.clone(),
        cached: kernel.cached,
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    for option in &kernel.tolerated {
        run.reporter.note(&format!("tolerated: {option}"));
    }
    if !kernel.unknown_options.is_empty() {
        let list = kernel.unknown_options.join(" ");
        run.reporter.note(&format!("options that this kernel does not know, ignored: {list}"));
    }
    let lacks = lacking(kernel, declared);
    if !lacks.is_empty() {
        run.reporter
            .note(&format!("options that the test file requires and this kernel lacks: {}", lacks.join(" ")));
    }
}

/// What a kernel that was not built for this file lacks of what it requires.
fn lacking(kernel: &Kernel, declared: &Declarations) -> Vec<String> {
    let text = std::fs::read_to_string(&kernel.config).unwrap_or_default();
    let config = kernel::dotconfig::DotConfig::parse(&text);
    let mut lacks = kernel::check::missing_options(&declared.kernel.canonical().require, &config);
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

/// What the build does, as an event.
pub(crate) fn progress_event(progress: kernel::Progress) -> Event {
    use kernel::Progress;
    match progress {
        Progress::Compiling { done, total } => Event::BuildProgress { done, total },
        Progress::WaitingForLock { holder } => Event::Phase { what: format!("waiting for {holder}") },
        Progress::Fetching { what } => Event::Phase { what: format!("kernel: {what}") },
        Progress::CheckingOut => Event::Phase { what: "kernel: checking out".into() },
        Progress::Configuring => Event::Phase { what: "kernel: configuring".into() },
        Progress::Publishing => Event::Phase { what: "kernel: putting it into the store".into() },
    }
}

/// Reads `-k`: a folder, a kernel's name, or its id (at least 8 digits of it).
pub fn parse_kernel(text: &str, commit: Option<&str>, cache: &Path) -> Result<KernelFrom, String> {
    let path = Path::new(text);
    if let Some(commit) = commit {
        let dir = folder(path)?;
        let commit =
            gitio::Repo::open(&dir).and_then(|repo| repo.resolve(commit)).map_err(|e| e.to_string())?;
        return Ok(KernelFrom::Source(KernelSource::Commit { repo: dir, commit }));
    }
    if path.is_dir() {
        return Ok(KernelFrom::Source(KernelSource::WorkingTree(folder(path)?)));
    }
    if text.len() >= 8 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let ids = Store::of(&Cache { dir: cache.into() }).ids();
        let mut like = ids.into_iter().filter(|id| id.as_str().starts_with(&text.to_ascii_lowercase()));
        return match (like.next(), like.next()) {
            (Some(id), None) => Ok(KernelFrom::Stored(id)),
            (Some(_), Some(_)) => {
                Err(format!("several kernels of the store begin with {text}; give more of the id"))
            }
            (None, _) => Err(format!("the store has no kernel {text}; see ktest kernel list")),
        };
    }
    match text.parse::<StoreKernel>() {
        Ok(name) if name.as_str().starts_with("debian/") => Ok(KernelFrom::Named(name)),
        _ => folder(path).map(|dir| KernelFrom::Source(KernelSource::WorkingTree(dir))),
    }
}

fn folder(path: &Path) -> Result<PathBuf, String> {
    std::fs::canonicalize(path)
        .map_err(|_| format!("{}: no such directory; say -k DIR, or -k debian/SUITE", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_k_names() {
        let dir = tempfile::tempdir().unwrap();
        let id = "a".repeat(64);
        std::fs::create_dir_all(dir.path().join("kernels").join(&id)).unwrap();
        let parse = |text: &str| parse_kernel(text, None, dir.path());
        assert_eq!(parse("aaaaaaaa"), Ok(KernelFrom::Stored(id.parse().unwrap())));
        assert_eq!(parse("bbbbbbbb").unwrap_err(), "the store has no kernel bbbbbbbb; see ktest kernel list");
        assert_eq!(parse("debian/trixie"), Ok(KernelFrom::Named("debian/trixie".parse().unwrap())));
        assert_eq!(
            parse("no/such").unwrap_err(),
            "no/such: no such directory; say -k DIR, or -k debian/SUITE"
        );
        let here = dir.path().canonicalize().unwrap();
        assert_eq!(
            parse(dir.path().to_str().unwrap()),
            Ok(KernelFrom::Source(KernelSource::WorkingTree(here)))
        );
    }
}
