//! `ci-status range-diff`: the commits of a branch before and after a force-push.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::Style;
use model::Status;
use regress::range_diff::{NamedTests, PairResults, PairRow, RangeDiffView};
use results::pushes::{COMMITS_MAX, Mark};

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The maximum number of broken or fixed tests that are named for a commit.
const NAMED_MAX: usize = 4;

/// A force-push of a branch.
#[derive(Debug)]
pub struct RangeDiff {
    view: RangeDiffView,
    now: i64,
}

/// Reads the newest force-push, or that with the old tip `of`.
pub fn run(context: &Context, branch: Option<&str>, of: Option<&str>) -> Result<RangeDiff, Problem> {
    let branch = select::branch(context, branch)?;
    let newest = context.backend.range_diff(&branch, None)?;
    let newest = newest.ok_or_else(|| Problem::NoPush(branch.clone()))?;
    let view = match of {
        None => newest,
        Some(of) => {
            let recorded = newest.others.iter().map(|other| &other.old);
            let mut found = recorded.chain([&newest.old]).filter(|old| old.as_str().starts_with(of));
            let missing = || Problem::NoSuchPush { branch: branch.clone(), of: of.into() };
            let old = found.next().ok_or_else(missing)?;
            context.backend.range_diff(&branch, Some(old))?.ok_or_else(missing)?
        }
    };
    Ok(RangeDiff { view, now: context.now })
}

impl Answer for RangeDiff {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.view)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let view = &self.view;
        let (user, branch, old, new) = (&view.user, &view.branch, view.old.short(), view.new.short());
        writeln!(out, "{user}/{branch}: {old} -> {new}, pushed {}", text::ago(view.pushed, self.now))?;
        if let Some(problem) = &view.problem {
            return writeln!(out, "the versions are not compared: {problem}");
        }
        let left = view.seconds_left.map(|seconds| text::duration(Duration::from_secs(seconds)));
        let left = left.map(|left| format!(", about {left}")).unwrap_or_default();
        writeln!(out, "{}", text::paint(text::HEADING, format_args!("{}{left}", view.summary())))?;
        if view.is_cut {
            writeln!(
                out,
                "a version has more than {COMMITS_MAX} commits; only the newest ones are compared"
            )?;
        }
        let mut table = Table::default();
        for pair in &view.pairs {
            row(&mut table, pair);
        }
        write!(out, "{table}")?;
        if let Some(unchanged) = view.unchanged_words() {
            writeln!(out, "{}", text::paint(text::FAINT, format_args!("= {unchanged}")))?;
        }
        if !view.others.is_empty() {
            let others: Vec<&str> = view.others.iter().map(|other| other.old.short()).collect();
            writeln!(out, "other force-pushes (--of): {}", others.join(" "))?;
        }
        Ok(())
    }
}

fn row(table: &mut Table, pair: &PairRow) {
    let (mark, _) = pair.mark().words();
    let style = match pair.mark() {
        Mark::Kept => text::FAINT,
        Mark::Changed => text::style(Status::Flaky),
        Mark::New => text::style(Status::Passed),
        Mark::Gone => text::style(Status::Failed),
    };
    let results = match pair.results {
        Some(PairResults::Kept) => "kept",
        Some(PairResults::Ran) => "ran",
        Some(PairResults::ToRun) => "to run",
        Some(PairResults::NotTested) => "not tested",
        None => "",
    };
    let counts = pair.shown_counts();
    let counts = counts.map(|counts| anstream::adapter::strip_str(&text::counts(counts)).to_string());
    let id = |id: Option<&model::CommitId>| Cell::left(id.map_or("", |id| id.short())).styled(text::COMMIT);
    table.row([
        id(pair.commit.old.as_ref()),
        Cell::left(mark).styled(style),
        id(pair.commit.new.as_ref()),
        Cell::left(results).styled(text::FAINT),
        Cell::left(counts.unwrap_or_default()),
        Cell::left(&pair.commit.subject),
    ]);
    changed(table, "broke", text::style(Status::Failed), &pair.broke);
    changed(table, "fixed", text::style(Status::Passed), &pair.fixed);
}

fn changed(table: &mut Table, word: &str, style: Style, tests: &NamedTests) {
    if tests.is_empty() {
        return;
    }
    let named: Vec<&str> = tests.names.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = tests.count.saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let empty = || Cell::left("");
    table.row([
        empty(),
        empty(),
        empty(),
        Cell::left(word).styled(style),
        empty(),
        Cell::left(format_args!("{}{more}", named.join(" "))).styled(style),
    ]);
}
