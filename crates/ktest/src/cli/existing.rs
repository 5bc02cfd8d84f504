//! The options and commands of ktest and build-test-kernel that have no equivalent: the error names what to use instead.

use clap::Args;

use super::failure::Failure;

/// Arguments of a command that is not carried out.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct AnyArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<String>,
}

/// The error of `ktest config` and `ktest oldconfig`.
pub(super) const CONFIG: &str = "ktest does not change the configuration of a source tree; to start from your own, run \
    `make nconfig` in the tree and ktest run with ktest_kconfig_base=DIR/.config in its environment";
/// The error of `ktest faddr2line`.
pub(super) const FADDR2LINE: &str = "reports have source lines if the kernel has debug information \
    (--env ktest_flavor=debuginfo); for other addresses: scripts/faddr2line of the source tree, with vmlinux in the path that \
    `ktest kernel list --json` prints";

/// Options of `build-test-kernel run` and `ktest run`.
#[derive(Debug, Args)]
pub(super) struct ExistingOptions {
    #[arg(short = 'n', value_name = "TYPE", hide = true)]
    networking: Option<String>,
    #[arg(short = 'K', hide = true)]
    keep_config: bool,
    #[arg(short = 'P', hide = true)]
    precise: bool,
    #[arg(short = 'c', value_name = "DIR", hide = true)]
    coverage: Option<String>,
    #[arg(short = 'T', value_name = "DIR", hide = true)]
    vm_dir: Option<String>,
    #[arg(short = 'N', value_name = "N", hide = true, allow_hyphen_values = true)]
    nice: Option<String>,
    #[arg(short = 'x', hide = true)]
    trace: bool,
}

impl ExistingOptions {
    /// The error for the first option that is set.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        let network = self.networking.as_deref().filter(|kind| *kind != "user");
        let given = [
            (network.is_some(), "-n: the guest's network is always QEMU's user network; --network opens it"),
            (
                self.keep_config,
                "-K: a run never uses the configuration of the source tree as it is; to start from it: \
                 ktest_kconfig_base=DIR/.config ktest run",
            ),
            (
                self.coverage.is_some(),
                "-c: for coverage use --env ktest_flavor=gcov --env ktest_gcov_dirs=DIR, or require-gcov in the file",
            ),
            (self.vm_dir.is_some(), "-T: the files of a VM are in vms in the cache directory (--cache-dir)"),
            (self.nice.is_some(), "-N: use nice -n N ktest run"),
            (self.precise, "-P: has no equivalent; leave it out"),
            (self.trace, "-x: use KTEST_LOG=debug ktest run, or bash -x FILE.ktest deps"),
        ];
        match given.into_iter().find(|(set, _)| *set) {
            Some((_, error)) => Err(Failure::usage(error)),
            None => Ok(()),
        }
    }
}
