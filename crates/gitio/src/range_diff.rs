//! Compares two versions of a series of commits, with `git range-diff`.

use std::time::Duration;

use model::{CommitId, RefName};
use spawn::Limits;

use crate::command::{QUICK, git, succeeded};
use crate::error::GitError;
use crate::repo::Repo;

/// The limits of a comparison, which reads all patches of both series.
const LIMITS: Limits = Limits { time: Duration::from_secs(120), bytes: 16 << 20 };
/// The memory of each process of a comparison, in bytes.
const MEMORY: u64 = 4 << 30;

/// The commits that are reachable from `tip` and not from `base`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRange {
    /// The commit before the oldest one.
    pub base: CommitId,
    /// The newest commit.
    pub tip: CommitId,
}

/// A commit in one of two versions of a series, or in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangePair {
    /// The commit of the old version.
    pub old: Option<CommitId>,
    /// The commit of the new version.
    pub new: Option<CommitId>,
    /// Whether both have the same patch and message.
    pub same: bool,
}

impl Repo {
    /// The pairs of two versions of a series, from the oldest to the newest. Merges are left out, as in `git range-diff`.
    pub async fn range_diff(&self, old: &CommitRange, new: &CommitRange) -> Result<Vec<RangePair>, GitError> {
        let range = |range: &CommitRange| format!("{}..{}", range.base, range.tip);
        let cmd = git(self.git_dir())
            .args(self.without_textconv().await?)
            .args(["-c", "log.showSignature=false"])
            .args(["range-diff", "--no-color", "--no-patch", "--no-abbrev", "--no-notes"])
            .args([range(old), range(new)]);
        let output = self.run("compare the versions of a branch", cmd.memory_limit(MEMORY), LIMITS).await?;
        Ok(output.text().lines().filter_map(pair).collect())
    }

    /// The best common ancestor; `None` if there is none.
    pub async fn merge_base(&self, one: &CommitId, other: &CommitId) -> Result<Option<CommitId>, GitError> {
        let cmd = git(self.git_dir()).args(["merge-base", one.as_str(), other.as_str()]);
        let output = cmd.output(QUICK).await?;
        // Exit code 1 without a message means none.
        if !output.exit.success() && output.stderr.is_empty() && output.stdout.is_empty() {
            return Ok(None);
        }
        let output = succeeded("find a common ancestor", self.path(), output)?;
        Ok(output.text().lines().next().and_then(|line| line.parse().ok()))
    }

    /// The range of the commits that are reachable from `tip` and not from `base`. If there are more than `max`, at most `max`
    /// first parents of the tip, up to the first merge; then the second value is true.
    pub fn bounded_range(
        &self,
        tip: &CommitId,
        base: &CommitId,
        max: usize,
    ) -> Result<(CommitRange, bool), GitError> {
        let range = |base: &CommitId| CommitRange { base: base.clone(), tip: tip.clone() };
        if self.walk(tip, Some(base), max + 1)?.len() <= max {
            return Ok((range(base), false));
        }
        let mut end = tip.clone();
        for _ in 0..max {
            match self.commit(&end)?.parents.as_slice() {
                [parent] => end = parent.clone(),
                _ => break,
            }
        }
        Ok((range(&end), true))
    }

    /// Keeps these commits with their ancestors in the repository, and no others: `dir` is a directory of refs, used by nothing
    /// else, with one ref for each.
    pub async fn keep_commits(&self, dir: &RefName, commits: &[CommitId]) -> Result<(), GitError> {
        let kept = self.kept_commits(dir)?;
        let mut input = String::new();
        for commit in commits.iter().filter(|commit| !kept.contains(commit)) {
            input.push_str(&format!("update {dir}/{commit} {commit}\n"));
        }
        for commit in kept.iter().filter(|commit| !commits.contains(commit)) {
            input.push_str(&format!("delete {dir}/{commit}\n"));
        }
        if !input.is_empty() {
            let cmd = git(self.git_dir()).args(["update-ref", "--no-deref", "--stdin"]).input(input);
            self.run("write a ref", cmd, QUICK).await?;
        }
        Ok(())
    }

    fn kept_commits(&self, dir: &RefName) -> Result<Vec<CommitId>, GitError> {
        let repo = self.local();
        let failed = |error: &(dyn std::error::Error + 'static)| self.unreadable(dir.as_str(), error);
        let refs = repo.references().map_err(|error| failed(&error))?;
        let below = refs.prefixed(format!("{dir}/").as_str()).map_err(|error| failed(&error))?;
        let name = |found: gix::Reference<'_>| {
            let name = found.name().as_bstr().to_string();
            name.strip_prefix(dir.as_str())?.strip_prefix('/')?.parse().ok()
        };
        Ok(below.filter_map(Result::ok).filter_map(name).collect())
    }

    /// Arguments that disable the programs that the repository configures for showing files. An empty name is an error of git, so
    /// each becomes `cat`.
    async fn without_textconv(&self) -> Result<Vec<String>, GitError> {
        let names = self.settings(r"^diff\..*\.textconv$").await?;
        Ok(names.into_iter().flat_map(|name| ["-c".into(), format!("{name}=cat")]).collect())
    }
}

/// A line of `git range-diff`: `1:  ID ! 2:  ID SUBJECT`, with `-:  ---` for a missing side.
fn pair(line: &str) -> Option<RangePair> {
    let words: Vec<&str> = line.split_whitespace().take(5).collect();
    let [old_number, old, mark, new_number, new] = words[..] else { return None };
    let side = |number: &str, id: &str| match number {
        "-:" => Some(None),
        _ => id.parse::<CommitId>().ok().map(Some),
    };
    let (old, new) = (side(old_number, old)?, side(new_number, new)?);
    let is_valid = match mark {
        "=" | "!" => old.is_some() && new.is_some(),
        "<" => old.is_some() && new.is_none(),
        ">" => old.is_none() && new.is_some(),
        _ => false,
    };
    is_valid.then(|| RangePair { same: mark == "=", old, new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark() {
        let (a, b, none) = ("a".repeat(40), "b".repeat(40), "-".repeat(40));
        let shown = |line: String| {
            let RangePair { old, new, same } = pair(&line)?;
            let id = |id: Option<CommitId>| id.map_or("-".into(), |id| id.as_str()[..1].to_owned());
            Some(format!("{} {} {same}", id(old), id(new)))
        };
        for (line, expected) in [
            (format!(" 1:  {a} = 12:  {b} ext4: fix"), Some("a b true")),
            (format!(" 1:  {a} !  2:  {b} > 3: fake"), Some("a b false")),
            (format!(" 1:  {a} <  -:  {none} gone"), Some("a - false")),
            (format!(" -:  {none} >  2:  {b} "), Some("- b false")),
            (format!(" -:  {none} =  2:  {b} x"), None),
            (format!(" 1:  {a} ?  2:  {b} x"), None),
            (" 1:  short = 2: short x".into(), None),
            ("    @@ Metadata".into(), None),
        ] {
            assert_eq!(shown(line.clone()).as_deref(), expected, "{line}");
        }
    }
}
