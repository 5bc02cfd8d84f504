//! What the publishing threads report: failed files are published again, and published ones become durable.

use std::time::Instant;

use super::super::command::{Chore, Files, PassResult, Written};
use super::super::pass::Subject;
use super::{BACK_OFF, Engine};
use crate::error::Error;
use crate::notes::Note;

impl Engine {
    pub(super) fn published(&mut self, outcome: PassResult) {
        self.in_flight = false;
        let PassResult { pass, upto, durations_upto, failed, error, waiters, files } = outcome;
        if failed.is_empty() {
            self.published[0] = upto;
            self.not_before = None;
            self.shared.solved("publication");
        } else {
            self.not_before = Some(Instant::now() + BACK_OFF);
            self.shared.problem("publication", error.as_deref().unwrap_or("results cannot be written"));
        }
        if let Some(upto) = durations_upto
            && !failed.contains(&Subject::Durations)
        {
            self.published[1] = upto;
        }
        for subject in failed {
            match subject {
                Subject::Running => self.running_changed = true,
                Subject::Commit(commit) => self.commits.failed(&commit),
                Subject::Branch(branch) => self.branches.failed(&branch),
                Subject::Durations => self.durations.touch(),
            }
            self.touch();
        }
        let (published, evicted) = (error.is_none(), self.commits.evict());
        if self.workers.files.send(Chore::Files(Files { pass, upto, files, waiters, error, evicted })).is_ok()
        {
            self.files_in_flight += 1;
        }
        // The directories are written from blobs that have everything that the passes until now left out.
        if published && self.tree.has_tasks() {
            let _ = self.workers.files.send(Chore::Trees(self.tree.take_tasks()));
        }
    }

    pub(super) fn files_written(&mut self, written: Written) {
        let Written { pass, upto, failed, waiters, error } = written;
        self.files_in_flight -= 1;
        if failed.is_empty() {
            if pass > self.redo_after {
                self.published[2] = upto;
            }
        } else {
            // Only passes that start from now on include these tests again.
            self.redo_after = self.passes_begun;
            self.not_before = Some(Instant::now() + BACK_OFF);
            self.shared.problem("publication", error.as_deref().unwrap_or("status files cannot be written"));
            self.touch();
        }
        for (commit, key) in failed {
            self.commits.status_failed(&mut self.db, &commit, key);
        }
        for waiter in waiters {
            let _ = waiter.send(match &error {
                None => Ok(()),
                Some(error) => Err(Error::Write(error.clone())),
            });
        }
        let floor = self.floor();
        if !self.syncing && floor > self.synced + self.checkpoint {
            self.syncing = self.workers.files.send(Chore::SyncAll { floor }).is_ok();
        }
    }

    /// Adds a row for scripts. It is not worth an error that stops a run.
    pub(super) fn note(&mut self, note: &Note) {
        if let Err(error) = self.db.write_later(|batch| batch.note(note)) {
            tracing::warn!("{error}; a build or a request is not in the database");
        }
    }

    /// The first record that may not be published everywhere.
    fn floor(&self) -> u64 {
        self.published.iter().min().copied().unwrap_or(0) + 1
    }

    /// Handles the result of a sync: the files of the records below `floor` are durable.
    pub(super) fn synced(&mut self, floor: u64, error: Option<String>) {
        self.syncing = false;
        if let Some(error) = error {
            self.shared.problem("checkpoint", &error);
            return;
        }
        self.shared.solved("checkpoint");
        self.confirm(floor);
        self.synced = floor;
    }

    /// Records which commits have durable published files, so that the next writer does not write them again.
    fn confirm(&mut self, floor: u64) {
        let commits = self.commits.published(floor);
        if commits.is_empty() {
            return;
        }
        self.commits.confirmed(&commits);
        if let Err(error) =
            self.db.write_later(|batch| commits.iter().try_for_each(|commit| batch.published(commit)))
        {
            // Harmless: the next writer publishes these files again.
            tracing::warn!("{error}");
        }
    }

    /// Confirms all published files; the next writer writes the others.
    pub(super) fn last_checkpoint(&mut self) {
        let floor = self.floor();
        if !self.commits.published(floor).is_empty() {
            let dir = self.reader.output_dir();
            if let Err(error) = self.disk.sync_all(dir).map_err(Error::io("sync", dir)) {
                tracing::warn!("{error}");
                return;
            }
            self.confirm(floor);
        }
    }
}
