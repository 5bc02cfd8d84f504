//! The queue of the status page: for each branch the number of queued tests, and why they wait.

use std::collections::BTreeSet;
use std::time::Duration;

use model::StatusSnapshot;
use model::snapshot::BranchStatus;

use super::Context;
use super::eta::Estimator;
use super::hosts::{Health, StoppedLine, control};
use super::sorting::Column;
use crate::page::{Plural as _, When, cut};
use crate::route::{BranchRef, ControlAction};

/// A branch.
pub(super) struct BranchLine {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) tip: String,
    pub(super) tip_href: Option<String>,
    /// The number of queued tests; empty if an old daemon wrote the snapshot.
    pub(super) queued: String,
    pub(super) reason: String,
    pub(super) class: &'static str,
    pub(super) eta: String,
    /// For the order by time.
    eta_order: Duration,
    queued_order: u64,
    pub(super) fetched: Option<When>,
    /// Who paused it.
    pub(super) paused: Option<StoppedLine>,
    /// The form that pauses or resumes it: label, address.
    pub(super) control: Option<(&'static str, String)>,
}

/// The columns of the table.
pub(super) const COLUMNS: [Column<BranchLine>; 6] = [
    Column::up(("branch", "Branch"), "", |a, b| a.name.cmp(&b.name)),
    Column::plain("Tip"),
    Column::down(("queued", "Queued"), "num", |a, b| b.queued_order.cmp(&a.queued_order)),
    Column::up(("state", "State"), "cap", |a, b| a.reason.cmp(&b.reason)),
    Column::up(("eta", "ETA"), "", |a, b| a.eta_order.cmp(&b.eta_order)),
    Column::down(("fetched", "Fetched"), "num", |a, b| b.fetched.cmp(&a.fetched)),
];

/// The branches, in the order of the snapshot.
pub(super) fn branches(context: Context<'_>, snapshot: &StatusSnapshot) -> Vec<BranchLine> {
    let estimator = Estimator::new(context, snapshot);
    let slots = Slots::of(snapshot);
    snapshot.branches.iter().map(|branch| line(context, snapshot, &estimator, &slots, branch)).collect()
}

fn line(
    context: Context<'_>,
    snapshot: &StatusSnapshot,
    estimator: &Estimator<'_>,
    slots: &Slots,
    branch: &BranchStatus,
) -> BranchLine {
    let links = context.links();
    let at = BranchRef::new(&branch.user, &branch.branch);
    let tip: Option<model::CommitId> = branch.tip.as_deref().and_then(|tip| tip.parse().ok());
    let work = work(context, snapshot, &at, branch);
    let (class, reason) = reason(branch, &work, slots, snapshot.more_to_plan);
    let eta = estimator.tip(&at);
    let paused = StoppedLine::of_branch(snapshot, &at);
    let action = if paused.is_some() { ControlAction::ResumeBranch } else { ControlAction::Pause };
    BranchLine {
        paused,
        control: control(context, action, &at.to_string(), None),
        name: cut(&format!("{}/{}", at.user, at.branch), 200),
        href: links.branch(&at),
        tip: tip.as_ref().map(|tip| tip.short().into()).unwrap_or_default(),
        tip_href: tip.map(|tip| links.commit(Some(&at), tip.as_str())),
        queued: work.queued.map(|queued| queued.to_string()).unwrap_or_default(),
        reason,
        class,
        queued_order: work.queued.unwrap_or(0),
        eta_order: eta.order(),
        eta: eta.to_string(),
        fetched: branch.fetched.and_then(When::unix),
    }
}

/// What the farm has of a branch.
#[derive(Default)]
struct Work {
    /// The number of queued tests at its commits, if known.
    queued: Option<u64>,
    /// The number of slots that run one of its commits.
    running: usize,
}

fn work(context: Context<'_>, snapshot: &StatusSnapshot, at: &BranchRef, branch: &BranchStatus) -> Work {
    let batches = || snapshot.executors.iter().filter_map(|executor| executor.batch.as_ref());
    // Few commits are queued or running; a branch can have thousands.
    let active: BTreeSet<&str> = snapshot
        .pending_by_commit
        .iter()
        .flatten()
        .map(|(commit, _)| commit.as_str())
        .chain(batches().map(|batch| batch.commit.as_str()))
        .collect();
    let entries = context.store.branch(at);
    let listed = entries.iter().flat_map(|entries| entries.iter()).map(|entry| entry.commit.as_str());
    let own: BTreeSet<&str> =
        listed.chain(branch.tip.as_deref()).filter(|commit| active.contains(commit)).collect();
    let pending = |pending: &std::collections::BTreeMap<String, u64>| {
        own.iter()
            .filter_map(|commit| pending.get(*commit))
            .fold(0_u64, |sum, count| sum.saturating_add(*count))
    };
    Work {
        queued: snapshot.pending_by_commit.as_ref().map(pending),
        running: batches().filter(|batch| own.contains(batch.commit.as_str())).count(),
    }
}

/// The slots of the farm by health.
struct Slots {
    idle: usize,
    usable: usize,
    backing_off: usize,
}

impl Slots {
    fn of(snapshot: &StatusSnapshot) -> Self {
        let executors = &snapshot.executors;
        Self {
            idle: executors.iter().filter(|executor| Health::of(executor) == Health::Idle).count(),
            usable: executors
                .iter()
                .filter(|executor| matches!(Health::of(executor), Health::Busy | Health::Idle))
                .count(),
            backing_off: executors.iter().filter(|executor| executor.state == "backing off").count(),
        }
    }
}

/// Why the tests of a branch wait, with its class, or that they do not.
fn reason(branch: &BranchStatus, work: &Work, slots: &Slots, more_to_plan: bool) -> (&'static str, String) {
    if let Some(error) = &branch.error {
        return ("bad", format!("✗ fetch failed: {}", cut(error, 300)));
    }
    let queued = work.queued.unwrap_or(0) > 0;
    let (class, words) = match (work.running, queued) {
        _ if branch.tip.is_none() => ("mute", "not fetched yet"),
        (1.., _) => return ("s-inprogress", format!("running on {}", work.running.plural("slot"))),
        (0, true) if slots.usable == 0 && slots.backing_off > 0 => ("s-failed_to_run", "all slots back off"),
        (0, true) if slots.usable == 0 => ("s-failed_to_run", "no usable slot"),
        (0, true) if slots.idle == 0 => ("", "waiting for slots"),
        (0, true) => ("", "waiting for slots that fit"),
        (0, false) if more_to_plan => ("mute", "not queued yet: more work than the queue holds"),
        (0, false) if work.queued.is_none() => ("mute", ""),
        (0, false) => ("mute", "nothing to do"),
    };
    (class, words.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_the_tests_of_a_branch_wait() {
        let fetched =
            BranchStatus { tip: Some("1".repeat(40)), ..BranchStatus::new(&"u/b".parse().unwrap()) };
        let unfetched = BranchStatus { tip: None, ..fetched.clone() };
        let failed = BranchStatus { error: Some("no such host".into()), ..fetched.clone() };
        let busy = Slots { idle: 0, usable: 2, backing_off: 1 };
        let (idle, off) = (Slots { idle: 1, ..busy }, Slots { usable: 0, ..busy });
        let down = Slots { idle: 0, usable: 0, backing_off: 0 };
        let text = |branch: &BranchStatus, queued, running, slots: &Slots, more| {
            reason(branch, &Work { queued, running }, slots, more).1
        };
        assert_eq!(text(&failed, Some(3), 1, &busy, false), "✗ fetch failed: no such host");
        assert_eq!(text(&unfetched, Some(0), 0, &busy, false), "not fetched yet");
        assert_eq!(text(&fetched, Some(3), 1, &busy, false), "running on 1 slot");
        assert_eq!(text(&fetched, Some(3), 0, &busy, false), "waiting for slots");
        assert_eq!(text(&fetched, Some(3), 0, &idle, false), "waiting for slots that fit");
        assert_eq!(text(&fetched, Some(3), 0, &off, false), "all slots back off");
        assert_eq!(text(&fetched, Some(3), 0, &down, false), "no usable slot");
        assert_eq!(text(&fetched, Some(0), 0, &idle, true), "not queued yet: more work than the queue holds");
        assert_eq!(text(&fetched, Some(0), 0, &idle, false), "nothing to do");
        assert_eq!(text(&fetched, None, 0, &idle, false), "", "an old daemon counts by user");
    }
}
