//! `ci-status branches`: users, their branches, and the state of the newest commits.

use std::io::{self, Write};

use config::Hint;
use model::{BranchName, BranchRef, UserName};
use results::BranchEntry;
use results::json::UserView;

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::text::{self, Cell, Table};

/// The branches of all users.
#[derive(Debug)]
pub struct Branches {
    users: Vec<(UserName, Vec<Line>)>,
}

#[derive(Debug)]
struct Line {
    branch: BranchName,
    /// The newest tested commit, or else the newest commit.
    newest: Option<BranchEntry>,
    commits: usize,
    /// What does not build at the newest commit: `build`.
    unbuilt: Option<String>,
}

/// Reads the listings of all users, or only those of the user `only`.
pub fn run(context: &Context, only: Option<&UserName>) -> Result<Branches, Problem> {
    let mut users = Vec::new();
    let all = context.backend.users()?;
    if let Some(user) = only
        && !all.is_empty()
        && !all.contains_key(user)
    {
        return Err(Problem::NoUser {
            name: user.clone(),
            nearest: Hint::new("users", user.as_str(), all.keys()),
        });
    }
    for (user, branches) in all {
        if only.is_some_and(|only| *only != user) {
            continue;
        }
        let names: Vec<BranchRef> =
            branches.into_iter().map(|branch| BranchRef { user: user.clone(), branch }).collect();
        let mut lines = Vec::new();
        for (at, entries) in names.iter().zip(context.backend.listings(&names)) {
            let tested = entries.iter().find(|entry| entry.counts.total() > 0);
            let newest = tested.or_else(|| entries.first()).cloned();
            let unbuilt = newest.as_ref().filter(|newest| newest.counts.failed_to_run > 0);
            let unbuilt =
                unbuilt.and_then(|newest| context.backend.builds(at).ok()?.remove(&newest.commit)?.what);
            lines.push(Line { branch: at.branch.clone(), newest, commits: entries.len(), unbuilt });
        }
        users.push((user, lines));
    }
    if users.is_empty() {
        return Err(Problem::NoBranches);
    }
    Ok(Branches { users })
}

impl Answer for Branches {
    fn json(&self) -> serde_json::Result<String> {
        let view = |(user, lines): &(UserName, Vec<Line>)| UserView {
            user: user.clone(),
            branches: lines.iter().map(|line| line.branch.clone()).collect(),
        };
        to_json(&self.users.iter().map(view).collect::<Vec<_>>())
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::default();
        for (user, lines) in &self.users {
            for line in lines {
                let name = Cell::left(format_args!("{user}/{}", line.branch)).styled(text::HEADING);
                let commits = Cell::right(match line.commits {
                    1 => "1 commit ".into(),
                    count => format!("{count} commits"),
                });
                let Some(newest) = &line.newest else {
                    table.row([name, commits]);
                    continue;
                };
                let short = Cell::left(newest.commit.short()).styled(text::COMMIT);
                let (word, status) = if newest.counts.inprogress > 0 {
                    ("testing".into(), model::Status::InProgress)
                } else if let Some(what) = &line.unbuilt {
                    (format!("{what} failed"), model::Status::Failed)
                } else {
                    let first = newest.counts.by_urgency().next();
                    first.map_or(("no results".into(), model::Status::NotRun), |(status, count)| {
                        (model::count_words(status, count), status)
                    })
                };
                let state = Cell::left(word).styled(text::style(status));
                table.row([name, commits, short, state, Cell::left(newest.subject())]);
            }
        }
        write!(out, "{table}")
    }
}
