//! The `ktest` command line of a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::TestGroup;
use model::{
    BranchRef, CommitId, EnvVar, HostName, PackageRepo, RepoName, RootImage, RunOrder, ShippedImage,
    StoreKernel, SubtestName, SuiteOrder, TestOrder, TestPath, TrustDomain, TrustScope,
};
use spawn::{Cmd, Stream};
use testfile::known_issues::KnownIssues;

use super::remote::{self, HostCommands};
use crate::plan::Unit;
use crate::upstream::{self, UpstreamBuild};
use crate::watch::fetch_loop::View;
use crate::watch::suites::FetchedSuite;

/// The part of the command line that is the same for all batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The `ktest` command.
    pub ktest: PathBuf,
    /// The kernel repository.
    pub linux_repo: PathBuf,
    /// The tree with the test files in `tests/`.
    pub ktest_dir: PathBuf,
    /// The known failures of the test files.
    pub known_issues: Arc<KnownIssues>,
    /// How branches are grouped to share objects, compiler caches and kernels.
    pub trust: TrustScope,
    /// The branches of the trust domain [`TrustDomain::base`].
    pub base_cache: BTreeSet<BranchRef>,
    /// One in this number of kernels is compared with a clean build.
    pub verify_builds: u32,
    /// Kernel options with a requirement that may stay unmet.
    pub tolerate: Vec<String>,
    /// The repositories under test other than `linux`.
    pub repos: BTreeMap<RepoName, PathBuf>,
    /// The test suites that the farm has fetched.
    pub suites: Vec<SuiteOrder>,
    /// The root images that groups use.
    pub images: config::Images,
    /// The package repositories of kernels that groups name.
    pub kernel_sources: Vec<PackageRepo>,
    /// The kernels of upstream that groups name.
    pub upstream: BTreeMap<StoreKernel, UpstreamBuild>,
    /// All test files that run on kernels of upstream, so that they share flavors.
    pub upstream_merge: Vec<TestPath>,
    /// All test files that run on kernels built from commits, so that they share flavors.
    pub merge: Vec<TestPath>,
    /// The first arguments for hosts other than this machine.
    pub host_commands: HostCommands,
}

/// Where a batch runs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The slot. Its name on another host is unique among all daemons and slots.
    pub slot: u32,
    /// Whether the batch needs the host to itself.
    pub alone: bool,
}

impl Tools {
    /// The trust domain of a branch.
    pub fn domain(&self, branch: &BranchRef) -> TrustDomain {
        TrustDomain::of_branch(self.trust, branch, self.base_cache.contains(branch))
    }

    /// The package repository of a kernel; `None` for those of Debian.
    fn source_of(&self, kernel: &StoreKernel) -> Option<&PackageRepo> {
        self.kernel_sources.iter().find(|source| source.name() == kernel.source())
    }

    /// The command line of an order for a slot of a host. Only this machine supports a checkout in `deps`.
    fn command(&self, place: &Place<'_>, order: TestOrder, deps: Option<&Path>) -> Cmd {
        let cmd = Cmd::new(&self.ktest);
        match self.host_commands.get(place.host) {
            Some(command) => {
                let cmd = cmd.args(command.for_slot(place.slot, place.alone));
                // `ktest host run` refuses the option, so that a test never runs without its checkout.
                let cmd = deps.iter().fold(cmd, |cmd, deps| cmd.arg("--deps-dir").arg(deps));
                cmd.args(order.to_argv())
            }
            None => {
                let deps_dir = deps.map(Into::into);
                cmd.arg("run").args(RunOrder { events: true, deps_dir, ..order.into() }.to_argv())
            }
        }
    }
}

/// The tools for a view. A test file that cannot be listed does not contribute to the flavors.
#[must_use]
pub fn tools(view: &View, ktest: &Path) -> Tools {
    let config = &view.config;
    let kernels = config.all_branches().filter(|branch| branch.repo.is_linux());
    let groups = kernels.flat_map(|branch| config.groups_of(branch));
    let built = groups.filter(|group| group.kernels.is_empty());
    let listed =
        |group: &TestGroup, test: &TestPath| view.listings.contains_key(&(test.clone(), group.env.clone()));
    let merge: BTreeSet<&TestPath> =
        built.flat_map(|group| group.tests.iter().filter(move |test| listed(group, test))).collect();
    Tools {
        ktest: ktest.into(),
        linux_repo: config.top.linux_repo.clone(),
        ktest_dir: config.top.ktest_dir.clone(),
        known_issues: Arc::clone(&view.known_issues),
        trust: config.top.trust,
        base_cache: config
            .all_branches()
            .filter(|branch| branch.base_cache)
            .map(|b| b.name.clone())
            .collect(),
        verify_builds: config.top.verify_builds,
        tolerate: config.top.tolerate.clone(),
        repos: config.repos.iter().map(|(name, repo)| (name.clone(), repo.path.clone())).collect(),
        suites: view.suites.values().filter_map(FetchedSuite::order).collect(),
        images: config.images.clone(),
        kernel_sources: config.kernel_sources.clone(),
        upstream: upstream::resolve(config)
            .into_iter()
            .filter_map(|(name, build)| Some((name, build.ok()?)))
            .collect(),
        upstream_merge: upstream::tests(config),
        merge: merge.into_iter().cloned().collect(),
        host_commands: remote::host_commands(config, &node_name()),
    }
}

/// The host name of this machine.
fn node_name() -> String {
    fsx::own::read_to_string("/proc/sys/kernel/hostname".as_ref(), 4096).unwrap_or_default().trim().into()
}

/// `ktest run` for these subtests at a commit, with its events on a pipe. `deps` contains the checkout of a repository
/// that is not a kernel.
#[must_use]
pub fn ktest_run(
    tools: &Tools,
    place: &Place<'_>,
    (branch, commit): (&BranchRef, &CommitId),
    unit: &Unit,
    subtests: &[SubtestName],
    out: &Path,
    deps: Option<&Path>,
) -> Cmd {
    let file = |test: &TestPath| tools.ktest_dir.join("tests").join(test.file());
    let upstream = unit.kernel.as_ref().and_then(|kernel| tools.upstream.get(kernel));
    let linux = || tools.linux_repo.to_string_lossy().into_owned();
    let (kernel, commit, merge) = match (&unit.kernel, upstream) {
        (None, _) => (linux(), Some(commit.to_string()), &tools.merge[..]),
        (Some(_), Some(build)) => (linux(), Some(build.commit.to_string()), &tools.upstream_merge[..]),
        (Some(kernel), None) => (kernel.to_string(), None, &[][..]),
    };
    let image = config::image_of(&unit.env).and_then(|image| config::recipe(&tools.images, image));
    let image = image.unwrap_or_default();
    let order = TestOrder {
        kernel,
        kernel_repos: unit.kernel.iter().filter_map(|kernel| tools.source_of(kernel)).cloned().collect(),
        commit,
        tests_dir: Some(tools.ktest_dir.clone()),
        out: out.into(),
        tolerate: tools.tolerate.clone(),
        merge: merge.iter().map(file).collect(),
        arch: config::arch_of(&unit.env),
        image: Some(image.base).filter(|base| *base != ShippedImage::default()).map(RootImage::Shipped),
        packages: image.packages,
        env: env_of(unit, upstream),
        suites: tools.suites.clone(),
        // All branches share a kernel of upstream, whose source is the operator's.
        trust_domain: match upstream.is_some() || tools.base_cache.contains(branch) {
            true => Some(TrustDomain::base()),
            false => tools.trust.domain(branch),
        },
        verify_builds: tools.verify_builds,
        ..TestOrder::of(&file(&unit.test), subtests)
    };
    tools.command(place, order, deps).streams(Stream::Null, Stream::Pipe, Stream::Pipe)
}

/// The variables of a run. The variant of a kernel of upstream selects the flavor, unless the group does.
fn env_of(unit: &Unit, upstream: Option<&UpstreamBuild>) -> Vec<EnvVar> {
    let mut vars = unit.env.vars();
    let own = unit.env.iter().any(|(name, _)| name == FLAVOR_VARIABLE);
    let flavor = upstream.and_then(|build| build.flavor.as_ref()).filter(|_| !own);
    vars.extend(flavor.and_then(|flavor| format!("{FLAVOR_VARIABLE}={flavor}").parse::<EnvVar>().ok()));
    vars
}

/// The variable of a test file that selects the flavor of its kernel.
const FLAVOR_VARIABLE: &str = "ktest_flavor";

#[cfg(test)]
mod tests {
    use super::super::remote::HostCommand;
    use super::*;

    fn fixture() -> Tools {
        Tools {
            ktest: "/usr/bin/ktest".into(),
            linux_repo: "/srv/linux.git".into(),
            ktest_dir: "/srv/ktest".into(),
            known_issues: Arc::default(),
            trust: TrustScope::User,
            base_cache: BTreeSet::from([BranchRef::new(&"me".parse().unwrap(), &"base".parse().unwrap())]),
            verify_builds: 50,
            tolerate: vec!["RUST".into()],
            repos: BTreeMap::new(),
            suites: Vec::new(),
            images: BTreeMap::from([(
                "stress".parse().unwrap(),
                config::ImageRecipe {
                    packages: ["fio", "stress-ng"].map(|name| name.parse().unwrap()).into(),
                    ..config::ImageRecipe::default()
                },
            )]),
            kernel_sources: Vec::new(),
            upstream: BTreeMap::from([(
                "upstream/stable-kasan".parse().unwrap(),
                UpstreamBuild { commit: "f".repeat(40).parse().unwrap(), flavor: Some("kasan".into()) },
            )]),
            upstream_merge: vec!["fs/b".parse().unwrap()],
            merge: vec!["boot".parse().unwrap(), "fs/a".parse().unwrap()],
            host_commands: HostCommands::from([(
                "farm1".parse().unwrap(),
                HostCommand {
                    args: ["host", "run", "farm1", "--slot", "ab"].map(Into::into).into(),
                    kind: config::HostKind::Ssh,
                },
            )]),
        }
    }

    #[test]
    fn the_command_line() {
        let tools = fixture();
        let mut unit = Unit { test: "fs/a".parse().unwrap(), kernel: None, env: model::Env::default() };
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let subtests = ["x", "generic/001"].map(|name| name.parse().unwrap());
        let branch = BranchRef::new(&"me".parse().unwrap(), &"next".parse().unwrap());
        let on = |host: &str, unit: &Unit, deps: Option<&Path>| {
            let at = Place { host: &host.parse().unwrap(), slot: 3, alone: false };
            ktest_run(&tools, &at, (&branch, &commit), unit, &subtests, "/w/0".as_ref(), deps).to_string()
        };
        let shown = |unit: &Unit, deps: Option<&Path>| on("local", unit, deps);
        insta::assert_snapshot!(shown(&unit, None), @"/usr/bin/ktest run --events -k /srv/linux.git --commit 0123456789abcdef0123456789abcdef01234567 --tests-dir /srv/ktest --out /w/0 --tolerate RUST --merge /srv/ktest/tests/boot.ktest --merge /srv/ktest/tests/fs/a.ktest --trust-domain user/me --verify-builds 50 /srv/ktest/tests/fs/a.ktest x generic/001");
        let base = BranchRef::new(&"me".parse().unwrap(), &"base".parse().unwrap());
        let at = Place { host: &"local".parse().unwrap(), slot: 3, alone: true };
        let line =
            ktest_run(&tools, &at, (&base, &commit), &unit, &subtests, "/w/0".as_ref(), None).to_string();
        assert!(line.contains(" --trust-domain base "), "{line}");
        unit.kernel = Some("debian/trixie".parse().unwrap());
        unit.env = BTreeMap::from([("K".into(), "v".into())]).try_into().unwrap();
        insta::assert_snapshot!(shown(&unit, Some("/w/0.deps".as_ref())), @"/usr/bin/ktest run --events --deps-dir /w/0.deps -k debian/trixie --tests-dir /srv/ktest --out /w/0 --tolerate RUST --env K=v --trust-domain user/me --verify-builds 50 /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.env = BTreeMap::from([("ktest_image".into(), "stress".into())]).try_into().unwrap();
        insta::assert_snapshot!(on("farm1", &unit, None), @"/usr/bin/ktest host run farm1 --slot ab-3 -k debian/trixie --tests-dir /srv/ktest --out /w/0 --tolerate RUST --package fio --package stress-ng --env ktest_image=stress --trust-domain user/me --verify-builds 50 /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.env = BTreeMap::from([("ktest_image".into(), "full".into())]).try_into().unwrap();
        insta::assert_snapshot!(on("farm1", &unit, None), @"/usr/bin/ktest host run farm1 --slot ab-3 -k debian/trixie --tests-dir /srv/ktest --out /w/0 --tolerate RUST --image full --env ktest_image=full --trust-domain user/me --verify-builds 50 /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.env = model::Env::default();
        unit.kernel = Some("upstream/stable-kasan".parse().unwrap());
        insta::assert_snapshot!(shown(&unit, None), @"/usr/bin/ktest run --events -k /srv/linux.git --commit ffffffffffffffffffffffffffffffffffffffff --tests-dir /srv/ktest --out /w/0 --tolerate RUST --merge /srv/ktest/tests/fs/b.ktest --env ktest_flavor=kasan --trust-domain base --verify-builds 50 /srv/ktest/tests/fs/a.ktest x generic/001");
        unit.kernel = None;
        unit.env = BTreeMap::from([("ktest_arch".into(), "aarch64".into())]).try_into().unwrap();
        insta::assert_snapshot!(on("farm1", &unit, None), @"/usr/bin/ktest host run farm1 --slot ab-3 -k /srv/linux.git --commit 0123456789abcdef0123456789abcdef01234567 --tests-dir /srv/ktest --out /w/0 --tolerate RUST --merge /srv/ktest/tests/boot.ktest --merge /srv/ktest/tests/fs/a.ktest --arch aarch64 --env ktest_arch=aarch64 --trust-domain user/me --verify-builds 50 /srv/ktest/tests/fs/a.ktest x generic/001");
        let suite: SuiteOrder = format!("xfstests={commit}@/srv/out/x.git").parse().unwrap();
        let tools = Tools { suites: vec![suite.clone()], ..tools };
        for host in ["local", "farm1"] {
            let at = Place { host: &host.parse().unwrap(), slot: 3, alone: false };
            let cmd = ktest_run(&tools, &at, (&branch, &commit), &unit, &subtests, "/w/0".as_ref(), None);
            assert!(cmd.to_string().contains(&format!(" --suite {suite} ")), "{cmd}");
        }
    }
}
