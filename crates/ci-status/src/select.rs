//! What people type, and which branch, commit or test they mean by it. Ambiguity is never guessed away.

use gitio::Repo;
use model::{BranchRef, CommitId, ResultKey, UserName};
use results::Resolved;

use crate::origin::all_branches;
use crate::problem::{Choices, Problem};
use crate::source::Source;

/// The branch that `name` means: `branch`, `user/branch`, or the beginning of either; without a name HEAD's.
pub fn branch(source: &Source, name: Option<&str>) -> Result<BranchRef, Problem> {
    let all = all_branches(&*source.results)?;
    if all.is_empty() {
        return Err(Problem::NoBranches);
    }
    let head;
    let name = match name {
        Some(name) => name,
        None => {
            let checkout = Repo::discover(&source.folder).and_then(|repo| repo.head());
            let checkout =
                checkout.map_err(|error| Problem::NoCheckout { what: "branch", why: error.to_string() })?;
            head = checkout.branch.ok_or(Problem::Detached)?;
            &head
        }
    };
    pick_branch(&all, source.user.as_ref(), name)
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
    Err(Problem::NoBranch { name: name.into(), choices: Choices::near(name, all.iter().map(full)) })
}

/// The commit that `name` means: the beginning of the id of one that has results, a branch (its newest commit that has
/// some), or, inside a checkout, any revision; without a name HEAD.
pub fn commit(source: &Source, name: Option<&str>) -> Result<CommitId, Problem> {
    let Some(name) = name else {
        let head = Repo::discover(&source.folder).and_then(|repo| repo.head());
        let head = head.map_err(|error| Problem::NoCheckout { what: "commit", why: error.to_string() })?;
        return with_results(source, "HEAD", head.commit);
    };
    match source.results.resolve_prefix(name)? {
        Resolved::One(commit) => return Ok(commit),
        Resolved::Many(commits) => {
            let choices = Choices::new(commits);
            return Err(Problem::ManyCommits { name: name.into(), choices });
        }
        Resolved::None => {}
    }
    match branch(source, Some(name)) {
        Ok(at) => {
            let entries = source.results.branch(&at)?.unwrap_or_default();
            let tested = entries.iter().find(|entry| entry.counts.total() > 0);
            return match tested.or_else(|| entries.first()) {
                Some(entry) => Ok(entry.commit.clone()),
                None => Err(Problem::NoCommit { name: name.into() }),
            };
        }
        Err(error @ Problem::ManyBranches { .. }) => return Err(error),
        Err(_) => {}
    }
    match Repo::discover(&source.folder).and_then(|repo| repo.resolve(name)) {
        Ok(commit) => with_results(source, name, commit),
        Err(_) => Err(Problem::NoCommit { name: name.into() }),
    }
}

fn with_results(source: &Source, revision: &str, commit: CommitId) -> Result<CommitId, Problem> {
    match source.results.resolve_prefix(commit.as_str())? {
        Resolved::One(commit) => Ok(commit),
        _ => Err(Problem::NoResults { revision: revision.into(), commit }),
    }
}

/// The commit that somebody waits for: like [`commit`], but a branch means its tip, and a revision of the checkout need
/// not be known to the farm yet.
pub fn awaited(source: &Source, name: Option<&str>) -> Result<CommitId, Problem> {
    let listed = match commit(source, name) {
        Ok(commit) => Ok(commit),
        Err(Problem::NoResults { commit, .. }) => return Ok(commit),
        Err(error) => Err(error),
    };
    let Some(name) = name else { return listed };
    if let Ok(Resolved::One(commit)) = source.results.resolve_prefix(name) {
        return Ok(commit);
    }
    if let Ok(at) = branch(source, Some(name)) {
        let tip = source.results.branch(&at)?.unwrap_or_default().into_iter().next();
        return tip.map(|entry| entry.commit).ok_or_else(|| Problem::NoCommit { name: name.into() });
    }
    // A full id may be one that was pushed a moment ago.
    listed.or_else(|error| name.parse().map_err(|_| error))
}

/// The test of `keys` (sorted) that `name` means: the key, its beginning, or the beginning of a part of it after a dot
/// (`punch` for `fs.ext4.basic.punch`); `/` is as good as a dot.
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
    let hint = if keys.is_empty() {
        "nothing has been tested there yet".into()
    } else {
        format!("there are {}", Choices::near(name, keys))
    };
    Err(Problem::NoTest { name: name.into(), place: place.into(), hint })
}

/// The regular expression of `--test`.
pub fn pattern(text: Option<&str>) -> Result<Option<regex::Regex>, Problem> {
    let compile = |text: &str| {
        regex::Regex::new(text).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            Problem::Regex { pattern: text.into(), why }
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
    fn branches_by_name_and_beginning() {
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
            "\"next\" is several branches; say which: amy/next, kmo/next"
        );
        assert_eq!(
            pick(None, "ext4").unwrap_err().to_string(),
            "no branch \"ext4\"; there are amy/next, kmo/bcachefs, kmo/bcachefs-testing, kmo/next"
        );
    }

    #[test]
    fn tests_by_key_beginning_and_part() {
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
            "\"fs.ext4\" is several tests; say which: fs.ext4.basic.punch, fs.ext4.basic.punch_hole"
        );
        assert!(
            pick("btrfs").unwrap_err().to_string().starts_with("no test \"btrfs\" at here; there are boot")
        );
    }
}
