//! The limits of a sandboxed program, set with prlimit(1) inside the sandbox, and with a control group if this program
//! can create one.
//!
//! The process limit applies to each sandbox separately, because each has its own user namespace.

use std::path::Path;

use rustix::process::{Resource, getrlimit};
use spawn::GroupLimits;

/// The program that sets the limits. An absolute path, because the caller can set PATH in the sandbox.
pub(crate) const PRLIMIT: &str = "/usr/bin/prlimit";
/// The program that starts a session: the sandboxed program cannot use the terminal, and cannot send signals to bwrap.
const SETSID: &str = "/usr/bin/setsid";
/// The minimum address space limit, so that a small host can still link a kernel with the help of its swap space.
const MEMORY_FLOOR: u64 = 4 << 30;

/// Limits on memory, processes and file sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// The address space of each process, in bytes; `None` for no limit.
    pub memory: Option<u64>,
    /// The memory of all processes together, in bytes; `None` for no limit. It needs a control group
    /// ([`spawn::Groups`]).
    pub total_memory: Option<u64>,
    /// The number of processes and threads in the sandbox.
    pub processes: u64,
    /// The maximum size of a file, in bytes.
    pub file_size: u64,
    /// The size of `/tmp` and of `/dev/shm`, each, in bytes.
    pub tmp: u64,
}

impl Resources {
    /// The limits for builds and test files on this host: the memory of the host, 4096 processes, files of 16 GiB.
    #[must_use]
    pub fn of_this_host() -> Self {
        Self {
            memory: Some(memory().max(MEMORY_FLOOR)),
            // The rest is for this program and the system.
            total_memory: fsx::machine::memory("MemTotal:").map(|bytes| bytes / 8 * 7),
            processes: 4096,
            file_size: 16 << 30,
            tmp: 1 << 30,
        }
    }

    /// The limits of the control group.
    pub(crate) fn group(&self) -> GroupLimits {
        GroupLimits { memory: self.total_memory, processes: Some(self.processes) }
    }

    /// The words to put before the command line of the limited program.
    pub(crate) fn argv(&self) -> Vec<String> {
        let mut argv = vec![PRLIMIT.to_owned(), "--core=0".into()];
        argv.extend(self.memory.map(|bytes| format!("--as={}", possible(bytes, Resource::As))));
        argv.push(format!("--nproc={}", possible(self.processes, Resource::Nproc)));
        argv.push(format!("--fsize={}", possible(self.file_size, Resource::Fsize)));
        // Not bwrap --new-session: with it, the first process in the sandbox would leave the process group of bwrap.
        argv.extend(["--", SETSID, "--"].map(String::from));
        argv
    }
}

/// The limit, or that of this process if it is lower: the sandboxed program cannot raise it. For example, the kernel
/// allows half as many processes as fit in the memory, which on a host with 1 GiB are fewer than 4096.
fn possible(limit: u64, resource: Resource) -> u64 {
    getrlimit(resource).maximum.map_or(limit, |most| limit.min(most))
}

/// RAM and swap space of this host, in bytes; 0 if unknown.
fn memory() -> u64 {
    ["MemTotal:", "SwapTotal:"].into_iter().filter_map(fsx::machine::memory).sum()
}

/// Whether [`PRLIMIT`] and [`SETSID`], which are in one package, are installed.
pub(crate) fn can_limit() -> bool {
    [PRLIMIT, SETSID].into_iter().all(|program| Path::new(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sandbox, probe};
    use spawn::Limits;

    #[tokio::test]
    async fn memory_processes_and_files_are_limited() {
        if let Err(error) = probe().await {
            eprintln!("skipped: memory_processes_and_files_are_limited: {error}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let resources = Resources {
            memory: Some(1 << 30),
            total_memory: None,
            processes: 20,
            file_size: 1 << 20,
            tmp: 2 << 20,
        };
        let sandbox = Sandbox::new().resources(resources).writable(dir.path(), "/out");
        let script = "head -c 3000000 /dev/zero >/tmp/x || echo tmp
            head -c 3000000 /dev/zero >/dev/shm/x || echo shm
            head -c 2000000 /dev/zero >/out/x || echo file
            perl -e '$x = \"x\" x (2 << 30)' || echo memory
            touch /out/owned && stat -c %u /out/owned";
        let output = sandbox.command("bash").args(["-c", script]).output(Limits::seconds(60)).await.unwrap();
        assert_eq!(output.text(), "tmp\nshm\nfile\nmemory\n1000\n");
        // On the host, the file belongs to this account.
        std::fs::write(dir.path().join("owned"), "x").unwrap();
        std::fs::remove_file(dir.path().join("owned")).unwrap();
        let script = "for i in {1..50}; do sleep 5 & done; echo started";
        let output = sandbox.command("bash").args(["-c", script]).output(Limits::seconds(60)).await.unwrap();
        let complained = String::from_utf8_lossy(&output.stderr).contains("Resource temporarily unavailable");
        assert!(complained, "{output:?}");
    }

    #[test]
    fn lower_limits_of_this_process_are_kept() {
        let test = std::env::current_exe().unwrap();
        let limits = ["--nproc=3000", "--fsize=1000000000", "--as=8000000000"];
        let mut child = std::process::Command::new(PRLIMIT);
        let name = "resources::tests::in_a_process_with_low_limits";
        let child = child.args(limits).arg("--").arg(test).args(["--exact", "--ignored", name]);
        let output = child.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[tokio::test]
    #[ignore = "run by lower_limits_of_this_process_are_kept"]
    async fn in_a_process_with_low_limits() {
        if rustix::process::getrlimit(Resource::Nproc).maximum != Some(3000) {
            return;
        }
        if let Err(error) = probe().await {
            assert!(!error.to_string().contains("prlimit"), "{error}");
            return;
        }
        let limits =
            Sandbox::new().command("prlimit").args(["--raw", "--noheadings", "--output=RESOURCE,HARD"]);
        let text = limits.output(Limits::seconds(60)).await.unwrap().text();
        for line in ["NPROC 3000", "FSIZE 1000000000"] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
