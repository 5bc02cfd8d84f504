//! Parses lines into the tree: a stack of open levels, distinguished by their indent.
//!
//! A result closes the deeper levels, and their cases are nested in its case. A level that no result closes was cut off
//! and becomes a case without a result.

use crate::document::{Case, CaseResult, Document, Problem};
use crate::line::{Directive, Element, Line, read};

/// The maximum depth; deeper levels are treated as this one.
const DEEPEST: usize = 32;
/// The maximum number of diagnostic lines kept per case.
const MOST_DIAGNOSTICS: usize = 1000;
/// The maximum number of bytes kept of a line.
const LONGEST: usize = 2048;
/// The maximum number of cases kept.
const MOST_CASES: usize = 100_000;
/// The maximum number of problems kept.
const MOST_PROBLEMS: usize = 100;

/// Reads a whole text.
#[must_use]
pub fn parse(text: &str) -> Document {
    let mut parser = Parser::default();
    for line in text.split('\n') {
        parser.line(line);
    }
    parser.finish()
}

/// Parses a text line by line.
#[derive(Debug)]
pub struct Parser {
    /// Open levels, the outermost first; never empty.
    levels: Vec<Level>,
    problems: Vec<Problem>,
    skipped: Option<String>,
    cases: usize,
    header: bool,
    /// The length of the prefix of the first version line, which the following lines have too.
    prefix: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            levels: vec![Level::default()],
            problems: Vec::new(),
            skipped: None,
            cases: 0,
            header: false,
            prefix: 0,
        }
    }
}

#[derive(Debug, Default)]
struct Level {
    indent: usize,
    name: Option<String>,
    plan: Option<u64>,
    /// Results since the last version line.
    seen: u64,
    cases: Vec<Case>,
    /// The diagnostics of the next result at this level.
    pending: Vec<String>,
}

impl Parser {
    /// Parses a line, with or without its newline and its stamps.
    pub fn line(&mut self, raw: &str) {
        let text = self.without_prefix(cut(raw.trim_end_matches(['\r', '\n'])));
        let Line { indent, element } = read(text);
        match element {
            Element::Version => self.version(indent),
            Element::Plan { count, skip } => self.plan(indent, count, skip),
            Element::Subtest(name) => self.subtest(indent, name),
            Element::Result { ok, number, name, directive } => {
                self.result(indent, number, name, result(ok, directive));
            }
            Element::Bail(reason) => self.problem(Problem::BailedOut(reason.to_owned())),
            Element::Diagnostic(text) => self.diagnostic(text),
            Element::Other(text) => {
                if !text.trim().is_empty() {
                    self.diagnostic(text);
                }
            }
        }
    }

    /// The document, to be called after the last line.
    #[must_use]
    pub fn finish(mut self) -> Document {
        while self.levels.len() > 1 {
            self.cut_off();
        }
        let Some(root) = self.levels.pop() else { return Document::default() };
        if !self.header || (root.cases.is_empty() && self.skipped.is_none()) {
            self.problem(Problem::NoHeader);
        }
        self.check_plan("", root.plan, root.seen);
        Document { cases: root.cases, problems: self.problems, skipped: self.skipped }
    }

    /// Removes the stamps of a console, or the prefix of the first version line.
    fn without_prefix<'a>(&mut self, raw: &'a str) -> &'a str {
        let line = crash::line::split(raw);
        if line.is_kernel() && line.before.is_empty() {
            return line.text;
        }
        if !self.header
            && let Some(at) = version_at(raw)
            && !raw[..at].trim_matches([' ', '\t', '#']).is_empty()
        {
            self.prefix = at;
        }
        raw.get(self.prefix..).unwrap_or("")
    }

    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the outermost level is never removed")
    }

    /// The level with this indent, opened if it is deeper than the open levels.
    fn open(&mut self, indent: usize) -> &mut Level {
        if self.top().indent < indent {
            if self.levels.len() < DEEPEST {
                self.levels.push(Level { indent, ..Level::default() });
            } else {
                self.problem(Problem::TooMuch("levels"));
            }
        }
        self.top()
    }

    fn version(&mut self, indent: usize) {
        let first = !std::mem::replace(&mut self.header, true);
        if first && self.levels.len() == 1 && self.top().seen == 0 {
            // The console may have indented the whole output.
            self.top().indent = indent;
            self.top().pending.clear();
            return;
        }
        self.close_deeper(indent, true);
        // If the level has results or a plan, the document of another producer starts here.
        let level = self.open(indent);
        let (name, plan) = (level.name.clone().unwrap_or_default(), level.plan.take());
        let seen = std::mem::take(&mut level.seen);
        self.check_plan(&name, plan, seen);
    }

    fn plan(&mut self, indent: usize, count: u64, skip: Option<&str>) {
        self.close_deeper(indent, true);
        let root = self.levels.len() == 1 && indent <= self.top().indent;
        let level = self.open(indent);
        level.plan.get_or_insert(count);
        if let (true, 0, Some(reason)) = (root, count, skip) {
            self.skipped = Some(reason.to_owned());
        }
    }

    fn subtest(&mut self, indent: usize, name: &str) {
        self.close_deeper(indent, true);
        let level = self.open(indent);
        if level.name.is_some() || level.seen > 0 {
            // The previous suite printed no result.
            self.cut_off();
            self.open(indent);
        }
        self.top().name = Some(name.to_owned());
    }

    fn result(&mut self, indent: usize, number: Option<u64>, name: &str, result: CaseResult) {
        let below = self.close_to(indent);
        let level = self.open(indent);
        let expected = level.seen.saturating_add(1);
        level.seen = expected;
        let mut diagnostics = std::mem::take(&mut level.pending);
        let name = match (name, &below, number) {
            ("", Some(Level { name: Some(name), .. }), _) => name.clone(),
            ("", _, Some(number)) => format!("test {number}"),
            ("", _, None) => format!("test {expected}"),
            (name, ..) => name.to_owned(),
        };
        let mut result = result;
        let mut cases = Vec::new();
        if let Some(below) = below {
            if below.name.is_some() && below.cases.is_empty() && result == CaseResult::Passed {
                result = CaseResult::Skipped("no case below it was run".into());
            }
            self.check_plan(&name, below.plan, below.seen);
            diagnostics.extend(below.pending);
            cases = below.cases;
        }
        if result == CaseResult::Passed && cases.iter().any(|case| case.result.is_bad()) {
            result = CaseResult::Failed(None);
        }
        if let Some(found) = number.filter(|number| *number != expected) {
            self.problem(Problem::Number { case: name.clone(), expected, found });
            self.top().seen = found.max(expected);
        }
        self.cases += 1;
        if self.cases > MOST_CASES {
            self.problem(Problem::TooMuch("cases"));
            return;
        }
        self.top().cases.push(Case { name, number, result, diagnostics, cases });
    }

    fn diagnostic(&mut self, text: &str) {
        let pending = &mut self.top().pending;
        if pending.len() < MOST_DIAGNOSTICS {
            pending.push(text.trim_end().to_owned());
        }
    }

    /// Removes the levels deeper than `indent`. Returns the outermost of them, which a result at `indent` closes.
    fn close_to(&mut self, indent: usize) -> Option<Level> {
        self.close_deeper(indent, false);
        (self.levels.len() > 1 && self.top().indent > indent).then(|| self.levels.pop()).flatten()
    }

    /// Cuts off the levels deeper than `indent`: all of them, or all but the outermost.
    fn close_deeper(&mut self, indent: usize, all: bool) {
        while self.levels.len() > 1 && self.top().indent > indent {
            let above = &self.levels[self.levels.len() - 2];
            if !all && above.indent <= indent {
                break;
            }
            self.cut_off();
        }
    }

    /// Closes the innermost level, which has no result of its own.
    fn cut_off(&mut self) {
        let Some(level) = (self.levels.len() > 1).then(|| self.levels.pop()).flatten() else { return };
        self.check_plan(level.name.as_deref().unwrap_or_default(), level.plan, level.seen);
        if level.name.is_none() && level.cases.is_empty() {
            let pending = level.pending;
            self.top().pending.extend(pending);
            return;
        }
        let above = self.top();
        above.seen = above.seen.saturating_add(1);
        let mut diagnostics = std::mem::take(&mut above.pending);
        diagnostics.extend(level.pending);
        let name = level.name.unwrap_or_else(|| format!("test {}", above.seen));
        above.cases.push(Case {
            name,
            number: None,
            result: CaseResult::NoResult,
            diagnostics,
            cases: level.cases,
        });
    }

    fn check_plan(&mut self, below: &str, plan: Option<u64>, seen: u64) {
        if let Some(planned) = plan.filter(|planned| *planned != seen) {
            self.problem(Problem::Plan { below: below.to_owned(), planned, seen });
        }
    }

    fn problem(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS && self.problems.last() != Some(&problem) {
            self.problems.push(problem);
        }
    }
}

fn result(ok: bool, directive: Option<(Directive, &str)>) -> CaseResult {
    match (ok, directive) {
        (_, Some((Directive::Skip, reason))) => CaseResult::Skipped(reason.to_owned()),
        (false, Some((Directive::Todo | Directive::Xfail, reason))) => {
            CaseResult::ExpectedFailure(reason.to_owned())
        }
        (true, _) => CaseResult::Passed,
        (false, Some((_, words))) => CaseResult::Failed(Some(words.to_owned())),
        (false, None) => CaseResult::Failed(None),
    }
}

/// The position of a version line after a prefix.
fn version_at(text: &str) -> Option<usize> {
    let at = text.find("TAP version ")?;
    Some(if text[..at].ends_with('K') { at - 1 } else { at })
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
