//! `test_durations.capnp`: the past duration of each test.

use super::{Mark, builder, checked_len, finish, open, text_words};
use crate::generated::durations_capnp as schema;
use crate::types::{TestDuration, duration, millis_of};

/// The blob of the durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurationsBlob {
    /// One entry per test, sorted by test, without duplicates.
    pub entries: Vec<TestDuration>,
    /// The journal records that they include.
    pub mark: Mark,
}

/// Encodes the blob.
#[must_use]
pub fn encode_durations<'a>(
    entries: impl ExactSizeIterator<Item = &'a TestDuration> + Clone,
    mark: Mark,
) -> Vec<u8> {
    let words: usize = entries.clone().map(|entry| 8 + text_words(entry.test.as_str())).sum();
    let mut message = builder(64 + words);
    let mut root = message.init_root::<schema::durations::Builder<'_>>();
    root.set_epoch(mark.epoch);
    root.set_sequence(mark.sequence);
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut list = root.init_entries(count);
    for (at, entry) in (0..count).zip(entries) {
        let mut out = list.reborrow().get(at);
        out.set_test(entry.test.as_str());
        out.set_duration(entry.mean.as_secs());
        out.set_nr(entry.nr);
        out.set_passed(entry.passed);
        out.set_failed(entry.failed);
        out.set_mean_ms(millis_of(entry.mean));
    }
    finish(&message)
}

/// Decodes the blob. The entries are sorted. Those with an invalid result key are left out.
pub fn decode_durations(bytes: &[u8]) -> capnp::Result<DurationsBlob> {
    let mut rest = bytes;
    let message = open(&mut rest)?;
    let root: schema::durations::Reader<'_> = message.get_root()?;
    let list = root.get_entries()?;
    let count = checked_len(list.len(), bytes.len())?;
    let mut entries = Vec::with_capacity(count as usize);
    for at in 0..count {
        let entry = list.get(at);
        let Ok(test) = entry.get_test().map(|test| test.to_str().unwrap_or("").parse()) else { continue };
        let Ok(test) = test else { continue };
        let (seconds, millis) = (entry.get_duration(), entry.get_mean_ms());
        let mean = duration(millis, seconds);
        entries.push(TestDuration {
            test,
            mean,
            nr: entry.get_nr(),
            passed: entry.get_passed(),
            failed: entry.get_failed(),
        });
    }
    if !entries.is_sorted_by(|a: &TestDuration, b| a.test < b.test) {
        entries.sort_by(|a, b| a.test.cmp(&b.test));
        entries.dedup_by(|later, first| later.test == first.test);
    }
    Ok(DurationsBlob { entries, mark: Mark { epoch: root.get_epoch(), sequence: root.get_sequence() } })
}
