//! The builds of kernels and the requests of users, for scripts. Only the newest ones are kept.

use rusqlite::{Result, params};

use super::batch::{Batch, integer};
use crate::notes::{BuildNote, Note, RequestEnd, RequestNote};
use crate::requests::{RequestKind, Rerun};
use crate::types::{millis_of, one_line};

/// The number of builds and of requests that are kept.
const KEPT: i64 = 1_000_000;

impl Batch<'_> {
    /// Adds or completes a row.
    pub fn note(&mut self, note: &Note) -> Result<()> {
        match note {
            Note::Build(build) => self.build(build),
            Note::Request(request) => self.request(request),
            Note::RequestEnded { file, at, end } => self.request_ended(file, *at, end),
            Note::Code { experiment, code } => self.code(*experiment, *code),
            Note::Patch { commit, patch } => self.patch(commit, patch.as_deref()),
            Note::Findings { branch, findings, known } => self.findings(branch, findings, known),
            Note::Sender { state, sent } => self.sender(state, *sent),
            Note::SenderRemoved { name } => self.sender_removed(name),
            Note::Mark { finding, mark } => self.mark_finding(finding, mark),
            Note::SameCode { commit, tests } => self.same_code(commit, tests),
        }
    }

    fn build(&mut self, build: &BuildNote) -> Result<()> {
        let commit = self.commit(&build.commit)?;
        let (host, kernel) = (self.host(Some(&build.host))?, self.kernel(build.kernel.as_ref())?);
        let image = self.image(build.image_hash.as_deref())?;
        let env = |name: &str| build.env.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        self.run(
            "INSERT INTO build (commit_, file, arch, flavor, kernel, image, started, duration_ms, host, slot, outcome, error) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                commit,
                build.file.as_str(),
                env("ktest_arch"),
                env("ktest_flavor"),
                kernel,
                image,
                build.started,
                integer(millis_of(build.duration)),
                host,
                build.slot,
                build.outcome.word(),
                build.error.as_deref().and_then(one_line),
            ],
        )?;
        let last = self.connection.last_insert_rowid();
        self.run("DELETE FROM build WHERE id <= ?1", [last.saturating_sub(KEPT)]).map(drop)
    }

    fn request(&mut self, request: &RequestNote) -> Result<()> {
        let RequestNote { at, kind, account, file } = request;
        let (kind, branch, sha, test) = match kind {
            RequestKind::Rerun(Rerun { commit, key }) => {
                ("rerun", None, Some(commit.as_str()), Some(key.as_str()))
            }
            RequestKind::Unlist(branch) => ("unlist", Some(branch.to_string()), None, None),
            // The record of the bisection or of the claim says who requested it.
            RequestKind::Bisect(_)
            | RequestKind::CancelBisection(_)
            | RequestKind::Believe(_)
            | RequestKind::CancelBelieve(_)
            // The status snapshot says who drained and paused what.
            | RequestKind::Drain(_)
            | RequestKind::Resume(_)
            | RequestKind::CancelBatch(_)
            | RequestKind::PauseBranch(_)
            | RequestKind::ResumeBranch(_)
            // The tables of the senders and of the marks.
            | RequestKind::Notify(_) => return Ok(()),
        };
        self.run(
            "INSERT INTO request (at, kind, account, branch, sha, test, file) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![at, kind, one_line(account), branch, sha, test, file],
        )?;
        let last = self.connection.last_insert_rowid();
        self.run("DELETE FROM request WHERE id <= ?1", [last.saturating_sub(KEPT)]).map(drop)
    }

    fn request_ended(&mut self, file: &str, at: i64, end: &RequestEnd) -> Result<()> {
        self.run(
            "UPDATE request SET outcome = ?2, reason = ?3, ended = ?4 WHERE file = ?1 AND outcome IS NULL",
            params![file, end.word(), end.reason().and_then(one_line), at],
        )
        .map(drop)
    }
}
