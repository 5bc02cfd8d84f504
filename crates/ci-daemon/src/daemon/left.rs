//! What an earlier daemon left: failures to confirm, and inherited verdicts to check.

use std::collections::BTreeSet;
use std::sync::Arc;

use gitio::CommitInfo;
use model::CommitId;
use tokio::task::JoinHandle;

use super::Parts;
use crate::farm::{FarmEvent, Unconfirmed, unconfirmed};
use crate::inherit::unchecked;
use crate::plan::JobRef;
use crate::watch::fetch_loop::View;

impl Parts<'_> {
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
