//! The output of a run, for a terminal, a pipe or a program.
//!
//! Everything a run reports passes through [`Reporter::event`].

mod failures;
pub mod record;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use failures::Failures;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::Record;
use stdio::OutputError;

use model::{EVENT_VERSION, Event, HEARTBEAT, Stamped, Status, SubtestName, Verdict};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text on standard output and standard error.
    Text,
    /// Text on standard error only: standard output belongs to the guest.
    Aside,
    /// JSON lines on standard output.
    Events,
    /// No output: the result is read at the end.
    Silent,
}

/// Reports events.
#[derive(Debug)]
pub struct Reporter {
    began: Instant,
    style: Style,
    bar: ProgressBar,
    /// Whether the bar counts objects; otherwise it is a spinner.
    counting: bool,
    width: usize,
    /// Whether the reader of the events has closed its end.
    broken: bool,
    /// The first failed write to standard output.
    output_error: OnceLock<OutputError>,
    record: Record,
    console: Option<Console>,
}

/// When the first heartbeat is sent. Later ones follow at the interval [`HEARTBEAT`].
const FIRST_HEARTBEAT: Duration = Duration::from_secs(3);
/// The limit of a subtest's console output in events, in bytes.
const CONSOLE: usize = 8 << 20;
/// The maximum size of the console lines in one event, in bytes.
const CHUNK: usize = 64 << 10;

/// Console lines for the next event.
#[derive(Debug, Default)]
struct Console {
    subtest: Option<SubtestName>,
    lines: Vec<String>,
    waiting: usize,
    sent: usize,
}

/// Whether a progress bar can be shown.
fn shows_bar(style: Style) -> bool {
    matches!(style, Style::Text | Style::Aside) && std::io::stderr().is_terminal()
}

impl Reporter {
    /// A reporter for a run that starts now.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let bar = if shows_bar(style) { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            began: Instant::now(),
            style,
            bar,
            counting: false,
            width: 12,
            broken: false,
            output_error: OnceLock::new(),
            record: Record::default(),
            console: None,
        }
    }

    /// Hides the progress bar while the guest controls the terminal.
    pub fn hide_bar(&mut self, hidden: bool) {
        if hidden {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        } else if shows_bar(self.style) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Includes console lines in the events.
    #[must_use]
    pub fn with_console(mut self) -> Self {
        self.console = Some(Console::default());
        self
    }

    /// Adds a console line; `since` is the time since the start of the run.
    pub fn console_line(&mut self, line: &str, since: Duration) {
        let Some(console) = &mut self.console else { return };
        if console.sent >= CONSOLE {
            return;
        }
        let text = format!("{:05} {line}", since.as_secs());
        console.sent += text.len() + 1;
        console.waiting += text.len() + 1;
        console.lines.push(text);
        if console.waiting >= CHUNK {
            self.flush_console();
        }
    }

    /// Reports the pending console lines.
    pub fn flush_console(&mut self) {
        let Some(console) = &mut self.console else { return };
        if !console.lines.is_empty() {
            console.waiting = 0;
            let event =
                Event::Log { subtest: console.subtest.clone(), lines: std::mem::take(&mut console.lines) };
            self.emit(event);
        }
    }

    /// The start of the run.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether the reader of the events has closed its end. The run should end then.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// The first failed write to standard output, other than a write to a closed pipe.
    #[must_use]
    pub fn output_error(&self) -> Option<&OutputError> {
        self.output_error.get()
    }

    /// The record of the events so far. The caller sets its output directory.
    #[must_use]
    pub fn record(&self) -> Record {
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Record { duration_ms, ..self.record.clone() }
    }

    /// Reports an event.
    pub fn event(&mut self, event: Event) {
        self.record.event(&event);
        self.flush_console();
        if let Some(console) = &mut self.console {
            let now = match &event {
                Event::SubtestStarted { subtest } => Some(Some(subtest.clone())),
                Event::Verdict { .. } | Event::BootStarted { .. } => Some(None),
                _ => None,
            };
            if let Some(subtest) = now {
                (console.subtest, console.sent) = (subtest, 0);
            }
        }
        self.emit(event);
    }

    fn emit(&mut self, event: Event) {
        match self.style {
            Style::Events => {
                if let Err(error) = print_event(self.began, event) {
                    self.broken = true;
                    self.output(OutputError::unless_closed(Err(error)));
                }
            }
            Style::Text | Style::Aside => self.text(&event),
            Style::Silent => {}
        }
    }

    /// Reports periodically that the run is alive, until the result is dropped. A process that is stopped or hangs
    /// sends no heartbeat. Each has the state of the host, with the free space of the directory `cache`.
    #[must_use]
    pub fn heartbeat(&self, cache: PathBuf) -> Heartbeat {
        let began = self.began;
        let beat = async move {
            let mut pause = FIRST_HEARTBEAT;
            loop {
                tokio::time::sleep(pause).await;
                pause = HEARTBEAT;
                let host = Some(kernel::host_report(&cache));
                // The next event detects a reader that has closed its end.
                let _ = print_event(began, Event::Heartbeat { host });
            }
        };
        Heartbeat((self.style == Style::Events).then(|| tokio::spawn(beat)))
    }

    /// Prints a note. Notes are not events.
    pub fn note(&self, text: &str) {
        if matches!(self.style, Style::Text | Style::Aside) {
            self.line(text);
        }
    }

    /// Displays a step of the run. Steps are not events.
    pub fn step(&mut self, text: &str) {
        if matches!(self.style, Style::Text | Style::Aside) {
            if self.bar.is_hidden() {
                self.line(text);
            }
            self.spinner(text);
        }
    }

    fn line(&self, text: &str) {
        let text = stdio::terminal::text(text);
        self.bar.suspend(|| {
            // A closed pipe ends the output, not the run.
            match self.style {
                Style::Aside => stdio::message(text),
                Style::Text | Style::Events | Style::Silent => self.output(stdio::line(text)),
            }
        });
    }

    fn output(&self, result: Result<(), OutputError>) {
        if let Err(error) = result {
            // Only the first error is reported.
            let _ = self.output_error.set(error);
        }
    }

    fn text(&mut self, event: &Event) {
        match event {
            Event::RunStarted { subtests, test, commit } => {
                self.width = subtests.iter().map(|s| s.as_str().len()).max().unwrap_or(0).clamp(12, 48);
                let at = commit.as_ref().map(|c| format!(" at {}", c.short())).unwrap_or_default();
                let s = if subtests.len() == 1 { "" } else { "s" };
                self.line(&format!("{test}{at}: {} subtest{s}", subtests.len()));
            }
            Event::KernelWanted { .. } | Event::Log { .. } | Event::Heartbeat { .. } => {}
            Event::BuildStarted => self.spinner("kernel: searching the store"),
            Event::Phase { what } => self.step(what),
            Event::BuildProgress { done, total } => self.objects(*done, *total),
            Event::KernelReady { kernel, cached, fetched, duration_ms, .. } => {
                self.spinner("kernel: ready");
                let how = match (*cached, *fetched) {
                    (true, _) => "from the store",
                    (false, true) => "fetched",
                    (false, false) => "built",
                };
                self.line(&format!("kernel {} {how} in {}", kernel.short(), Seconds(*duration_ms)));
            }
            Event::BuildFailed { reason } => {
                let style = verdict_style(Status::FailedToRun);
                self.line(&format!("{style}kernel does not build{style:#}: {reason}"));
            }
            Event::BootStarted { vm, accel, .. } => {
                let which = if *vm == 1 { String::new() } else { format!(" again (VM {vm})") };
                self.spinner(&format!("booting{which} under {accel}"));
            }
            Event::Booted { duration_ms, .. } => self.line(&format!("booted in {}", Seconds(*duration_ms))),
            Event::SubtestStarted { subtest } => self.spinner(subtest.as_str()),
            Event::Verdict { subtest, verdict, duration_ms, .. } => {
                self.spinner("");
                self.line(&self.verdict_line(subtest, verdict, *duration_ms));
            }
            Event::Infrastructure { what } => {
                let style = verdict_style(Status::FailedToRun);
                self.line(&format!("{style}infrastructure error{style:#}: {what}"));
            }
            Event::RunFinished { .. } => self.bar.finish_and_clear(),
        }
    }

    fn verdict_line(&self, subtest: &SubtestName, verdict: &Verdict, duration_ms: u64) -> String {
        let status = verdict.status();
        let (style, width) = (verdict_style(status), self.width);
        let word = format!("{style}{:<13}{style:#}", status.label());
        let reason = verdict.reason().map(|reason| format!("  {reason}")).unwrap_or_default();
        format!("  {word} {subtest:<width$} {:>8}{reason}", Seconds(duration_ms).to_string())
    }

    fn spinner(&mut self, what: &str) {
        if self.counting || self.bar.message() != what {
            let style =
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a constant template");
            self.bar.set_style(style);
            self.bar.reset();
            self.bar.set_message(what.to_string());
            self.counting = false;
        }
    }

    fn objects(&mut self, done: u32, total: Option<u32>) {
        if !self.counting {
            if self.bar.is_hidden() {
                let all = total.map_or(String::new(), |total| format!(", {total} objects"));
                self.line(&format!("kernel: compiling{all}"));
            }
            self.bar.reset();
            self.counting = true;
            let template = "{spinner} kernel: [{pos}/{len}] {bar:30} {elapsed} {msg}";
            let spinner = "{spinner} kernel: [{pos}] {elapsed}";
            let template = if total.is_some() { template } else { spinner };
            let style = ProgressStyle::with_template(template).expect("a constant template");
            self.bar.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = total {
            self.bar.set_length(u64::from(total.max(done)));
        }
        self.bar.set_position(u64::from(done));
    }
}

/// Sends [`Event::Heartbeat`] until it is dropped.
#[derive(Debug)]
pub struct Heartbeat(Option<tokio::task::JoinHandle<()>>);

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

fn print_event(began: Instant, event: Event) -> std::io::Result<()> {
    let at_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let stamped = Stamped { v: EVENT_VERSION, at_ms, event };
    let line = serde_json::to_string(&stamped).expect("events are plain data");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", stdio::terminal::json(&line)).and_then(|()| out.flush())
}

/// The style of a status on a terminal.
#[must_use]
pub fn verdict_style(status: Status) -> anstyle::Style {
    use anstyle::AnsiColor;
    let color = match status {
        Status::Passed => AnsiColor::Green,
        Status::Failed => AnsiColor::Red,
        Status::NotRun | Status::InProgress | Status::Flaky => AnsiColor::Yellow,
        Status::FailedToRun | Status::Unknown => AnsiColor::Magenta,
    };
    anstyle::Style::new().fg_color(Some(color.into())).bold()
}

/// Displays milliseconds: `0.84 s`, `12.3 s`, `4 min 05 s`.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds below 2^52")]
        let seconds = self.0 as f64 / 1000.0;
        match self.0 {
            0..10_000 => write!(f, "{seconds:.2} s"),
            10_000..120_000 => write!(f, "{seconds:.1} s"),
            ms => write!(f, "{} min {:02} s", ms / 60_000, ms / 1000 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let shown = [840, 9_999, 12_340, 125_000].map(|ms| Seconds(ms).to_string());
        assert_eq!(shown, ["0.84 s", "10.00 s", "12.3 s", "2 min 05 s"]);
    }
}
