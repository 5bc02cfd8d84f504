//! What operators stop: hosts and slots are drained, branches paused, batches cancelled.
//!
//! The record `ci-daemon-controls.json` of the output directory keeps what is drained and paused over a restart of the daemon. It is
//! written before a request is finished.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use fsx::clock::unix_seconds;
use fsx::publish::Durability;
use jobkit::{End, JobId, Outcome};
use model::{BranchRef, Drained, HostName, HostOrSlot, Paused, Stopped};
use results::notes::RequestEnd;
use results::requests::{CancelBatch, Drain, PauseBranch, RequestKind, is_reason};
use serde::{Deserialize, Serialize};

use super::{Command, Farm};
use crate::audit::Requester;
use crate::executor::placement;
use crate::plan::PlannedJob;
use crate::requests::TakenRequest;

/// The file name in the output directory.
const FILE: &str = "ci-daemon-controls.json";
/// The size limit of the file in bytes.
const SIZE_MAX: u64 = 4 << 20;
/// The version of the format.
const VERSION: u32 = 1;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    drained: Vec<Drained>,
    paused: Vec<Paused>,
}

/// What is stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controls {
    /// The hosts and slots that take no new batches.
    pub(super) drained: Vec<Drained>,
    /// The branches with tests that do not run.
    pub(super) paused: Vec<Paused>,
    /// The jobs that a user cancelled, with the reason for their verdicts, until they end.
    cancelled: HashMap<JobId, String>,
}

/// Why nothing is stopped or resumed.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("the configuration has no host or slot {0}")]
    NoHost(HostOrSlot),
    #[error("{0} is not drained")]
    NotDrained(HostOrSlot),
    #[error("{0}/{1} does not run that batch")]
    NoBatch(HostName, u32),
    #[error("the configuration has no branch {0}")]
    NoBranch(BranchRef),
    #[error("{0} is not paused")]
    NotPaused(BranchRef),
}

impl Controls {
    /// What an earlier daemon recorded; the error is one line.
    pub fn read(output_dir: &Path) -> Result<Self, String> {
        let path = output_dir.join(FILE);
        let problem = |reason: &dyn std::fmt::Display| {
            format!("{}: not read, so nothing is drained or paused: {reason}", path.display())
        };
        let text = match fsx::own::read_to_string(&path, SIZE_MAX) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(problem(&error)),
        };
        let record: Record = serde_json::from_str(&text).map_err(|error| problem(&error))?;
        if record.version != VERSION {
            return Err(problem(&format!("its version is {}", record.version)));
        }
        let Record { drained, paused, .. } = record;
        Ok(Self { drained, paused, cancelled: HashMap::new() })
    }

    /// Writes the text of a record. A reader sees the previous or the new one.
    pub fn write(output_dir: &Path, text: &str) -> Result<(), fsx::Error> {
        fsx::publish::file(&output_dir.join(FILE), text, Durability::Synced)
    }

    fn text(&self) -> String {
        let (drained, paused) = (self.drained.clone(), self.paused.clone());
        serde_json::to_string_pretty(&Record { version: VERSION, drained, paused }).unwrap_or_default()
    }

    /// Whether an executor takes no new batches.
    #[must_use]
    pub fn is_drained(&self, executor: &str) -> bool {
        self.drained.iter().any(|drained| drained.place.has(executor))
    }

    /// Whether the tests of a branch do not run.
    #[must_use]
    pub fn is_paused(&self, branch: &BranchRef) -> bool {
        self.paused.iter().any(|paused| paused.branch == *branch)
    }
}

/// Who requests something, in words for everyone: without the address of a client.
fn stopped(request: &TakenRequest) -> Stopped {
    Stopped {
        at: unix_seconds(),
        by: request.requester.as_ref().map(Requester::words),
        reason: request.kind.reason().filter(|reason| is_reason(reason)).map(Into::into),
    }
}

impl Farm {
    /// The same farm with what an earlier daemon recorded.
    #[must_use]
    pub fn with_controls(mut self, controls: Controls) -> Self {
        self.controls = controls;
        self
    }

    /// What is stopped.
    #[must_use]
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Whether a branch was paused or resumed since the last call: the view is to be planned again.
    pub fn take_pause_change(&mut self) -> bool {
        std::mem::take(&mut self.pause_changed)
    }

    /// Handles a request to stop or resume something.
    pub(super) fn control(&mut self, request: &TakenRequest) -> Vec<Command> {
        let stopped = stopped(request);
        let before = (self.controls.drained.clone(), self.controls.paused.clone());
        let result = match &request.kind {
            RequestKind::Drain(drain) => self.drain(drain, stopped),
            RequestKind::Resume(place) => self.resume(place),
            RequestKind::CancelBatch(cancel) => self.cancel_batch(cancel, &stopped),
            RequestKind::PauseBranch(pause) => self.pause(pause, stopped),
            RequestKind::ResumeBranch(branch) => self.resume_branch(branch),
            _ => Ok(()),
        };
        let end = match result {
            Ok(()) => RequestEnd::Done,
            Err(error) => {
                tracing::warn!("request refused: {error}");
                RequestEnd::Refused(error.to_string())
            }
        };
        self.pause_changed |= before.1 != self.controls.paused;
        let changed = before != (self.controls.drained.clone(), self.controls.paused.clone());
        let write = changed.then(|| Command::WriteControls(self.controls.text()));
        write.into_iter().chain([Command::FinishRequest(request.file.clone(), end)]).collect()
    }

    fn drain(&mut self, drain: &Drain, stopped: Stopped) -> Result<(), ControlError> {
        let place = drain.place.clone();
        let slots = self.slots();
        if !slots.iter().any(|name| place.has(name)) {
            return Err(ControlError::NoHost(place));
        }
        tracing::info!("{place} is drained {stopped}");
        // Those that are no longer in the configuration are dropped.
        let is_kept =
            |other: &Drained| other.place != place && slots.iter().any(|name| other.place.has(name));
        self.controls.drained.retain(is_kept);
        self.controls.drained.push(Drained { place, stopped });
        Ok(())
    }

    fn resume(&mut self, place: &HostOrSlot) -> Result<(), ControlError> {
        let count = self.controls.drained.len();
        self.controls.drained.retain(|drained| !place.includes(&drained.place));
        if self.controls.drained.len() == count {
            return Err(ControlError::NotDrained(place.clone()));
        }
        tracing::info!("{place} takes batches again");
        Ok(())
    }

    fn pause(&mut self, pause: &PauseBranch, stopped: Stopped) -> Result<(), ControlError> {
        let branch = pause.branch.clone();
        let config = &self.view.config;
        if config.branch(&branch).is_none() {
            return Err(ControlError::NoBranch(branch));
        }
        tracing::info!("{branch} is paused {stopped}");
        let is_kept = |other: &Paused| other.branch != branch && config.branch(&other.branch).is_some();
        self.controls.paused.retain(is_kept);
        self.controls.paused.push(Paused { branch, stopped });
        Ok(())
    }

    fn resume_branch(&mut self, branch: &BranchRef) -> Result<(), ControlError> {
        if !self.controls.is_paused(branch) {
            return Err(ControlError::NotPaused(branch.clone()));
        }
        self.controls.paused.retain(|paused| paused.branch != *branch);
        tracing::info!("{branch} is no longer paused");
        Ok(())
    }

    fn cancel_batch(&mut self, cancel: &CancelBatch, stopped: &Stopped) -> Result<(), ControlError> {
        let CancelBatch { host, slot, started } = cancel;
        let name = format!("{host}/{slot}");
        let executor = self.choir.status().executors.into_iter().find(|executor| executor.name == name);
        let batch = executor.and_then(|executor| executor.batch).filter(|batch| batch.since == *started);
        let batch = batch.ok_or_else(|| ControlError::NoBatch(host.clone(), *slot))?;
        tracing::info!("the batch {} on {name} is cancelled {stopped}", batch.key);
        let reason = format!("cancelled {stopped}").trim_end().to_owned();
        for job in batch.jobs {
            if self.choir.cancel(job.id) {
                self.controls.cancelled.insert(job.id, reason.clone());
            }
        }
        Ok(())
    }

    /// A job that a user cancelled is given up: it does not run again.
    pub(super) fn give_up_cancelled(&mut self, end: &mut End<Arc<PlannedJob>>) {
        if let Some(reason) = self.controls.cancelled.remove(&end.id)
            && end.outcome == Outcome::Cancelled
        {
            end.outcome = Outcome::Abandoned { reason };
        }
    }

    /// The names of the executors of all slots.
    pub(super) fn slots(&self) -> Vec<String> {
        let slots = placement::slots(&self.view.config).into_iter();
        slots.map(|(host, slot)| format!("{host}/{slot}")).collect()
    }
}
