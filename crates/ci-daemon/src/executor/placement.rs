//! The hosts and slots of the farm, and which hosts a job can use. Pure.

use std::collections::BTreeSet;

use config::{Config, HostKind};
use model::{Arch, Env, HostName, RepoName};

use crate::plan::from_view::has_kernel;

/// The architecture of jobs in a group without one: that of this machine if a host has it, or else that of the first
/// host.
#[must_use]
pub fn default_arch(config: &Config) -> Option<Arch> {
    let native = Arch::native();
    let mut archs = config.hosts.values().map(|host| host.arch);
    if config.hosts.is_empty() || archs.clone().any(|arch| Some(arch) == native) {
        native
    } else {
        archs.next()
    }
}

/// The host tags required by a job with this repository and environment. A repository that is not a kernel is only
/// checked out on this machine.
#[must_use]
pub fn needs(config: &Config, repo: &RepoName, env: &Env) -> jobkit::Needs {
    let arch = config::arch_of(env).or_else(|| default_arch(config));
    let needs = match arch {
        Some(arch) => jobkit::Needs::none().is("arch", arch.as_str()),
        None => jobkit::Needs::none(),
    };
    if repo.is_linux() { needs } else { needs.is("kind", HostKind::Local.to_string()) }
}

/// The slots of all hosts; one slot of this machine if the configuration has no hosts.
#[must_use]
pub fn slots(config: &Config) -> Vec<(HostName, u32)> {
    if config.hosts.is_empty() {
        let local = "local".parse().expect("a host name");
        return vec![(local, 0)];
    }
    config.hosts.values().flat_map(|host| (0..host.slots).map(|slot| (host.name.clone(), slot))).collect()
}

/// Problems of a configuration with jobs that cannot run.
#[must_use]
pub fn unserved(config: &Config) -> Vec<String> {
    let groups = config.all_branches().flat_map(|branch| config.groups_of(branch));
    let archs = groups.filter_map(|group| Some((group, config::arch_of(&group.env)?)));
    let no_host: BTreeSet<String> = archs
        .filter(|(_, arch)| !config.hosts.values().any(|host| host.arch == *arch))
        .map(|(group, arch)| {
            format!("test group {}: no host has arch = \"{arch}\", its jobs wait", group.name)
        })
        .collect();
    let no_kernel = config.all_branches().flat_map(|branch| {
        let groups = config.groups_of(branch).filter(|group| !has_kernel(branch, group));
        groups.map(|group| {
            format!(
                "branch {}: repo {:?} is not a kernel, so test group {} has no jobs there; \
                 add kernels = [...] to the group",
                branch.name, branch.repo, group.name
            )
        })
    });
    no_host.into_iter().chain(no_kernel).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    use model::{Env, TestPath};

    use super::*;
    use crate::executor::command::tools;
    use crate::plan::from_view::input;
    use crate::watch::branches::FetchedBranch;
    use crate::watch::fetch_loop::View;

    const CONFIG: &str = r#"
user = "kmo"
tolerate = ["RUST"]
[repo.tools]
path = "/srv/tools.git"
[test_group.a]
tests = ["x.ktest", "gone.ktest"]
[test_group.b]
tests = ["y.ktest", "x.ktest"]
env = { K = "v" }
[test_group.store]
tests = ["z.ktest"]
kernels = ["debian/trixie"]
[branch.next]
remote = "https://git.example.org/linux.git"
test_groups = ["b", "a", "store"]
[branch.tools]
remote = "https://git.example.org/tools.git"
repo = "tools"
test_groups = ["a", "store"]
[host.here]
kind = "local"
arch = "aarch64"
slots = 2
[host.there]
arch = "x86_64"
"#;

    /// A view in which the file `gone` has no subtests.
    fn view(config: &Arc<Config>) -> View {
        let env = Env::try_from(BTreeMap::from([("K".to_owned(), "v".to_owned())])).unwrap();
        let listing =
            |name: &str, env: &Env| ((name.parse().unwrap(), env.clone()), Arc::from(["s".parse().unwrap()]));
        let none = Env::default();
        let seen = |name: &str| (format!("kmo/{name}").parse().unwrap(), FetchedBranch::default());
        View {
            config: config.clone(),
            branches: [seen("next"), seen("tools")].into(),
            suites: BTreeMap::new(),
            listings: [listing("x", &none), listing("y", &env), listing("z", &none)].into(),
            known_issues: Arc::default(),
            problems: Vec::new(),
            complete: true,
        }
    }

    #[test]
    fn only_listed_files_share_kernels_and_only_jobs_with_kernels_are_planned() {
        let config = Arc::new(crate::executor::config_of(CONFIG));
        let view = view(&config);
        let tools = tools(&view, "/bin/ktest".as_ref());
        assert_eq!(tools.merge.iter().map(TestPath::as_str).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(tools.tolerate, ["RUST"]);
        let input = input(&view, HashMap::new());
        let groups = |at: usize| {
            let groups = input.branches[at].groups.iter().map(|group| group.name.as_str());
            groups.collect::<Vec<_>>()
        };
        assert_eq!((groups(0), groups(1)), (vec!["b", "a", "store"], vec!["store"]));
        assert_eq!(
            slots(&config).iter().map(|(host, slot)| format!("{host}/{slot}")).collect::<Vec<_>>(),
            ["here/0", "here/1", "there/0"]
        );
        let arm = Env::try_from(BTreeMap::from([("ktest_arch".to_owned(), "aarch64".to_owned())])).unwrap();
        assert_eq!(needs(&config, &RepoName::linux(), &arm).to_string(), "arch=aarch64");
        let usual = Arch::native().unwrap();
        assert_eq!(
            needs(&config, &"tools".parse().unwrap(), &Env::default()).to_string(),
            format!("arch={usual} kind=local")
        );
        assert_eq!(unserved(&config).len(), 1, "{:?}", unserved(&config));
    }
}
