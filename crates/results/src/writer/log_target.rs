//! The destination of the log of an attempt.

use model::ResultKey;

use crate::layout::LogKind;
use crate::types::TestEntry;

/// The destination of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTarget {
    pub key: ResultKey,
    pub attempt: u32,
    /// Whether it is the log of the decisive attempt.
    pub is_decisive: bool,
    /// The attempt that an existing log at the destination may belong to.
    pub replaces: Option<u32>,
}

impl LogTarget {
    /// The destination of the log of `attempt`.
    pub fn new(key: ResultKey, attempt: u32, kind: LogKind, entry: Option<&TestEntry>) -> Self {
        let is_decisive = entry.is_none_or(|entry| entry.decisive.number == attempt);
        let logged = |log, full_log| match kind {
            LogKind::Subtest => log > 0,
            LogKind::Full => full_log > 0,
        };
        let replaces = entry
            .filter(|entry| is_decisive && !logged(entry.decisive.log_bytes, entry.decisive.full_log_bytes))
            .and_then(|entry| {
                let before = entry.others.iter().filter(|other| other.number < attempt);
                before
                    .filter(|other| logged(other.log_bytes, other.full_log_bytes))
                    .map(|other| other.number)
                    .min()
            });
        Self { key, attempt, is_decisive, replaces }
    }
}
