//! The results of a test run as a tree of cases. Each case has exactly one result.

use std::fmt;

use serde::Serialize;

/// The result of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum CaseResult {
    /// `ok`.
    Passed,
    /// `not ok`, or `ok` of a group in which a case failed; with the text of the directive, if it has one.
    Failed(Option<String>),
    /// `# SKIP`: the case does not apply, with the reason.
    Skipped(String),
    /// `not ok` with `# TODO` or `# XFAIL`: the case is known to fail, with the reason.
    ExpectedFailure(String),
    /// The case started and printed no result.
    NoResult,
}

impl CaseResult {
    /// Whether the case failed, or has no result.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::NoResult)
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
            Self::ExpectedFailure(_) => "known to fail",
            Self::NoResult => "without result",
        })
    }
}

/// A case, or a group of cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Its name as printed, without the leading dash; `test N` if it has none.
    pub name: String,
    /// Its number, if it has one.
    pub number: Option<u64>,
    /// Its result.
    #[serde(flatten)]
    pub result: CaseResult,
    /// The lines printed while it ran, without those of nested cases; diagnostics without their `# `.
    pub diagnostics: Vec<String>,
    /// The cases below it.
    pub cases: Vec<Case>,
}

/// A violation of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum Problem {
    /// Results without a version line before them, or no results.
    NoHeader,
    /// The number of cases differs from the plan.
    Plan {
        /// The case that the plan belongs to; empty for the top level.
        below: String,
        /// Cases planned.
        planned: u64,
        /// Cases seen.
        seen: u64,
    },
    /// A number out of sequence.
    Number {
        /// The case.
        case: String,
        /// The number expected.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// `Bail out!`, with its reason.
    BailedOut(String),
    /// There are more items of this kind than the parser keeps.
    TooMuch(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no line `KTAP version 1` or `TAP version 13`"),
            Self::Plan { below, planned, seen } if below.is_empty() => {
                write!(f, "{planned} cases planned, {seen} seen")
            }
            Self::Plan { below, planned, seen } => write!(f, "{below}: {planned} cases planned, {seen} seen"),
            Self::Number { case, expected, found } => {
                write!(f, "{case}: number {found} instead of {expected}")
            }
            Self::BailedOut(reason) => write!(f, "bailed out: {reason}"),
            Self::TooMuch(what) => write!(f, "too many {what}; the rest is ignored"),
        }
    }
}

/// The content of a KTAP text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The top-level cases, in their order.
    pub cases: Vec<Case>,
    /// Violations of the format.
    pub problems: Vec<Problem>,
    /// The reason why no case was run, if the plan is `1..0 # SKIP reason`.
    pub skipped: Option<String>,
}

/// A case without nested cases, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flat<'a> {
    /// The names from the top level to its own.
    pub path: Vec<&'a str>,
    /// The case.
    pub case: &'a Case,
}

impl Document {
    /// The cases without nested cases, in their order, and the groups that failed although none of their cases did.
    #[must_use]
    pub fn flat(&self) -> Vec<Flat<'_>> {
        let mut flat = Vec::new();
        let mut stack: Vec<(Vec<&str>, &Case)> =
            self.cases.iter().rev().map(|case| (Vec::new(), case)).collect();
        while let Some((above, case)) = stack.pop() {
            let mut path = above;
            path.push(&case.name);
            let explained = case.cases.iter().any(|case| case.result.is_bad());
            if case.cases.is_empty() || (case.result.is_bad() && !explained) {
                flat.push(Flat { path: path.clone(), case });
            }
            stack.extend(case.cases.iter().rev().map(|case| (path.clone(), case)));
        }
        flat
    }

    /// Whether a case failed, has no result, or the producer bailed out.
    #[must_use]
    pub fn failed(&self) -> bool {
        let bailed = self.problems.iter().any(|problem| matches!(problem, Problem::BailedOut(_)));
        bailed || self.cases.iter().any(|case| case.result.is_bad())
    }
}

impl Case {
    /// The line that explains the result: the text of the directive, else the diagnostic that reports an error, else
    /// the last diagnostic.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &self.result {
            CaseResult::Passed => None,
            CaseResult::Skipped(reason) | CaseResult::ExpectedFailure(reason) => Some(reason.clone()),
            CaseResult::NoResult => Some("it started but printed no result".into()),
            CaseResult::Failed(Some(reason)) => Some(reason.clone()),
            CaseResult::Failed(None) => {
                let reports_error = |line: &&String| {
                    ["EXPECTATION FAILED", "ASSERTION FAILED", "Expected ", "rror", "ailed"]
                        .iter()
                        .any(|word| line.contains(word))
                };
                let below = || self.cases.iter().find(|case| case.result.is_bad());
                let own = self.diagnostics.iter().find(reports_error).or(self.diagnostics.last()).cloned();
                own.or_else(|| below().map(|case| format!("{} failed", case.name)))
            }
        }
    }
}
