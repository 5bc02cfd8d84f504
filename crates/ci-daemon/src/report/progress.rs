//! The progress display on standard output: verdicts, and on a terminal also the running batches and the number of
//! remaining jobs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::{Counts, Verdict};

use crate::executor::run::BatchProgress;
use crate::plan::PlannedJob;

/// The progress display.
#[derive(Debug)]
pub enum Progress {
    /// No display; verdicts go to the log.
    Quiet,
    /// A line for each verdict.
    Plain(Counts),
    /// The same, with a progress bar and a line for each executor below.
    Terminal(Counts, Box<Bars>),
}

/// The bars on a terminal.
#[derive(Debug)]
pub struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    executors: BTreeMap<String, ProgressBar>,
}

impl Progress {
    /// The display that is suitable for standard output.
    #[must_use]
    pub fn for_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Plain(Counts::default());
        }
        let multi = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos} of {len} verdicts, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let total = multi.add(ProgressBar::new(0).with_style(style));
        total.enable_steady_tick(Duration::from_secs(1));
        Self::Terminal(Counts::default(), Box::new(Bars { multi, total, executors: BTreeMap::new() }))
    }

    /// The bars above which log lines must be printed.
    #[must_use]
    pub fn bars(&self) -> Option<MultiProgress> {
        match self {
            Self::Terminal(_, bars) => Some(bars.multi.clone()),
            Self::Quiet | Self::Plain(_) => None,
        }
    }

    /// Prints a message about the daemon itself.
    pub fn message(&self, text: &str) {
        self.line(text);
    }

    fn line(&self, text: &str) {
        match self {
            Self::Quiet => {}
            // A closed pipe does not stop the tests.
            Self::Plain(_) => drop(stdio::line(text)),
            Self::Terminal(_, bars) => drop(bars.multi.println(stdio::terminal::text(text))),
        }
    }

    /// Shows and counts a verdict.
    pub fn verdict(&mut self, job: &PlannedJob, verdict: &Verdict, duration: Duration) {
        let line = verdict_line(job, verdict, duration);
        match self {
            Self::Quiet => tracing::info!("{line}"),
            // Only first verdicts are counted.
            Self::Plain(_) | Self::Terminal(..) if !job.purpose.is_first() => {}
            Self::Plain(counts) => counts.add(verdict.status()),
            Self::Terminal(counts, bars) => {
                counts.add(verdict.status());
                bars.total.inc(1);
            }
        }
        self.line(&line);
    }

    /// Sets the number of remaining jobs. `jobs` is called only if the display shows it.
    pub fn left(&mut self, jobs: impl FnOnce() -> usize) {
        if let Self::Terminal(counts, bars) = self {
            bars.total.set_length(u64::from(counts.total()) + jobs() as u64);
        }
    }

    /// Shows the batches of the executors.
    pub fn batches(&mut self, batches: &BTreeMap<String, BatchProgress>) {
        let Self::Terminal(_, bars) = self else { return };
        bars.executors.retain(|name, bar| {
            let busy = batches.contains_key(name);
            if !busy {
                bar.finish_and_clear();
            }
            busy
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

    /// Prints the summary.
    pub fn finish(&mut self) {
        let line = match self {
            Self::Quiet => return,
            Self::Plain(counts) => summary(counts),
            Self::Terminal(counts, bars) => {
                bars.executors.values().for_each(ProgressBar::finish_and_clear);
                bars.total.finish_and_clear();
                summary(counts)
            }
        };
        self.line(&line);
    }
}

fn verdict_line(job: &PlannedJob, verdict: &Verdict, duration: Duration) -> String {
    let purpose = job.purpose.suffix();
    let reason = verdict.reason().map_or(String::new(), |reason| format!(": {reason}"));
    format!(
        "{} {:<13} {} {:.1} s{purpose}{reason}",
        job.commit.short(),
        verdict.status(),
        job.key,
        duration.as_secs_f64()
    )
}

fn batch_line(name: &str, progress: &BatchProgress) -> String {
    let batch = &progress.status;
    let commit = batch.commit.get(..12).unwrap_or(&batch.commit);
    let objects = match (batch.objects, batch.objects_total) {
        (Some(done), Some(total)) => format!(" {done} of {total} objects"),
        (Some(done), None) => format!(" {done} objects"),
        (None, _) => String::new(),
    };
    let current = batch.current.as_ref().map_or(String::new(), |subtest| format!(" {subtest}"));
    let (done, all) = (batch.done, batch.subtests);
    format!("{name} {commit} {} {}{objects}{current} ({done} of {all})", batch.test, batch.phase)
}

fn summary(counts: &Counts) -> String {
    match counts.total() {
        0 => "no new verdicts".into(),
        total => format!("{total} new verdicts: {counts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Purpose, fixture};

    #[test]
    fn lines() {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let job = fixture::job(commit, "fs/ext4/basic", "punch");
        let retry = PlannedJob { purpose: Purpose::Confirm, ..job.clone() };
        let failed = Verdict::Failed { reason: "kernel BUG at fs/ext4/inode.c:1".into() };
        let status = model::snapshot::BatchStatus {
            commit: job.commit.to_string(),
            test: "fs/ext4/basic".into(),
            phase: "building".into(),
            subtests: 16,
            objects: Some(312),
            objects_total: Some(2500),
            ..Default::default()
        };
        let shown = [
            batch_line("local/0", &BatchProgress { status }),
            verdict_line(&job, &Verdict::Passed, Duration::from_millis(1234)),
            verdict_line(&job, &failed, Duration::from_secs(61)),
            verdict_line(&retry, &failed, Duration::from_secs(60)),
            summary(&Counts { passed: 3, failed_to_run: 1, ..Counts::default() }),
            summary(&Counts::default()),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        local/0 0123456789ab fs/ext4/basic building 312 of 2500 objects (0 of 16)
        0123456789ab Passed        fs.ext4.basic.punch 1.2 s
        0123456789ab Failed        fs.ext4.basic.punch 61.0 s: kernel BUG at fs/ext4/inode.c:1
        0123456789ab Failed        fs.ext4.basic.punch 60.0 s (confirming): kernel BUG at fs/ext4/inode.c:1
        4 new verdicts: 1 failed to run, 3 passed
        no new verdicts
        ");
    }
}
