//! What an earlier daemon left: failures to confirm, inherited verdicts to check, and what is drained and paused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use gitio::CommitInfo;
use model::CommitId;
use tokio::task::JoinHandle;

use super::Parts;
use crate::farm::{Controls, FarmEvent, Unconfirmed, unconfirmed};
use crate::inherit::unchecked;
use crate::plan::JobRef;
use crate::watch::fetch_loop::View;

/// What an earlier daemon recorded as drained and paused.
pub(super) fn controls(output_dir: &Path) -> Controls {
    Controls::read(output_dir).unwrap_or_else(|problem| {
        tracing::error!("{problem}");
        Controls::default()
    })
}

impl Parts<'_> {
    /// Applies what operators stopped or resumed.
    pub(super) async fn apply_controls(&mut self) {
        self.executors.set_slots(self.farm.view(), self.farm.controls());
        if self.farm.take_pause_change() {
            self.take_view(self.farm.view().clone()).await;
        }
    }

    /// Searches it in the background.
    pub(super) fn find_left(&self) -> JoinHandle<(Vec<Unconfirmed>, Vec<JobRef>)> {
        let (reader, newest) = (self.publisher.writer().reader(), self.farm.newest());
        let View { config, branches, .. } = self.farm.view();
        let config = Arc::clone(config);
        let commits: Vec<Arc<[CommitInfo]>> =
            branches.values().map(|branch| branch.commits.clone()).collect();
        tokio::task::spawn_blocking(move || {
            let commits: BTreeSet<&CommitId> =
                commits.iter().flat_map(|of| of.iter().map(|commit| &commit.id)).collect();
            let commits: Vec<CommitId> = commits.into_iter().cloned().collect();
            let failures = unconfirmed(&reader, &newest, config.top.confirm_failures);
            (failures, unchecked(&reader, &config, &commits))
        })
    }

    /// Confirms and checks what an earlier daemon left.
    pub(super) async fn continue_with(&mut self, (failures, inherited): (Vec<Unconfirmed>, Vec<JobRef>)) {
        self.handle(FarmEvent::Unconfirmed(failures)).await;
        self.handle(FarmEvent::Unchecked(inherited)).await;
    }
}
