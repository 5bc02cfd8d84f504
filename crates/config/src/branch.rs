//! `[branch.NAME]`: a line of commits to watch, and the test groups it wants.

use std::collections::BTreeMap;

use model::{RefName, Remote};

use crate::error::Fault;
use crate::nearest::{Hint, nearest};
use crate::node::{Node, Section};
use crate::paths::Paths;
use crate::top::owner;

/// A watched branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Whose.
    pub user: String,
    /// Its name, unique for its user.
    pub name: String,
    /// Where it is fetched from: a URL, a path, or a remote that the repository knows.
    pub remote: Remote,
    /// Which ref is fetched there; the branch's name where the file does not say.
    pub git_ref: RefName,
    /// The repository it is fetched into: `linux`, or the key of a `[repo.NAME]`.
    pub repo: String,
    /// The names of its test groups, in the order written; each exists.
    pub test_groups: Vec<String>,
    /// The walk over its commits stops at what is reachable from here.
    pub base: Option<RefName>,
}

impl Branch {
    /// The ref of the repository that it is fetched into: `refs/ktest/<user>/<name>`, a namespace of our own, because
    /// under `refs/heads` a branch called `<user>` would be in the way.
    #[must_use]
    pub fn local_ref(&self) -> String {
        format!("refs/ktest/{}/{}", self.user, self.name)
    }
}

/// What is wrong with a branch.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// It wants a group that is not there.
    #[error("branch {branch:?} wants test group {group:?}, which is not there{hint}")]
    UnknownGroup {
        /// The branch.
        branch: String,
        /// The group.
        group: String,
        /// What it may have been meant to be.
        hint: Hint,
    },
    /// It wants a repository that is not there.
    #[error("branch {branch:?} is of repo {repo:?}, which is not there{hint}")]
    UnknownRepo {
        /// The branch.
        branch: String,
        /// The repository.
        repo: String,
        /// What it may have been meant to be.
        hint: Hint,
    },
    /// Not one or two words.
    #[error("fetch: {0:?} is not \"REMOTE REF\"")]
    Fetch(String),
    /// Nowhere to fetch from.
    #[error("branch {0:?} has no remote; add remote = \"URL\"")]
    NoRemote(String),
    /// Nothing to test.
    #[error("branch {0:?} has no test_groups; name at least one")]
    NoGroups(String),
}

/// What a branch may refer to, and how its paths are read.
pub(crate) struct Known<'a> {
    pub groups: Vec<&'a str>,
    pub repos: Vec<&'a str>,
    pub paths: &'a Paths,
}

const KEYS: &[&str] = &["remote", "ref", "fetch", "repo", "test_groups", "base"];

pub(crate) fn read(node: &Node, user: &str, known: &Known<'_>) -> Result<BTreeMap<String, Branch>, Fault> {
    let entries = node.table("branch")?.iter();
    entries
        .map(|(key, node)| {
            let name = owner(node, "branch", key)?;
            let section = Section::new(node, format!("[branch.{key}]"), KEYS)?;
            let branch = one(&section, user, &name, known)?;
            Ok((name, branch))
        })
        .collect()
}

fn one(section: &Section<'_>, user: &str, name: &str, known: &Known<'_>) -> Result<Branch, Fault> {
    let node = section.node();
    let (remote, git_ref) = match section.get_any(&["fetch", "remote"])? {
        Some(("fetch", node)) => fetch(node, known.paths)?,
        Some((_, node)) => (remote(node, node.str("remote")?, known.paths)?, None),
        None => return Err(node.fault(BranchError::NoRemote(name.into()))),
    };
    let git_ref = match (section.get("ref"), git_ref) {
        (Some(node), Some(_)) => {
            return Err(node.fault(crate::error::What::Both { first: "fetch", second: "ref" }));
        }
        (Some(node), None) => node.parse("ref")?,
        (None, Some(git_ref)) => git_ref,
        (None, None) => parse(node, "ref", name)?,
    };
    let repo = section.get("repo").map_or(Ok("linux"), |node| node.str("repo"))?;
    if repo != "linux" && !known.repos.contains(&repo) {
        let hint = nearest(repo, known.repos.iter().copied().chain(["linux"]));
        let at = section.get("repo").unwrap_or(node);
        return Err(at.fault(BranchError::UnknownRepo { branch: name.into(), repo: repo.into(), hint }));
    }
    let mut test_groups = Vec::new();
    for item in section.get("test_groups").map_or(Ok(&[][..]), |node| node.list("test_groups"))? {
        let group = item.str("test_groups")?;
        if !known.groups.contains(&group) {
            let hint = nearest(group, known.groups.iter().copied());
            return Err(item.fault(BranchError::UnknownGroup {
                branch: name.into(),
                group: group.into(),
                hint,
            }));
        }
        if !test_groups.iter().any(|seen| seen == group) {
            test_groups.push(group.to_owned());
        }
    }
    if test_groups.is_empty() {
        return Err(node.fault(BranchError::NoGroups(name.into())));
    }
    Ok(Branch {
        user: user.into(),
        name: name.into(),
        remote,
        git_ref,
        repo: repo.into(),
        test_groups,
        base: section.get("base").map(|node| node.parse("base")).transpose()?,
    })
}

/// The existing system's `fetch = "REMOTE REF"`; REMOTE alone means its HEAD.
fn fetch(node: &Node, paths: &Paths) -> Result<(Remote, Option<RefName>), Fault> {
    let text = node.str("fetch")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let (from, git_ref) = match words[..] {
        [from] => (from, "HEAD"),
        [from, git_ref] => (from, git_ref),
        _ => return Err(node.fault(BranchError::Fetch(text.into()))),
    };
    Ok((remote(node, from, paths)?, Some(parse(node, "fetch", git_ref)?)))
}

fn remote(node: &Node, text: &str, paths: &Paths) -> Result<Remote, Fault> {
    let relative = text.starts_with("./") || text.starts_with("../") || text.starts_with("~/");
    if relative {
        parse(node, "remote", &paths.join(text).to_string_lossy())
    } else {
        parse(node, "remote", text)
    }
}

fn parse<T: std::str::FromStr<Err = model::NameError>>(
    node: &Node,
    key: &str,
    text: &str,
) -> Result<T, Fault> {
    text.parse().map_err(|error| node.fault(crate::error::What::Name { key: key.into(), error }))
}
