//! The other commits with results and the same patch, on other bases: earlier versions of the commit.

use model::CommitId;
use results::json::SamePatchRow;

use super::Context;
use crate::page::{CountItem, count_items};

/// The results of another commit.
pub(super) struct SamePatchLine {
    pub(super) counts: Vec<CountItem>,
    pub(super) href: String,
    pub(super) short: String,
    pub(super) compare_href: String,
}

/// One line for each commit with the same patch, the newest first.
pub(super) fn lines(context: Context<'_>, commit: &CommitId, rows: &[SamePatchRow]) -> Vec<SamePatchLine> {
    let links = context.links();
    let line = |row: &SamePatchRow| SamePatchLine {
        counts: count_items(&row.counts),
        href: links.commit(None, row.commit.as_str()),
        short: row.commit.short().to_owned(),
        compare_href: links.compare(None, row.commit.as_str(), commit.as_str()),
    };
    rows.iter().map(line).collect()
}
