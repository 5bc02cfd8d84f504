//! Finds one job by its name, even if it has a verdict or its commit is too old to be planned.

use std::sync::Arc;

use model::{BranchRef, CommitId, ResultKey};

use super::{Branch, History, Input, JobRef, PlannedJob, Purpose, units_of};

/// The job with that name, on the first branch that has it.
#[must_use]
pub fn find(input: &Input, job: &JobRef) -> Option<PlannedJob> {
    input.branches.iter().find_map(|branch| {
        let age = branch.commits.iter().position(|commit| *commit == job.commit)?;
        find_on(branch, age, &job.commit, &job.key, input)
    })
}

/// The job with that name on this branch. Its commit may be one that the branch no longer lists.
#[must_use]
pub fn find_on_branch(input: &Input, branch: &BranchRef, job: &JobRef) -> Option<PlannedJob> {
    let branch = input.branches.iter().find(|found| *found.name == *branch)?;
    let age = branch.commits.iter().position(|commit| *commit == job.commit);
    find_on(branch, age.unwrap_or(branch.commits.len()), &job.commit, &job.key, input)
}

fn find_on(
    branch: &Branch,
    age: usize,
    commit: &CommitId,
    key: &ResultKey,
    input: &Input,
) -> Option<PlannedJob> {
    let age = u32::try_from(age).ok()?;
    branch.groups.iter().find_map(|group| {
        units_of(group).find_map(|unit| {
            let prefix = ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env);
            if !key.as_str().starts_with(&prefix) {
                return None;
            }
            let listing = input.listings.get(&(unit.test.clone(), unit.env.clone()))?;
            let is_it = |subtest: &&model::SubtestName| {
                ResultKey::new(&unit.test, unit.kernel.as_ref(), &unit.env, subtest)
                    .is_ok_and(|of| of == *key)
            };
            let subtest = listing.iter().find(is_it)?.clone();
            let history = input.history.get(key);
            Some(PlannedJob {
                branch: branch.name.clone(),
                group: Arc::new(group.name.clone()),
                repo: branch.repo.clone(),
                commit: commit.clone(),
                age,
                unit: unit.into(),
                subtest,
                key: key.clone(),
                value: i64::from(age).saturating_add(History::nice_in(history, group)),
                cost: history.map_or(input.default_cost, History::expected),
                purpose: Purpose::First,
                inherit: group.inherit,
                inherit_check: group.inherit_check,
                bisect: group.bisect,
                alone: false,
            })
        })
    })
}
