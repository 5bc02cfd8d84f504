//! A run of one test file, as requested.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use belief::FixClaim;
use model::{RunOrder, SubtestName, TestOrder};

use testfile::Trust;

use super::cores::CorePolicy;
use super::error::RunError;
use super::kernel_arg::KernelFrom;

/// A run of one test file. For a boot without a test file, `file` is empty.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The options of the command line.
    pub order: RunOrder,
    /// The test file, as the user entered it.
    pub file: PathBuf,
    /// The subtests to run; all if empty.
    pub subtests: Vec<SubtestName>,
    /// The kernel: `-k` and `--commit`, resolved.
    pub kernel: KernelFrom,
    /// The cache directory.
    pub cache: PathBuf,
    /// The command to run in the guest instead of a test file; a shell if empty.
    pub command: Vec<String>,
    /// With `--until-believed`: the claim that a failure is fixed.
    pub claim: Option<FixClaim>,
    /// With `--until-believed`: the number of VMs at the same time.
    pub vms: u32,
}

impl RunRequest {
    /// A run of all subtests of `file`, with the defaults of `ktest run`.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, kernel: KernelFrom, cache: PathBuf) -> Self {
        let file = file.into();
        let order = TestOrder::new(file.to_string_lossy()).into();
        Self { order, file, subtests: Vec::new(), kernel, cache, command: Vec::new(), claim: None, vms: 1 }
    }

    /// One request per test file of the order. Each shares its kernel with the other files.
    pub fn all(order: &RunOrder, kernel: &KernelFrom, cache: &Path) -> Result<Vec<Self>, RunError> {
        let mut requests: Vec<Self> = Vec::new();
        for word in &order.test.tests {
            match requests.last_mut() {
                Some(request) if !word.ends_with(".ktest") => {
                    let subtest =
                        word.parse().map_err(|error: model::NameError| RunError::Usage(error.to_string()))?;
                    request.subtests.push(subtest);
                }
                _ => requests
                    .push(Self { order: order.clone(), ..Self::new(word, kernel.clone(), cache.into()) }),
            }
        }
        let files: Vec<PathBuf> = requests.iter().map(|request| request.file.clone()).collect();
        for request in &mut requests {
            let others = files.iter().filter(|file| **file != request.file);
            request.order.test.merge.extend(others.cloned());
        }
        Ok(requests)
    }

    /// The number of parallel compilers.
    pub(super) fn jobs(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.order.jobs.unwrap_or_else(processors)
    }

    /// Whether builds and tests on the host run in a sandbox.
    pub(super) fn sandbox(&self) -> bool {
        !self.order.no_sandbox
    }

    /// Whether the run is for a farm, which reads the events. A farm needs a verdict for each requested subtest, and
    /// its test files are untrusted.
    pub(super) fn for_farm(&self) -> bool {
        self.order.events
    }

    /// Whether the devices of a failed subtest are saved. A farm removes the directory that would contain them.
    pub(super) fn keeps_devices(&self) -> bool {
        self.order.keep_devices.0 > 0 && !self.for_farm()
    }

    /// The cores that the VMs of the run save. A user looks into a guest that crashes interactively.
    pub(super) fn cores(&self) -> CorePolicy {
        let bytes = if self.order.interactive { 0 } else { self.order.keep_core.0 };
        CorePolicy { bytes, for_farm: self.for_farm() }
    }

    /// Whether the test file's declarations may access this host.
    pub(super) fn trust(&self) -> Trust {
        if self.for_farm() { Trust::Sandboxed } else { Trust::Own }
    }

    /// The `ktest_*` variables of this process, which the test file has on the host. A run of a user passes them to the
    /// tests too: a setting must not be lost between the list of the subtests and their run.
    pub(super) fn inherited(&self) -> impl Iterator<Item = (String, String)> {
        const OF_THE_LIBRARY: [&str; 3] = ["ktest_tmp", "ktest_markers", "ktest_token"];
        let all = if self.for_farm() { Vec::new() } else { testfile::inherited_variables() };
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        all.into_iter().filter_map(text).filter(|(name, _)| {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            is_name && !OF_THE_LIBRARY.contains(&name.as_str())
        })
    }

    /// The variables that the user or the test group sets.
    pub(super) fn env(&self) -> impl Iterator<Item = (String, String)> {
        self.order.variables()
    }
}
