//! One run: from a test file and a kernel source to a verdict for every subtest that was asked for.
//!
//! Whatever happens, each subtest asked for ends with one verdict, or the run says that the infrastructure failed.

mod boot;
mod coverage;
mod crashes;
mod fill;
mod host;
mod kernel;
mod leftovers;
mod machine;
mod selftests;
mod terminal;
mod vms;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::kernel::Kernel;
use model::{Arch, Event, PackageName, Status, SubtestName, Verdict};
use vm::accel::AccelChoice;
use vm::supervise::FinishedSubtest;

use crate::out::{Out, OutError};
use crate::report::Reporter;
use testfile::declare::Declarations;
use testfile::{HostEnv, TestFile, TestFileError};

pub use boot::{Boot, boot};
use kernel::NoKernel;
pub(crate) use kernel::progress_event;
pub use kernel::{KernelFrom, kernel_version, parse_kernel};

/// What to run and how.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The test file, as the user names it.
    pub file: PathBuf,
    /// The subtests; none: all that the file lists.
    pub subtests: Vec<SubtestName>,
    /// The tree the file belongs to, where its own path does not say.
    pub tests_dir: Option<PathBuf>,
    /// Where `require-git` clones to; none: `deps` in the cache.
    pub deps_dir: Option<PathBuf>,
    /// Test files that are to share the kernel, where their requirements do not contradict this one's.
    pub merge: Vec<PathBuf>,
    /// Where the kernel comes from.
    pub kernel: KernelFrom,
    /// The output folder.
    pub out: PathBuf,
    /// How the guest is run.
    pub accel: AccelChoice,
    /// The guest's architecture, where the file does not say.
    pub arch: Option<Arch>,
    /// Build in a sandbox.
    pub sandbox: bool,
    /// Options whose requirement may stay unmet.
    pub tolerate: Vec<String>,
    /// The root image; None: the standard one, made when it is missing.
    pub image: Option<PathBuf>,
    /// What the standard image has beside the usual.
    pub packages: Vec<PackageName>,
    /// The cache folder.
    pub cache: PathBuf,
    /// What the test group (or the user) adds to the environment of the test file.
    pub env: Vec<(String, String)>,
    /// Compiler processes.
    pub jobs: usize,
    /// The test file is asked what it lists and declares in a sandbox, where there is one.
    pub sandboxed: bool,
    /// A subtest that the file does not list gets a verdict (else it is a usage error).
    pub accept_unknown: bool,
    /// Stop after the first failure.
    pub failfast: bool,
    /// Print the QEMU command instead of running it.
    pub dry_run: bool,
    /// Somebody sits before it: no time limits, the guest's console on the terminal, and the VM stays.
    pub interactive: bool,
    /// With `interactive`: the VM stays only if something failed.
    pub exit_on_success: bool,
    /// How often the subtests are run, unless one fails before; 0: until one does.
    pub rounds: u32,
    /// How much the devices of a failed subtest may hold to be kept, bytes; 0: they are not kept.
    pub keep_devices: u64,
    /// How much the guests may add to the output folder, bytes.
    pub max_output: u64,
    /// What is run in the guest instead of a test file; none: a shell.
    pub command: Vec<String>,
    /// The arguments of `ktest run` that say which kernel, for whoever wants to do the same again.
    pub kernel_args: Vec<String>,
    /// Before a kernel is built, tell its name and wait for a line on standard input.
    pub ask_kernel: bool,
}

/// So much a guest may write into its output folder where nothing else is said, bytes.
pub const MAX_OUTPUT: u64 = 4 << 30;

impl RunOptions {
    /// Everything as it is where nothing is said: all subtests once, a sandbox, the output in `./ktest-out`, no devices kept.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, kernel: KernelFrom) -> Self {
        Self {
            file: file.into(),
            subtests: Vec::new(),
            tests_dir: None,
            deps_dir: None,
            merge: Vec::new(),
            kernel,
            out: "ktest-out".into(),
            accel: AccelChoice::Auto,
            arch: None,
            sandbox: true,
            tolerate: Vec::new(),
            image: None,
            packages: Vec::new(),
            cache: PathBuf::new(),
            env: Vec::new(),
            jobs: 1,
            sandboxed: false,
            accept_unknown: false,
            failfast: false,
            dry_run: false,
            interactive: false,
            exit_on_success: false,
            rounds: 1,
            keep_devices: 0,
            max_output: MAX_OUTPUT,
            command: Vec::new(),
            kernel_args: Vec::new(),
            ask_kernel: false,
        }
    }
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The test file.
    #[error(transparent)]
    TestFile(#[from] TestFileError),
    /// The kernel source.
    #[error("{0}")]
    Source(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The output folder.
    #[error(transparent)]
    Out(#[from] OutError),
    /// Something broke that is not the tested code.
    #[error("{0}")]
    Infrastructure(String),
}

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The verdicts, as they fell.
    pub verdicts: Vec<(SubtestName, Verdict)>,
    /// Why the rest has none.
    pub infrastructure: Option<String>,
    /// With `dry_run`: the QEMU command.
    pub command: Option<String>,
    /// How `run-tests`, or the command that was run instead, ended in the last VM.
    pub command_status: Option<u8>,
    /// How many rounds were begun.
    pub rounds: u32,
    /// How many subtests a round has.
    pub asked: usize,
    /// The output folder, absolute.
    pub out: PathBuf,
}

impl Summary {
    /// How many verdicts have this status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.verdicts.iter().filter(|(_, verdict)| verdict.status() == status).count()
    }

    /// The exit code of `ktest run`: 0 all passed or not run, 1 a test failed, 125 nothing could be judged.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let judged = self.count(Status::Passed) + self.count(Status::NotRun);
        if self.count(Status::Failed) > 0 {
            1
        } else if self.infrastructure.is_some() {
            125
        } else if self.count(Status::FailedToRun) == 0 {
            0
        } else if judged > 0 {
            1
        } else {
            125
        }
    }
}

/// What is known once the kernel is there.
struct Prepared<'a> {
    options: &'a RunOptions,
    /// None: an interactive boot, or a command.
    file: Option<&'a TestFile>,
    declared: &'a Declarations,
    kernel: &'a Kernel,
    root: PathBuf,
    host_env: HostEnv,
    /// Where the kernel's selftests are installed, for a file that asks for some.
    kselftests: Option<selftests::Selftests>,
    /// What a failed subtest left on its devices.
    kept: Option<leftovers::Kept>,
}

impl Prepared<'_> {
    /// Puts what was kept of a device into its file.
    fn restore(&self, file: &Path) -> Result<(), RunError> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.restore(file))
    }
}

/// Runs a test file.
pub async fn run(options: &RunOptions, reporter: &mut Reporter) -> Result<Summary, RunError> {
    let file = TestFile::find(&options.file, options.tests_dir.as_deref())?;
    let stored = kernel::from_store(options, reporter).await?;
    let (host_env, no_source) = host_env(options, stored.as_ref()).await?;
    // Whoever reads events wants a verdict: what the file lists and declares is its own doing.
    let (listed, declared) = match file.list_tests(&host_env).await {
        Ok(listed) => (listed, file.deps(&options.subtests, &host_env).await),
        Err(error) => (options.subtests.clone(), Err(error)),
    };
    let declared = match declared {
        Err(error) if !options.accept_unknown || listed.is_empty() => return Err(error.into()),
        other => other,
    };
    match (&declared, no_source) {
        (Ok(declared), Some(error)) if !declared.no_vm => return Err(error),
        _ => {}
    }
    let unknown_is_fine = declared.as_ref().is_ok_and(|declared| declared.tests_unknown);
    let (subtests, missing) = choose(&file, &listed, options, unknown_is_fine)?;

    let all: Vec<SubtestName> = subtests.iter().chain(&missing).cloned().collect();
    let commit = options.kernel.commit();
    reporter.event(Event::RunStarted { test: file.test.clone(), subtests: all.clone(), commit });
    let mut run =
        Run { out: Out::create(&options.out, &file.test, &all)?, summary: Summary::default(), reporter };
    run.summary.out = run.out.dir().to_path_buf();
    for subtest in missing {
        run.failed_to_run(subtest, &format!("{} lists no such subtest", file.test.file()), &[])?;
    }
    let declared = match declared {
        Ok(declared) => declared,
        Err(error) => {
            let reason = error.to_string();
            for subtest in subtests {
                run.failed_to_run(subtest, &reason, &[])?;
            }
            return Ok(run.finish());
        }
    };
    if subtests.is_empty() {
        return Ok(run.finish());
    }

    if declared.no_vm {
        host::run(
            &host::Prepared { options, file: &file, declared: &declared, host_env: &host_env },
            subtests,
            &mut run,
        )
        .await?;
        return Ok(run.finish());
    }
    let kernel = match kernel::get(options, Some(&file), &declared, &host_env, stored, &mut run).await? {
        Ok(kernel) => kernel,
        Err(NoKernel { reason, log }) => {
            for subtest in subtests {
                run.failed_to_run(subtest, &reason, &log)?;
            }
            return Ok(run.finish());
        }
    };
    let root = root_image(options, &declared, &mut run).await?;
    let kselftests = match &declared.kselftests[..] {
        [] => None,
        names => selftests::build(options, declared.kernel.arch, names, &mut run).await?,
    };
    run.out.file("kernel", format!("{}\n", kernel.id).as_bytes())?;
    let (file, declared, kernel) = (Some(&file), &declared, &kernel);
    let prepared = Prepared { options, file, declared, kernel, root, host_env, kselftests, kept: None };
    run.summary.asked = subtests.len();
    let covered_before = coverage::begin(run.out.dir());
    rounds(&prepared, &subtests, &mut run).await?;
    coverage::gather(kernel, &covered_before, &mut run).await;
    Ok(run.finish())
}

/// Runs the subtests as often as was asked for, or until one fails.
async fn rounds(
    prepared: &Prepared<'_>,
    subtests: &[SubtestName],
    run: &mut Run<'_>,
) -> Result<(), RunError> {
    let most = prepared.options.rounds;
    loop {
        run.summary.rounds += 1;
        let round = run.summary.rounds;
        if most != 1 {
            let of = if most == 0 { String::new() } else { format!(" of {most}") };
            run.reporter.note(&format!("round {round}{of}"));
        }
        vms::run(prepared, subtests.to_vec(), run).await?;
        let summary = &run.summary;
        let bad = summary.count(Status::Failed) + summary.count(Status::FailedToRun) > 0;
        let over = bad || summary.infrastructure.is_some() || summary.command.is_some();
        if over || round == most || run.reporter.broken() {
            return Ok(());
        }
    }
}

/// A run under way: where its results go and what they are so far.
struct Run<'a> {
    out: Out,
    summary: Summary,
    reporter: &'a mut Reporter,
}

impl Run<'_> {
    fn finished(&mut self, finished: FinishedSubtest) -> Result<(), RunError> {
        self.crashed(finished, None)
    }

    /// A verdict, with the place in the kernel's source where it crashed.
    fn crashed(&mut self, finished: FinishedSubtest, source: Option<String>) -> Result<(), RunError> {
        self.out.finished(&finished)?;
        let FinishedSubtest { subtest, verdict, duration, crash, .. } = finished;
        let dir = self.out.relative(&subtest);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.summary.verdicts.push((subtest.clone(), verdict.clone()));
        self.reporter.event(Event::Verdict { subtest, verdict, duration_ms, crash, source, dir });
        Ok(())
    }

    /// A verdict for a subtest that never started; `log` is what there is to read about it.
    fn failed_to_run(&mut self, subtest: SubtestName, reason: &str, log: &[u8]) -> Result<(), RunError> {
        let mut text = log.to_vec();
        text.extend_from_slice(format!("ktest: {reason}\nFAILED TO RUN\n").as_bytes());
        let verdict = Verdict::FailedToRun { reason: reason.into() };
        self.finished(FinishedSubtest { subtest, verdict, duration: Duration::ZERO, crash: None, log: text })
    }

    fn finish(self) -> Summary {
        if let Err(error) = self.out.close() {
            tracing::warn!("the run's log is incomplete: {error}");
        }
        self.summary
    }
}

/// The subtests to run, in the file's order, and those asked for that the file does not have.
fn choose(
    file: &TestFile,
    listed: &[SubtestName],
    options: &RunOptions,
    unknown_is_fine: bool,
) -> Result<(Vec<SubtestName>, Vec<SubtestName>), RunError> {
    let asked = &options.subtests;
    if asked.is_empty() {
        if listed.is_empty() {
            return Err(RunError::Usage(format!("{}: lists no subtests", file.path.display())));
        }
        return Ok((listed.to_vec(), Vec::new()));
    }
    let mut seen = std::collections::BTreeSet::new();
    let once = asked.iter().filter(|subtest| seen.insert((*subtest).clone())).cloned();
    let (there, missing): (Vec<_>, Vec<_>) =
        once.partition(|subtest| unknown_is_fine || listed.contains(subtest));
    if let (Some(first), false) = (missing.first(), options.accept_unknown) {
        let list = listed.iter().map(SubtestName::as_str).collect::<Vec<_>>().join(" ");
        return Err(RunError::Usage(format!(
            "{}: no subtest {first}; there are: {list}",
            file.path.display()
        )));
    }
    Ok((there, missing))
}

/// What the test file's calls find on the host; and why there is no kernel source, where there is none.
async fn host_env(
    options: &RunOptions,
    stored: Option<&Kernel>,
) -> Result<(HostEnv, Option<RunError>), RunError> {
    let out = std::path::absolute(&options.out).map_err(|error| RunError::Usage(error.to_string()))?;
    let (kernel_version, no_source) = match kernel::version(&options.kernel, stored).await {
        Ok(version) => (version, None),
        Err(error) => (String::new(), Some(error)),
    };
    let deps_dir = options.deps_dir.clone().unwrap_or_else(|| options.cache.join("deps"));
    let env = options.env.clone();
    let sandboxed = options.sandboxed;
    Ok((HostEnv { arch: options.arch, out, deps_dir, kernel_version, env, sandboxed }, no_source))
}

async fn root_image(
    options: &RunOptions,
    declared: &Declarations,
    run: &mut Run<'_>,
) -> Result<PathBuf, RunError> {
    if let Some(image) = &options.image {
        if !image.is_file() {
            return Err(RunError::Usage(format!("{}: no such root image", image.display())));
        }
        return Ok(image.clone());
    }
    machine::standard_image(options, declared.kernel.arch, run.reporter).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel whose files lie in this folder, for tests that look at what is beside it.
    pub(super) fn kernel_in(dir: &Path) -> Kernel {
        Kernel {
            id: "a".repeat(64).parse().unwrap(),
            arch: Arch::native().unwrap(),
            image: dir.join("vmlinux"),
            image_hash: String::new(),
            modules: None,
            release: "6.1.0".into(),
            config: dir.join("config"),
            initrd: None,
            headers: None,
            vmlinux: None,
            objects: 0,
            cached: true,
            tolerated: Vec::new(),
            unknown_options: Vec::new(),
        }
    }

    #[test]
    fn exit_codes() {
        let summary = |statuses: &[Status], infrastructure: bool| {
            let verdict = |status: &Status| match status {
                Status::Passed => Verdict::Passed,
                Status::Failed => Verdict::Failed { reason: String::new() },
                Status::NotRun => Verdict::NotRun { reason: String::new() },
                _ => Verdict::FailedToRun { reason: String::new() },
            };
            let verdicts = statuses.iter().map(|status| ("x".parse().unwrap(), verdict(status))).collect();
            let infrastructure = infrastructure.then(|| "host gone".to_string());
            Summary { verdicts, infrastructure, ..Summary::default() }.exit_code()
        };
        use Status::{Failed, FailedToRun, NotRun, Passed};
        assert_eq!(summary(&[Passed, NotRun], false), 0);
        assert_eq!(summary(&[NotRun], false), 0);
        assert_eq!(summary(&[Passed, Failed], false), 1);
        assert_eq!(summary(&[Failed], true), 1);
        assert_eq!(summary(&[Passed, FailedToRun], false), 1);
        assert_eq!(summary(&[FailedToRun], false), 125);
        assert_eq!(summary(&[Passed], true), 125);
        assert_eq!(summary(&[], true), 125);
    }
}
