//! From lines to the tree: a stack of open levels, told apart by their indent.
//!
//! A result closes the deeper levels: what they hold is what is below it. A level that nothing closes was cut off,
//! and becomes a case without result.

use crate::document::{Case, Document, Outcome, Problem};
use crate::line::{Directive, Kind, Line, read};

/// Deeper levels are read as this one.
const DEEPEST: usize = 32;
/// Diagnostics kept for a case, in lines.
const MOST_DIAGNOSTICS: usize = 1000;
/// Bytes kept of a line.
const LONGEST: usize = 2048;
/// Cases kept.
const MOST_CASES: usize = 100_000;
/// Problems kept.
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

/// Reads line by line, as they come.
#[derive(Debug)]
pub struct Parser {
    /// Open levels, the outermost first; never empty.
    levels: Vec<Level>,
    problems: Vec<Problem>,
    skipped: Option<String>,
    cases: usize,
    header: bool,
    /// Bytes before the first version line that later lines have too.
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
    /// What the next result of this level will be told with.
    pending: Vec<String>,
}

impl Parser {
    /// Takes a line, with or without its ending and what printk puts before it.
    pub fn line(&mut self, raw: &str) {
        let text = self.without_prefix(cut(raw.trim_end_matches(['\r', '\n'])));
        let Line { indent, kind } = read(text);
        match kind {
            Kind::Version => self.version(indent),
            Kind::Plan { count, skip } => self.plan(indent, count, skip),
            Kind::Subtest(name) => self.subtest(indent, name),
            Kind::Result { ok, number, name, directive } => {
                self.result(indent, number, name, outcome(ok, directive));
            }
            Kind::Bail(why) => self.problem(Problem::BailedOut(why.to_owned())),
            Kind::Diagnostic(text) => self.diagnostic(text),
            Kind::Other(text) => {
                if !text.trim().is_empty() {
                    self.diagnostic(text);
                }
            }
        }
    }

    /// What has been read, once there is no more.
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

    /// A console's stamps are taken off wherever they are; any other prefix as far as the first version line tells.
    fn without_prefix<'a>(&mut self, raw: &'a str) -> &'a str {
        let text = without_stamps(raw);
        if text.len() < raw.len() {
            return text;
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
        self.levels.last_mut().expect("the outermost level is never taken off")
    }

    /// The level of lines at this indent, opened if there is none so deep.
    fn open(&mut self, indent: usize) -> &mut Level {
        if self.top().indent < indent && (self.levels.len() > 1 || self.begun() || indent > 0) {
            if self.levels.len() < DEEPEST {
                self.levels.push(Level { indent, ..Level::default() });
            } else {
                self.problem(Problem::TooMuch("levels"));
            }
        }
        self.top()
    }

    fn begun(&self) -> bool {
        self.header || self.levels.iter().any(|level| level.seen > 0 || level.plan.is_some())
    }

    fn version(&mut self, indent: usize) {
        let first = !std::mem::replace(&mut self.header, true);
        if first && self.levels.len() == 1 && self.top().seen == 0 {
            // The console may have indented it all.
            self.top().indent = indent;
            self.top().pending.clear();
            return;
        }
        self.close_deeper(indent, true);
        let level = self.open(indent);
        if level.seen > 0 || level.plan.is_some() {
            // Another producer's document begins.
            let (name, plan) = (level.name.clone().unwrap_or_default(), level.plan.take());
            let seen = std::mem::take(&mut level.seen);
            self.check_plan(&name, plan, seen);
        }
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
        let used = level.name.is_some() || level.seen > 0;
        if used && self.levels.len() > 1 && self.top().indent == indent {
            // The one before it never came to its result.
            self.cut_off();
            self.open(indent);
        }
        self.top().name = Some(name.to_owned());
    }

    fn result(&mut self, indent: usize, number: Option<u64>, name: &str, outcome: Outcome) {
        let below = self.close_to(indent);
        let level = self.open(indent);
        let expected = level.seen + 1;
        level.seen += 1;
        let mut diagnostics = std::mem::take(&mut level.pending);
        let name = match (name, &below, number) {
            ("", Some(Level { name: Some(name), .. }), _) => name.clone(),
            ("", _, Some(number)) => format!("test {number}"),
            ("", _, None) => format!("test {expected}"),
            (name, ..) => name.to_owned(),
        };
        let mut outcome = outcome;
        let mut cases = Vec::new();
        if let Some(below) = below {
            if below.name.is_some() && below.cases.is_empty() && outcome == Outcome::Passed {
                outcome = Outcome::Skipped("no case below it was run".into());
            }
            self.check_plan(&name, below.plan, below.seen);
            diagnostics.extend(below.pending);
            cases = below.cases;
        }
        if outcome == Outcome::Passed && cases.iter().any(|case| case.outcome.is_bad()) {
            outcome = Outcome::Failed(None);
        }
        if let Some(found) = number.filter(|number| *number != expected) {
            self.problem(Problem::Number { case: name.clone(), expected, found });
            self.top().seen = found.clamp(1, u64::MAX - 1).max(expected);
        }
        self.cases += 1;
        if self.cases > MOST_CASES {
            self.problem(Problem::TooMuch("cases"));
            return;
        }
        self.top().cases.push(Case { name, number, outcome, diagnostics, cases });
    }

    fn diagnostic(&mut self, text: &str) {
        let pending = &mut self.top().pending;
        if pending.len() < MOST_DIAGNOSTICS {
            pending.push(text.trim_end().to_owned());
        }
    }

    /// Takes the levels deeper than `indent` off; the one right below is what a result at `indent` closes.
    fn close_to(&mut self, indent: usize) -> Option<Level> {
        self.close_deeper(indent, false);
        (self.levels.len() > 1 && self.top().indent > indent).then(|| self.levels.pop()).flatten()
    }

    /// Cuts off the levels deeper than `indent`: all of them, or all but the outermost of these.
    fn close_deeper(&mut self, indent: usize, all: bool) {
        while self.levels.len() > 1 && self.top().indent > indent {
            let above = &self.levels[self.levels.len() - 2];
            if !all && above.indent <= indent {
                break;
            }
            self.cut_off();
        }
    }

    /// The innermost level ends without a result of its own.
    fn cut_off(&mut self) {
        let Some(level) = (self.levels.len() > 1).then(|| self.levels.pop()).flatten() else { return };
        self.check_plan(level.name.as_deref().unwrap_or_default(), level.plan, level.seen);
        if level.name.is_none() && level.cases.is_empty() {
            let pending = level.pending;
            self.top().pending.extend(pending);
            return;
        }
        let above = self.top();
        above.seen += 1;
        let mut diagnostics = std::mem::take(&mut above.pending);
        diagnostics.extend(level.pending);
        let name = level.name.unwrap_or_else(|| format!("test {}", above.seen));
        above.cases.push(Case {
            name,
            number: None,
            outcome: Outcome::NoResult,
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

fn outcome(ok: bool, directive: Option<(Directive, &str)>) -> Outcome {
    match (ok, directive) {
        (_, Some((Directive::Skip, reason))) => Outcome::Skipped(reason.to_owned()),
        (false, Some((Directive::Todo | Directive::Xfail, reason))) => {
            Outcome::ExpectedFailure(reason.to_owned())
        }
        (true, _) => Outcome::Passed,
        (false, Some((_, words))) => Outcome::Failed(Some(words.to_owned())),
        (false, None) => Outcome::Failed(None),
    }
}

/// Where a version line begins in a line that has something before it.
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

/// Takes printk's `<6>`, `[   12.345678]` and `[  T12]` off, and the one blank behind them.
fn without_stamps(text: &str) -> &str {
    let mut rest = text;
    loop {
        let (close, inner_end) = match rest.as_bytes().first() {
            Some(b'<') => ('>', rest.find('>')),
            Some(b'[') => (']', rest.find(']')),
            _ => break,
        };
        let Some(end) = inner_end.filter(|end| *end < 32) else { break };
        let inner = rest[1..end].trim();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let stamp = match close {
            '>' => digits(inner),
            _ => {
                inner.split_once('.').is_some_and(|(seconds, rest)| digits(seconds) && digits(rest))
                    || inner.strip_prefix(['T', 'C']).is_some_and(digits)
            }
        };
        if !stamp {
            break;
        }
        rest = &rest[end + 1..];
    }
    if rest.len() < text.len() { rest.strip_prefix(' ').unwrap_or(rest) } else { text }
}
