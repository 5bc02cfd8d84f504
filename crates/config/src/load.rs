//! Loads a [`Config`] from files: the main file, then one file per user.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fsx::untrusted::{Dir, UntrustedError};

use model::{BranchRef, GroupName, UserName};

use crate::branch::{self, Branch, KnownNames};
use crate::config::Config;
use crate::error::ConfigError;
use crate::fault::Fault;
use crate::group::{self, TestGroup};
use crate::hook;
use crate::host;
use crate::image;
use crate::kernel_source;
use crate::node::{Node, Section};
use crate::notify;
use crate::paths::Paths;
use crate::read::{self, Format};
use crate::repo;
use crate::suite;
use crate::top::{self, TopError};
use crate::users;

/// The keys of the main file. The plural keys, `ktest_url` and `executors` are those of the previous system.
const KEYS: &[&str] = &[
    "linux_repo",
    "output_dir",
    "ktest_dir",
    "ktest_url",
    "ci_url",
    "commit_url",
    "ci_host",
    "ci_remote",
    "user",
    "users_dir",
    "poll",
    "window",
    "subtest_duration_max",
    "subtest_duration_def",
    "batch_duration_min",
    "keep_results_commits",
    "compat_tree",
    "legacy_refs",
    "confirm_failures",
    "trust",
    "verify_builds",
    "hook",
    "tolerate",
    "verbose",
    "user_nice",
    "users",
    "repo",
    "repos",
    "suite",
    "image",
    "kernel_source",
    "notify",
    "test_group",
    "test_groups",
    "branch",
    "branches",
    "host",
    "hosts",
    "executors",
];

/// The keys of a user's file.
const USER_KEYS: &[&str] = &["test_group", "test_groups", "branch", "branches"];

/// Reads the main file and the users' files. A problem in any of them is an error.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let (config, problems) = load_lenient(path)?;
    problems.into_iter().next().map_or(Ok(config), Err)
}

/// Like [`load`], but an invalid user's file is not fatal: the user is added to `broken_users`, and the error is
/// returned together with the configuration.
pub fn load_lenient(path: &Path) -> Result<(Config, Vec<ConfigError>), ConfigError> {
    let mut config = main_file(path)?;
    let mut problems = Vec::new();
    let Some(dir) = config.top.users_dir.clone() else { return Ok((config, problems)) };
    let mut files: BTreeMap<UserName, PathBuf> =
        config.top.user.iter().map(|user| (user.clone(), path.into())).collect();
    let (users_dir, listing) = match user_files(&dir) {
        Ok(found) => found,
        Err(error) => {
            let source = std::io::Error::other(error.reason);
            problems.push(ConfigError::Read { path: dir, source });
            return Ok((config, problems));
        }
    };
    for path in listing {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let user = match UserName::configured(&stem) {
            Ok(user) => user,
            Err(error) => {
                problems.push(ConfigError::UserName { path, error });
                continue;
            }
        };
        config.files.push(path.clone());
        let result = match files.get(&user) {
            Some(other) => Err(ConfigError::TwoFiles { path, user: user.clone(), other: other.clone() }),
            None => {
                files.insert(user.clone(), path.clone());
                user_file(&users_dir, &path, &user, &config)
            }
        };
        match result {
            Ok((groups, branches)) => {
                config.user_groups.insert(user.clone(), groups);
                config.branches.extend(branches);
            }
            Err(error) => {
                problems.push(error);
                config.broken_users.insert(user);
            }
        }
    }
    Ok((config, problems))
}

/// The maximum number of files in the users' directory.
const USERS_MAX: u64 = 10_000;

/// The users' directory and its configuration files, sorted by name. Hidden files and other endings are ignored.
fn user_files(dir: &Path) -> Result<(Dir, Vec<PathBuf>), UntrustedError> {
    let users = Dir::open(dir)?;
    let names = users.list("", USERS_MAX)?.into_iter().map(|entry| entry.name);
    let visible = names.filter(|name| !name.as_encoded_bytes().starts_with(b"."));
    let files = visible.map(|name| dir.join(name)).filter(|path| Format::of(path).is_some()).collect();
    Ok((users, files))
}

fn tree(path: &Path) -> Result<Node, ConfigError> {
    let (format, text) = read::file(path)?;
    read::tree(format, &text).map_err(|fault| at(path, fault))
}

fn at(path: &Path, fault: Fault) -> ConfigError {
    ConfigError::At { path: path.into(), line: fault.line, problem: Box::new(fault.problem) }
}

fn main_file(path: &Path) -> Result<Config, ConfigError> {
    main_tree(path, &tree(path)?).map_err(|fault| at(path, fault))
}

fn main_tree(path: &Path, tree: &Node) -> Result<Config, Fault> {
    let paths = Paths::of(path);
    let section = Section::new(tree, "", KEYS)?;
    let top = top::read(&section, &paths)?;
    let part = |keys: &[&'static str]| section.get_any(keys).map(|found| found.map(|(_, node)| node));
    let repos =
        part(&["repo", "repos"])?.map(|node| repo::read(node, &paths)).transpose()?.unwrap_or_default();
    let suites = section.get("suite").map(|node| suite::read(node, &paths)).transpose()?;
    let hosts = part(&["host", "hosts", "executors"])?.map(|node| host::read(node, &paths)).transpose()?;
    let hook = section.get("hook").map(|node| hook::read(node, &paths)).transpose()?;
    let kernel_sources =
        section.get("kernel_source").map(kernel_source::read).transpose()?.unwrap_or_default();
    let senders = section.get("notify").map(|node| notify::read(node, &paths)).transpose()?;
    let groups = |node| group::read(node, &kernel_sources);
    let raw = part(&["test_group", "test_groups"])?.map(groups).transpose()?.unwrap_or_default();
    let images = section.get("image").map(image::read).transpose()?.unwrap_or_default();
    let test_groups = group::resolve(&raw, &BTreeMap::new(), &images)?;
    let users = section.get("users").map(users::read).transpose()?.unwrap_or_default();
    let mut branches = BTreeMap::new();
    if let Some(node) = part(&["branch", "branches"])? {
        let user = top.user.as_ref().ok_or_else(|| node.fault(TopError::NoUser))?;
        let (groups, repos) = (test_groups.keys().collect(), repos.keys().collect());
        let legacy_refs = top.legacy_refs;
        branches = branch::read(
            node,
            user,
            &KnownNames { groups, repos, paths: &paths, limits: None, legacy_refs },
        )?;
    }
    Ok(Config {
        files: vec![path.into()],
        top,
        hook,
        repos,
        suites: suites.unwrap_or_default(),
        images,
        kernel_sources,
        senders: senders.unwrap_or_default(),
        test_groups,
        user_groups: BTreeMap::new(),
        branches,
        broken_users: BTreeSet::new(),
        users,
        hosts: hosts.unwrap_or_default(),
    })
}

type UserParts = (BTreeMap<GroupName, TestGroup>, BTreeMap<BranchRef, Branch>);

fn user_file(dir: &Dir, path: &Path, user: &UserName, config: &Config) -> Result<UserParts, ConfigError> {
    let (format, text) = read::user_file(dir, path)?;
    if text.trim().is_empty() {
        return Err(ConfigError::EmptyFile { path: path.into() });
    }
    let tree = read::tree(format, &text).map_err(|fault| at(path, fault))?;
    user_tree(path, &tree, user, config).map_err(|fault| at(path, fault))
}

fn user_tree(path: &Path, tree: &Node, user: &UserName, config: &Config) -> Result<UserParts, Fault> {
    let section = Section::new(tree, "", USER_KEYS)?;
    let part = |keys: &[&'static str]| section.get_any(keys).map(|found| found.map(|(_, node)| node));
    let groups = |node| group::read(node, &config.kernel_sources);
    let raw = part(&["test_group", "test_groups"])?.map(groups).transpose()?.unwrap_or_default();
    group::check_env(&raw, &config.test_groups)?;
    let groups = group::resolve(&raw, &config.test_groups, &config.images)?;
    let known = KnownNames {
        groups: groups.keys().chain(config.test_groups.keys()).collect(),
        repos: config.repos.keys().collect(),
        paths: &Paths::of(path),
        limits: Some(&config.users),
        legacy_refs: config.top.legacy_refs,
    };
    let branches = part(&["branch", "branches"])?.map(|node| branch::read(node, user, &known)).transpose()?;
    Ok((groups, branches.unwrap_or_default()))
}
