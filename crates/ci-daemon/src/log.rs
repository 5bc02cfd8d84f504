//! The log on standard error.

use std::io::{self, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use stdio::terminal;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

pub(crate) fn log_to_stderr(default: &str, bars: Option<MultiProgress>, format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KTEST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let bars = Arc::new(bars);
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).log_internal_errors(false);
    let subscriber = subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let subscriber = subscriber.with_writer(move || Stderr(Arc::clone(&bars), format));
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_ansi(false).init(),
    }
}

/// Standard error, printed above the progress bars if there are any.
struct Stderr(Arc<Option<MultiProgress>>, LogFormat);

impl Write for Stderr {
    /// Each record is written in a single write.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let record = String::from_utf8_lossy(bytes);
        let record = match self.1 {
            LogFormat::Text => terminal::text(&record),
            LogFormat::Json => terminal::json(&record).into_owned(),
        };
        match &*self.0 {
            Some(bars) => bars.suspend(|| io::stderr().write_all(record.as_bytes())),
            None => io::stderr().write_all(record.as_bytes()),
        }?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
