//! `ci-status crashes`: the kernel crashes of a branch by title, with the tests that each hit.

use std::io::{self, Write};

use model::{BranchRef, Status};
use regress::json::CrashRow;
use stdio::terminal;

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text;

/// The maximum number of tests that are printed for a crash.
const TESTS_MAX: usize = 3;

/// The crashes of a branch.
#[derive(Debug)]
pub struct Crashes {
    branch: BranchRef,
    rows: Vec<CrashRow>,
    now: i64,
}

/// Reads the crashes.
pub fn run(context: &Context, branch: Option<&str>) -> Result<Crashes, Problem> {
    let branch = select::branch(context, branch)?;
    let rows = context.backend.crashes(&branch)?;
    Ok(Crashes { branch, rows, now: context.now })
}

impl Answer for Crashes {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.rows)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "no test of {} crashed the kernel", self.branch);
        }
        for row in &self.rows {
            let hits = if row.count == 1 { "hit" } else { "hits" };
            let (style, state) = match row.lasting {
                true => (text::style(Status::Failed), "still occurs"),
                false => (text::FAINT, "no longer seen"),
            };
            writeln!(
                out,
                "{}  {state}, {} {hits}",
                text::paint(style, terminal::line(&row.crash)),
                row.count
            )?;
            let subject = row.first.message.trim_start().lines().next().unwrap_or("");
            let short = text::paint(text::COMMIT, row.first.commit.get(..12).unwrap_or(&row.first.commit));
            writeln!(out, "    first at {short} {}", terminal::line(subject))?;
            let by = text::by(&row.first.authorship, self.now);
            if !by.is_empty() {
                writeln!(out, "    {}", text::paint(text::FAINT, by))?;
            }
            let mut tests: Vec<String> =
                row.tests.iter().take(TESTS_MAX).map(|test| terminal::line(test)).collect();
            let more = row.tests.len().saturating_sub(TESTS_MAX);
            if more > 0 {
                tests.push(format!("and {more} more"));
            }
            writeln!(out, "    {}", tests.join(" "))?;
        }
        Ok(())
    }
}
