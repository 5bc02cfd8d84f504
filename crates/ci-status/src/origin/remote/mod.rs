//! Results behind a dashboard: listings as JSON, commits as blobs (or as JSON too), logs as files.
//!
//! It asks for nothing but what formats.md has, so the existing system's dashboard does as well as ours; what only
//! ours has (the history view, the list of artifacts) is tried first and done without.

mod cache;
mod http;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use model::{BranchName, BranchRef, CommitId, ResultKey, StatusSnapshot, UserName};
use regex::Regex;
use reqwest::Url;
use results::codec::{Aligned, decode_commit};
use results::json::{ArtifactRow, CommitRow, CommitView, HistoryRow, TestView, UserView};
use results::{BranchEntry, CommitResults, HistoryEntry, LogKind, PREFIX_MIN, Resolved, layout};
use serde::de::DeserializeOwned;

use super::{Held, Origin, all_branches};
use crate::problem::Problem;
use cache::Cache;
use http::{Body, Http, each};

/// What commits come as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The blobs that are published, as JSON where one is not there.
    Blobs,
    /// The JSON views alone.
    Json,
}

/// A dashboard.
#[derive(Debug)]
pub struct Remote {
    http: Http,
    wire: Wire,
    /// A branch that a commit was seen on: existing dashboards show a commit of a branch only.
    seen: Mutex<BTreeMap<CommitId, BranchRef>>,
}

/// The files of a test that every dashboard serves.
const FILES: [&str; 4] = ["duration", "full_log.br", "log.br", "status"];

impl Remote {
    /// The dashboard at an address.
    pub fn open(address: &str, wire: Wire) -> Result<Self, Problem> {
        let folder = Cache::folder(|name| std::env::var_os(name).map(Into::into));
        let http = Http::open(address, Cache::new(folder))?;
        Ok(Self { http, wire, seen: Mutex::default() })
    }

    fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<Option<T>, Problem> {
        let Some(body) = self.http.get(url)? else { return Ok(None) };
        match serde_json::from_slice(&body.bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let why = http::complaint(&body.bytes);
                let why = why.unwrap_or_else(|| format!("not what a dashboard answers: {error}"));
                Err(Problem::Remote { url: body.url, why })
            }
        }
    }

    fn rows(&self, url: &Url, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem> {
        let Some(rows) = self.json::<Vec<CommitRow>>(url)? else { return Ok(None) };
        let entries: Vec<BranchEntry> = rows.into_iter().filter_map(CommitRow::entry).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &entries {
            seen.entry(entry.commit.clone()).or_insert_with(|| at.clone());
        }
        Ok(Some(entries))
    }

    /// The blob; `None` also if it is damaged or not published.
    fn blob(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        let url = self.http.file(&["c", &format!("{commit}.capnp")]);
        let Some(Body { bytes, .. }) = self.http.get(&url)? else { return Ok(None) };
        Ok(decode_commit(commit, Aligned::from(&*bytes).bytes()).ok().map(|blob| blob.results))
    }

    /// The commit's view. One without any test is told by its listing as well.
    fn commit_view(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        let at = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(commit).cloned();
        let mut parameters = Vec::new();
        if let Some(at) = &at {
            parameters.extend([("user", at.user.as_str()), ("branch", at.branch.as_str())]);
        }
        parameters.push(("commit", commit.as_str()));
        let view = self.json::<CommitView>(&self.http.view(&parameters))?;
        Ok(view.and_then(CommitView::results).filter(|results| results.commit == *commit))
    }

    /// The history view of a dashboard that has one.
    fn history_view(&self, at: &BranchRef, key: &ResultKey) -> Option<Vec<HistoryEntry>> {
        let parameters =
            [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("history", key.as_str())];
        let rows: Vec<serde_json::Value> = self.json(&self.http.view(&parameters)).ok()??;
        // Others answer with the branch's listing.
        if rows.iter().any(|row| row.get("passed").is_some()) {
            return None;
        }
        rows.into_iter().map(|row| serde_json::from_value::<HistoryRow>(row).ok()?.entry()).collect()
    }

    fn test_file(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Url {
        let mut segments = vec!["c", commit.as_str(), key.as_str()];
        segments.extend(name.split('/'));
        self.http.file(&segments)
    }
}

impl Origin for Remote {
    fn users(&self) -> Result<BTreeMap<UserName, Vec<BranchName>>, Problem> {
        let url = self.http.view(&[]);
        let views: Option<Vec<UserView>> = self.json(&url)?;
        let Some(views) = views else {
            let why = "there is no dashboard here; give the address that its pages begin with".into();
            return Err(Problem::Remote { url: url.to_string(), why });
        };
        let sorted = |mut view: UserView| {
            view.branches.sort_unstable();
            (view.user, view.branches)
        };
        Ok(views.into_iter().map(sorted).collect())
    }

    fn branch(&self, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem> {
        self.rows(&self.http.view(&[("user", at.user.as_str()), ("branch", at.branch.as_str())]), at)
    }

    fn listings(&self, names: &[BranchRef]) -> Vec<Vec<BranchEntry>> {
        each(names, |at| self.branch(at).ok().flatten().unwrap_or_default())
    }

    fn branch_filtered(&self, at: &BranchRef, test: &Regex) -> Result<Option<Vec<BranchEntry>>, Problem> {
        let parameters =
            [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("test", test.as_str())];
        self.rows(&self.http.view(&parameters), at)
    }

    fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>, Problem> {
        if let Some(history) = self.history_view(at, key) {
            return Ok(Some(history));
        }
        let Some(commits) = self.branch(at)? else { return Ok(None) };
        Ok(Some(each(&commits, |BranchEntry { commit, message, counts, .. }| {
            let results = (counts.total() > 0).then(|| self.commit(commit).ok().flatten()).flatten();
            let entry = results.and_then(|results| results.get(key).cloned());
            HistoryEntry { commit: commit.clone(), message: message.clone(), entry }
        })))
    }

    fn commit(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        if self.wire == Wire::Blobs
            && let Some(results) = self.blob(commit)?
        {
            return Ok(Some(results));
        }
        self.commit_view(commit)
    }

    fn resolve_prefix(&self, prefix: &str) -> Result<Resolved, Problem> {
        let prefix = prefix.to_ascii_lowercase();
        if prefix.len() < PREFIX_MIN || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Resolved::None);
        }
        let listings = self.listings(&all_branches(self)?);
        let begin = |entry: &&BranchEntry| entry.commit.as_str().starts_with(&prefix);
        let (mut tested, mut listed) = (Vec::new(), Vec::new());
        for entry in listings.iter().flatten().filter(begin) {
            if entry.counts.total() > 0 { &mut tested } else { &mut listed }.push(entry.commit.clone());
        }
        let mut found = if tested.is_empty() { listed } else { tested };
        found.sort_unstable();
        found.dedup();
        if let (true, Ok(commit)) = (found.is_empty(), prefix.parse::<CommitId>())
            && self.commit(&commit)?.is_some()
        {
            // It has left its branch and is still published.
            found.push(commit);
        }
        Ok(match found.len() {
            0 => Resolved::None,
            1 => found.pop().map_or(Resolved::None, Resolved::One),
            _ => Resolved::Many(found),
        })
    }

    fn log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<Option<Held>, Problem> {
        let finished = self.http.get(&self.test_file(commit, key, kind.file()))?;
        if let Some(Body { bytes, url, .. }) = finished {
            return Ok(Some(Held::fetched(bytes, true, false, url)));
        }
        let live = self.http.get(&self.test_file(commit, key, kind.live_file()))?;
        Ok(live.map(|Body { bytes, brotli, url }| Held::fetched(bytes, brotli, true, url)))
    }

    fn growth(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        kind: LogKind,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, Problem> {
        self.http.rest(&self.test_file(commit, key, kind.live_file()), offset)
    }

    fn artifacts(&self, commit: &CommitId, key: &ResultKey) -> Result<Vec<ArtifactRow>, Problem> {
        let mut url = self.test_file(commit, key, "");
        url.query_pairs_mut().append_pair("format", "json");
        if let Ok(Some(TestView { artifacts, .. })) = self.json(&url)
            && !artifacts.is_empty()
        {
            return Ok(artifacts);
        }
        let sizes = each(&FILES, |name| self.http.size(&self.test_file(commit, key, name)));
        let mut rows = Vec::new();
        for (name, size) in FILES.iter().zip(sizes) {
            rows.extend(size?.map(|bytes| ArtifactRow { name: (*name).into(), bytes }));
        }
        Ok(rows)
    }

    fn artifact(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Result<Vec<u8>, Problem> {
        let url = self.test_file(commit, key, name);
        match self.http.get(&url)? {
            Some(body) => Ok(body.bytes.to_vec()),
            None => {
                Err(Problem::Remote { url: url.to_string(), why: "the dashboard does not serve it".into() })
            }
        }
    }

    fn snapshot(&self) -> Result<Option<StatusSnapshot>, Problem> {
        self.json(&self.http.file(&["c", layout::SNAPSHOT]))
    }

    fn refresh(&self) {
        self.http.forget();
    }
}
