//! Kernel crashes by name: from console lines to the crash's title, cause and report.
//!
//! Knows nothing of virtual machines or tests: text in, data out.

mod trouble;

pub use trouble::{Kind, Trouble, strip_prefix, trouble};

/// A crash found in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The crash's name.
    pub title: String,
    /// What kind of trouble it is.
    pub kind: Kind,
    /// Index of its first line in the log.
    pub start_line: usize,
}

/// The crashes in a log, in order.
#[must_use]
pub fn reports(log: &str) -> Vec<Report> {
    log.lines()
        .enumerate()
        .filter_map(|(start_line, line)| {
            let Trouble { kind, .. } = trouble(line)?;
            Some(Report { title: strip_prefix(line).trim().chars().take(200).collect(), kind, start_line })
        })
        .collect()
}
