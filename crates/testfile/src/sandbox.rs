//! The sandbox for `list-tests` and `deps`: the host is read-only, without its home directories and processes. Only the
//! directory of `require-git` is writable, and the network is available for cloning.

use std::path::Path;

use kernel::sandbox;
use spawn::Cmd;
use tokio::sync::OnceCell;

/// Directories hidden behind an empty one.
const HIDDEN: [&str; 4] = ["/tmp", "/var/tmp", "/root", "/home"];

/// Whether bubblewrap works on this host. Probed once per process; a failure is logged once.
pub(crate) async fn works() -> bool {
    static WORKS: OnceCell<bool> = OnceCell::const_new();
    let probe = || async {
        let result = sandbox::probe().await;
        if let Err(error) = &result {
            tracing::warn!("running list-tests and deps without a sandbox: {error}");
        }
        result.is_ok()
    };
    *WORKS.get_or_init(probe).await
}

/// The beginning of a command line in the sandbox, with a cleared environment; the program's argv follows.
pub(crate) fn command(ktest_dir: &Path, deps_dir: &Path) -> Cmd {
    let mut cmd =
        Cmd::new("bwrap").args(["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]);
    cmd = cmd.args(["--unshare-uts", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
    for dir in HIDDEN.iter().filter(|dir| Path::new(dir).is_dir()) {
        cmd = cmd.arg("--tmpfs").arg(dir);
    }
    cmd = cmd.arg("--ro-bind").arg(ktest_dir).arg(ktest_dir);
    if deps_dir.is_absolute() && fsx::own::create_dir_all(deps_dir).is_ok() {
        cmd = cmd.arg("--bind").arg(deps_dir).arg(deps_dir);
    }
    cmd.arg("--chdir").arg(ktest_dir).arg("--").env_clear().env("HOME", "/tmp").env("LANG", "C.UTF-8").env(
        "PATH",
        std::env::var_os("PATH")
            .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
    )
}
