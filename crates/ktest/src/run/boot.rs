//! A guest without a test: a shell for somebody, or one command.

use std::collections::BTreeMap;

use model::Arch;

use super::kernel::NoKernel;
use super::leftovers::Kept;
use super::{KernelFrom, Prepared, Run, RunError, RunOptions, Summary, host_env, kernel, root_image, vms};
use crate::out::Out;
use crate::report::Reporter;
use testfile::TestFile;
use testfile::declare::{Declarations, Variables};

/// The name of its log in the output folder.
const NAME: &str = "ktest-boot";
/// Memory where nothing else is said, MiB.
const MEMORY: u64 = 1024;

/// What is booted, beside the run's options. Their `file` may be empty: then no test file says what the machine is.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// The folder of a failed subtest, whose devices are attached.
    pub devices: Option<std::path::PathBuf>,
    /// Memory, MiB.
    pub mem_mib: Option<u64>,
    /// Processors.
    pub cpus: Option<u32>,
    /// Use the kernel that the devices were left by, whatever the options say.
    pub their_kernel: bool,
}

/// Boots; [`Summary::command_status`] is how the command ended.
pub async fn boot(options: &RunOptions, boot: &Boot, reporter: &mut Reporter) -> Result<Summary, RunError> {
    let kept = boot.devices.as_deref().map(Kept::open).transpose()?;
    let mut options = options.clone();
    if let (Some(kept), true) = (&kept, boot.their_kernel) {
        options.kernel = KernelFrom::Stored(kept.record.kernel.clone());
    }
    let options = &options;
    let stored = kernel::from_store(options, reporter).await?;
    let (host_env, no_source) = host_env(options, stored.as_ref()).await?;
    if let Some(error) = no_source {
        return Err(error);
    }
    let file = match options.file.as_os_str().is_empty() {
        true => None,
        false => Some(TestFile::find(&options.file, options.tests_dir.as_deref())?),
    };
    let mut declared = match (&kept, &file) {
        (Some(kept), _) => kept.declared.clone(),
        (None, Some(file)) => file.deps(&[], &host_env).await?,
        (None, None) => plain(stored.as_ref().map(|kernel| kernel.arch).or(options.arch))?,
    };
    declared.mem_mib = boot.mem_mib.unwrap_or(declared.mem_mib);
    declared.cpus = boot.cpus.or(declared.cpus);

    let test = NAME.parse().expect("a name of ours");
    let out = Out::create(&options.out, &test, &[])?;
    let summary = Summary { out: out.dir().to_path_buf(), ..Summary::default() };
    let mut run = Run { out, summary, reporter };
    let kernel = match kernel::get(options, file.as_ref(), &declared, &host_env, stored, &mut run).await? {
        Ok(kernel) => kernel,
        Err(NoKernel { reason, .. }) => {
            run.summary.infrastructure = Some(reason);
            return Ok(run.finish());
        }
    };
    run.out.file("kernel", format!("{}\n", kernel.id).as_bytes())?;
    let root = root_image(options, &declared, &mut run).await?;
    if let Some(kept) = &kept {
        let (test, subtest) = (&kept.record.test, &kept.record.subtest);
        run.reporter.note(&format!("with the devices of {test} {subtest}: {}", kept.dir.display()));
    }
    let (file, declared, kernel) = (file.as_ref(), &declared, &kernel);
    let prepared = Prepared { options, file, declared, kernel, root, host_env, kselftests: None, kept };
    vms::boot(&prepared, &mut run).await?;
    Ok(run.finish())
}

/// A machine that nothing is known of.
fn plain(arch: Option<Arch>) -> Result<Declarations, RunError> {
    let arch = arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    let variables: Variables = BTreeMap::from([("ktest_mem".to_string(), vec![MEMORY.to_string()])]);
    let declared = Declarations::from_variables(&variables, arch, std::path::Path::new("."));
    declared.map_err(|error| RunError::Usage(error.to_string()))
}
