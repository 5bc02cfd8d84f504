//! What the user sees of a run. Everything a run does reaches the outside through [`Reporter::event`]; what differs
//! is only who reads it: a terminal, a pipe, or a program that wants JSON lines.

pub mod record;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::Record;

use model::{EVENT_VERSION, Event, Stamped, Status, SubtestName, Verdict};

/// How a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For people.
    Text,
    /// For people, on standard error: standard output is the guest's.
    Aside,
    /// JSON lines on standard output.
    Events,
    /// Not at all: somebody reads the result when it is over.
    Silent,
}

/// Tells what happens.
#[derive(Debug)]
pub struct Reporter {
    began: Instant,
    style: Style,
    bar: ProgressBar,
    /// Whether the bar is one of objects, not a spinner.
    counting: bool,
    width: usize,
    /// The consumer of the events is gone.
    broken: bool,
    record: Record,
    console: Option<Console>,
}

/// So many bytes of a subtest's console are told.
const CONSOLE: usize = 8 << 20;
/// So many bytes are told at once.
const CHUNK: usize = 64 << 10;

/// Console lines that are to be told as events.
#[derive(Debug, Default)]
struct Console {
    subtest: Option<SubtestName>,
    lines: Vec<String>,
    waiting: usize,
    told: usize,
}

/// Whether there is a terminal for the bar.
fn shows_bar(style: Style) -> bool {
    matches!(style, Style::Text | Style::Aside) && std::io::stderr().is_terminal()
}

impl Reporter {
    /// A reporter for a run that begins now.
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
            record: Record::default(),
            console: None,
        }
    }

    /// The terminal is the guest's from now on, or no longer: two cannot write to it at any time they like.
    pub fn lend_terminal(&mut self, lent: bool) {
        if lent {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        } else if shows_bar(self.style) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Tells console lines as events, too.
    #[must_use]
    pub fn with_console(mut self) -> Self {
        self.console = Some(Console::default());
        self
    }

    /// A console line, `since` the run began.
    pub fn console_line(&mut self, line: &str, since: Duration) {
        let Some(console) = &mut self.console else { return };
        if console.told >= CONSOLE {
            return;
        }
        let text = format!("{:05} {line}", since.as_secs());
        console.told += text.len() + 1;
        console.waiting += text.len() + 1;
        console.lines.push(text);
        if console.waiting >= CHUNK {
            self.flush_console();
        }
    }

    /// Tells the console lines that wait to be told.
    pub fn flush_console(&mut self) {
        let Some(console) = &mut self.console else { return };
        if !console.lines.is_empty() {
            console.waiting = 0;
            let event =
                Event::Log { subtest: console.subtest.clone(), lines: std::mem::take(&mut console.lines) };
            self.tell(event);
        }
    }

    /// When the run began.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether whoever read the events has gone away: the run has nobody to tell and should end.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// What was told so far, put together; its output folder is for whoever knows it to fill in.
    #[must_use]
    pub fn record(&self) -> Record {
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Record { duration_ms, ..self.record.clone() }
    }

    /// Tells an event.
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
                (console.subtest, console.told) = (subtest, 0);
            }
        }
        self.tell(event);
    }

    fn tell(&mut self, event: Event) {
        match self.style {
            Style::Events => {
                let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let stamped = Stamped { v: EVENT_VERSION, at_ms, event };
                let mut out = std::io::stdout().lock();
                let line = serde_json::to_string(&stamped).expect("events are plain data");
                self.broken |= writeln!(out, "{line}").and_then(|()| out.flush()).is_err();
            }
            Style::Text | Style::Aside => self.text(&event),
            Style::Silent => {}
        }
    }

    /// Tells something that is not an event, to people only.
    pub fn note(&self, text: &str) {
        if matches!(self.style, Style::Text | Style::Aside) {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            // A closed pipe ends the output, not the run.
            let _ = match self.style {
                Style::Aside => writeln!(anstream::stderr().lock(), "{text}"),
                Style::Text | Style::Events | Style::Silent => writeln!(anstream::stdout().lock(), "{text}"),
            };
        });
    }

    fn text(&mut self, event: &Event) {
        match event {
            Event::RunStarted { subtests, test, commit } => {
                self.width = subtests.iter().map(|s| s.as_str().len()).max().unwrap_or(0).clamp(12, 48);
                let at = commit.as_ref().map(|c| format!(" at {}", c.short())).unwrap_or_default();
                let s = if subtests.len() == 1 { "" } else { "s" };
                self.line(&format!("{test}{at}: {} subtest{s}", subtests.len()));
            }
            Event::KernelWanted { .. } | Event::Log { .. } => {}
            Event::BuildStarted => self.spinner("kernel: looking for it"),
            Event::Phase { what } => {
                if self.bar.is_hidden() {
                    self.line(what);
                }
                self.spinner(what);
            }
            Event::BuildProgress { done, total } => self.objects(*done, *total),
            Event::KernelReady { kernel, cached, duration_ms, .. } => {
                self.spinner("kernel: ready");
                let how = if *cached { "from the store" } else { "built" };
                self.line(&format!("kernel {} {how} in {}", kernel.short(), Seconds(*duration_ms)));
            }
            Event::BuildFailed { reason } => {
                let style = verdict_style(Status::FailedToRun);
                self.line(&format!("{style}kernel does not build{style:#}: {reason}"));
            }
            Event::BootStarted { vm, accel } => {
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
                self.line(&format!("{style}infrastructure failure{style:#}: {what}"));
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
            let template = "{spinner} kernel: [{bar:30}] {pos}/{len} objects {elapsed} {msg}";
            let spinner = "{spinner} kernel: {pos} objects {elapsed}";
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

/// How a status looks on a terminal.
#[must_use]
pub fn verdict_style(status: Status) -> anstyle::Style {
    use anstyle::AnsiColor;
    let color = match status {
        Status::Passed => AnsiColor::Green,
        Status::Failed => AnsiColor::Red,
        Status::NotRun | Status::InProgress => AnsiColor::Yellow,
        Status::FailedToRun | Status::Unknown => AnsiColor::Magenta,
    };
    anstyle::Style::new().fg_color(Some(color.into())).bold()
}

/// Milliseconds as people read them: `0.84 s`, `12.3 s`, `4 min 05 s`.
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
