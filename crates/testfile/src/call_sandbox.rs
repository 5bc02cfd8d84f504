//! The sandbox for `list-tests` and `deps`: of the host only the programs and the tree of the test file are visible, and
//! only the directory of `require-git` is writable. The network is available for cloning.

use std::path::Path;

use sandbox::{Network, Sandbox};

/// The sandbox of a call, without its variables.
pub(crate) fn of_call(ktest_dir: &Path, deps_dir: &Path) -> Sandbox {
    let mut sandbox = Sandbox::new().network(Network::Host).read_only(ktest_dir, ktest_dir).dir(ktest_dir);
    if deps_dir.is_absolute() && fsx::own::create_dir_all(deps_dir).is_ok() {
        sandbox = sandbox.writable(deps_dir, deps_dir);
    }
    // lib/suite.sh does not start a sandbox of its own in this one.
    sandbox.env("HOME", "/tmp").env("LANG", "C.UTF-8").env("ktest_sandboxed", "true")
}
