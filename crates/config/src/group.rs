//! `[test_group.NAME]`: which test files run, how urgently, how far back, on which kernels, in which environment.

use std::collections::BTreeMap;

use model::{Arch, Env, GroupName, ImageName, StoreKernel, TestPath};

use crate::fault::{Fault, Problem};
use crate::image::Images;
use crate::nearest::{Hint, nearest};
use crate::node::{Node, Section, Value};

/// A test group, with what it `extends` filled in.
///
/// Order of jobs: a job's sort value is the age of its commit in its branch (0 = tip) plus the nice value of
/// [`TestGroup::nice_of`]; lower runs first. A group of nice 5 has its tip tested after a group of nice 0 has had
/// its five newest commits tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestGroup {
    /// Its name.
    pub name: GroupName,
    /// The test files, in the order written, each once.
    pub tests: Vec<TestPath>,
    /// Added to the age of a commit; 0 where the file does not say. `priority` is another spelling.
    pub nice: i64,
    /// How many commits from the tip are tested; 50 where the file does not say.
    pub max_commits: u32,
    /// For each so many seconds of mean duration a subtest's nice value rises by one; 0: never. Default 180.
    pub test_duration_nice: u64,
    /// After more than so many runs that all ended alike, this much is added to a subtest's nice value; 0: never.
    /// Default 10.
    pub test_always_passes_nice: u64,
    /// Kernels of the kernel store to run on; empty: the kernel is built from the commit.
    pub kernels: Vec<StoreKernel>,
    /// Set for its runs. `arch` in the file is [`ARCH_VARIABLE`] here, `image` is [`IMAGE_VARIABLE`].
    pub env: Env,
}

/// The root image that an environment asks for, by its name in the configuration.
#[must_use]
pub fn image_of(env: &Env) -> Option<&str> {
    env.iter().find(|(name, _)| *name == IMAGE_VARIABLE).map(|(_, value)| value)
}

/// The architecture that an environment asks for.
#[must_use]
pub fn arch_of(env: &Env) -> Option<Arch> {
    env.iter().find(|(name, _)| *name == ARCH_VARIABLE).and_then(|(_, value)| value.parse().ok())
}

impl TestGroup {
    /// The nice value of a subtest that has passed and failed so often and took `mean_s` seconds on average.
    #[must_use]
    pub fn nice_of(&self, passed: u64, failed: u64, mean_s: u64) -> i64 {
        let mut nice = self.nice;
        let alike = (passed == 0) != (failed == 0);
        if alike && passed + failed > self.test_always_passes_nice {
            nice = nice.saturating_add_unsigned(self.test_always_passes_nice);
        }
        if let Some(more) = mean_s.checked_div(self.test_duration_nice) {
            nice = nice.saturating_add_unsigned(more);
        }
        nice
    }
}

/// Problem is wrong with a test group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Its name.
    #[error(transparent)]
    Name(model::NameError),
    /// It extends what is not there.
    #[error("test group {group:?} extends {parent:?}, which is not there{hint}")]
    UnknownParent {
        /// The group.
        group: GroupName,
        /// Problem it extends.
        parent: GroupName,
        /// Problem it may have been meant to be.
        hint: Hint,
    },
    /// It extends itself.
    #[error("test groups extend each other in a circle: {}", chain.iter().map(GroupName::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle {
        /// From the group back to itself.
        chain: Vec<GroupName>,
    },
    /// It has no tests, nor has what it extends.
    #[error("test group {0:?} has no tests; list them or extend a group that does")]
    NoTests(GroupName),
    /// Its image is not there.
    #[error("test group {group:?} asks for image {image:?}, but there is no [image.{image}]{hint}")]
    UnknownImage {
        /// The group.
        group: GroupName,
        /// The image.
        image: String,
        /// Problem it may have been meant to be.
        hint: Hint,
    },
    /// A variable that a user's file may not set.
    #[error(
        "env: a user's file must not set {0}; use a name that begins with ktest_, or one that a group of the main file sets"
    )]
    EnvName(String),
    /// An environment that cannot be part of a result's name.
    #[error("env: {0}")]
    Env(model::NameError),
}

impl crate::fault::SectionError for GroupError {}

/// A group as the file has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawGroup {
    line: usize,
    extends: Option<(usize, GroupName)>,
    tests: Option<Vec<TestPath>>,
    nice: Option<i64>,
    max_commits: Option<u32>,
    test_duration_nice: Option<u64>,
    test_always_passes_nice: Option<u64>,
    kernels: Option<Vec<StoreKernel>>,
    arch: Option<Arch>,
    image: Option<String>,
    env: BTreeMap<String, String>,
}

/// The variable of the environment that says which architecture a run is for; part of a result's name like all of
/// the environment.
pub const ARCH_VARIABLE: &str = "ktest_arch";

/// The variable of the environment that names the root image of a run, for the same reason part of a result's name.
pub const IMAGE_VARIABLE: &str = "ktest_image";

const KEYS: &[&str] = &[
    "tests",
    "nice",
    "priority",
    "max_commits",
    "extends",
    "kernels",
    "arch",
    "image",
    "env",
    "test_duration_nice",
    "test_always_passes_nice",
];

pub(crate) fn read(node: &Node) -> Result<BTreeMap<GroupName, RawGroup>, Fault> {
    let entries = node.table("test_group")?.iter();
    entries
        .map(|(key, node)| {
            let name = key.parse().map_err(|error| node.fault(Problem::from(GroupError::Name(error))))?;
            let section = Section::new(node, format!("[test_group.{key}]"), KEYS)?;
            Ok((name, raw(&section)?))
        })
        .collect()
}

fn raw(section: &Section<'_>) -> Result<RawGroup, Fault> {
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
        kernels: section.names("kernels")?,
        arch: section.get("arch").map(|node| node.parse("arch")).transpose()?,
        image: section.get("image").map(|node| node.str("image").map(str::to_owned)).transpose()?,
        env: section.get("env").map(env).transpose()?.unwrap_or_default(),
    })
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

/// The beginning of the names that every user's file may set.
const ENV_PREFIX: &str = "ktest_";

/// Checks the variables of a user's groups: those of test files, and those that a group of the main file sets too. Others,
/// such as PATH, configure programs and not tests.
pub(crate) fn check_env(
    raw: &BTreeMap<GroupName, RawGroup>,
    shared: &BTreeMap<GroupName, TestGroup>,
) -> Result<(), Fault> {
    let allowed = |key: &str| {
        let shared = || shared.values().any(|group| group.env.iter().any(|(name, _)| name == key));
        key.starts_with(ENV_PREFIX) || shared()
    };
    for group in raw.values() {
        if let Some(key) = group.env.keys().find(|key| !allowed(key)) {
            return Err(Fault { line: group.line, problem: GroupError::EnvName(key.clone()).into() });
        }
    }
    Ok(())
}

/// Fills in what groups extend. `shared` are the groups that every file may refer to, resolved; `images` those that there are.
pub(crate) fn resolve(
    raw: &BTreeMap<GroupName, RawGroup>,
    shared: &BTreeMap<GroupName, TestGroup>,
    images: &Images,
) -> Result<BTreeMap<GroupName, TestGroup>, Fault> {
    let mut done = BTreeMap::new();
    for name in raw.keys() {
        // From the group up to the first that is resolved or extends nothing.
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
                let what = GroupError::UnknownParent { group: name.clone(), parent: parent.clone(), hint };
                return Err(Fault { line: *line, problem: what.into() });
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
            && !images.contains_key(image)
        {
            let hint = nearest(image, images.keys().map(ImageName::as_str));
            let what = GroupError::UnknownImage { group: name.clone(), image: image.into(), hint };
            return Err(Fault { line: raw[name].line, problem: what.into() });
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
        kernels: raw.kernels.clone().or_else(|| parent.map(|p| p.kernels.clone())).unwrap_or_default(),
        env: Env::try_from(env).map_err(|error| fault(raw, GroupError::Env(error)))?,
    })
}
