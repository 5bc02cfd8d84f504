//! `[test_group.NAME]`: test files with a priority, a number of commits, kernels and an environment.

use std::collections::BTreeMap;

use model::run_order::NETWORK_VARIABLE;
use model::{
    Arch, BisectStart, Env, GroupName, ImageName, NamedKernel, PackageRepo, Share, StoreKernel, TestPath,
    UpstreamKernel,
};

use crate::fault::{Fault, Problem};
use crate::image::{Images, recipe};
use crate::nearest::{Hint, nearest};
use crate::node::{Node, Section, Value};

/// A test group, with the settings of the group that it `extends`.
///
/// Order of jobs: the value of a job is the age of its commit in its branch (0 = tip) plus [`TestGroup::nice_of`]; the
/// lowest value runs first. The tip of a group with niceness 5 is tested after the five newest commits of a group with
/// niceness 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestGroup {
    /// Its name.
    pub name: GroupName,
    /// The test files, in the order of the file, without duplicates.
    pub tests: Vec<TestPath>,
    /// The niceness, which is added to the age of a commit; 0 by default. Also spelled `priority`.
    pub nice: i64,
    /// The number of commits from the tip that are tested; 50 by default.
    pub max_commits: u32,
    /// The niceness of a subtest increases by 1 for each of this many seconds of its mean duration; 180 by default. 0
    /// disables this.
    pub test_duration_nice: u64,
    /// After more than this number of runs with the same verdict, this number is added to the niceness of a subtest; 10
    /// by default. 0 disables this.
    pub test_always_passes_nice: u64,
    /// Whether a commit inherits the verdicts of one with the same source tree; true by default.
    pub inherit: bool,
    /// The share of the inherited verdicts of which the test runs all the same; 0 % by default.
    pub inherit_check: Share,
    /// The share of the idle slot time that finishes claims that a failure of its tests is fixed; none by default.
    pub soak: Share,
    /// How bisections of its tests begin; by themselves by default.
    pub bisect: BisectStart,
    /// Kernels from the kernel store. If empty, the kernel is built from the commit.
    pub kernels: Vec<StoreKernel>,
    /// The environment of its runs, with `arch` as [`ARCH_VARIABLE`], `image` as [`IMAGE_VARIABLE`] and `network` as
    /// [`NETWORK_VARIABLE`].
    pub env: Env,
}

/// The name of the root image of an environment, if set.
#[must_use]
pub fn image_of(env: &Env) -> Option<&str> {
    env.iter().find(|(name, _)| *name == IMAGE_VARIABLE).map(|(_, value)| value)
}

/// The architecture of an environment, if set.
#[must_use]
pub fn arch_of(env: &Env) -> Option<Arch> {
    env.iter().find(|(name, _)| *name == ARCH_VARIABLE).and_then(|(_, value)| value.parse().ok())
}

impl TestGroup {
    /// The niceness of a subtest with this number of passes and failures and this mean duration in seconds.
    #[must_use]
    pub fn nice_of(&self, passed: u64, failed: u64, mean_s: u64) -> i64 {
        let mut nice = self.nice;
        let same_verdict = (passed == 0) != (failed == 0);
        if same_verdict && passed + failed > self.test_always_passes_nice {
            nice = nice.saturating_add_unsigned(self.test_always_passes_nice);
        }
        if let Some(more) = mean_s.checked_div(self.test_duration_nice) {
            nice = nice.saturating_add_unsigned(more);
        }
        nice
    }
}

/// An invalid test group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Its name.
    #[error(transparent)]
    Name(model::NameError),
    /// It extends an unknown group.
    #[error("test group {group:?} extends unknown group {parent:?}{hint}")]
    UnknownParent {
        /// The group.
        group: GroupName,
        /// The group that it extends.
        parent: GroupName,
        /// The nearest valid name.
        hint: Hint,
    },
    /// It extends itself.
    #[error("test groups extend each other in a cycle: {}", chain.iter().map(GroupName::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle {
        /// The cycle, from a group back to itself.
        chain: Vec<GroupName>,
    },
    /// Neither the group nor the one that it extends has tests.
    #[error("test group {0:?} has no tests; list them or extend a group that does")]
    NoTests(GroupName),
    /// An unknown image.
    #[error("test group {group:?}: no image {image:?}; add [image.{image}]{hint}")]
    UnknownImage {
        /// The group.
        group: GroupName,
        /// The image.
        image: String,
        /// The nearest valid name.
        hint: Hint,
    },
    /// A kernel that no source has.
    #[error("kernels: {0}")]
    Kernel(model::NameError),
    /// A guest with the network reaches services of the host, which a user must not.
    #[error("network is allowed in the main file only; use a group of it that has network = true")]
    Network,
    /// A user's file must not set this variable.
    #[error(
        "env: a user's file must not set {0}; use a name that begins with ktest_, or one that a group of the main file sets"
    )]
    EnvName(String),
    /// The environment cannot be part of a result key.
    #[error("env: {0}")]
    Env(model::NameError),
}

impl crate::fault::SectionError for GroupError {}

/// A group before `extends` is resolved.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawGroup {
    line: usize,
    extends: Option<(usize, GroupName)>,
    tests: Option<Vec<TestPath>>,
    nice: Option<i64>,
    max_commits: Option<u32>,
    test_duration_nice: Option<u64>,
    test_always_passes_nice: Option<u64>,
    inherit: Option<bool>,
    inherit_check: Option<Share>,
    soak: Option<Share>,
    bisect: Option<BisectStart>,
    kernels: Option<Vec<StoreKernel>>,
    arch: Option<Arch>,
    image: Option<String>,
    network: Option<bool>,
    env: BTreeMap<String, String>,
}

/// The environment variable with the architecture of a run. Like the rest of the environment, it is part of the result
/// key.
pub const ARCH_VARIABLE: &str = "ktest_arch";

pub use model::names::IMAGE_VARIABLE;

const KEYS: &[&str] = &[
    "tests",
    "nice",
    "priority",
    "max_commits",
    "extends",
    "kernels",
    "arch",
    "image",
    "network",
    "env",
    "test_duration_nice",
    "test_always_passes_nice",
    "inherit",
    "inherit_check",
    "soak",
    "bisect",
];

pub(crate) fn read(node: &Node, sources: &[PackageRepo]) -> Result<BTreeMap<GroupName, RawGroup>, Fault> {
    let entries = node.table("test_group")?.iter();
    entries
        .map(|(key, node)| {
            let name = key.parse().map_err(|error| node.fault(Problem::from(GroupError::Name(error))))?;
            let section = Section::new(node, format!("[test_group.{key}]"), KEYS)?;
            Ok((name, raw(&section, sources)?))
        })
        .collect()
}

fn raw(section: &Section<'_>, sources: &[PackageRepo]) -> Result<RawGroup, Fault> {
    let int =
        |key: &'static str, least, most| section.get(key).map(|node| node.int(key, least, most)).transpose();
    let count = |key| Ok::<_, Fault>(int(key, 0, 1_000_000_000)?.map(i64::unsigned_abs));
    let nice = section.get_any(&["nice", "priority"])?;
    Ok(RawGroup {
        line: section.node().line,
        extends: section
            .get("extends")
            .map(|node| Ok::<_, Fault>((node.line, node.parse("extends")?)))
            .transpose()?,
        tests: section.names("tests")?,
        nice: nice.map(|(key, node)| node.int(key, -1_000_000, 1_000_000)).transpose()?,
        max_commits: int("max_commits", 1, 1_000_000)?.and_then(|n| u32::try_from(n).ok()),
        test_duration_nice: count("test_duration_nice")?,
        test_always_passes_nice: count("test_always_passes_nice")?,
        inherit: section.get("inherit").map(|node| node.bool("inherit")).transpose()?,
        soak: section.get("soak").map(|node| node.parse("soak")).transpose()?,
        inherit_check: section.get("inherit_check").map(|node| node.parse("inherit_check")).transpose()?,
        bisect: section.get("bisect").map(|node| node.parse("bisect")).transpose()?,
        kernels: kernels(section, sources)?,
        arch: section.get("arch").map(|node| node.parse("arch")).transpose()?,
        image: section.get("image").map(|node| node.str("image").map(str::to_owned)).transpose()?,
        network: section.get("network").map(|node| node.bool("network")).transpose()?,
        env: section.get("env").map(env).transpose()?.unwrap_or_default(),
    })
}

fn kernels(section: &Section<'_>, sources: &[PackageRepo]) -> Result<Option<Vec<StoreKernel>>, Fault> {
    let Some(names) = section.names("kernels")? else { return Ok(None) };
    for name in &names {
        let name: &StoreKernel = name;
        let parsed = match UpstreamKernel::parse(name) {
            Some(parsed) => parsed.map(|_| ()),
            // Of which architecture does not matter here.
            None => NamedKernel::parse(name, sources, Arch::X86_64).map(|_| ()),
        };
        if let Err(error) = parsed {
            let line = section.get("kernels").map_or(section.node().line, |node| node.line);
            return Err(Fault { line, problem: GroupError::Kernel(error).into() });
        }
    }
    Ok(Some(names))
}

fn env(node: &Node) -> Result<BTreeMap<String, String>, Fault> {
    let mut env = BTreeMap::new();
    for (key, node) in node.table("env")? {
        let value = match &node.value {
            Value::Int(n) => n.to_string(),
            _ => node.str(key)?.to_owned(),
        };
        let one = BTreeMap::from([(key.clone(), value)]);
        if let Err(error) = Env::try_from(one.clone()) {
            return Err(node.fault(Problem::from(GroupError::Env(error))));
        }
        env.extend(one);
    }
    Ok(env)
}

/// The prefix of the variable names that every user's file may set.
const ENV_PREFIX: &str = "ktest_";

/// Checks the variables of a user's groups. Variables of test files and variables that a group of the main file also
/// sets are allowed. Others, such as PATH, configure programs and not tests.
pub(crate) fn check_env(
    raw: &BTreeMap<GroupName, RawGroup>,
    shared: &BTreeMap<GroupName, TestGroup>,
) -> Result<(), Fault> {
    let allowed = |key: &str| {
        let shared = || shared.values().any(|group| group.env.iter().any(|(name, _)| name == key));
        key.starts_with(ENV_PREFIX) || shared()
    };
    for group in raw.values() {
        if group.network == Some(true) || group.env.contains_key(NETWORK_VARIABLE) {
            return Err(Fault { line: group.line, problem: GroupError::Network.into() });
        }
        if let Some(key) = group.env.keys().find(|key| !allowed(key)) {
            return Err(Fault { line: group.line, problem: GroupError::EnvName(key.clone()).into() });
        }
    }
    Ok(())
}

/// Resolves `extends`. `shared` is the resolved groups of the main file.
pub(crate) fn resolve(
    raw: &BTreeMap<GroupName, RawGroup>,
    shared: &BTreeMap<GroupName, TestGroup>,
    images: &Images,
) -> Result<BTreeMap<GroupName, TestGroup>, Fault> {
    let mut done = BTreeMap::new();
    for name in raw.keys() {
        // The chain from the group to the first one that is resolved or does not extend another.
        let mut chain: Vec<&GroupName> = Vec::new();
        let mut at = Some(name);
        let mut parent: Option<TestGroup> = None;
        while let Some(name) = at {
            if let Some(group) = done.get(name) {
                parent = Some(TestGroup::clone(group));
                break;
            }
            let Some(group) = raw.get(name) else {
                parent = shared.get(name).cloned();
                break;
            };
            if let Some(first) = chain.iter().position(|seen| *seen == name) {
                let chain = chain[first..].iter().chain([&name]).map(|name| (*name).clone()).collect();
                return Err(fault(group, GroupError::Cycle { chain }));
            }
            chain.push(name);
            at = group.extends.as_ref().map(|(_, parent)| parent);
            if let Some((line, parent)) = &group.extends
                && !raw.contains_key(parent)
                && !shared.contains_key(parent)
            {
                let hint = nearest(parent.as_str(), raw.keys().chain(shared.keys()).map(GroupName::as_str));
                let error = GroupError::UnknownParent { group: name.clone(), parent: parent.clone(), hint };
                return Err(Fault { line: *line, problem: error.into() });
            }
        }
        for name in chain.into_iter().rev() {
            let group = merge(name, &raw[name], parent.as_ref())?;
            done.insert(name.clone(), group.clone());
            parent = Some(group);
        }
    }
    for (name, group) in &done {
        if let Some(image) = image_of(&group.env)
            && recipe(images, image).is_none()
        {
            let hint = nearest(image, images.keys().map(ImageName::as_str));
            let error = GroupError::UnknownImage { group: name.clone(), image: image.into(), hint };
            return Err(Fault { line: raw[name].line, problem: error.into() });
        }
        if group.tests.is_empty()
            && !raw.values().any(|raw| raw.extends.as_ref().is_some_and(|(_, p)| p == name))
        {
            return Err(fault(&raw[name], GroupError::NoTests(name.clone())));
        }
    }
    Ok(done)
}

fn fault(group: &RawGroup, error: GroupError) -> Fault {
    Fault { line: group.extends.as_ref().map_or(group.line, |(line, _)| *line), problem: error.into() }
}

fn merge(name: &GroupName, raw: &RawGroup, parent: Option<&TestGroup>) -> Result<TestGroup, Fault> {
    let mut env: BTreeMap<String, String> = parent.map(|p| p.env.clone().into()).unwrap_or_default();
    env.extend(raw.env.clone());
    if let Some(arch) = raw.arch {
        env.insert(ARCH_VARIABLE.into(), arch.to_string());
    }
    if let Some(image) = &raw.image {
        env.insert(IMAGE_VARIABLE.into(), image.clone());
    }
    match raw.network {
        Some(true) => drop(env.insert(NETWORK_VARIABLE.into(), "true".into())),
        Some(false) => drop(env.remove(NETWORK_VARIABLE)),
        None => {}
    }
    Ok(TestGroup {
        name: name.clone(),
        tests: raw.tests.clone().or_else(|| parent.map(|p| p.tests.clone())).unwrap_or_default(),
        nice: raw.nice.or(parent.map(|p| p.nice)).unwrap_or(0),
        max_commits: raw.max_commits.or(parent.map(|p| p.max_commits)).unwrap_or(50),
        test_duration_nice: raw.test_duration_nice.or(parent.map(|p| p.test_duration_nice)).unwrap_or(180),
        test_always_passes_nice: raw
            .test_always_passes_nice
            .or(parent.map(|p| p.test_always_passes_nice))
            .unwrap_or(10),
        inherit: raw.inherit.or(parent.map(|p| p.inherit)).unwrap_or(true),
        soak: raw.soak.or(parent.map(|p| p.soak)).unwrap_or_default(),
        inherit_check: raw.inherit_check.or(parent.map(|p| p.inherit_check)).unwrap_or_default(),
        bisect: raw.bisect.or(parent.map(|p| p.bisect)).unwrap_or_default(),
        kernels: raw.kernels.clone().or_else(|| parent.map(|p| p.kernels.clone())).unwrap_or_default(),
        env: Env::try_from(env).map_err(|error| fault(raw, GroupError::Env(error)))?,
    })
}
