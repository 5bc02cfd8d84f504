//! The results of all test programs of a VM, by name.
//!
//! Each printed case has a unique name: equal names get a number, so that no result replaces another. A case without a
//! result is a failure if its producer planned more cases than it reported, or bailed out.

use std::collections::BTreeSet;

use crate::document::{Case, CaseResult, Document, Problem};

/// The maximum length of a case name, in bytes.
const LONGEST_NAME: usize = 100;

/// The results of several producers.
#[derive(Debug, Default)]
pub struct Results {
    entries: Vec<Entry>,
    incomplete: Vec<Incomplete>,
}

/// A case that was printed.
#[derive(Debug)]
struct Entry {
    /// `GROUP/CASE`, followed by a number if another case has the same name.
    name: String,
    /// `GROUP/CASE`.
    base: String,
    /// The group whose program printed it.
    source: String,
    result: CaseResult,
    log: Vec<String>,
}

/// A producer that reported fewer cases than it planned.
#[derive(Debug)]
struct Incomplete {
    /// The group whose program printed it.
    source: String,
    /// The group or the suite of the missing cases.
    group: String,
    reason: String,
    /// Whether the producer bailed out: then it ran no further suites.
    gave_up: bool,
}

/// The result that is found for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Passed, failed with a reason, or skipped with a reason.
    pub result: CaseResult,
    /// The lines that were printed for it.
    pub log: Vec<String>,
}

impl Results {
    /// Adds the output of a producer. Cases in a suite are named `SUITE/CASE`, the others `GROUP/CASE`. A character
    /// that a name cannot contain becomes `_`.
    pub fn add(&mut self, group: &str, document: &Document) {
        let mut last_suite = None;
        for case in &document.cases {
            let explained = case.cases.iter().any(|below| below.result.is_bad());
            let suite = clean(&case.name);
            for below in &case.cases {
                self.push(&suite, group, below);
            }
            if case.cases.is_empty() || (case.result.is_bad() && !explained) {
                self.push(group, group, case);
            }
            if case.result == CaseResult::NoResult {
                let reason = format!("{} ended before this case", case.name);
                self.incomplete(group, &suite, reason, false);
            }
            last_suite = Some(suite);
        }
        for problem in &document.problems {
            match problem {
                Problem::Plan { below, planned, seen } if planned > seen => {
                    let at = if below.is_empty() { group.to_owned() } else { clean(below) };
                    let reason = missing(document, below, *planned, *seen);
                    self.incomplete(group, &at, reason, false);
                }
                Problem::BailedOut(reason) => {
                    let reason =
                        if reason.is_empty() { "bailed out".into() } else { format!("bailed out: {reason}") };
                    if let Some(suite) = &last_suite {
                        self.incomplete(group, suite, reason.clone(), true);
                    }
                    self.incomplete(group, group, reason, true);
                }
                _ => {}
            }
        }
    }

    fn push(&mut self, group: &str, source: &str, case: &Case) {
        let base = format!("{group}/{}", clean(&case.name));
        let names: BTreeSet<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !names.contains(name.as_str()));
        let name = free.unwrap_or_else(|| base.clone());
        let result = match (&case.result, case.reason()) {
            (CaseResult::Failed(_) | CaseResult::NoResult, reason) => {
                CaseResult::Failed(Some(reason.unwrap_or_else(|| "not ok".into())))
            }
            (CaseResult::ExpectedFailure(reason), _) => {
                CaseResult::Skipped(format!("known to fail: {reason}"))
            }
            (CaseResult::Skipped(reason), _) if reason.is_empty() => {
                CaseResult::Skipped("the case reports that it does not apply".into())
            }
            (result, _) => result.clone(),
        };
        let mut log = Vec::new();
        lines_of(case, "| ", &mut log);
        self.entries.push(Entry { name, base, source: source.into(), result, log });
    }

    fn incomplete(&mut self, source: &str, group: &str, reason: String, gave_up: bool) {
        self.incomplete.push(Incomplete { source: source.into(), group: group.into(), reason, gave_up });
    }

    /// The result of the case `GROUP/CASE`. If several cases have this name, a failed one takes precedence. `None` if
    /// no producer printed the case and none left cases out.
    #[must_use]
    pub fn case(&self, name: &str) -> Option<Answer> {
        let mut found = self.entries.iter().filter(|entry| entry.name == name || entry.base == name);
        if let Some(first) = found.next() {
            let failed = std::iter::once(first).chain(found).find(|entry| entry.result.is_bad());
            let entry = failed.unwrap_or(first);
            return Some(Answer { result: entry.result.clone(), log: entry.log.clone() });
        }
        let (group, _) = name.rsplit_once('/').unwrap_or((name, ""));
        let known = self.entries.iter().any(|entry| entry.base.starts_with(&format!("{group}/")));
        let cause = |incomplete: &&Incomplete| incomplete.group == group || (incomplete.gave_up && !known);
        let incomplete = self.incomplete.iter().find(cause)?;
        Some(Answer { result: CaseResult::Failed(Some(incomplete.reason.clone())), log: Vec::new() })
    }

    /// The result of all output for `group`: it fails with its first failed case, or if cases are missing.
    #[must_use]
    pub fn group(&self, group: &str) -> Answer {
        let own = self.entries.iter().filter(|entry| entry.source == group);
        let failed = own.filter_map(|entry| match &entry.result {
            CaseResult::Failed(reason) => {
                let case =
                    entry.name.strip_prefix(group).map_or(&*entry.name, |name| name.trim_start_matches('/'));
                Some(format!("{case}: {}", reason.as_deref().unwrap_or("not ok")))
            }
            _ => None,
        });
        let missing = self.incomplete.iter().filter(|incomplete| incomplete.source == group);
        let reason = failed.chain(missing.map(|incomplete| incomplete.reason.clone())).next();
        Answer {
            result: reason.map_or(CaseResult::Passed, |reason| CaseResult::Failed(Some(reason))),
            log: Vec::new(),
        }
    }

    /// The result of all cases whose names are not in `listed`: it fails if one of them failed or is missing.
    #[must_use]
    pub fn unlisted(&self, listed: &BTreeSet<String>) -> Answer {
        let mut log = Vec::new();
        let (mut count, mut bad) = (0, 0);
        for entry in self.entries.iter().filter(|entry| !listed.contains(&entry.base)) {
            count += 1;
            bad += usize::from(entry.result.is_bad());
            log.push(format!("{} {}", entry.result, entry.name));
        }
        log.push(format!("{count} cases ran that are not listed"));
        let missing: Vec<&str> =
            self.incomplete.iter().map(|incomplete| incomplete.reason.as_str()).collect();
        let result = match (bad, missing.first()) {
            (0, None) => CaseResult::Passed,
            (0, Some(reason)) => CaseResult::Failed(Some((*reason).to_owned())),
            (bad, _) => CaseResult::Failed(Some(format!("{bad} cases that are not listed failed"))),
        };
        log.extend(missing.iter().map(|reason| (*reason).to_owned()));
        Answer { result, log }
    }
}

/// Why cases in `below` are missing, with the first number that has no result.
fn missing(document: &Document, below: &str, planned: u64, seen: u64) -> String {
    let cases = if below.is_empty() {
        Some(&document.cases)
    } else {
        document.cases.iter().find(|case| case.name == below).map(|case| &case.cases)
    };
    let numbers: BTreeSet<u64> = cases.into_iter().flatten().filter_map(|case| case.number).collect();
    let first = (1..=planned).find(|number| !numbers.contains(number)).unwrap_or(planned);
    let place = if below.is_empty() { String::new() } else { format!("{below}: ") };
    format!("{place}case {first} of {planned} has no result ({seen} reported)")
}

/// The lines that were printed for a case and its nested cases.
fn lines_of(case: &Case, prefix: &str, log: &mut Vec<String>) {
    log.extend(case.diagnostics.iter().map(|line| format!("{prefix}{line}")));
    for below in &case.cases {
        log.push(format!("{prefix}{} {}", below.result, below.name));
        lines_of(below, &format!("{prefix}    "), log);
    }
}

/// A name with only the characters that subtest names may contain.
fn clean(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:+-".contains(c);
    let mut text = String::new();
    for c in name.chars() {
        if allowed(c) {
            text.push(c);
        } else if !text.ends_with('_') {
            text.push('_');
        }
    }
    let text = text.trim_start_matches(['_', '.']).trim_end_matches('_');
    if text.is_empty() { "unnamed".into() } else { text.chars().take(LONGEST_NAME).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn read(text: &str) -> Results {
        let mut results = Results::default();
        results.add("grp", &parse(text));
        results
    }

    fn failed(reason: &str) -> CaseResult {
        CaseResult::Failed(Some(reason.into()))
    }

    #[test]
    fn equal_names_never_hide_a_failure() {
        for text in [
            "TAP version 13\n1..4\nok 1 connect\nnot ok 2 send data\nok 3 send data\nok 4 close\n",
            "TAP version 13\n1..4\nok 1 connect\nok 2 send data\nnot ok 3 send data\nok 4 close\n",
            "TAP version 13\n1..4\nok 1 connect\nok 2 send data\nnot ok 3 send/data\nok 4 close\n",
        ] {
            let results = read(text);
            assert!(results.group("grp").result.is_bad(), "{text}");
            assert!(results.case("grp/send_data").unwrap().result.is_bad(), "{text}");
            let each: Vec<_> = ["grp/send_data", "grp/send_data-2"]
                .iter()
                .filter_map(|name| results.entries.iter().find(|entry| entry.name == *name))
                .filter(|entry| entry.result.is_bad())
                .collect();
            assert_eq!(each.len(), 1, "{text}");
        }
        let cleaned = read("TAP version 13\n1..2\nnot ok 1 a == b\nok 2 a != b\n");
        assert_eq!(cleaned.group("grp").result, failed("a_b: not ok"));
        let taken = read("TAP version 13\n1..3\nok 1 a\nok 2 a-2\nnot ok 3 a\n");
        assert_eq!(taken.case("grp/a-3").unwrap().result, failed("not ok"));
        assert_eq!(taken.case("grp/a-2").unwrap().result, CaseResult::Passed);
    }

    #[test]
    fn a_missing_case_fails_by_name_and_by_number() {
        let results = read("TAP version 13\n1..3\nok 1 a\nok 2 b\n");
        let reason = "case 3 of 3 has no result (2 reported)";
        assert_eq!(results.group("grp").result, failed(reason));
        assert_eq!(results.case("grp/c").unwrap().result, failed(reason));
        assert_eq!(results.case("grp/a").unwrap().result, CaseResult::Passed);
        assert_eq!(results.case("other/c"), None);
        let gap = read("TAP version 13\n1..3\nok 1 a\nok 3 c\n");
        assert_eq!(gap.case("grp/b"), None, "the plan is met: the numbers say that 3 were counted");
        let suite = read("KTAP version 1\n1..1\n    # Subtest: s\n    1..3\n    ok 1 x\nok 1 s\n");
        assert_eq!(suite.case("s/z").unwrap().result, failed("s: case 2 of 3 has no result (1 reported)"));
        assert!(suite.unlisted(&BTreeSet::from(["s/x".to_owned()])).result.is_bad());
        let cut_off = read("KTAP version 1\n1..2\n    # Subtest: s\n    1..2\n    ok 1 x\n");
        assert!(cut_off.case("s/y").unwrap().result.is_bad());
        let whole = read("TAP version 13\n1..2\nok 1 a\nok 2 b\n");
        assert_eq!(whole.group("grp").result, CaseResult::Passed);
        assert_eq!(whole.case("grp/c"), None);
    }

    #[test]
    fn a_bail_out_fails_the_rest() {
        let results = read("TAP version 13\n1..3\nok 1 a\nBail out! no memory\n");
        assert_eq!(results.case("grp/a").unwrap().result, CaseResult::Passed);
        assert!(results.case("grp/b").unwrap().result.is_bad());
        assert!(results.group("grp").result.is_bad());
        let without_plan = read("TAP version 13\nok 1 a\nBail out!\n");
        assert_eq!(without_plan.case("grp/b").unwrap().result, failed("bailed out"));
        assert_eq!(without_plan.case("later_suite/x").unwrap().result, failed("bailed out"));
        assert_eq!(without_plan.group("grp").result, failed("bailed out"));
    }

    #[test]
    fn more_cases_than_planned_are_results_too() {
        let more = read("TAP version 13\n1..1\nok 1 a\nok 2 b\n");
        assert_eq!(more.group("grp").result, CaseResult::Passed);
        assert_eq!(more.case("grp/c"), None);
        let failing = read("TAP version 13\n1..3\nnot ok 1 a\nok 2 b\nnot ok 3 c\n");
        assert_eq!(failing.unlisted(&BTreeSet::new()).result, failed("2 cases that are not listed failed"));
    }

    #[test]
    fn suites_and_skipped_cases() {
        let results = read(
            "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: time\n    1..3\n    ok 1 leap\n    \
             # century: EXPECTATION FAILED at t.c:3\n    not ok 2 century\n    ok 3 zone # SKIP no zones\nnot ok 1 time\n\
             ok 2 plain # SKIP\n",
        );
        assert_eq!(results.case("time/leap").unwrap().result, CaseResult::Passed);
        let century = results.case("time/century").unwrap();
        assert_eq!(century.result, failed("century: EXPECTATION FAILED at t.c:3"));
        assert_eq!(century.log, ["| century: EXPECTATION FAILED at t.c:3"]);
        assert_eq!(results.case("time/zone").unwrap().result, CaseResult::Skipped("no zones".into()));
        let skipped = CaseResult::Skipped("the case reports that it does not apply".into());
        assert_eq!(results.case("grp/plain").unwrap().result, skipped);
        let unlisted =
            results.unlisted(&["time/leap", "time/century", "time/zone"].map(str::to_owned).into());
        assert_eq!(unlisted.result, CaseResult::Passed);
        assert_eq!(unlisted.log, ["skipped grp/plain", "1 cases ran that are not listed"]);
    }
}
