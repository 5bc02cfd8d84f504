//! `branch.<user>.<branch>.capnp`: the listing of a branch.

use model::Counts;

use super::{builder, checked_len, finish, open, text, text_words};
use crate::generated::branch_log_capnp as schema;
use crate::types::{Authorship, BranchEntry, duration, millis_of};

/// Encodes a listing. The entries are given newest commit first.
#[must_use]
pub fn encode_branch(entries: &[BranchEntry]) -> Vec<u8> {
    let words: usize = entries
        .iter()
        .map(|entry| 22 + text_words(&entry.message) + text_words(&entry.authorship.author))
        .sum();
    let mut message = builder(64 + words);
    let root = message.init_root::<schema::branch_log::Builder<'_>>();
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut list = root.init_entries(count);
    for (at, entry) in (0..count).zip(entries) {
        let mut out = list.reborrow().get(at);
        out.set_commit_id(entry.commit.as_str());
        out.set_message(entry.message.as_str());
        out.set_passed(entry.counts.passed);
        out.set_failed(entry.counts.failed.saturating_add(entry.counts.flaky));
        out.set_notrun(entry.counts.notrun);
        out.set_failed_to_run(entry.counts.failed_to_run);
        out.set_inprogress(entry.counts.inprogress);
        out.set_unknown(entry.counts.unknown);
        out.set_duration(entry.duration.as_secs());
        out.set_duration_ms(millis_of(entry.duration));
        out.set_flaky(entry.counts.flaky);
        out.set_author(entry.authorship.author.as_str());
        out.set_date(entry.authorship.date);
    }
    finish(&message)
}

/// Decodes a listing, in its order. Entries with an invalid commit id are left out.
pub fn decode_branch(bytes: &[u8]) -> capnp::Result<Vec<BranchEntry>> {
    let mut rest = bytes;
    let message = open(&mut rest)?;
    let list = message.get_root::<schema::branch_log::Reader<'_>>()?.get_entries()?;
    let count = checked_len(list.len(), bytes.len())?;
    let mut entries = Vec::with_capacity(count as usize);
    for at in 0..count {
        if let Ok(Some(entry)) = decode_entry(list.get(at)) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn decode_entry(entry: schema::branch_entry::Reader<'_>) -> capnp::Result<Option<BranchEntry>> {
    let Ok(commit) = entry.get_commit_id()?.to_str().unwrap_or("").parse() else { return Ok(None) };
    let counts = Counts {
        passed: entry.get_passed(),
        failed: entry.get_failed().saturating_sub(entry.get_flaky()),
        notrun: entry.get_notrun(),
        failed_to_run: entry.get_failed_to_run(),
        inprogress: entry.get_inprogress(),
        unknown: entry.get_unknown(),
        flaky: entry.get_flaky(),
    };
    let (seconds, millis) = (entry.get_duration(), entry.get_duration_ms());
    let duration = duration(millis, seconds);
    let authorship = Authorship { author: text(entry.get_author()?), date: entry.get_date() };
    Ok(Some(BranchEntry { commit, message: text(entry.get_message()?), authorship, counts, duration }))
}
