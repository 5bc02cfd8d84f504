//! Converts a view to the planner's input. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use config::TestGroup;
use model::{GroupName, ResultKey, UserName};

use super::{Branch, History, Input};
use crate::watch::fetch_loop::View;

/// The planner's input for a view.
#[must_use]
pub fn input(view: &View, history: HashMap<ResultKey, History>) -> Input {
    let mut groups: HashMap<(UserName, GroupName), Arc<TestGroup>> = HashMap::new();
    let mut branches = Vec::new();
    for branch in view.config.all_branches() {
        let Some(fetched) = view.branches.get(&branch.name) else { continue };
        let group = |name: &GroupName| {
            let user = &branch.name.user;
            let group = view.config.test_group(user, name)?;
            let shared = groups.entry((user.clone(), name.clone()));
            Some(shared.or_insert_with(|| Arc::new(group.clone())).clone())
        };
        branches.push(Branch {
            name: Arc::new(branch.name.clone()),
            repo: Arc::new(branch.repo.clone()),
            commits: fetched.commits.iter().map(|commit| commit.id.clone()).collect(),
            groups: branch
                .test_groups
                .iter()
                .filter_map(group)
                .filter(|group| has_kernel(branch, group))
                .collect(),
        });
    }
    Input {
        branches,
        listings: view.listings.clone(),
        history,
        default_cost: view.config.top.subtest_duration_def,
    }
}

/// Whether the group has a kernel for commits of the branch: one built from the commit, or one from the store.
pub(crate) fn has_kernel(branch: &config::Branch, group: &TestGroup) -> bool {
    branch.repo.is_linux() || !group.kernels.is_empty()
}
