//! Which findings a sender sends.

use glob::Pattern;
use model::{Finding, FindingKind};
use results::findings::RecordedFinding;

/// The rules of a sender.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Only findings of these branches, as `user/branch`; all if empty. A finding about the farm has none.
    pub branches: Vec<Pattern>,
    /// Only findings of these tests; all if empty.
    pub tests: Vec<Pattern>,
    /// Only findings of these kinds.
    pub kinds: Vec<FindingKind>,
    /// At most this many a day.
    pub max_per_day: u32,
}

/// What is done with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is sent.
    Send,
    /// It is not sent, with the reason.
    LeaveOut(&'static str),
    /// It and those after it are sent later, with the reason.
    Wait(&'static str),
}

impl Rule {
    /// Whether the finding is one of those that the sender sends.
    #[must_use]
    pub fn takes(&self, finding: &Finding) -> bool {
        let is_farm = finding.kind == FindingKind::Farm;
        let branch = finding.branch.as_ref().map(ToString::to_string);
        let of_branch = branch.is_some_and(|branch| any(&self.branches, &branch));
        let of_test =
            self.tests.is_empty() || finding.tests.iter().any(|test| any(&self.tests, test.as_str()));
        self.kinds.contains(&finding.kind) && (is_farm || (of_branch && of_test))
    }
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
}

/// Decides about a finding. `today` is the number of findings that were sent in the past 24 h; `now` in Unix seconds.
#[must_use]
pub fn decide(rule: &Rule, found: &RecordedFinding, today: u32, now: i64) -> Decision {
    if !rule.takes(&found.finding) {
        return Decision::LeaveOut("it is of another branch, test or kind");
    }
    if found.marks.iter().any(|mark| mark.what.silences(now)) {
        return Decision::LeaveOut("it is muted, invalid, flaky or a duplicate");
    }
    if today >= rule.max_per_day {
        return Decision::Wait("max_per_day messages were sent in the past 24 h");
    }
    Decision::Send
}

#[cfg(test)]
mod tests {
    use results::findings::{Mark, MarkKind};

    use super::*;

    fn found(kind: FindingKind) -> RecordedFinding {
        let is_farm = kind == FindingKind::Farm;
        let finding = Finding {
            id: "a".repeat(16),
            kind,
            branch: (!is_farm).then(|| "kmo/next".parse().unwrap()),
            commit: None,
            tests: vec!["fs.ext4.basic.punch".parse().unwrap()],
            tests_total: 1,
            signature: "BUG".into(),
            first_bad: None,
            last_good: None,
            rate: None,
            at: 0,
        };
        RecordedFinding { n: 1, finding, marks: Vec::new() }
    }

    #[test]
    fn a_sender_takes_what_its_rules_match() {
        let pattern = |text: &str| vec![Pattern::new(text).unwrap()];
        let rule =
            Rule { kinds: vec![FindingKind::Broke, FindingKind::Farm], max_per_day: 2, ..Rule::default() };
        let broke = found(FindingKind::Broke);
        assert_eq!(decide(&rule, &broke, 1, 100), Decision::Send);
        assert!(matches!(decide(&rule, &broke, 2, 100), Decision::Wait(_)));
        assert!(matches!(decide(&rule, &found(FindingKind::FlakyBegan), 0, 100), Decision::LeaveOut(_)));
        let other = Rule { branches: pattern("kmo/stable*"), ..rule.clone() };
        assert!(matches!(decide(&other, &broke, 0, 100), Decision::LeaveOut(_)));
        assert_eq!(
            decide(&other, &found(FindingKind::Farm), 0, 100),
            Decision::Send,
            "the farm has no branch"
        );
        let of_tests = Rule { branches: pattern("kmo/*"), tests: pattern("fs.ext4.*"), ..rule.clone() };
        assert_eq!(decide(&of_tests, &broke, 0, 100), Decision::Send);
        let silent = |what: MarkKind| RecordedFinding {
            marks: vec![Mark { what, at: 1, account: "kim@x.example".into() }],
            ..broke.clone()
        };
        assert!(matches!(decide(&rule, &silent(MarkKind::Mute(200)), 0, 100), Decision::LeaveOut(_)));
        assert_eq!(decide(&rule, &silent(MarkKind::Mute(100)), 0, 100), Decision::Send);
        assert_eq!(decide(&rule, &silent(MarkKind::Fix("a".into())), 0, 100), Decision::Send);
        assert!(matches!(decide(&rule, &silent(MarkKind::Invalid), 5, 100), Decision::LeaveOut(_)));
    }
}
