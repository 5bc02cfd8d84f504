//! A guest without subtests: an interactive shell, or one command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::Arch;
use testfile::declare::{Declarations, Variables};
use testfile::{HostEnv, TestFile};

use super::error::{RunError, Stop};
use super::kernel;
use super::kernel_arg::KernelFrom;
use super::phases::Declared;
use super::request::RunRequest;
use super::results::Results;
use super::saved_devices::SavedDevices;
use super::steps::host_env;
use super::summary::Summary;
use super::vms;
use crate::out::Out;
use crate::report::Reporter;

/// The name of the log in the output directory.
const NAME: &str = "ktest-boot";
/// The default memory, in MiB.
const MEMORY: u64 = 1024;

/// What is booted, in addition to the request. If `file` in the request is empty, a plain machine is booted.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// The directory of a failed subtest with the devices to attach.
    pub devices: Option<PathBuf>,
    /// Memory, MiB.
    pub mem_mib: Option<u64>,
    /// Processors.
    pub cpus: Option<u32>,
    /// Use the kernel with which the devices were saved instead of the request's kernel.
    pub saved_kernel: bool,
}

/// Boots. [`Summary::command_status`] is the exit status of the command.
pub async fn boot(request: &RunRequest, boot: &Boot, reporter: &mut Reporter) -> Result<Summary, RunError> {
    let saved = boot.devices.as_deref().map(SavedDevices::open).transpose()?;
    let mut request = request.clone();
    if let (Some(saved), true) = (&saved, boot.saved_kernel) {
        request.kernel = KernelFrom::Stored(saved.record.kernel.clone());
    }
    let stored = kernel::from_store(&request, reporter).await?;
    let (host_env, no_source) = host_env(&request, stored.as_ref()).await?;
    if let Some(error) = no_source {
        return Err(error);
    }
    let arch = stored.as_ref().map(|kernel| kernel.arch).or(request.order.test.arch);
    let (file, mut declared) = declarations(&request, saved.as_ref(), &host_env, arch).await?;
    declared.mem_mib = boot.mem_mib.unwrap_or(declared.mem_mib);
    declared.cpus = boot.cpus.or(declared.cpus);
    declared.network |= request.order.test.network;

    let test = NAME.parse().expect("a valid name");
    let mut results = Results::new(Out::create(&request.order.test.out, &test, &[])?, reporter, false);
    let declared = Declared { request: &request, file, declared, host_env };
    let ready = match declared.kernel(stored, &mut results).await {
        Ok(ready) => ready,
        Err(Stop::CannotRun(cannot)) => {
            results.summary.infrastructure = Some(cannot.reason);
            return Ok(results.finish());
        }
        Err(Stop::Error(error)) => return Err(error),
    };
    let mut prepared = ready.prepare(&mut results).await?;
    if let Some(saved) = &saved {
        let (test, subtest) = (&saved.record.test, &saved.record.subtest);
        results.reporter.note(&format!("with the devices of {test} {subtest}: {}", saved.dir.display()));
    }
    prepared.saved = saved;
    vms::run(&prepared, Vec::new(), &mut results).await?;
    Ok(results.finish())
}

/// The machine: that of the saved devices, else that of the test file, else a plain one.
async fn declarations(
    request: &RunRequest,
    saved: Option<&SavedDevices>,
    host_env: &HostEnv,
    arch: Option<Arch>,
) -> Result<(Option<TestFile>, Declarations), RunError> {
    let file = match request.file.as_os_str().is_empty() {
        true => None,
        false => Some(TestFile::find(&request.file, request.order.test.tests_dir.as_deref())?),
    };
    let mut declared = match (saved, &file) {
        (Some(saved), _) => saved.declared.clone(),
        (None, Some(file)) => file.deps(&[], host_env).await?,
        (None, None) => plain(arch)?,
    };
    // A boot runs no subtests, so it does not need selftests.
    declared.kselftests.clear();
    Ok((file, declared))
}

/// A machine without devices.
fn plain(arch: Option<Arch>) -> Result<Declarations, RunError> {
    let arch = arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    let variables: Variables = BTreeMap::from([("ktest_mem".to_string(), vec![MEMORY.to_string()])]);
    let declared = Declarations::from_variables(&variables, arch, Path::new("."));
    declared.map_err(|error| RunError::Usage(error.to_string()))
}
