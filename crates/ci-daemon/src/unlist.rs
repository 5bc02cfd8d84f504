//! Branches that are no longer in the configuration: finds those with results, and removes the listing of one.
//!
//! Retention never reads the configuration, so that a mistake in it deletes nothing. Here, a user names the branch.

use std::fmt;
use std::path::Path;

use config::Config;
use model::BranchRef;
use results::requests::{self, RequestKind};
use results::{Reader, Tuning, Writer};
use serde::Serialize;

/// Why a listing is not removed.
#[derive(Debug, thiserror::Error)]
pub enum UnlistError {
    /// The branch is configured.
    #[error("{0} is in the configuration; remove its [branch.{name}] first", name = .0.branch)]
    Configured(BranchRef),
    /// The branch has no results.
    #[error("no results of {branch}{}", others(.unconfigured))]
    Unknown {
        /// The branch.
        branch: BranchRef,
        /// The branches that can be dropped.
        unconfigured: Vec<Unconfigured>,
    },
    /// The results.
    #[error(transparent)]
    Results(#[from] results::Error),
    /// The request to the running daemon cannot be written.
    #[error("cannot write a request for the running ci-daemon: {0}")]
    Request(#[from] std::io::Error),
}

fn others(unconfigured: &[Unconfigured]) -> String {
    let names: Vec<String> = unconfigured.iter().map(|of| of.branch.to_string()).collect();
    match names.as_slice() {
        [] => "; every branch with results is in the configuration".into(),
        names => format!("; branches that are not in the configuration: {}", names.join(", ")),
    }
}

/// A branch with results that is not in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unconfigured {
    /// The branch.
    #[serde(flatten)]
    pub branch: BranchRef,
    /// How many commits its listing has.
    pub commits: usize,
}

impl fmt::Display for Unconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { branch, commits } = self;
        write!(f, "{branch} with {commits} commits; retention deletes the results that no other branch lists")
    }
}

/// How the listing is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlisted {
    /// It is removed.
    Now,
    /// A daemon is running; it removes the listing.
    Requested,
}

/// The branches that have results and are not in the configuration, sorted.
pub fn unconfigured(config: &Config, reader: &Reader) -> results::Result<Vec<Unconfigured>> {
    let mut found = Vec::new();
    for (user, branches) in reader.users()? {
        for branch in branches {
            let branch = BranchRef { user: user.clone(), branch };
            if config.branch(&branch).is_none() {
                // An unreadable listing can be removed as well.
                let commits = reader.branch(&branch).ok().flatten().map_or(0, |commits| commits.len());
                found.push(Unconfigured { branch, commits });
            }
        }
    }
    found.sort_by(|a, b| a.branch.cmp(&b.branch));
    Ok(found)
}

/// The branch with the listing to remove, or an error if it must not be removed.
pub fn check(config: &Config, wanted: &BranchRef) -> Result<Unconfigured, UnlistError> {
    if config.branch(wanted).is_some() {
        return Err(UnlistError::Configured(wanted.clone()));
    }
    let unconfigured = unconfigured(config, &Reader::open(&config.top.output_dir)?)?;
    match unconfigured.iter().find(|of| of.branch == *wanted) {
        Some(found) => Ok(found.clone()),
        None => Err(UnlistError::Unknown { branch: wanted.clone(), unconfigured }),
    }
}

/// Removes the listing, or writes a request for the daemon that has locked the store.
pub async fn unlist(
    output_dir: &Path,
    compat_tree: usize,
    branch: BranchRef,
) -> Result<Unlisted, UnlistError> {
    match Writer::open_with(output_dir, Tuning { compat_tree, ..Tuning::default() }) {
        Ok(writer) => {
            writer.unlist_branch(&branch).await?;
            writer.close().await?;
            Ok(Unlisted::Now)
        }
        Err(results::Error::Locked { .. }) => {
            requests::submit(output_dir, RequestKind::Unlist(branch), None)?;
            Ok(Unlisted::Requested)
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
    async fn only_a_branch_that_is_no_longer_configured_is_dropped() {
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
            "no results of kmo/odl; branches that are not in the configuration: kmo/fs/older, kmo/old"
        );
        let old: BranchRef = "kmo/old".parse().unwrap();
        assert_eq!(check(&config, &old).unwrap().commits, 1);
        // The store is locked, so the daemon gets a request.
        assert_eq!(unlist(dir, 100, old.clone()).await.unwrap(), Unlisted::Requested);
        let taken = crate::requests::take(dir, false);
        assert_eq!(taken.requests.len(), 1, "{taken:?}");
        writer.close().await.unwrap();
        assert_eq!(unlist(dir, 100, old.clone()).await.unwrap(), Unlisted::Now);
        let left = unconfigured(&config, &Reader::open(dir).unwrap()).unwrap();
        assert_eq!(left.iter().map(|of| of.branch.branch.as_str()).collect::<Vec<_>>(), ["fs/older"]);
        assert!(check(&config, &old).is_err());
        // The next writer does not have the listing.
        Writer::open(dir).unwrap().close().await.unwrap();
        assert!(!Reader::open(dir).unwrap().users().unwrap()["kmo"].contains(&"old".parse().unwrap()));
    }
}
