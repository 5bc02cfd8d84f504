//! What can stand in the way of an answer, in one line that says what to do next.

use std::fmt;

use model::{CommitId, ResultKey};

/// How many choices a message lists.
const CHOICES_MAX: usize = 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The results cannot be read.
    #[error(transparent)]
    Results(#[from] results::Error),
    /// The configuration cannot be read.
    #[error("{0}; or say where the results are with --output-dir or --remote")]
    Config(#[from] config::ConfigError),
    /// What a dashboard does not answer.
    #[error("{url}: {why}; is --remote right, and does the dashboard run?")]
    Remote {
        /// The address.
        url: String,
        /// What it says.
        why: String,
    },
    /// A certificate that does not prove whose dashboard it is.
    #[error("{url}: {why}")]
    Certificate {
        /// The address.
        url: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A bad `--remote`.
    #[error("--remote {address:?}: {why}; give a dashboard's address: https://ci.example.org")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// `--remote` alone, and nothing says where that is.
    #[error("--remote: the configuration has no ci_url; give the address: --remote=https://ci.example.org")]
    NoAddress,
    /// No branch is followed at all.
    #[error("no branch has results yet; ci-daemon lists a branch once it has fetched it")]
    NoBranches,
    /// No such user.
    #[error("user {user:?} has no branches; there are the users {choices}")]
    NoUser {
        /// Who was asked for.
        user: model::UserName,
        /// Who there is.
        choices: Choices,
    },
    /// No such branch.
    #[error("no branch {name:?}; there are {choices}")]
    NoBranch {
        /// What was asked for.
        name: String,
        /// What there is.
        choices: Choices,
    },
    /// Several branches of that name.
    #[error("{name:?} is several branches; say which: {choices}")]
    ManyBranches {
        /// What was asked for.
        name: String,
        /// Which they are.
        choices: Choices,
    },
    /// Neither a commit with results nor a branch nor a revision.
    #[error(
        "no results for {name:?}; give a commit's first digits (at least 4) or a branch (ci-status branches lists them)"
    )]
    NoCommit {
        /// What was asked for.
        name: String,
    },
    /// The checkout's commit has no results.
    #[error("no results for {revision} ({}); is it on a branch that the farm watches? (ci-status branches lists them)", commit.short())]
    NoResults {
        /// What was asked for.
        revision: String,
        /// The commit that it is.
        commit: CommitId,
    },
    /// Several commits begin so.
    #[error("{name:?} is the beginning of several commits: {choices}")]
    ManyCommits {
        /// What was asked for.
        name: String,
        /// Which they are.
        choices: Choices,
    },
    /// No such test.
    #[error("no test {name:?} at {place}; {hint}")]
    NoTest {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        place: String,
        /// What to do.
        hint: String,
    },
    /// Several tests match.
    #[error("{name:?} is several tests; say which: {choices}")]
    ManyTests {
        /// What was asked for.
        name: String,
        /// Which they are.
        choices: Choices,
    },
    /// Nothing was given and the current folder does not say.
    #[error("say which {what}: this is no checkout to take it from ({why})")]
    NoCheckout {
        /// "branch" or "commit".
        what: &'static str,
        /// What git says.
        why: String,
    },
    /// Nothing was given and the checkout is on no branch.
    #[error("say which branch: the checkout's HEAD is on none")]
    Detached,
    /// A bad `--test`.
    #[error("--test {pattern:?} is no regular expression: {why}")]
    Regex {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The test left no log.
    #[error("{key} at {} has no {kind} ({status}){hint}", commit.short())]
    NoLog {
        /// The test.
        key: ResultKey,
        /// The commit.
        commit: CommitId,
        /// Which log.
        kind: &'static str,
        /// Its status and reason.
        status: String,
        /// Where else to look.
        hint: &'static str,
    },
    /// Nothing writes here, so that waiting has no end.
    #[error("{} is not tested, and ci-daemon does not run there; start it with ci-daemon", commit.short())]
    Hopeless {
        /// The commit.
        commit: CommitId,
    },
    /// It took longer than it may.
    #[error("{} is not done after {after}: {stands}", commit.short())]
    Timeout {
        /// The commit.
        commit: CommitId,
        /// How long was waited.
        after: String,
        /// How it stands.
        stands: String,
    },
    /// A live view that nobody would see.
    #[error("watch needs a terminal; --once prints it once, --json each change, and wait is for scripts")]
    NoTerminal,
    /// What the daemon alone can do, from afar.
    #[error("rerun asks the ci-daemon of this machine; run it where the results are written")]
    NotHere,
    /// A request that cannot be left for the daemon.
    #[error("{}: cannot ask ci-daemon: {why}", path.display())]
    Request {
        /// Where it would be.
        path: std::path::PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// No such file of a test.
    #[error("{key} at {} left no file {name:?}; there are {choices}", commit.short())]
    NoArtifact {
        /// The test.
        key: ResultKey,
        /// The commit.
        commit: CommitId,
        /// What was asked for.
        name: String,
        /// What there is.
        choices: Choices,
    },
    /// No daemon ever wrote here.
    #[error("no ci-daemon has run there yet; start it with ci-daemon")]
    NoSnapshot,
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Some names out of many, for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices(Vec<String>);

impl Choices {
    /// The choices, in their order.
    pub fn new<T: ToString>(choices: impl IntoIterator<Item = T>) -> Self {
        Self(choices.into_iter().map(|choice| choice.to_string()).collect())
    }

    /// The choices for who wrote `name`, in their order; of more than a message lists those first that are most like it.
    pub fn near<T: ToString>(name: &str, choices: impl IntoIterator<Item = T>) -> Self {
        let mut choices = Self::new(choices);
        if choices.0.len() > CHOICES_MAX {
            choices.0.sort_by_cached_key(|choice| distance(name, choice));
        }
        choices
    }
}

/// How far what was written is from a choice, or from the last part of it.
fn distance(name: &str, choice: &str) -> usize {
    // The comparison is quadratic, and names may be anybody's.
    let cut = |text: &str| text.chars().take(100).flat_map(char::to_lowercase).collect::<String>();
    let (name, choice) = (cut(name), cut(choice));
    let last = choice.rsplit(['/', '.']).next().unwrap_or(&choice);
    strsim::damerau_levenshtein(&name, &choice).min(strsim::damerau_levenshtein(&name, last))
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.len().min(CHOICES_MAX);
        f.write_str(&self.0[..shown].join(", "))?;
        if self.0.len() > shown {
            write!(f, " and {} more", self.0.len() - shown)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_choices_the_nearest_are_shown() {
        let few = ["b", "a"];
        assert_eq!(Choices::near("a", few).to_string(), "b, a");
        let names = (0..100).map(|at| format!("kmo/branch-{at:02}")).chain(["amy/ext4-testing".into()]);
        let shown = Choices::near("ext4-tesing", names).to_string();
        assert!(
            shown.starts_with("amy/ext4-testing, kmo/branch-00") && shown.ends_with(" and 91 more"),
            "{shown}"
        );
        let tests = (0..100)
            .map(|at| format!("fs.xfs.fstests.generic.{at:03}"))
            .chain(["fs.ext4.basic.punch".into()]);
        assert!(Choices::near("Pumch", tests).to_string().starts_with("fs.ext4.basic.punch, "));
    }
}
