//! The command line of a batch: what the daemon asks of `ktest`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{CommitId, HostName, RepoName, SubtestName, TestPath};
use spawn::{Cmd, Stream};

use super::place::Ways;
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
    pub repos: BTreeMap<RepoName, PathBuf>,
    /// The packages of the root images that groups name.
    pub images: config::Images,
    /// All test files whose kernels are built from commits, so that one flavor serves all of them.
    pub merge: Vec<TestPath>,
    /// How command lines begin for hosts that are not this machine.
    pub ways: Ways,
}

impl Tools {
    /// The beginning of a command line for a slot of a host.
    fn begin(&self, host: &HostName, slot: u32) -> Cmd {
        let cmd = Cmd::new(&self.ktest);
        match self.ways.get(host).and_then(|way| way.split_last()) {
            // Each slot of each daemon has a name of its own over there.
            Some((farm, args)) => cmd.args(args).arg(format!("{farm}-{slot}")),
            None => cmd.args(["run", "--events"]),
        }
    }
}

/// `ktest run` of these subtests at a commit, with its events on a pipe. `deps` holds the checkout of a repository that is
/// no kernel.
#[must_use]
pub fn ktest_run(
    tools: &Tools,
    (host, slot): (&HostName, u32),
    commit: &CommitId,
    unit: &Unit,
    subtests: &[SubtestName],
    out: &Path,
    deps: Option<&Path>,
) -> Cmd {
    let file = |test: &TestPath| tools.ktest_dir.join("tests").join(test.file());
    let mut cmd = tools.begin(host, slot);
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
    if let Some(arch) = config::arch_of(&unit.env) {
        cmd = cmd.arg("--arch").arg(arch.as_str());
    }
    for package in config::image_of(&unit.env).and_then(|image| tools.images.get(image)).into_iter().flatten()
    {
        cmd = cmd.arg("--package").arg(package.as_str());
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
            images: BTreeMap::from([(
                "stress".parse().unwrap(),
                ["fio", "stress-ng"].map(|name| name.parse().unwrap()).into(),
            )]),
            merge: vec!["boot".parse().unwrap(), "fs/a".parse().unwrap()],
            ways: Ways::from([(
                "farm1".parse().unwrap(),
                ["host", "run", "farm1", "--slot", "ab"].map(Into::into).into(),
            )]),
        };
        let mut unit = Unit { test: "fs/a".parse().unwrap(), kernel: None, env: model::Env::default() };
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let subtests = ["x", "generic/001"].map(|name| name.parse().unwrap());
        let on = |host: &str, unit: &Unit, deps: Option<&Path>| {
            let at = (&host.parse().unwrap(), 3);
            ktest_run(&tools, at, &commit, unit, &subtests, "/w/0".as_ref(), deps).to_string()
        };
        let shown = |unit: &Unit, deps: Option<&Path>| on("local", unit, deps);
        insta::assert_snapshot!(shown(&unit, None), @"/usr/bin/ktest run --events -k /srv/linux.git --commit 0123456789abcdef0123456789abcdef01234567 --tests-dir /srv/ktest --out /w/0 --tolerate RUST --merge /srv/ktest/tests/boot.ktest --merge /srv/ktest/tests/fs/a.ktest /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.kernel = Some("debian/trixie".parse().unwrap());
        unit.env = BTreeMap::from([("K".into(), "v".into())]).try_into().unwrap();
        insta::assert_snapshot!(shown(&unit, Some("/w/0.deps".as_ref())), @"/usr/bin/ktest run --events -k debian/trixie --tests-dir /srv/ktest --out /w/0 --deps-dir /w/0.deps --tolerate RUST --env K=v /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.env = BTreeMap::from([("ktest_image".into(), "stress".into())]).try_into().unwrap();
        insta::assert_snapshot!(on("farm1", &unit, None), @"/usr/bin/ktest host run farm1 --slot ab-3 -k debian/trixie --tests-dir /srv/ktest --out /w/0 --tolerate RUST --package fio --package stress-ng --env ktest_image=stress /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.kernel = None;
        unit.env = BTreeMap::from([("ktest_arch".into(), "aarch64".into())]).try_into().unwrap();
        insta::assert_snapshot!(on("farm1", &unit, None), @"/usr/bin/ktest host run farm1 --slot ab-3 -k /srv/linux.git --commit 0123456789abcdef0123456789abcdef01234567 --tests-dir /srv/ktest --out /w/0 --tolerate RUST --merge /srv/ktest/tests/boot.ktest --merge /srv/ktest/tests/fs/a.ktest --arch aarch64 --env ktest_arch=aarch64 /srv/ktest/tests/fs/a.ktest x generic/001");
    }
}
