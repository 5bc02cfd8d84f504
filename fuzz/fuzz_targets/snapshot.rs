//! The status snapshot, and the JSON views of a dashboard that `ci-status --remote` reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::StatusSnapshot;
use results::json::{CommitRow, CommitView, HistoryRow, TestView, UserView};

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<StatusSnapshot>(bytes);
    let _ = serde_json::from_slice::<Vec<UserView>>(bytes);
    let _ = serde_json::from_slice::<TestView>(bytes);
    for row in serde_json::from_slice::<Vec<CommitRow>>(bytes).unwrap_or_default() {
        let _ = row.entry();
    }
    for row in serde_json::from_slice::<Vec<HistoryRow>>(bytes).unwrap_or_default() {
        let _ = row.entry();
    }
    if let Some(results) = serde_json::from_slice::<CommitView>(bytes).ok().and_then(CommitView::results) {
        let again = CommitView::new(&results, |_| true).results().expect("what we write is read");
        assert_eq!(again.entries.len(), results.entries.len());
    }
});
