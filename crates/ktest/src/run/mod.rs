//! A run: from a test file and a kernel source to a verdict for each requested subtest.
//!
//! Invariant: each subtest ends with exactly one verdict, or the run reports an infrastructure error.

mod artifacts;
mod believe;
mod boot;
mod cores;
mod coverage;
mod crashes;
mod error;
mod experiment;
mod guest_cache;
mod host;
mod kernel;
mod kernel_arg;
mod machine;
mod parallel;
mod phases;
mod quota;
mod request;
mod results;
mod retry;
mod saved_devices;
mod selftests;
mod steps;
pub(crate) mod suites;
mod summary;
mod terminal;
mod vm_dir;
mod vms;

use model::{Event, Status, SubtestName};
use testfile::known_issues::KnownIssuesError;

use crate::out::Out;
use crate::report::Reporter;

pub(crate) use believe::conclusion;
pub use boot::{Boot, boot};
pub use error::RunError;
use error::{CannotRun, Stop};
pub use kernel::kernel_version;
pub(crate) use kernel::progress_event;
pub use kernel_arg::{KernelArgError, KernelFrom, parse_kernel};
use phases::{Declared, Listed, Prepared};
pub use request::RunRequest;
use results::{Known, Results};
pub use summary::Summary;

/// Runs a test file.
pub async fn run(request: &RunRequest, reporter: &mut Reporter) -> Result<Summary, RunError> {
    let listed = Listed::new(request, reporter).await?;
    believe::check(request, &listed.all())?;
    let known = known_failures(request, &listed, reporter)?;
    let (test, all, commit) = (listed.file.test.clone(), listed.all(), request.kernel.commit());
    reporter.event(Event::RunStarted { test: test.clone(), subtests: all.clone(), commit });
    let mut results =
        Results::new(Out::create(&request.order.test.out, &test, &all)?, reporter, request.for_farm());
    results.set_known(known);
    let declared = listed.declared.as_ref().ok();
    results.conditions.suite =
        declared.and_then(|declared| suites::used(&declared.rw_images, &listed.host_env));
    results.summary.claim.clone_from(&request.claim);
    let unlisted = CannotRun::because(format!("{} lists no such subtest", test.file()));
    results.cannot_run(listed.unlisted.iter().cloned(), &unlisted)?;
    let subtests = listed.subtests.clone();
    if !subtests.is_empty() {
        match execute(listed, &mut results).await {
            Ok(()) => {}
            Err(Stop::CannotRun(cannot)) => results.cannot_run(subtests, &cannot)?,
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(results.finish())
}

/// The known failures of the subtests. An error of their file does not stop a farm, which keeps the last good entries.
fn known_failures(
    request: &RunRequest,
    listed: &Listed<'_>,
    reporter: &mut Reporter,
) -> Result<Known, RunError> {
    match Known::load(&listed.file, &listed.subtests, &listed.host_env) {
        Err(error) if request.for_farm() => {
            reporter.note(&format!("known failures are not used: {error}"));
            Ok(Known::default())
        }
        loaded => loaded.map_err(known_issues_error),
    }
}

/// What a file of known failures contains is an error of its author, but not that it cannot be read.
fn known_issues_error(error: KnownIssuesError) -> RunError {
    let text = error.to_string();
    match error {
        // Text that is not UTF-8 is content.
        KnownIssuesError::Read(error) if error.kind() != std::io::ErrorKind::InvalidData => {
            RunError::Infrastructure(text)
        }
        _ => RunError::Usage(text),
    }
}

/// Takes a run through its phases.
async fn execute(listed: Listed<'_>, results: &mut Results<'_>) -> Result<(), Stop> {
    let subtests = listed.subtests.clone();
    let (declared, stored) = listed.declared()?;
    if declared.declared.no_vm {
        rounds(&RoundsOn::Host(&declared), &subtests, results).await?;
        return Ok(());
    }
    let prepared = declared.kernel(stored, results).await?.prepare(results).await?;
    results.summary.asked = subtests.len();
    let covered_before = coverage::begin(&results.out);
    rounds(&RoundsOn::Vms(&prepared), &subtests, results).await?;
    coverage::gather(&prepared.kernel, &covered_before, results).await;
    Ok(())
}

/// Where the subtests of a round run.
enum RoundsOn<'a> {
    Vms(&'a Prepared<'a>),
    /// For a file that declares `config-no-vm`.
    Host(&'a Declared<'a>),
}

/// Runs the subtests in the requested number of rounds, until one fails.
async fn rounds(
    on: &RoundsOn<'_>,
    subtests: &[SubtestName],
    results: &mut Results<'_>,
) -> Result<(), RunError> {
    let request = match on {
        RoundsOn::Vms(prepared) => prepared.run.request,
        RoundsOn::Host(declared) => declared.request,
    };
    let most = request.order.rounds.unwrap_or(1);
    loop {
        results.summary.rounds += 1;
        let round = results.summary.rounds;
        if most != 1 {
            let of = if most == 0 { String::new() } else { format!(" of {most}") };
            results.reporter.note(&format!("round {round}{of}"));
        }
        match on {
            RoundsOn::Vms(prepared) => vms::run(prepared, subtests.to_vec(), results).await?,
            RoundsOn::Host(declared) => host::run(declared, subtests.to_vec(), results).await?,
        }
        let enough = match &results.summary.claim {
            Some(claim) => {
                results.reporter.note(&believe::progress(claim));
                !believe::goes_on(claim, &results.summary)
            }
            None => round == most,
        };
        let summary = &results.summary;
        let bad = summary.count(Status::Failed) + summary.count(Status::FailedToRun) > 0;
        let over = bad || summary.infrastructure.is_some() || summary.command.is_some();
        if over || enough || results.reporter.broken() {
            return Ok(());
        }
        if let (RoundsOn::Vms(prepared), [subtest], 2..) = (on, subtests, request.vms) {
            return parallel::rounds(prepared, subtest, results).await;
        }
    }
}

/// Finds the coverage data as a run does before its VMs start.
#[cfg(test)]
pub(crate) fn coverage_data(out: &Out) -> std::collections::BTreeSet<std::path::PathBuf> {
    coverage::begin(out)
}

/// A kernel with its files in `dir`.
#[cfg(test)]
pub(crate) fn kernel_in(dir: &std::path::Path) -> ::kernel::Kernel {
    ::kernel::Kernel {
        id: "a".repeat(64).parse().unwrap(),
        arch: model::Arch::native().unwrap(),
        image: dir.join("vmlinux"),
        image_hash: String::new(),
        code: None,
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
        fetched: None,
    }
}
