//! The disk quota of users: a user with more results than `max_disk` gets no new tests until retention deletes some.

use std::collections::BTreeMap;

use config::Config;
use model::{ByteSize, UserName};
use results::Reader;

use crate::watch::fetch_loop::View;

/// The size in bytes of the results of each user with a quota.
pub type Usage = BTreeMap<UserName, u64>;

/// Measures the users with a quota. Reads the sizes of all their files.
pub fn measure(reader: &Reader, config: &Config) -> results::Result<Usage> {
    if config.users.max_disk.is_none() {
        return Ok(Usage::new());
    }
    let users = config.all_branches().map(|branch| &branch.name.user);
    let mut usage = Usage::new();
    for user in users.filter(|user| config.has_limits(user)) {
        if !usage.contains_key(user) {
            usage.insert(user.clone(), results::retention::size_of_user(reader, user)?);
        }
    }
    Ok(usage)
}

/// Removes the commits of users above their quota from a view, and adds an error that explains it.
pub fn apply(view: &mut View, usage: &Usage) {
    let Some(max) = view.config.users.max_disk else { return };
    for (name, branch) in &mut view.branches {
        let used = usage.get(&name.user).copied().unwrap_or(0);
        if used > max.0 && view.config.has_limits(&name.user) {
            branch.commits = [].into();
            branch.error = Some(format!(
                "no new tests: the results of {} use {}, more than max_disk = {max}; ask the operator for more, test fewer \
                 commits, or wait until old results are deleted",
                name.user,
                ByteSize(used)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Verdict;
    use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

    use super::*;
    use crate::watch::branches::FetchedBranch;

    #[test]
    fn a_user_over_the_quota_gets_no_new_tests() {
        let dir = tempfile::tempdir().unwrap();
        let (out, users) = (dir.path().join("out"), dir.path().join("users"));
        std::fs::create_dir_all(&users).unwrap();
        let branch = "[branch.next]\nremote = \"https://git.example.org/x\"\ntest_groups = [\"g\"]\n";
        let text = format!(
            "linux_repo = \"linux\"\noutput_dir = {out:?}\nktest_dir = \"kt\"\nuser = \"op\"\nusers_dir = \"users\"\n\
             [test_group.g]\ntests = [\"a.ktest\"]\n[users]\nmax_disk = \"64K\"\n{branch}"
        );
        std::fs::write(dir.path().join("ci.toml"), text).unwrap();
        for user in ["big", "small"] {
            std::fs::write(users.join(format!("{user}.toml")), branch).unwrap();
        }
        let config = Arc::new(config::load(&dir.path().join("ci.toml")).unwrap());
        let fixture = ResultsFixture::new(&out);
        let sizes = [("op", 200_000), ("big", 200_000), ("small", 10)];
        for (user, _) in sizes {
            let commit = commit_id(user);
            fixture.branch(user, "next", &[(commit.clone(), user.to_owned())]);
            fixture.test(TestResult::new(&commit, "a.x", Verdict::Passed, 1).log("log"));
        }
        fixture.finish();
        for (user, size) in sizes {
            std::fs::write(out.join(commit_id(user).as_str()).join("a.x/core"), vec![7; size]).unwrap();
        }
        let usage = measure(&Reader::open(&out).unwrap(), &config).unwrap();
        assert_eq!(usage.keys().map(ToString::to_string).collect::<Vec<_>>(), ["big", "small"]);
        let message = "tip".to_owned();
        let commit = gitio::CommitInfo {
            id: commit_id("tip"),
            message,
            parents: Vec::new(),
            time: 0,
            tree: String::new(),
            author: String::new(),
        };
        let fetched = FetchedBranch { commits: [commit].into(), ..FetchedBranch::default() };
        let mut view = View {
            branches: config.all_branches().map(|branch| (branch.name.clone(), fetched.clone())).collect(),
            suites: BTreeMap::new(),
            listings: std::collections::HashMap::new(),
            known_issues: Arc::default(),
            problems: Vec::new(),
            complete: true,
            config,
        };
        apply(&mut view, &usage);
        for (name, branch) in &view.branches {
            let over = name.user.as_str() == "big";
            assert_eq!(branch.commits.is_empty(), over, "{name}");
            assert_eq!(branch.error.as_ref().is_some_and(|error| error.contains("max_disk = 64K")), over);
        }
    }
}
