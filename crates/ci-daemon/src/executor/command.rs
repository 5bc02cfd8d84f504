//! The command line of a batch: what the daemon asks of `ktest`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{CommitId, SubtestName, TestPath};
use spawn::{Cmd, Stream};

use crate::plan::Unit;

/// What is the same for all batches of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The `ktest` command.
    pub ktest: PathBuf,
    /// The kernel repository.
    pub linux_repo: PathBuf,
    /// The tree whose `tests/` holds the test files.
    pub ktest_dir: PathBuf,
    /// Kernel options that may be required in vain.
    pub tolerate: Vec<String>,
    /// The repositories under test other than `linux`.
    pub repos: BTreeMap<String, PathBuf>,
    /// All test files whose kernels are built from commits, so that one flavor serves all of them.
    pub merge: Vec<TestPath>,
}

/// `ktest run` of these subtests at a commit, with its events on a pipe. `deps` holds the checkout of a repository that is
/// no kernel.
#[must_use]
pub fn ktest_run(
    tools: &Tools,
    commit: &CommitId,
    unit: &Unit,
    subtests: &[SubtestName],
    out: &Path,
    deps: Option<&Path>,
) -> Cmd {
    let file = |test: &TestPath| tools.ktest_dir.join("tests").join(test.file());
    let mut cmd = Cmd::new(&tools.ktest).args(["run", "--events"]);
    cmd = match &unit.kernel {
        None => cmd.arg("-k").arg(&tools.linux_repo).arg("--commit").arg(commit.as_str()),
        Some(kernel) => cmd.arg("-k").arg(kernel.as_str()),
    };
    cmd = cmd.arg("--tests-dir").arg(&tools.ktest_dir).arg("--out").arg(out);
    if let Some(deps) = deps {
        cmd = cmd.arg("--deps-dir").arg(deps);
    }
    for option in &tools.tolerate {
        cmd = cmd.arg("--tolerate").arg(option);
    }
    if unit.kernel.is_none() {
        for test in &tools.merge {
            cmd = cmd.arg("--merge").arg(file(test));
        }
    }
    for (key, value) in unit.env.iter() {
        cmd = cmd.arg("--env").arg(format!("{key}={value}"));
    }
    let subtests = subtests.iter().map(SubtestName::as_str);
    cmd.arg(file(&unit.test)).args(subtests).streams(Stream::Null, Stream::Pipe, Stream::Pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let tools = Tools {
            ktest: "/usr/bin/ktest".into(),
            linux_repo: "/srv/linux.git".into(),
            ktest_dir: "/srv/ktest".into(),
            tolerate: vec!["RUST".into()],
            repos: BTreeMap::new(),
            merge: vec!["boot".parse().unwrap(), "fs/a".parse().unwrap()],
        };
        let mut unit = Unit { test: "fs/a".parse().unwrap(), kernel: None, env: model::Env::default() };
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let subtests = ["x", "generic/001"].map(|name| name.parse().unwrap());
        let shown = |unit: &Unit, deps: Option<&Path>| {
            ktest_run(&tools, &commit, unit, &subtests, "/w/0".as_ref(), deps).to_string()
        };
        insta::assert_snapshot!(shown(&unit, None), @"/usr/bin/ktest run --events -k /srv/linux.git --commit 0123456789abcdef0123456789abcdef01234567 --tests-dir /srv/ktest --out /w/0 --tolerate RUST --merge /srv/ktest/tests/boot.ktest --merge /srv/ktest/tests/fs/a.ktest /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.kernel = Some("debian/trixie".parse().unwrap());
        unit.env = BTreeMap::from([("K".into(), "v".into())]).try_into().unwrap();
        insta::assert_snapshot!(shown(&unit, Some("/w/0.deps".as_ref())), @"/usr/bin/ktest run --events -k debian/trixie --tests-dir /srv/ktest --out /w/0 --deps-dir /w/0.deps --tolerate RUST --env K=v /srv/ktest/tests/fs/a.ktest x generic/001");
    }
}
