//! Metrics in the text format of Prometheus: the state of the farm from the status snapshot, and the newest tested commit
//! of each branch. Labels contain untrusted names, so they are escaped.

use std::fmt::Write as _;

use model::{HostReport, Status, StatusSnapshot};
use regress::builds::other_counts;
use results::json::BuildRow;

use super::Context;
use crate::http::Response;
use crate::problem::Problem;

/// The media type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The maximum number of branches that are reported.
const BRANCHES_MAX: usize = 1000;

/// The view.
pub fn view(context: Context<'_>) -> Result<Response, Problem> {
    let mut out = Metrics::default();
    // The branches are reported even if the snapshot cannot be read.
    if let Ok(Some(snapshot)) = context.store.reader().snapshot() {
        farm(&mut out, &snapshot, context.now);
    }
    branches(&mut out, context)?;
    context.text(TEXT, out.text)
}

#[derive(Default)]
struct Metrics {
    text: String,
}

impl Metrics {
    fn family(&mut self, name: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

fn farm(out: &mut Metrics, snapshot: &StatusSnapshot, now: i64) {
    out.family("ktest_snapshot_age_seconds", "Seconds since ci-daemon wrote its status.");
    out.sample("ktest_snapshot_age_seconds", &[], now.saturating_sub(snapshot.written).max(0));
    out.family("ktest_problems", "Problems that need the attention of an operator.");
    out.sample("ktest_problems", &[], snapshot.problems.len());
    out.family("ktest_executors", "Workers by state.");
    for state in ["idle", "busy", "backing off", "quarantined", "drained"] {
        let count = snapshot.executors.iter().filter(|executor| executor.state == state).count();
        out.sample("ktest_executors", &[("state", state)], count);
    }
    out.family(
        "ktest_host_tests",
        "Verdicts of a host in the last 24 hours, or since the start of ci-daemon.",
    );
    for host in &snapshot.hosts {
        out.sample("ktest_host_tests", &[("host", &host.name)], host.tests);
    }
    out.family("ktest_host_load_percent", "Load of a host at the end of its last attempt.");
    for host in &snapshot.hosts {
        if let Some(load) = host.load {
            out.sample("ktest_host_load_percent", &[("host", &host.name)], load);
        }
    }
    reports(out, snapshot);
    out.family("ktest_host_slot_seconds", "Slot time of a host in the same time, by its use.");
    for host in &snapshot.hosts {
        for (what, seconds) in host.slot_seconds() {
            out.sample("ktest_host_slot_seconds", &[("host", &host.name), ("use", what)], seconds);
        }
    }
    out.family("ktest_disk_free_bytes", "Free space of the file systems that ci-daemon writes to.");
    for disk in &snapshot.disks {
        out.sample("ktest_disk_free_bytes", &[("disk", &disk.name)], disk.free);
    }
    out.family("ktest_jobs_running", "Subtests that workers have claimed.");
    let running = snapshot.jobs.iter().filter(|job| job.status == "running").count();
    out.sample("ktest_jobs_running", &[], running);
    out.family("ktest_jobs_pending", "Subtests in the queue, by user.");
    for (user, pending) in &snapshot.pending_by_group {
        out.sample("ktest_jobs_pending", &[("user", user.as_str())], pending);
    }
    out.family("ktest_fairshare_usage_seconds", "Recent worker time used (decayed), by user.");
    for (user, usage) in &snapshot.fairshare {
        out.sample("ktest_fairshare_usage_seconds", &[("user", user.as_str())], *usage);
    }
    out.family("ktest_fetch_age_seconds", "Seconds since the last successful fetch of a branch.");
    for branch in &snapshot.branches {
        let labels = [("user", branch.user.as_str()), ("branch", branch.branch.as_str())];
        if let Some(fetched) = branch.fetched {
            out.sample("ktest_fetch_age_seconds", &labels, now.saturating_sub(fetched).max(0));
        }
    }
}

/// What the hosts measured of themselves.
fn reports(out: &mut Metrics, snapshot: &StatusSnapshot) {
    type Value = fn(&HostReport) -> Option<u64>;
    let families: [(&str, &str, Value); 4] = [
        ("ktest_host_memory_bytes", "Memory of a host.", |report| report.memory_total),
        ("ktest_host_memory_available_bytes", "Memory that programs can use.", |report| {
            report.memory_available
        }),
        ("ktest_host_cache_bytes", "Size of the file system with the cache of a host.", |report| {
            report.cache_total
        }),
        ("ktest_host_cache_free_bytes", "Free space of that file system.", |report| report.cache_free),
    ];
    for (name, help, value) in families {
        out.family(name, help);
        for host in &snapshot.hosts {
            if let Some(bytes) = host.report.as_ref().and_then(value) {
                out.sample(name, &[("host", &host.name)], bytes);
            }
        }
    }
}

fn branches(out: &mut Metrics, context: Context<'_>) -> Result<(), Problem> {
    let users = context.store.reader().users()?;
    let mut tests = Metrics::default();
    let (mut behind, mut unbuilt) = (Metrics::default(), Metrics::default());
    let all = users.iter().flat_map(|(user, branches)| branches.iter().map(move |branch| (user, branch)));
    for (user, branch) in all.take(BRANCHES_MAX) {
        let Ok(Some(entries)) = context.store.reader().branch(&model::BranchRef::new(user, branch)) else {
            continue;
        };
        let tested = entries.iter().position(|entry| entry.counts.total() > 0);
        let labels = [("user", user.as_str()), ("branch", branch.as_str())];
        behind.sample("ktest_branch_untested_commits", &labels, tested.unwrap_or(entries.len()));
        let Some(tested) = tested else { continue };
        let tip = &entries[tested];
        let build =
            context.store.failed_builds(tip).map(|builds| BuildRow::from(&*builds)).unwrap_or_default();
        unbuilt.sample("ktest_branch_kernels_not_built", &labels, build.failed.len());
        let counts = other_counts(&tip.counts, &build);
        for status in Status::ALL {
            let labels = [labels[0], labels[1], ("status", status.field())];
            tests.sample("ktest_branch_tests", &labels, counts.get(status));
        }
    }
    out.family("ktest_branch_tests", "Tests of the newest tested commit of a branch, by status.");
    out.text.push_str(&tests.text);
    out.family(
        "ktest_branch_kernels_not_built",
        "Kernels of that commit that do not build. Their tests are not counted.",
    );
    out.text.push_str(&unbuilt.text);
    out.family("ktest_branch_untested_commits", "Commits at the tip of a branch without results.");
    out.text.push_str(&behind.text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Metrics::default();
        out.sample("a", &[("b", "x\"y\\z\nw"), ("c", "d")], 1.5);
        out.sample("e", &[], 2);
        assert_eq!(out.text, "a{b=\"x\\\"y\\\\z\\nw\",c=\"d\"} 1.5\ne 2\n");
    }
}
