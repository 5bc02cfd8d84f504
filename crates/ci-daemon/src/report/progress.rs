//! What somebody sees who watches the daemon: verdicts as they fall; on a terminal also what runs and what is left.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::{Counts, Verdict};

use crate::executor::run::BatchProgress;
use crate::plan::{PlannedJob, Purpose};

/// The display.
#[derive(Debug)]
pub enum Progress {
    /// Nothing: the log says what happens.
    Quiet,
    /// A line for each verdict.
    Plain(Tally),
    /// The same, above a bar and a line for each executor.
    Terminal(Tally, Box<Bars>),
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Counts,
}

/// What a terminal shows.
#[derive(Debug)]
pub struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    executors: BTreeMap<String, ProgressBar>,
}

impl Progress {
    /// The display for standard output as it is.
    #[must_use]
    pub fn for_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Plain(Tally::default());
        }
        let multi = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos} of {len} verdicts, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let total = multi.add(ProgressBar::new(0).with_style(style));
        total.enable_steady_tick(Duration::from_secs(1));
        Self::Terminal(Tally::default(), Box::new(Bars { multi, total, executors: BTreeMap::new() }))
    }

    /// Where log lines go, so that they do not tear the display.
    #[must_use]
    pub fn bars(&self) -> Option<MultiProgress> {
        match self {
            Self::Terminal(_, bars) => Some(bars.multi.clone()),
            Self::Quiet | Self::Plain(_) => None,
        }
    }

    /// Shows a message about the daemon itself.
    pub fn message(&self, text: &str) {
        self.line(text);
    }

    fn line(&self, text: &str) {
        match self {
            Self::Quiet => {}
            // A reader who went away is no reason to stop testing.
            Self::Plain(_) => drop(writeln!(io::stdout(), "{text}")),
            Self::Terminal(_, bars) => drop(bars.multi.println(text)),
        }
    }

    /// A verdict fell.
    pub fn verdict(&mut self, job: &PlannedJob, verdict: &Verdict, duration: Duration) {
        let line = verdict_line(job, verdict, duration);
        match self {
            Self::Quiet => tracing::info!("{line}"),
            // The first verdict stands, what comes after it is not counted.
            Self::Plain(_) | Self::Terminal(..) if job.purpose != Purpose::First => {}
            Self::Plain(tally) => tally.counts.add(verdict.status()),
            Self::Terminal(tally, bars) => {
                tally.counts.add(verdict.status());
                bars.total.inc(1);
            }
        }
        self.line(&line);
    }

    /// So many jobs are left; counted only where somebody sees it.
    pub fn left(&mut self, jobs: impl FnOnce() -> usize) {
        if let Self::Terminal(tally, bars) = self {
            bars.total.set_length(u64::from(tally.counts.total()) + jobs() as u64);
        }
    }

    /// What the executors do.
    pub fn batches(&mut self, batches: &BTreeMap<String, BatchProgress>) {
        let Self::Terminal(_, bars) = self else { return };
        bars.executors.retain(|name, bar| {
            let there = batches.contains_key(name);
            if !there {
                bar.finish_and_clear();
            }
            there
        });
        for (name, batch) in batches {
            let bar = bars.executors.entry(name.clone()).or_insert_with(|| {
                let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = bars.multi.add(ProgressBar::new_spinner().with_style(style));
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            });
            bar.set_message(batch_line(name, batch));
        }
    }

    /// The last word.
    pub fn finish(&mut self) {
        let tally = match self {
            Self::Quiet => return,
            Self::Plain(tally) => summary(&tally.counts),
            Self::Terminal(tally, bars) => {
                bars.executors.values().for_each(ProgressBar::finish_and_clear);
                bars.total.finish_and_clear();
                summary(&tally.counts)
            }
        };
        self.line(&tally);
    }
}

fn verdict_line(job: &PlannedJob, verdict: &Verdict, duration: Duration) -> String {
    let why = job.purpose.suffix();
    let reason = verdict.reason().map_or(String::new(), |reason| format!(": {reason}"));
    format!(
        "{} {:<13} {} {:.1} s{why}{reason}",
        job.commit.short(),
        verdict.status(),
        job.key,
        duration.as_secs_f64()
    )
}

fn batch_line(name: &str, doing: &BatchProgress) -> String {
    let batch = &doing.status;
    let commit = batch.commit.get(..12).unwrap_or(&batch.commit);
    let objects = match doing.built {
        Some((done, Some(total))) => format!(" {done} of {total} objects"),
        Some((done, None)) => format!(" {done} objects"),
        None => String::new(),
    };
    let current = batch.current.as_ref().map_or(String::new(), |subtest| format!(" {subtest}"));
    let (done, all) = (batch.done, batch.subtests);
    format!("{name} {commit} {} {}{objects}{current} ({done} of {all})", batch.test, batch.phase)
}

fn summary(counts: &Counts) -> String {
    let parts: Vec<String> = model::Status::ALL
        .iter()
        .filter(|status| counts.get(**status) > 0)
        .map(|status| format!("{} {}", counts.get(*status), status.label().to_lowercase()))
        .collect();
    match counts.total() {
        0 => "no new verdicts".into(),
        total => format!("{total} new verdicts: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::Unit;

    #[test]
    fn lines() {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let job = PlannedJob {
            branch: Arc::new("u/b".parse().unwrap()),
            group: Arc::new("g".parse().unwrap()),
            repo: Arc::new(model::RepoName::linux()),
            commit,
            age: 0,
            unit: Arc::new(Unit {
                test: "fs/ext4/basic".parse().unwrap(),
                kernel: None,
                env: model::Env::default(),
            }),
            subtest: "punch".parse().unwrap(),
            key: "fs.ext4.basic.punch".parse().unwrap(),
            value: 0,
            cost: Duration::ZERO,
            purpose: Purpose::First,
        };
        let again = PlannedJob { purpose: Purpose::Confirm, ..job.clone() };
        let failed = Verdict::Failed { reason: "kernel BUG at fs/ext4/inode.c:1".into() };
        let status = model::snapshot::BatchStatus {
            commit: job.commit.to_string(),
            test: "fs/ext4/basic".into(),
            phase: "building".into(),
            subtests: 16,
            ..Default::default()
        };
        let shown = [
            batch_line("local/0", &BatchProgress { status, built: Some((312, Some(2500))) }),
            verdict_line(&job, &Verdict::Passed, Duration::from_millis(1234)),
            verdict_line(&job, &failed, Duration::from_secs(61)),
            verdict_line(&again, &failed, Duration::from_secs(60)),
            summary(&Counts { passed: 3, failed_to_run: 1, ..Counts::default() }),
            summary(&Counts::default()),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        local/0 0123456789ab fs/ext4/basic building 312 of 2500 objects (0 of 16)
        0123456789ab Passed        fs.ext4.basic.punch 1.2 s
        0123456789ab Failed        fs.ext4.basic.punch 61.0 s: kernel BUG at fs/ext4/inode.c:1
        0123456789ab Failed        fs.ext4.basic.punch 60.0 s (confirming): kernel BUG at fs/ext4/inode.c:1
        4 new verdicts: 3 passed, 1 failed to run
        no new verdicts
        ");
    }
}
