//! Resolves names on the command line to a branch, a commit or a test. An ambiguous name is an error.

use config::{Choices, Hint};
use gitio::Repo;
use model::{BranchRef, CommitId, ResultKey, UserName};
use regex::Regex;
use regress::configurations::ConfigurationSet;
use results::Resolved;

use crate::backend::all_branches;
use crate::context::Context;
use crate::problem::Problem;

/// The branch with this name: `branch`, `user/branch`, or the start of either. Without a name, that of `--branch`, or else
/// the branch of HEAD.
pub fn branch(context: &Context, name: Option<&str>) -> Result<BranchRef, Problem> {
    let all = all_branches(&*context.backend)?;
    if all.is_empty() {
        return Err(Problem::NoBranches);
    }
    let head;
    let name = match name.or(context.branch.as_deref()) {
        Some(name) => name,
        None => {
            let nearest = || Hint::all("branches", &all);
            head = checkout_head(context, "BRANCH", nearest)?.branch.ok_or(Problem::Detached)?;
            &head
        }
    };
    pick_branch(&all, context.user.as_ref(), name)
}

fn pick_branch(all: &[BranchRef], user: Option<&UserName>, name: &str) -> Result<BranchRef, Problem> {
    let full = |branch: &BranchRef| branch.to_string();
    let rules: [&dyn Fn(&BranchRef) -> bool; 4] = [
        &|branch| full(branch) == name,
        &|branch| branch.branch.as_str() == name,
        &|branch| branch.branch.as_str().starts_with(name),
        &|branch| full(branch).starts_with(name),
    ];
    for rule in rules {
        let found: Vec<&BranchRef> = all.iter().filter(|branch| rule(branch)).collect();
        let own: Vec<&BranchRef> =
            found.iter().copied().filter(|branch| Some(&branch.user) == user).collect();
        match (found.as_slice(), own.as_slice()) {
            ([], _) => {}
            ([one], _) | (_, [one]) => return Ok((*one).clone()),
            _ => {
                return Err(Problem::ManyBranches {
                    name: name.into(),
                    choices: Choices::new(found.into_iter().map(full)),
                });
            }
        }
    }
    Err(Problem::NoBranch { name: name.into(), nearest: Hint::new("branches", name, all.iter().map(full)) })
}

/// HEAD of the checkout in the current directory, for an argument that was omitted.
fn checkout_head(
    context: &Context,
    argument: &'static str,
    nearest: impl FnOnce() -> Hint,
) -> Result<gitio::Head, Problem> {
    let Ok(repo) = Repo::discover(&context.directory) else {
        return Err(Problem::NoCheckout {
            argument,
            directory: context.directory.clone(),
            nearest: nearest(),
        });
    };
    repo.head().map_err(|reason| Problem::Head { argument, reason })
}

/// A commit, and the branch if the commit was selected by a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedCommit {
    /// The commit.
    pub commit: CommitId,
    /// The branch, if this is its newest tested commit.
    pub at: Option<BranchRef>,
}

impl From<CommitId> for SelectedCommit {
    fn from(commit: CommitId) -> Self {
        Self { commit, at: None }
    }
}

/// The commit with this name, see [`commit_or_branch`].
pub fn commit(context: &Context, name: Option<&str>) -> Result<CommitId, Problem> {
    Ok(commit_or_branch(context, name)?.commit)
}

/// The commit with this name: the first digits of a commit with results, a branch (its newest tested commit), or,
/// inside a checkout, any revision. With `--branch`, a commit of that branch comes first. Without a name, the branch of
/// `--branch`, or else HEAD.
pub fn commit_or_branch(context: &Context, name: Option<&str>) -> Result<SelectedCommit, Problem> {
    if let (Some(name), Some(on)) = (name, context.branch.as_deref()) {
        let at = branch(context, Some(on))?;
        let entries = context.backend.branch(&at)?.unwrap_or_default();
        let mut found = entries.into_iter().map(|entry| entry.commit).filter(|id| is_prefix(name, id));
        match (found.next(), found.next()) {
            (Some(commit), None) => return Ok(SelectedCommit { commit, at: Some(at) }),
            (Some(one), Some(other)) => {
                let choices = Choices::new([one, other].into_iter().chain(found));
                return Err(Problem::ManyCommits { name: name.into(), choices });
            }
            (None, _) => {}
        }
    }
    let Some(name) = name.or(context.branch.as_deref()) else {
        let branches = || Hint::all("branches", all_branches(&*context.backend).unwrap_or_default());
        let head = checkout_head(context, "SHA", branches)?;
        return with_results(context, "HEAD", head.commit).map(Into::into);
    };
    match context.backend.resolve_prefix(name)? {
        Resolved::One(commit) => return Ok(commit.into()),
        Resolved::Many(commits) => {
            let choices = Choices::new(commits);
            return Err(Problem::ManyCommits { name: name.into(), choices });
        }
        Resolved::None => {}
    }
    match branch(context, Some(name)) {
        Ok(at) => {
            let entries = context.backend.branch(&at)?.unwrap_or_default();
            let tested = entries.iter().find(|entry| entry.counts.total() > 0);
            return match tested.or_else(|| entries.first()) {
                Some(entry) => Ok(SelectedCommit { commit: entry.commit.clone(), at: Some(at) }),
                None => Err(Problem::NoCommit { name: name.into() }),
            };
        }
        Err(error @ Problem::ManyBranches { .. }) => return Err(error),
        Err(_) => {}
    }
    match Repo::discover(&context.directory).and_then(|repo| repo.resolve(name)) {
        Ok(commit) => with_results(context, name, commit).map(Into::into),
        Err(_) => Err(Problem::NoCommit { name: name.into() }),
    }
}

fn is_prefix(name: &str, commit: &CommitId) -> bool {
    name.len() >= results::PREFIX_MIN && commit.as_str().starts_with(&name.to_ascii_lowercase())
}

fn with_results(context: &Context, revision: &str, commit: CommitId) -> Result<CommitId, Problem> {
    match context.backend.resolve_prefix(commit.as_str())? {
        Resolved::One(commit) => Ok(commit),
        _ => Err(Problem::NoResults { revision: revision.into(), commit }),
    }
}

/// The commit to wait for: like [`commit`], but a branch means its tip, and a revision in the checkout does not need to
/// have results yet.
pub fn awaited(context: &Context, name: Option<&str>) -> Result<CommitId, Problem> {
    let listed = match commit(context, name) {
        Ok(commit) => Ok(commit),
        Err(Problem::NoResults { commit, .. }) => return Ok(commit),
        Err(error) => Err(error),
    };
    let Some(name) = name else { return listed };
    if let Ok(Resolved::One(commit)) = context.backend.resolve_prefix(name) {
        return Ok(commit);
    }
    if let Ok(at) = branch(context, Some(name)) {
        let tip = context.backend.branch(&at)?.unwrap_or_default().into_iter().next();
        return tip.map(|entry| entry.commit).ok_or_else(|| Problem::NoCommit { name: name.into() });
    }
    // A full id may be that of a commit that was just pushed.
    listed.or_else(|error| name.parse().map_err(|_| error))
}

/// The test with this name in `keys` (sorted): the key, its start, or the start of a part after a dot (`punch` for
/// `fs.ext4.basic.punch`). `/` is equivalent to a dot.
pub fn test(keys: &[ResultKey], name: &str, place: &str) -> Result<ResultKey, Problem> {
    let dotted = name.trim_end_matches(".ktest").replace('/', ".");
    let part = format!(".{dotted}");
    let rules: [&dyn Fn(&str) -> bool; 4] = [
        &|key| key == name || key == dotted,
        &|key| key.starts_with(&dotted),
        &|key| key.ends_with(&part),
        &|key| key.contains(&part),
    ];
    for rule in rules {
        let mut found: Vec<&ResultKey> = keys.iter().filter(|key| rule(key.as_str())).collect();
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0).clone()),
            _ => return Err(Problem::ManyTests { name: name.into(), choices: Choices::new(found) }),
        }
    }
    Err(Problem::NoTest { name: name.into(), place: place.into(), nearest: Hint::new("tests", name, keys) })
}

/// The tests that `--test` and `--configuration` select.
#[derive(Debug)]
pub struct TestSelection {
    pattern: Option<Regex>,
    /// The text of `--configuration`, and what it selects.
    configurations: Option<(String, ConfigurationSet)>,
}

impl TestSelection {
    /// The tests with a matching name.
    pub fn of_pattern(pattern: Option<Regex>) -> Self {
        Self { pattern, configurations: None }
    }

    /// The tests with a matching name, in the configurations that a text selects among those of `keys`. Without keys, that is none.
    pub fn new<'a>(
        pattern: Option<Regex>,
        configuration: Option<&str>,
        keys: impl IntoIterator<Item = &'a ResultKey>,
    ) -> Result<Self, Problem> {
        let keys = keys.into_iter().map(ResultKey::as_str);
        let select = |wanted: &str| match ConfigurationSet::select(wanted, keys) {
            Ok(found) => Ok((wanted.to_owned(), found)),
            Err(known) => {
                let nearest = Hint::new("test configurations", wanted, known);
                Err(Problem::NoConfiguration { name: wanted.into(), nearest })
            }
        };
        Ok(Self { pattern, configurations: configuration.map(select).transpose()? })
    }

    /// The regular expression.
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_ref().map(Regex::as_str)
    }

    /// The text of `--configuration`.
    pub fn configuration(&self) -> Option<&str> {
        self.configurations.as_ref().map(|(text, _)| text.as_str())
    }

    /// Whether a test is selected.
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && self.configurations.as_ref().is_none_or(|(_, selected)| selected.has(name))
    }
}

/// The regular expression of `--test`.
pub fn pattern(text: Option<&str>) -> Result<Option<regex::Regex>, Problem> {
    let compile = |text: &str| {
        regex::Regex::new(text).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            Problem::Regex { pattern: text.into(), reason }
        })
    };
    text.map(compile).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches() -> Vec<BranchRef> {
        ["amy/next", "kmo/bcachefs", "kmo/bcachefs-testing", "kmo/next"]
            .map(|name| name.parse().unwrap())
            .into()
    }

    #[test]
    fn branches_by_name_and_prefix() {
        let pick = |user: Option<&str>, name| {
            let user = user.map(|user| user.parse().unwrap());
            pick_branch(&branches(), user.as_ref(), name).map(|branch| branch.to_string())
        };
        assert_eq!(pick(None, "amy/next").unwrap(), "amy/next");
        assert_eq!(pick(None, "bcachefs").unwrap(), "kmo/bcachefs");
        assert_eq!(pick(None, "bcachefs-t").unwrap(), "kmo/bcachefs-testing");
        assert_eq!(pick(Some("amy"), "next").unwrap(), "amy/next");
        assert_eq!(pick(None, "amy").unwrap(), "amy/next");
        assert_eq!(
            pick(None, "next").unwrap_err().to_string(),
            "\"next\" matches several branches; give one of: amy/next, kmo/next"
        );
        assert_eq!(
            pick(None, "ext4").unwrap_err().to_string(),
            "no branch \"ext4\"; branches: amy/next, kmo/bcachefs, kmo/bcachefs-testing, kmo/next"
        );
    }

    #[test]
    fn tests_by_key_prefix_and_part() {
        let keys: Vec<ResultKey> =
            ["boot.boots", "fs.ext4.basic.punch", "fs.ext4.basic.punch_hole", "fs.xfs.fstests.generic.001"]
                .map(|key| key.parse().unwrap())
                .into();
        let pick = |name| test(&keys, name, "here").map(|key| key.to_string());
        assert_eq!(pick("fs.ext4.basic.punch").unwrap(), "fs.ext4.basic.punch");
        assert_eq!(pick("boot").unwrap(), "boot.boots");
        assert_eq!(pick("punch").unwrap(), "fs.ext4.basic.punch");
        assert_eq!(pick("punch_").unwrap(), "fs.ext4.basic.punch_hole");
        assert_eq!(pick("generic/001").unwrap(), "fs.xfs.fstests.generic.001");
        assert_eq!(pick("fs/xfs").unwrap(), "fs.xfs.fstests.generic.001");
        assert_eq!(
            pick("fs.ext4").unwrap_err().to_string(),
            "\"fs.ext4\" matches several tests; give one of: fs.ext4.basic.punch, fs.ext4.basic.punch_hole"
        );
        assert!(pick("btrfs").unwrap_err().to_string().starts_with("no test \"btrfs\" at here; tests: boot"));
    }
}
