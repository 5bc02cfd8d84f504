//! Lists the branches of a new results directory at once: from the refs that an earlier daemon fetched, of ktest-ci or of the
//! existing system, before the first fetch ends.

use std::path::Path;
use std::sync::Arc;

use config::{Branch, Config};
use gitio::{CommitInfo, GitError, Repo};
use model::BranchRef;
use results::Writer;

use super::branches::commits_max;
use crate::publisher;

/// Publishes the listings of the configured branches that have none. Returns their names.
pub async fn list_branches(config: &Arc<Config>, writer: &Writer) -> Vec<BranchRef> {
    let (config, reader) = (Arc::clone(config), writer.reader());
    let found = tokio::task::spawn_blocking(move || {
        let is_listed = |branch: &&Branch| !matches!(reader.branch(&branch.name), Ok(None));
        let missing = config.all_branches().filter(|branch| !is_listed(branch));
        let read = missing.filter_map(|branch| match commits(&config, branch) {
            Ok(commits) => Some((branch.name.clone(), commits)),
            Err(error) => {
                tracing::debug!(branch = %branch.name, "not listed before its first fetch: {error}");
                None
            }
        });
        read.collect::<Vec<_>>()
    });
    let mut listed = Vec::new();
    for (name, commits) in found.await.unwrap_or_default() {
        match publisher::list(writer.clone(), name, Vec::new(), commits).await {
            (name, _, None) => listed.push(name),
            (name, _, Some(error)) => tracing::warn!("branch {name} is not listed: {error}"),
        }
    }
    listed
}

/// The commits of a branch as it was last fetched.
fn commits(config: &Config, branch: &Branch) -> Result<Arc<[CommitInfo]>, GitError> {
    let repo = Repo::open(config.repo(&branch.repo).unwrap_or(Path::new("/nonexistent")))?;
    let tip = repo.resolve(&branch.local_ref()).or_else(|_| repo.resolve(&branch.legacy_ref()))?;
    let base = match &branch.base {
        Some(base) => {
            Some(repo.resolve(&format!("refs/heads/{base}")).or_else(|_| repo.resolve(base.as_str()))?)
        }
        None => None,
    };
    Ok(repo.walk(&tip, base.as_ref(), commits_max(config, branch))?.into())
}

#[cfg(test)]
mod tests {
    use testkit::ScratchRepo;

    use super::*;

    #[tokio::test]
    async fn a_new_directory_lists_what_was_fetched_before() {
        let (dir, linux) = (tempfile::tempdir().unwrap(), ScratchRepo::new());
        for name in ["c0", "c1", "c2"] {
            linux.commit(name, &[("a", name)]);
        }
        // Two branches of the existing system, one of ktest-ci, and one that was never fetched.
        for (name, commit) in [
            ("heads/u/theirs", "HEAD"),
            ("heads/u/both", "HEAD~2"),
            ("ktest/u/both", "HEAD~1"),
            ("heads/u/listed", "HEAD"),
        ] {
            linux.git(["update-ref", &format!("refs/{name}"), commit]);
        }
        let branches: String = ["theirs", "both", "listed", "new"]
            .map(|name| format!("[branch.{name}]\nremote = \"/nowhere\"\ntest_groups = [\"g\"]\n"))
            .concat();
        let text = format!(
            "linux_repo = {:?}\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"u\"\nkeep_results_commits = 2\n\
             [test_group.g]\ntests = [\"a.ktest\"]\nmax_commits = 1\n{branches}",
            linux.url()
        );
        std::fs::write(dir.path().join("ci.toml"), text).unwrap();
        let config = Arc::new(config::load(&dir.path().join("ci.toml")).unwrap());
        let writer = Writer::open(&config.top.output_dir).unwrap();
        writer.set_branch(&"u/listed".parse().unwrap(), Vec::new()).await.unwrap();
        let listed = list_branches(&config, &writer).await;
        assert_eq!(listed.iter().map(|name| name.branch.as_str()).collect::<Vec<_>>(), ["both", "theirs"]);
        let reader = writer.reader();
        let subjects = |name: &str| {
            let entries = reader.branch(&format!("u/{name}").parse().unwrap()).unwrap();
            entries.map(|entries| {
                entries.iter().map(|entry| entry.message.trim().to_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(subjects("theirs").unwrap(), ["c2", "c1"]);
        assert_eq!(subjects("both").unwrap(), ["c1", "c0"], "what ktest-ci fetched comes first");
        assert_eq!(subjects("listed").unwrap(), [""; 0]);
        assert_eq!(subjects("new"), None);
        assert!(list_branches(&config, &writer).await.is_empty());
        writer.close().await.unwrap();
    }
}
