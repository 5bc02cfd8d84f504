//! Writes results on behalf of the farm: branch listings, the status snapshot, verdicts of jobs that were given up,
//! finished requests. Executors record verdicts with their own handles of the writer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use fsx::clock::unix_seconds;
use gitio::CommitInfo;
use model::{BranchRef, CommitId, ResultKey, StatusSnapshot, Verdict};
use results::notes::{Note, RequestEnd, RequestNote};
use results::{CommitDetails, VerdictRecord, Writer};
use tokio::sync::mpsc;

use crate::bisect::repository::{self, GitAnswer};
use crate::farm::{Command, Controls};
use crate::past_runs::PastRunsReader;
use crate::patches::PatchRecorder;
use crate::plan::{self, History, PlannedJob};
use crate::requests::{self, TakenRequest};
use crate::reserve_file::ReserveFile;
use crate::watch::fetch_loop::View;

/// The time for the store to publish a branch listing before the daemon continues without it.
const LISTING: Duration = Duration::from_secs(10);

/// Owns the writer and publishes.
#[derive(Debug)]
pub struct Publisher {
    writer: Writer,
    reserve: ReserveFile,
    /// The commits of each listing as last published.
    listed: BTreeMap<BranchRef, Vec<CommitId>>,
    listing_problems: BTreeSet<String>,
    past_runs: PastRunsReader,
    patches: PatchRecorder,
    /// For the answers of repositories to bisections.
    answers: mpsc::UnboundedSender<(String, GitAnswer)>,
}

impl Publisher {
    /// Publishes through `writer`. The answers of repositories to bisections go to `answers`.
    #[must_use]
    pub fn new(writer: Writer, answers: mpsc::UnboundedSender<(String, GitAnswer)>) -> Self {
        let patches = PatchRecorder::new(writer.clone());
        let reserve = ReserveFile::new(&writer.output_dir().join(crate::WORK));
        Self {
            writer,
            reserve,
            listed: BTreeMap::new(),
            listing_problems: BTreeSet::new(),
            past_runs: PastRunsReader::default(),
            patches,
            answers,
        }
    }

    /// The results.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Durations and verdict counts of earlier runs, by result key, and the tests that fail only under load; empty if they
    /// cannot be read.
    #[must_use]
    pub fn history(
        &mut self,
        config: &Arc<Config>,
    ) -> (HashMap<ResultKey, History>, Arc<HashSet<ResultKey>>) {
        let past = self.past_runs.newest(self.writer.reader(), config);
        let known = self.writer.reader().durations().unwrap_or_else(|error| {
            tracing::warn!("{error}; planning without history");
            Vec::new()
        });
        (plan::histories(known, &past.durations), past.fail_under_load)
    }

    /// Publishes the listings of the branches with changed commits. Returns these branches.
    pub async fn list_branches(&mut self, view: &View) -> Vec<BranchRef> {
        self.listing_problems.clear();
        let fetched = view.branches.iter();
        let fetched = fetched.filter(|(_, branch)| branch.fetched.is_some() || !branch.commits.is_empty());
        let mut tasks = Vec::new();
        for (name, branch) in fetched {
            let ids: Vec<CommitId> = branch.commits.iter().map(|commit| commit.id.clone()).collect();
            if self.listed.get(name) != Some(&ids) {
                let commits = Arc::clone(&branch.commits);
                tasks.push(tokio::spawn(list(self.writer.clone(), name.clone(), ids, commits)));
            }
        }
        let mut listed = Vec::new();
        for task in tasks {
            match task.await {
                Ok((name, ids, None)) => {
                    listed.push(name.clone());
                    self.listed.insert(name, ids);
                }
                Ok((name, _, Some(error))) => {
                    self.listing_problems.insert(format!("branch {name} is not listed: {error}"));
                }
                Err(error) => tracing::error!("the listing of a branch cannot be published: {error}"),
            }
        }
        self.patches.record(view, &listed);
        listed
    }

    /// Carries out a command of the farm. For a job that was given up, returns it, with its verdict if that is durable.
    pub async fn carry_out(&self, command: Command) -> Option<(Arc<PlannedJob>, Option<Verdict>)> {
        match command {
            Command::RecordAbandoned { job, reason } => {
                let verdict = self.record_abandoned(&job, reason).await;
                return Some((job, verdict));
            }
            Command::WriteBisection { id, text } => {
                if let Err(error) = results::bisections::write(self.writer.output_dir(), &id, &text) {
                    tracing::error!("the record of a bisection: {error}");
                }
            }
            Command::WriteClaim { id, text } => {
                if let Err(error) = results::claims::write(self.writer.output_dir(), &id, &text) {
                    tracing::error!("the record of a claim: {error}");
                }
            }
            Command::WriteControls(text) => {
                if let Err(error) = Controls::write(self.writer.output_dir(), &text) {
                    tracing::error!("the record of what is drained and paused: {error}");
                }
            }
            Command::KeepCommits { id, repo, commits } => repository::keep(&id, &repo, &commits).await,
            Command::AskRepository { id, repo, question } => {
                let (answers, reader) = (self.answers.clone(), self.writer.reader());
                // A merge of many commits takes a while.
                tokio::spawn(async move {
                    let answer = repository::ask(&id, repo, reader, question).await;
                    let _ = answers.send((id, answer));
                });
            }
            Command::FinishRequest(file, end) => finish(&self.writer, &file, end),
            Command::Unlist { branch, request } => {
                tokio::spawn(unlist(self.writer.clone(), branch, request));
            }
        }
        None
    }

    async fn record_abandoned(&self, job: &PlannedJob, reason: String) -> Option<Verdict> {
        let verdict = Verdict::FailedToRun { reason };
        let (commit, key) = (job.commit.clone(), job.key.clone());
        let record = VerdictRecord::new(commit, key, verdict.clone(), Duration::ZERO);
        match self.writer.record(record).await {
            Ok(_) => Some(verdict),
            Err(error) => {
                tracing::error!(job = %job.name(), "the verdict cannot be recorded: {error}");
                None
            }
        }
    }

    /// Records a request that was taken, if an earlier daemon did not. The address of a client stays private.
    pub fn note_request(&self, request: &TakenRequest) {
        let (Some(requester), Some(file)) = (&request.requester, request.file.file_name()) else { return };
        let (kind, file) = (request.kind.clone(), file.to_string_lossy().into());
        let account = requester.account();
        note(&self.writer, Note::Request(RequestNote { at: unix_seconds(), kind, account, file }));
    }

    /// Publishes the status snapshot. If the disk is full, uses the space of the reserve file.
    pub fn write_snapshot(&mut self, snapshot: &StatusSnapshot) {
        let mut written = self.writer.write_snapshot(snapshot);
        if written.is_err() && self.reserve.release() {
            written = self.writer.write_snapshot(snapshot);
        } else if written.is_ok() {
            self.reserve.reserve();
        }
        if let Err(error) = written {
            tracing::error!("{error}");
        }
    }

    /// The problems that need an operator.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.writer.problems();
        problems.extend(self.listing_problems.iter().cloned());
        problems
    }

    /// Publishes pending changes.
    pub async fn flush(&self) {
        if let Err(error) = self.writer.flush().await {
            tracing::error!("{error}");
        }
    }
}

pub(crate) type Listed = (BranchRef, Vec<CommitId>, Option<String>);

/// Publishes the listing of a branch. Returns the error if that failed.
pub(crate) async fn list(
    writer: Writer,
    name: BranchRef,
    ids: Vec<CommitId>,
    commits: Arc<[CommitInfo]>,
) -> Listed {
    let messages = commits.iter().map(|commit| (commit.id.clone(), commit.message.clone())).collect();
    let details = commits.iter().map(|commit| {
        let CommitInfo { id, tree, author, time, .. } = commit.clone();
        (id, CommitDetails { tree, author, date: time })
    });
    let write = async {
        writer.set_branch(&name, messages).await?;
        writer.set_details(details.collect()).await
    };
    let error = match tokio::time::timeout(LISTING, write).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("the store did not publish it within {} s", LISTING.as_secs())),
    };
    (name, ids, error)
}

async fn unlist(writer: Writer, branch: BranchRef, request: std::path::PathBuf) {
    let end = match writer.unlist_branch(&branch).await {
        Ok(true) => {
            tracing::info!("the listing of {branch} is removed");
            RequestEnd::Done
        }
        Ok(false) => {
            tracing::warn!("{branch} has no results; there is no listing to remove");
            RequestEnd::Refused("there is no listing".into())
        }
        Err(error) => {
            tracing::error!("the listing of {branch} cannot be removed: {error}");
            RequestEnd::Failed(error.to_string())
        }
    };
    finish(&writer, &request, end);
}

/// Records the result of a request and removes its file.
fn finish(writer: &Writer, file: &Path, end: RequestEnd) {
    if let Some(name) = file.file_name() {
        note(writer, Note::RequestEnded { file: name.to_string_lossy().into(), at: unix_seconds(), end });
    }
    requests::finish(file);
}

fn note(writer: &Writer, note: Note) {
    if let Err(error) = writer.note(note) {
        tracing::warn!("{error}");
    }
}
