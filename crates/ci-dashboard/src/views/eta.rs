//! Reads the input of [`regress::eta`] and displays its estimates.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use model::StatusSnapshot;
use regress::CommitStatuses;
use regress::eta::{Eta, eta, expected_slots, expected_tests};

use super::Context;
use crate::page::Took;
use crate::route::BranchRef;

/// The estimates of one page.
pub struct Estimator<'a> {
    context: Context<'a>,
    means: HashMap<String, Duration>,
    slots: HashMap<&'a str, f64>,
}

/// An estimate, as displayed on pages.
pub struct EtaText(Eta);

impl<'a> Estimator<'a> {
    /// Reads the snapshot and the past durations.
    #[must_use]
    pub fn new(context: Context<'a>, snapshot: &'a StatusSnapshot) -> Self {
        let durations = context.store.reader().durations().unwrap_or_default();
        let means = durations.into_iter().map(|known| (known.test.to_string(), known.mean)).collect();
        Self { context, means, slots: expected_slots(snapshot) }
    }

    /// The estimate for the tip of a branch.
    #[must_use]
    pub fn tip(&self, at: &BranchRef) -> EtaText {
        let Ok(entries) = self.context.store.branch(at) else { return EtaText(Eta::Unknown) };
        let statuses = |row: usize| -> Option<CommitStatuses> {
            let entry = entries.get(row).filter(|entry| entry.counts.total() > 0)?;
            self.context.store.statuses(&entry.commit)
        };
        let expected = expected_tests((1..entries.len()).map(statuses));
        let slots = self.slots.get(at.user.as_str()).copied().unwrap_or(0.0);
        let mean = |name: &str| self.means.get(name).copied();
        EtaText(eta(statuses(0).as_ref(), expected.as_ref(), mean, slots))
    }
}

impl fmt::Display for EtaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Eta::Done => f.write_str("done"),
            Eta::In { tests, time } if time.as_secs() < 60 => {
                write!(f, "{tests} left, less than a minute")
            }
            Eta::In { tests, time } => write!(f, "{tests} left, about {}", Took(time)),
            Eta::Stalled { tests } => write!(f, "{tests} left, no usable slot"),
            Eta::Unknown => f.write_str("unknown (no history yet)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_in_words() {
        let text = |eta| EtaText(eta).to_string();
        assert_eq!(text(Eta::In { tests: 2, time: Duration::from_secs(700) }), "2 left, about 11 min");
        assert_eq!(text(Eta::In { tests: 2, time: Duration::from_secs(59) }), "2 left, less than a minute");
    }
}
