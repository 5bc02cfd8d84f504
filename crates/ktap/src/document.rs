//! What a run of tests said: a tree of cases. Each case has exactly one outcome.

use std::fmt;

use serde::Serialize;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// `ok`.
    Passed,
    /// `not ok`, or `ok` above a case that failed; with the directive's or the diagnostics' words, if any.
    Failed(Option<String>),
    /// `# SKIP`: it does not apply here, and why.
    Skipped(String),
    /// `not ok` with `# TODO` or `# XFAIL`: known to fail, and why.
    ExpectedFailure(String),
    /// It began and its end was never seen.
    NoResult,
}

impl Outcome {
    /// Whether it is to be mended by somebody.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::NoResult)
    }
}

/// A case, or a group of cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Its name as printed, without the dash before it; `test N` where it has none.
    pub name: String,
    /// Its number, where it has one.
    pub number: Option<u64>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was printed while it ran that is not of a case below it: diagnostics without `# `, and other lines.
    pub diagnostics: Vec<String>,
    /// The cases below it.
    pub cases: Vec<Case>,
}

/// Something about the text that a sound producer does not print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum Problem {
    /// Results without a version line before them, or no results at all.
    NoHeader,
    /// The plan told another number of cases than came: below which case ("" for the outermost).
    Plan {
        /// The case.
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
    /// Nested deeper, or more of something, than is kept.
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
                write!(f, "{case}: numbered {found}, {expected} was to come")
            }
            Self::BailedOut(why) => write!(f, "bailed out: {why}"),
            Self::TooMuch(what) => write!(f, "too many {what}; the rest is left out"),
        }
    }
}

/// All that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The outermost cases, in their order.
    pub cases: Vec<Case>,
    /// What was unsound.
    pub problems: Vec<Problem>,
    /// Why nothing was run, if the plan is `1..0 # SKIP reason`.
    pub skipped: Option<String>,
}

/// A case without cases below it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flat<'a> {
    /// The names from the outermost to its own.
    pub path: Vec<&'a str>,
    /// The case.
    pub case: &'a Case,
}

impl Document {
    /// The innermost cases, in their order. A group that failed although none of the cases below it did is among
    /// them: its own words are the only ones that tell.
    #[must_use]
    pub fn flat(&self) -> Vec<Flat<'_>> {
        let mut flat = Vec::new();
        let mut stack: Vec<(Vec<&str>, &Case)> =
            self.cases.iter().rev().map(|case| (Vec::new(), case)).collect();
        while let Some((above, case)) = stack.pop() {
            let mut path = above;
            path.push(&case.name);
            let told_below = case.cases.iter().any(|case| case.outcome.is_bad());
            if case.cases.is_empty() || (case.outcome.is_bad() && !told_below) {
                flat.push(Flat { path: path.clone(), case });
            }
            stack.extend(case.cases.iter().rev().map(|case| (path.clone(), case)));
        }
        flat
    }

    /// Whether something failed, or was begun and never ended.
    #[must_use]
    pub fn failed(&self) -> bool {
        let bailed = self.problems.iter().any(|problem| matches!(problem, Problem::BailedOut(_)));
        bailed || self.cases.iter().any(|case| case.outcome.is_bad())
    }
}

impl Case {
    /// The one line that says why it failed: the directive's words, else the diagnostic that says so, else the first.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Skipped(reason) | Outcome::ExpectedFailure(reason) => Some(reason.clone()),
            Outcome::NoResult => Some("it began, and its result never came".into()),
            Outcome::Failed(Some(reason)) => Some(reason.clone()),
            Outcome::Failed(None) => {
                let telling = |line: &&String| {
                    ["EXPECTATION FAILED", "ASSERTION FAILED", "Expected ", "rror", "ailed"]
                        .iter()
                        .any(|word| line.contains(word))
                };
                let below = || self.cases.iter().find(|case| case.outcome.is_bad());
                let own = self.diagnostics.iter().find(telling).or(self.diagnostics.last()).cloned();
                own.or_else(|| below().map(|case| format!("{} failed", case.name)))
            }
        }
    }
}
