//! KTAP on the console: the guest forwards the output of test programs, and this module determines the verdicts of the
//! cases.
//!
//! A guest prints the text between `KTAP BEGIN GROUP` and `KTAP END`, with the prefix `KTAP| ` before each line. Later
//! it requests the verdict of a case, of a group, or of everything that has no subtest of its name. The result is the
//! verdict of the running subtest. docs/contract.md describes the lines.

use std::collections::BTreeSet;

use ktap::{Answer, CaseResult, Parser, Results};
use model::verdict::Verdict;

const RULE: &str = "========= KTAP ";
const TEXT: &str = "KTAP| ";
/// The prefix of a line without text. The console may have removed its trailing blank.
const EMPTY: &str = "KTAP|";

/// The verdict that a subtest requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KtapRequest {
    /// Of a case, with the verdict if no such case was printed.
    Case { name: String, missing: Verdict },
    /// Of all cases of a group.
    Group(String),
    /// Of all cases that were not listed.
    Unlisted,
}

/// The effect of a line of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KtapLine {
    /// The line was read; there is nothing to do.
    Read,
    /// The running subtest requests its verdict.
    Request(KtapRequest),
}

/// The KTAP of one VM.
#[derive(Debug, Default)]
pub(super) struct KtapConsole {
    results: Results,
    /// The group that is being read.
    reading: Option<(String, Parser)>,
    listed: BTreeSet<String>,
}

impl KtapConsole {
    /// Handles a message on the console; `None` if it is not a line of this protocol.
    pub(super) fn line(&mut self, message: &str) -> Option<KtapLine> {
        if let Some(text) = message.strip_prefix(TEXT).or_else(|| (message == EMPTY).then_some("")) {
            if let Some((_, parser)) = &mut self.reading {
                parser.line(text);
            }
            return Some(KtapLine::Read);
        }
        let (word, rest) =
            message.strip_prefix(RULE)?.split_once(' ').unwrap_or((&message[RULE.len()..], ""));
        let request = match word {
            "BEGIN" => {
                self.end();
                self.reading = Some((rest.to_owned(), Parser::default()));
                return Some(KtapLine::Read);
            }
            "END" => {
                self.end();
                return Some(KtapLine::Read);
            }
            "RESET" => {
                *self = Self::default();
                return Some(KtapLine::Read);
            }
            "LISTED" => {
                self.listed.extend(rest.split_whitespace().map(str::to_owned));
                return Some(KtapLine::Read);
            }
            "CASE" => case_request(rest)?,
            "GROUP" => KtapRequest::Group(rest.to_owned()),
            "UNLISTED" => KtapRequest::Unlisted,
            _ => return None,
        };
        Some(KtapLine::Request(request))
    }

    fn end(&mut self) {
        if let Some((group, parser)) = self.reading.take() {
            self.results.add(&group, &parser.finish());
        }
    }

    /// The verdict that was requested, and the lines that explain it.
    pub(super) fn verdict(&self, request: &KtapRequest) -> (Verdict, Vec<String>) {
        let answer = match request {
            KtapRequest::Case { name, missing } => match self.results.case(name) {
                Some(answer) => answer,
                None => return (missing.clone(), Vec::new()),
            },
            KtapRequest::Group(group) => self.results.group(group),
            KtapRequest::Unlisted => self.results.unlisted(&self.listed),
        };
        let Answer { result, log } = answer;
        let verdict = match result {
            CaseResult::Passed => Verdict::Passed,
            CaseResult::Skipped(reason) | CaseResult::ExpectedFailure(reason) => Verdict::NotRun { reason },
            CaseResult::Failed(reason) => {
                Verdict::Failed { reason: reason.unwrap_or_else(|| "not ok".into()) }
            }
            CaseResult::NoResult => Verdict::Failed { reason: "it started but printed no result".into() },
        };
        (verdict, log)
    }
}

/// `GROUP/CASE skip|fail REASON`. The word gives the verdict if no such case was printed.
fn case_request(rest: &str) -> Option<KtapRequest> {
    let mut parts = rest.splitn(3, ' ');
    let (name, word) = (parts.next()?.to_owned(), parts.next()?);
    let reason = parts.next().unwrap_or("this case was not printed").to_owned();
    let missing = match word {
        "skip" => Verdict::NotRun { reason },
        "fail" => Verdict::Failed { reason },
        _ => return None,
    };
    Some(KtapRequest::Case { name, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(group: &str, text: &str) -> KtapConsole {
        let mut console = KtapConsole::default();
        assert_eq!(console.line(&format!("========= KTAP BEGIN {group}")), Some(KtapLine::Read));
        for line in text.lines() {
            assert_eq!(console.line(&format!("KTAP| {line}")), Some(KtapLine::Read), "{line}");
        }
        assert_eq!(console.line("========= KTAP END"), Some(KtapLine::Read));
        console
    }

    fn verdict(console: &mut KtapConsole, request: &str) -> Verdict {
        let Some(KtapLine::Request(request)) = console.line(request) else { panic!("{request}: no request") };
        console.verdict(&request).0
    }

    #[test]
    fn the_verdict_of_a_case_a_group_and_the_rest() {
        let mut tls = console("net/tls", "TAP version 13\n1..4\nok 1 a\nnot ok 2 b\nok 3 c # SKIP no tls\n");
        let failed = |reason: &str| Verdict::Failed { reason: reason.into() };
        let missing = "case 4 of 4 has no result (3 reported)";
        for (request, wanted) in [
            ("========= KTAP CASE net/tls/a skip not built", Verdict::Passed),
            ("========= KTAP CASE net/tls/b skip not built", failed("not ok")),
            ("========= KTAP CASE net/tls/c skip x", Verdict::NotRun { reason: "no tls".into() }),
            ("========= KTAP CASE net/tls/d skip not built", failed(missing)),
            ("========= KTAP CASE other/d skip not built", Verdict::NotRun { reason: "not built".into() }),
            ("========= KTAP CASE other/d fail it ended early", failed("it ended early")),
            ("========= KTAP GROUP net/tls", failed("b: not ok")),
            ("========= KTAP GROUP other", Verdict::Passed),
            ("========= KTAP UNLISTED", failed("1 cases that are not listed failed")),
        ] {
            assert_eq!(verdict(&mut tls, request), wanted, "{request}");
        }
        let mut reset = console("net/tls", "not ok 1 b\n");
        assert_eq!(verdict(&mut reset, "========= KTAP GROUP net/tls"), failed("b: not ok"));
        assert_eq!(reset.line("========= KTAP RESET"), Some(KtapLine::Read));
        assert_eq!(verdict(&mut reset, "========= KTAP GROUP net/tls"), Verdict::Passed);
        assert_eq!(tls.line("========= KTAP LISTED net/tls/a net/tls/b net/tls/c"), Some(KtapLine::Read));
        assert_eq!(verdict(&mut tls, "========= KTAP UNLISTED"), failed(missing));
    }

    #[test]
    fn other_lines_are_not_protocol_lines() {
        let mut console = KtapConsole::default();
        for line in [
            "ok 1 a",
            "========= TEST   a",
            "========= KTAP",
            "========= KTAP CASE a",
            "========= KTAP WHAT x",
        ] {
            assert_eq!(console.line(line), None, "{line}");
        }
        assert_eq!(console.line("KTAP| outside of a text"), Some(KtapLine::Read));
        assert_eq!(console.line("KTAP|"), Some(KtapLine::Read));
    }
}
