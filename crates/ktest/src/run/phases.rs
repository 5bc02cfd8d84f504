//! The phases of a run as types: `Listed` -> `Declared` -> `KernelReady` -> `Prepared`. Each phase owns the results of
//! the previous ones, so that a step cannot run before its inputs exist.

use std::path::PathBuf;

use kernel::Kernel;
use model::SubtestName;
use testfile::{Declarations, HostEnv, TestFile, TestFileError};

use super::error::CannotRun;
use super::request::RunRequest;
use super::saved_devices::SavedDevices;
use super::selftests;

/// The test file has listed its subtests and evaluated its declarations.
pub(super) struct Listed<'a> {
    pub(super) request: &'a RunRequest,
    pub(super) file: TestFile,
    /// The subtests to run, in the order of the file.
    pub(super) subtests: Vec<SubtestName>,
    /// Requested subtests that the file does not list.
    pub(super) unlisted: Vec<SubtestName>,
    /// On a farm, invalid declarations become verdicts.
    pub(super) declared: Result<Declarations, TestFileError>,
    pub(super) host_env: HostEnv,
    /// The kernel, if it is from the store.
    pub(super) stored: Option<Kernel>,
}

impl<'a> Listed<'a> {
    /// Every subtest that gets a verdict.
    pub(super) fn all(&self) -> Vec<SubtestName> {
        self.subtests.iter().chain(&self.unlisted).cloned().collect()
    }

    pub(super) fn declared(self) -> Result<(Declared<'a>, Option<Kernel>), CannotRun> {
        let Self { request, file, declared, host_env, stored, .. } = self;
        let declared = declared.map_err(CannotRun::because)?;
        Ok((Declared { request, file: Some(file), declared, host_env }, stored))
    }
}

/// The declarations are valid.
pub(super) struct Declared<'a> {
    pub(super) request: &'a RunRequest,
    /// `None` for a boot without a test file.
    pub(super) file: Option<TestFile>,
    pub(super) declared: Declarations,
    pub(super) host_env: HostEnv,
}

/// The kernel is ready to boot.
pub(super) struct KernelReady<'a> {
    pub(super) run: Declared<'a>,
    pub(super) kernel: Kernel,
}

/// Everything that a VM needs exists.
pub(super) struct Prepared<'a> {
    pub(super) run: Declared<'a>,
    pub(super) kernel: Kernel,
    pub(super) root: PathBuf,
    /// The installed selftests of the kernel, for a file that requires them.
    pub(super) kselftests: Option<selftests::Selftests>,
    /// The devices of an earlier failure, for a boot.
    pub(super) saved: Option<SavedDevices>,
}
