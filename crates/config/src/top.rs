//! The top-level settings of the main file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::{NameError, TrustScope, UserName};

use crate::commit_url::{self, CommitUrl};
use crate::fault::{Fault, Problem};
use crate::node::{Node, Section, Value};
use crate::paths::Paths;

/// An invalid top-level setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopError {
    /// Not a user name. It becomes a part of file names and refs.
    #[error(transparent)]
    User(NameError),
    /// Not a scope of trust.
    #[error("trust: {0}")]
    Trust(NameError),
    /// Not a URL.
    #[error("ci_url: {0:?} is not a URL; it begins with http:// or https://")]
    Url(String),
    /// Not a kernel option.
    #[error("tolerate: {0:?} is not a kernel option; write it as in a .config, with or without CONFIG_")]
    Option(String),
    /// There are branches and no owner.
    #[error("the branches of this file need an owner; add user = \"NAME\" at the top")]
    NoUser,
    /// A default or a minimum is above the maximum.
    #[error("{key} ({value} s) is more than subtest_duration_max ({max} s)")]
    Durations {
        /// The key of the default or minimum.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The maximum.
        max: u64,
    },
}

impl crate::fault::SectionError for TopError {}

/// The top-level settings of the main file.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// The kernel repository that the daemon fetches into and builds from.
    pub linux_repo: PathBuf,
    /// The directory of the results.
    pub output_dir: PathBuf,
    /// The checkout with the test files in `tests/`.
    pub ktest_dir: PathBuf,
    /// The URL at which the results are published.
    pub ci_url: Option<String>,
    /// The address of the commits of `linux_repo` on the web.
    pub commit_url: Option<CommitUrl>,
    /// The host of the daemon and the results.
    pub ci_host: Option<String>,
    /// For clients of the previous system: the name of the remote, in a checkout, that has the farm's branches.
    pub ci_remote: Option<String>,
    /// The owner of the branches in the main file.
    pub user: Option<UserName>,
    /// The directory of the users' files.
    pub users_dir: Option<PathBuf>,
    /// The interval between fetch cycles.
    pub poll: Duration,
    /// The number of jobs that are submitted to the scheduler at a time.
    pub window: usize,
    /// The maximum expected test time of a batch.
    pub subtest_duration_max: Duration,
    /// The minimum expected test time of a batch that is cut smaller so that the last batches end together.
    pub batch_duration_min: Duration,
    /// The expected duration of a subtest without history.
    pub subtest_duration_def: Duration,
    /// The number of commits per branch for which results are kept.
    pub keep_results_commits: usize,
    /// The number of newest commits of each branch that have a directory per test, for clients that read files.
    pub compat_tree: usize,
    /// Whether branches are also written to `refs/heads/<user>/<branch>`, where clients of the previous system look.
    pub legacy_refs: bool,
    /// The maximum number of retries after a failure, to find flaky subtests.
    pub confirm_failures: u32,
    /// How branches are grouped to share objects, compiler caches and kernels.
    pub trust: TrustScope,
    /// One in this number of kernels is built again from scratch and compared; 0 disables this.
    pub verify_builds: u32,
    /// Kernel options with a requirement that may stay unmet, without `CONFIG_`.
    pub tolerate: Vec<String>,
    /// The niceness of each user, -100 to 100; see [`Config::weight`].
    pub user_nice: BTreeMap<UserName, i64>,
}

/// Reads the settings.
pub(crate) fn read(section: &Section<'_>, paths: &Paths) -> Result<Top, Fault> {
    let path = |key: &'static str| paths.resolve(key, section.need(key)?);
    let text = |key: &'static str| section.get(key).map(|node| node.str(key).map(str::to_owned)).transpose();
    let time = |key: &'static str, default: u64| match section.get(key) {
        Some(node) => seconds(node, key),
        None => Ok(Duration::from_secs(default)),
    };
    let count = |key: &'static str, default: usize, most: i64| match section.get(key) {
        Some(node) => node.int(key, 1, most).map(|n| usize::try_from(n).unwrap_or(default)),
        None => Ok(default),
    };
    if let Some(node) = section.get("verbose") {
        node.bool("verbose")?; // A setting of the previous system. It has no effect.
    }
    // The previous system clones the test files from there; here they are in ktest_dir.
    text("ktest_url")?;
    let top = Top {
        linux_repo: path("linux_repo")?,
        output_dir: path("output_dir")?,
        ktest_dir: path("ktest_dir")?,
        users_dir: section.get("users_dir").map(|node| paths.resolve("users_dir", node)).transpose()?,
        ci_url: section.get("ci_url").map(url).transpose()?,
        commit_url: commit_url::read(section)?,
        ci_host: text("ci_host")?,
        ci_remote: text("ci_remote")?,
        user: section.get("user").map(|node| user(node, node.str("user")?)).transpose()?,
        poll: time("poll", 60)?,
        window: count("window", 2000, 1_000_000)?,
        subtest_duration_max: time("subtest_duration_max", 600)?,
        subtest_duration_def: time("subtest_duration_def", 30)?,
        batch_duration_min: time("batch_duration_min", 60)?,
        keep_results_commits: count("keep_results_commits", 500, 1_000_000)?,
        compat_tree: section
            .get("compat_tree")
            .map_or(Ok(100), |node| node.int("compat_tree", 0, 1_000_000))
            .map(|n| usize::try_from(n).unwrap_or(100))?,
        legacy_refs: section.get("legacy_refs").map_or(Ok(false), |node| node.bool("legacy_refs"))?,
        confirm_failures: section
            .get("confirm_failures")
            .map_or(Ok(4), |node| node.int("confirm_failures", 0, 100))
            .map(|n| u32::try_from(n).unwrap_or(1))?,
        trust: section.get("trust").map(trust).transpose()?.unwrap_or_default(),
        verify_builds: section
            .get("verify_builds")
            .map_or(Ok(50), |node| node.int("verify_builds", 0, 1_000_000))
            .map(|n| u32::try_from(n).unwrap_or(50))?,
        tolerate: section.get("tolerate").map(options).transpose()?.unwrap_or_default(),
        user_nice: section.get("user_nice").map(niceness).transpose()?.unwrap_or_default(),
    };
    check_durations(section, top)
}

/// The expected and the minimum durations are at most the maximum. The default minimum adapts to it.
fn check_durations(section: &Section<'_>, mut top: Top) -> Result<Top, Fault> {
    let max = top.subtest_duration_max;
    if section.get("batch_duration_min").is_none() {
        top.batch_duration_min = top.batch_duration_min.min(max);
    }
    for (key, value) in
        [("subtest_duration_def", top.subtest_duration_def), ("batch_duration_min", top.batch_duration_min)]
    {
        if value > max {
            let at = section.get(key).or_else(|| section.get("subtest_duration_max"));
            let fault = TopError::Durations { key, value: value.as_secs(), max: max.as_secs() };
            return Err(at.unwrap_or(section.node()).fault(fault));
        }
    }
    Ok(top)
}

fn url(node: &Node) -> Result<String, Fault> {
    let text = node.str("ci_url")?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if rest.is_none_or(str::is_empty) || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(node.fault(TopError::Url(text.into())));
    }
    Ok(text.into())
}

fn options(node: &Node) -> Result<Vec<String>, Fault> {
    let items = node.list("tolerate")?.iter();
    let option = |item: &Node| {
        let text = item.str("tolerate")?;
        let name = text.strip_prefix("CONFIG_").unwrap_or(text);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(item.fault(TopError::Option(text.into())));
        }
        Ok(name.to_owned())
    };
    items.map(option).collect()
}

fn trust(node: &Node) -> Result<TrustScope, Fault> {
    node.str("trust")?.parse().map_err(|error| node.fault(TopError::Trust(error)))
}

fn niceness(node: &Node) -> Result<BTreeMap<UserName, i64>, Fault> {
    let entries = node.table("user_nice")?.iter();
    entries.map(|(name, node)| Ok((user(node, name)?, node.int(name, -100, 100)?))).collect()
}

/// A duration: a number of seconds, or text in the syntax of `humantime`.
pub(crate) fn seconds(node: &Node, key: &str) -> Result<Duration, Fault> {
    let bad = |text: String| node.fault(Problem::Time { key: key.into(), text });
    match &node.value {
        Value::Str(text) => match humantime::parse_duration(text) {
            Ok(time) if time >= Duration::from_secs(1) && time.as_secs() < 1_000_000_000 => Ok(time),
            _ => Err(bad(text.clone())),
        },
        Value::Int(_) => node.int(key, 1, 1_000_000_000).map(|n| Duration::from_secs(n.unsigned_abs())),
        Value::Float(n) => Err(bad(n.to_string())),
        _ => node.str(key).map(|_| Duration::ZERO),
    }
}

/// The text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write \"60s\", \"10m\" or a number of seconds")]
pub struct TimeError;

/// A duration of at least 1 s, in the syntax of the configuration (`90s`, `2m`) or as a number of seconds.
pub fn parse_time(text: &str) -> Result<Duration, TimeError> {
    let time = text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text));
    match time {
        Ok(time) if time >= Duration::from_secs(1) && time.as_secs() < 1_000_000_000 => Ok(time),
        _ => Err(TimeError),
    }
}

fn user(node: &Node, text: &str) -> Result<UserName, Fault> {
    UserName::configured(text).map_err(|error| node.fault(TopError::User(error)))
}
