//! `ci-status findings`: what broke and what is fixed, newest first.

use std::io::{self, Write};

use model::{BranchRef, FindingKind, Status};
use results::findings::RecordedFinding;
use stdio::terminal;

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text;

/// The maximum number of tests that are printed for a finding.
const TESTS_MAX: usize = 3;

/// The findings of a branch, or of all branches and the farm.
#[derive(Debug)]
pub struct Findings {
    branch: Option<BranchRef>,
    rows: Vec<RecordedFinding>,
    now: i64,
}

/// Reads the newest findings.
pub fn run(context: &Context, branch: Option<&str>, limit: usize) -> Result<Findings, Problem> {
    let branch = branch.map(|branch| select::branch(context, Some(branch))).transpose()?;
    let rows = context.backend.findings(branch.as_ref(), limit)?;
    Ok(Findings { branch, rows, now: context.now })
}

impl Answer for Findings {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.rows)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            let on = self.branch.as_ref().map_or(String::new(), |branch| format!(" on {branch}"));
            return writeln!(
                out,
                "no finding{on}: nothing broke and nothing was fixed since ci-daemon records findings"
            );
        }
        for row in &self.rows {
            self.write(row, out)?;
        }
        Ok(())
    }
}

impl Findings {
    fn write(&self, row: &RecordedFinding, out: &mut dyn Write) -> io::Result<()> {
        let finding = &row.finding;
        let words = text::paint(style(finding.kind), finding.kind.words());
        let mut place: Vec<String> = finding.branch.iter().map(BranchRef::to_string).collect();
        place.extend(
            finding.commit.iter().map(|commit| text::paint(text::COMMIT, commit.short()).to_string()),
        );
        let about =
            text::paint(text::FAINT, format_args!("{}, {}", text::ago(finding.at, self.now), finding.id));
        writeln!(out, "{words}  {}  {about}", place.join(" "))?;
        writeln!(out, "    {}", terminal::line(&finding.signature))?;
        let mut tests: Vec<String> =
            finding.tests.iter().take(TESTS_MAX).map(|test| terminal::line(test.as_str())).collect();
        let more = (finding.tests_total as usize).saturating_sub(tests.len());
        if more > 0 {
            tests.push(format!("and {more} more"));
        }
        if !tests.is_empty() {
            let rate = finding
                .rate
                .map_or(String::new(), |rate| format!("; failed {} of {} runs", rate.failed, rate.runs));
            writeln!(out, "    {}{rate}", tests.join(" "))?;
        }
        if let Some(bad) = finding.first_bad.as_ref().filter(|bad| Some(*bad) != finding.commit.as_ref()) {
            writeln!(out, "    first bad commit {}", text::paint(text::COMMIT, bad.short()))?;
        }
        for mark in &row.marks {
            let said = format!("{} ({})", mark.what, mark.account);
            writeln!(out, "    {}", text::paint(text::FAINT, terminal::line(&said)))?;
        }
        Ok(())
    }
}

fn style(kind: FindingKind) -> anstyle::Style {
    text::style(match kind {
        FindingKind::Broke | FindingKind::BuildBroke | FindingKind::Bisected => Status::Failed,
        FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed => Status::Passed,
        FindingKind::FlakyBegan | FindingKind::SuspiciousPass => Status::Flaky,
        FindingKind::Farm => Status::FailedToRun,
    })
}
