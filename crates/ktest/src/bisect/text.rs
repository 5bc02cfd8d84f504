//! A search, in words.

use std::fmt::Write as _;

use belief::bisect::{Record, State};
use gitio::CommitInfo;
use model::CommitId;

use super::search::Search;

/// How many suspects the progress names.
const NAMED: usize = 3;

/// `6 runs, 3 builds; suspects: 61 % 3f2a91c07d3e, 20 % ..., no culprit 4 %`.
pub(crate) fn progress(search: &Search) -> String {
    let record = search.bisection().record(search.file().id());
    let (runs, builds) = record.all_runs();
    let mut text = format!("{}, {}; suspects:", count(runs, "run"), count(builds, "build"));
    for suspicion in record.posterior.iter().take(NAMED) {
        let _ = write!(text, " {} {},", percent(suspicion.probability), suspicion.commit.short());
    }
    let _ = write!(text, " no culprit {}", percent(record.no_culprit));
    text
}

/// The result, in a few lines.
pub(crate) fn conclusion(record: &Record, commits: &[CommitInfo]) -> String {
    let named = |id: &CommitId| {
        let commit = commits.iter().find(|commit| commit.id == *id);
        format!("{} {}", id.short(), commit.map_or("", CommitInfo::subject))
    };
    let mut text = match &record.state {
        State::Culprit { culprit, .. } => format!("first bad commit: {}", named(culprit)),
        State::Range { range, because } => {
            let (oldest, newest) = (named(&range.oldest), named(&range.newest));
            let commits = range.commits;
            format!("the first bad commit is one of {commits}, {because}:\n  {oldest}\n  ... {newest}")
        }
        State::NotConfirmed { rate } => {
            format!(
                "no first bad commit: it fails {} of the time since before the base",
                percent(rate.mean())
            )
        }
        State::Unresolved { because } => format!("no answer, {because}"),
        State::Running | State::Cancelled => "the search is not over; the same command continues it".into(),
    };
    match record.merge() {
        Some(merge) if named(merge) == text.trim_start_matches("first bad commit: ") => {
            text.push_str("\n  it is a merge, and no commit that it merged fails");
        }
        Some(merge) => drop(write!(text, "\n  in merge {}", named(merge))),
        None => {}
    }
    if let State::Culprit { .. } = record.state {
        let (old, new) = (record.rates.old, record.rates.new);
        let _ = write!(text, "\n  fails {new} from it on, {old} before it");
    }
    if let Some(verified) = record.verification {
        let (culprit, parent) = (verified.culprit, verified.parent);
        let _ = write!(
            text,
            "\n  verified in new VMs: it fails {} of {} runs, its parent {} of {} (p {})",
            culprit.failures,
            culprit.attempts(),
            parent.failures,
            parent.attempts(),
            probability(verified.p)
        );
        if let Some(revert) = verified.revert_in_words() {
            let _ = write!(text, "\n  at the head: {revert}");
        }
    }
    text
}

fn count(number: u32, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("= {p:.3}") }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        small if small > 0.0 && small < 0.5 => "<1 %".into(),
        percent => format!("{percent:.0} %"),
    }
}
