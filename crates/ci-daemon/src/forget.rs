//! Branches that the configuration has no more: which have results, and letting go of one by name.
//!
//! Retention never looks at the configuration, so that a misspelt one deletes nothing. Here a person names the branch.

use std::fmt;
use std::path::Path;

use config::Config;
use model::BranchRef;
use results::requests::{self, What};
use results::{Reader, Writer};
use serde::Serialize;

/// Why a branch is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// It is still wanted.
    #[error("{0} is in the configuration; remove its [branch.{name}] first", name = .0.branch)]
    Configured(BranchRef),
    /// It has no results.
    #[error("there are no results of {branch}{}", others(.unconfigured))]
    Unknown {
        /// Which.
        branch: BranchRef,
        /// What could be meant.
        unconfigured: Vec<Unconfigured>,
    },
    /// The results.
    #[error(transparent)]
    Results(#[from] results::Error),
    /// The running daemon cannot be asked.
    #[error("the running ci-daemon cannot be asked: {0}")]
    Request(#[from] std::io::Error),
}

fn others(unconfigured: &[Unconfigured]) -> String {
    let names: Vec<String> = unconfigured.iter().map(|of| of.branch.to_string()).collect();
    match names.as_slice() {
        [] => "; the configuration has every branch that has some".into(),
        names => format!("; those that the configuration does not have: {}", names.join(", ")),
    }
}

/// A branch with results that the configuration does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unconfigured {
    /// Which.
    #[serde(flatten)]
    pub branch: BranchRef,
    /// How many commits its listing has.
    pub commits: usize,
}

impl fmt::Display for Unconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { branch, commits } = self;
        write!(f, "{branch} with {commits} commits; what no other branch lists goes with the retention")
    }
}

/// Whether the branch was forgotten, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was.
    Now,
    /// A daemon has the results; it was asked to.
    Asked,
}

/// The branches that have results and are not in the configuration, sorted.
pub fn unconfigured(config: &Config, reader: &Reader) -> results::Result<Vec<Unconfigured>> {
    let mut found = Vec::new();
    for (user, branches) in reader.users()? {
        for branch in branches {
            let branch = BranchRef { user: user.clone(), branch };
            if config.branch(&branch).is_none() {
                // A listing that cannot be read can be forgotten, too.
                let commits = reader.branch(&branch).ok().flatten().map_or(0, |commits| commits.len());
                found.push(Unconfigured { branch, commits });
            }
        }
    }
    found.sort_by(|a, b| a.branch.cmp(&b.branch));
    Ok(found)
}

/// What would be forgotten, if it may be.
pub fn check(config: &Config, wanted: &BranchRef) -> Result<Unconfigured, ForgetError> {
    if config.branch(wanted).is_some() {
        return Err(ForgetError::Configured(wanted.clone()));
    }
    let unconfigured = unconfigured(config, &Reader::open(&config.output_dir)?)?;
    match unconfigured.iter().find(|of| of.branch == *wanted) {
        Some(found) => Ok(found.clone()),
        None => Err(ForgetError::Unknown { branch: wanted.clone(), unconfigured }),
    }
}

/// Forgets the branch, or asks the daemon that has the results to.
pub async fn forget(output_dir: &Path, branch: BranchRef) -> Result<Done, ForgetError> {
    match Writer::open(output_dir) {
        Ok(writer) => {
            writer.forget_branch(&branch).await?;
            writer.close().await?;
            Ok(Done::Now)
        }
        Err(results::Error::Locked { .. }) => {
            requests::leave(output_dir, What::Forget(branch))?;
            Ok(Done::Asked)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let text = format!(
            "linux_repo = \"{0}\"\noutput_dir = \"{0}\"\nktest_dir = \"{0}\"\nuser = \"kmo\"\n\
             [test_group.g]\ntests = [\"boot.ktest\"]\n[branch.kept]\nremote = \"/r\"\ntest_groups = [\"g\"]\n",
            dir.display()
        );
        let path = dir.join("ci.toml");
        std::fs::write(&path, text).unwrap();
        config::load(&path).unwrap()
    }

    #[tokio::test]
    async fn only_a_branch_that_the_configuration_has_no_more_is_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, config) = (temp.path(), config(temp.path()));
        let commit: model::CommitId = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let writer = Writer::open(dir).unwrap();
        for branch in ["kept", "old", "fs/older"] {
            writer
                .set_branch(&format!("kmo/{branch}").parse().unwrap(), vec![(commit.clone(), "m".into())])
                .await
                .unwrap();
        }
        let error = check(&config, &"kmo/kept".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "kmo/kept is in the configuration; remove its [branch.kept] first");
        let error = check(&config, &"kmo/odl".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "there are no results of kmo/odl; those that the configuration does not have: kmo/fs/older, kmo/old"
        );
        let old: BranchRef = "kmo/old".parse().unwrap();
        assert_eq!(check(&config, &old).unwrap().commits, 1);
        // Somebody has the results: they are asked.
        assert_eq!(forget(dir, old.clone()).await.unwrap(), Done::Asked);
        assert_eq!(crate::requests::take(dir, false).asked.len(), 1);
        writer.close().await.unwrap();
        assert_eq!(forget(dir, old.clone()).await.unwrap(), Done::Now);
        let left = unconfigured(&config, &Reader::open(dir).unwrap()).unwrap();
        assert_eq!(left.iter().map(|of| of.branch.branch.as_str()).collect::<Vec<_>>(), ["fs/older"]);
        assert!(check(&config, &old).is_err());
        // It does not come back with the next writer.
        Writer::open(dir).unwrap().close().await.unwrap();
        assert!(!Reader::open(dir).unwrap().users().unwrap()["kmo"].contains(&"old".parse().unwrap()));
    }
}
