//! `[branch.NAME]`: a branch to watch, and its test groups.

use std::collections::BTreeMap;

use model::{BranchName, BranchRef, GroupName, RefName, Remote, RepoName, UserName};

use crate::fault::Fault;
use crate::nearest::{Hint, nearest};
use crate::node::{Node, Section};
use crate::paths::Paths;
use crate::users::{RemoteHost, UserLimitError, UserLimits};

/// A watched branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its owner and its name.
    pub name: BranchRef,
    /// The remote: a URL, a path, or the name of a remote of the repository.
    pub remote: Remote,
    /// The ref to fetch; by default the name of the branch.
    pub git_ref: RefName,
    /// The repository to fetch into: `linux`, or the key of a `[repo.NAME]`.
    pub repo: RepoName,
    /// The names of its test groups, in the order of the file.
    pub test_groups: Vec<GroupName>,
    /// The networks in which the host of the remote may be.
    pub remote_host: RemoteHost,
    /// Commits that are reachable from this ref are not tested.
    pub base: Option<RefName>,
    /// The operator trusts it: its builds write the compiler cache that those of all branches read.
    pub base_cache: bool,
}

impl Branch {
    /// The ref of the repository that it is fetched into: `refs/ktest/<user>/<branch>`, with `/` in the branch name
    /// encoded as `%2F`. It is not below `refs/heads`, where it would conflict with a branch named `<user>`.
    #[must_use]
    pub fn local_ref(&self) -> String {
        format!("refs/ktest/{}/{}", self.name.user, self.name.branch.ref_component())
    }

    /// The ref in which clients of the previous system look for the branch (`legacy_refs`).
    #[must_use]
    pub fn legacy_ref(&self) -> String {
        format!("refs/heads/{}", self.name)
    }

    /// The directory of refs that records what was written to [`legacy_ref`](Self::legacy_ref).
    #[must_use]
    pub fn legacy_record(&self) -> String {
        format!("refs/ktest-ci/legacy/{}/{}", self.name.user, self.name.branch.ref_component())
    }

    /// The ref that the base is fetched into if the repository does not have it.
    #[must_use]
    pub fn base_ref(&self) -> String {
        format!("refs/ktest-ci/base/{}/{}", self.name.user, self.name.branch.ref_component())
    }
}

/// An invalid branch.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// Its name.
    #[error(transparent)]
    Name(model::NameError),
    /// An unknown test group.
    #[error("branch {branch:?}: no test group {group:?}{hint}")]
    UnknownGroup {
        /// The branch.
        branch: BranchName,
        /// The group.
        group: String,
        /// The nearest valid name.
        hint: Hint,
    },
    /// An unknown repository.
    #[error("branch {branch:?}: no repo {repo:?}{hint}")]
    UnknownRepo {
        /// The branch.
        branch: BranchName,
        /// The repository.
        repo: String,
        /// The nearest valid name.
        hint: Hint,
    },
    /// Not one or two words.
    #[error("fetch: {0:?} is not \"REMOTE REF\"")]
    Fetch(String),
    /// No remote.
    #[error("branch {0:?} has no remote; add remote = \"URL\"")]
    NoRemote(BranchName),
    /// Its legacy ref would be a file and a directory.
    #[error(
        "branch {branch:?}: with legacy_refs it cannot exist together with branch {above:?}, because one ref is a directory \
         of the other; rename one of them"
    )]
    LegacyRefs {
        /// The branch.
        branch: BranchName,
        /// The branch with the shorter name.
        above: BranchName,
    },
    /// No test groups.
    #[error("branch {0:?} has no test_groups; name at least one")]
    NoGroups(BranchName),
}

impl crate::fault::SectionError for BranchError {}

/// The names that a branch can refer to, and the base directories of its paths.
pub(crate) struct KnownNames<'a> {
    pub groups: Vec<&'a GroupName>,
    pub repos: Vec<&'a RepoName>,
    pub paths: &'a Paths,
    /// The limits of a user's file; `None` for the main file.
    pub limits: Option<&'a UserLimits>,
    /// Whether branches are also written to `refs/heads`.
    pub legacy_refs: bool,
}

const KEYS: &[&str] = &["remote", "ref", "fetch", "repo", "test_groups", "base", "base_cache"];

pub(crate) fn read(
    node: &Node,
    user: &UserName,
    known: &KnownNames<'_>,
) -> Result<BTreeMap<BranchRef, Branch>, Fault> {
    let entries = node.table("branch")?;
    if let Some(limits) = known.limits.filter(|limits| entries.len() > limits.max_branches) {
        let (count, max) = (entries.len(), limits.max_branches);
        return Err(node.fault(UserLimitError::Branches { count, max }));
    }
    let mut branches = BTreeMap::new();
    for (key, node) in entries {
        let branch = BranchName::configured(key).map_err(|error| node.fault(BranchError::Name(error)))?;
        let name = BranchRef { user: user.clone(), branch };
        let section = Section::new(node, format!("[branch.{key}]"), KEYS)?;
        let branch = one(&section, &name, known)?;
        branches.insert(name, branch);
    }
    if known.legacy_refs {
        check_legacy_refs(entries, &branches)?;
    }
    Ok(branches)
}

/// Refuses branches with refs that cannot exist in the same repository.
fn check_legacy_refs(
    entries: &[(String, Node)],
    branches: &BTreeMap<BranchRef, Branch>,
) -> Result<(), Fault> {
    for (key, node) in entries {
        let of = |key: &str| branches.values().find(|branch| branch.name.branch.as_str() == key);
        let Some(branch) = of(key) else { continue };
        let ends = key.match_indices('/').map(|(at, _)| &key[..at]);
        if let Some(above) = ends.filter_map(of).find(|above| above.repo == branch.repo) {
            let (branch, above) = (branch.name.branch.clone(), above.name.branch.clone());
            return Err(node.fault(BranchError::LegacyRefs { branch, above }));
        }
    }
    Ok(())
}

fn one(section: &Section<'_>, at: &BranchRef, known: &KnownNames<'_>) -> Result<Branch, Fault> {
    let name = &at.branch;
    let node = section.node();
    let (remote, git_ref) = match section.get_any(&["fetch", "remote"])? {
        Some(("fetch", node)) => fetch(node, known.paths)?,
        Some((_, node)) => (remote(node, "remote", node.str("remote")?, known.paths)?, None),
        None => return Err(node.fault(BranchError::NoRemote(name.clone()))),
    };
    let remote_host = match known.limits {
        Some(limits) => limits.check(&remote).map_err(|error| node.fault(error))?,
        None => RemoteHost::Any,
    };
    let git_ref = match (section.get("ref"), git_ref) {
        (Some(node), Some(_)) => {
            return Err(node.fault(crate::fault::Problem::Both { first: "fetch", second: "ref" }));
        }
        (Some(node), None) => node.parse("ref")?,
        (None, Some(git_ref)) => git_ref,
        (None, None) => parse(node, "ref", name.as_str())?,
    };
    let repo = match section.get("repo") {
        Some(node) => repo(node, name, known)?,
        None => RepoName::linux(),
    };
    let mut test_groups = Vec::new();
    for item in section.get("test_groups").map_or(Ok(&[][..]), |node| node.list("test_groups"))? {
        let group = item.str("test_groups")?;
        let Some(found) = known.groups.iter().find(|known| known.as_str() == group) else {
            let hint = nearest(group, known.groups.iter().map(|known| known.as_str()));
            let (branch, group) = (name.clone(), group.into());
            return Err(item.fault(BranchError::UnknownGroup { branch, group, hint }));
        };
        if !test_groups.contains(*found) {
            test_groups.push(GroupName::clone(found));
        }
    }
    if test_groups.is_empty() {
        return Err(node.fault(BranchError::NoGroups(name.clone())));
    }
    Ok(Branch {
        name: at.clone(),
        remote,
        remote_host,
        git_ref,
        repo,
        test_groups,
        base: section.get("base").map(|node| node.parse("base")).transpose()?,
        base_cache: match section.get("base_cache") {
            Some(node) if known.limits.is_some() => return Err(node.fault(UserLimitError::BaseCache)),
            Some(node) => node.bool("base_cache")?,
            None => false,
        },
    })
}

fn repo(node: &Node, branch: &BranchName, known: &KnownNames<'_>) -> Result<RepoName, Fault> {
    let text = node.str("repo")?;
    let linux = RepoName::linux();
    let mut repos = known.repos.iter().copied().chain([&linux]);
    if let Some(repo) = repos.clone().find(|repo| repo.as_str() == text) {
        return Ok(repo.clone());
    }
    let hint = nearest(text, repos.by_ref().map(RepoName::as_str));
    Err(node.fault(BranchError::UnknownRepo { branch: branch.clone(), repo: text.into(), hint }))
}

/// The previous system's `fetch = "REMOTE REF"`. The default of REF is HEAD.
fn fetch(node: &Node, paths: &Paths) -> Result<(Remote, Option<RefName>), Fault> {
    let text = node.str("fetch")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let (from, git_ref) = match words[..] {
        [from] => (from, "HEAD"),
        [from, git_ref] => (from, git_ref),
        _ => return Err(node.fault(BranchError::Fetch(text.into()))),
    };
    Ok((remote(node, "remote", from, paths)?, Some(parse(node, "fetch", git_ref)?)))
}

/// The remote that is the value of `key`. A relative path is relative to the file.
pub(crate) fn remote(node: &Node, key: &str, text: &str, paths: &Paths) -> Result<Remote, Fault> {
    let relative = text.starts_with("./") || text.starts_with("../") || text.starts_with("~/");
    if relative { parse(node, key, &paths.join(text).to_string_lossy()) } else { parse(node, key, text) }
}

fn parse<T: std::str::FromStr<Err = model::NameError>>(
    node: &Node,
    key: &str,
    text: &str,
) -> Result<T, Fault> {
    text.parse().map_err(|error| node.fault(crate::fault::Problem::Name { key: key.into(), error }))
}
