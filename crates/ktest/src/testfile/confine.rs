//! A test file that is asked what it lists and declares, in a sandbox: the host read-only and without its home folders and
//! processes; only the folder of `require-git` is writable, and there is a network for it.

use std::path::Path;

use kernel::sandbox;
use spawn::Cmd;
use tokio::sync::OnceCell;

/// What is hidden behind an empty folder.
const HIDDEN: [&str; 4] = ["/tmp", "/var/tmp", "/root", "/home"];

/// Whether bubblewrap works here; asked once, and said once if not.
pub(super) async fn works() -> bool {
    static WORKS: OnceCell<bool> = OnceCell::const_new();
    let probe = || async {
        let result = sandbox::probe().await;
        if let Err(error) = &result {
            tracing::warn!("test files are asked what they list and declare without a sandbox: {error}");
        }
        result.is_ok()
    };
    *WORKS.get_or_init(probe).await
}

/// The beginning of a command line that runs what follows in the sandbox, with an environment of its own.
pub(super) fn command(ktest_dir: &Path, deps_dir: &Path) -> Cmd {
    let mut cmd =
        Cmd::new("bwrap").args(["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]);
    cmd = cmd.args(["--unshare-uts", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
    for dir in HIDDEN.iter().filter(|dir| Path::new(dir).is_dir()) {
        cmd = cmd.arg("--tmpfs").arg(dir);
    }
    cmd = cmd.arg("--ro-bind").arg(ktest_dir).arg(ktest_dir);
    if deps_dir.is_absolute() && std::fs::create_dir_all(deps_dir).is_ok() {
        cmd = cmd.arg("--bind").arg(deps_dir).arg(deps_dir);
    }
    cmd.arg("--chdir").arg(ktest_dir).arg("--").env_clear().env("HOME", "/tmp").env("LANG", "C.UTF-8").env(
        "PATH",
        std::env::var_os("PATH")
            .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
    )
}
