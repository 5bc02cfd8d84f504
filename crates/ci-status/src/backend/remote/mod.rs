//! Results on a dashboard: listings as JSON, commits as blobs or JSON, logs as files.
//!
//! Uses only the addresses in docs/formats.md, so that other dashboards work too. The history view and the list of
//! artifacts are optional.

mod cache;
mod foreign;
mod http;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{BranchName, BranchRef, CommitId, ResultKey, StatusSnapshot, UserName};
use regress::json::{ChangesRow, CompareView, CrashRow};
use regress::range_diff::RangeDiffView;
use reqwest::Url;
use results::bisections::BisectionRecords;
use results::claims::ClaimRecords;
use results::codec::{Aligned, decode_commit};
use results::findings::RecordedFinding;
use results::json::{
    ArtifactRow, BuildRow, CommitRow, CommitView, FlakyRow, HistoryRow, OwnersRow, SinceRow, SuspicionRow,
    TestView, UserView,
};
use results::requests::{self, RequestKind, RequestState};
use results::{BranchEntry, CommitResults, HistoryEntry, LogKind, PREFIX_MIN, Resolved, layout};
use serde::de::DeserializeOwned;

use super::{Backend, LogContent, RelatedResults, all_branches};
use crate::problem::Problem;
use crate::select::TestSelection;
use cache::Cache;
pub use http::base;
use http::{Body, Http, each};

/// The form in which commits are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFormat {
    /// Published blobs, or JSON if a blob is missing.
    Blobs,
    /// Only the JSON API.
    Json,
}

/// A dashboard.
#[derive(Debug)]
pub struct Remote {
    http: Http,
    format: CommitFormat,
    /// A branch of each listed commit: other dashboards show a commit only together with its branch.
    branch_of: Mutex<BTreeMap<CommitId, BranchRef>>,
}

/// The artifacts that every dashboard serves.
const FILES: [&str; 4] = ["duration", "full_log.br", "log.br", "status"];

/// Selects no test configuration.
const NO_CONFIGURATION: &str = ",";

impl Remote {
    /// The dashboard at an address. Each request has this time limit and this token.
    pub fn open(
        address: &str,
        format: CommitFormat,
        (timeout, token): (Duration, Option<String>),
    ) -> Result<Self, Problem> {
        let directory = Cache::directory(|name| std::env::var_os(name).map(Into::into));
        let http = Http::open(address, Cache::new(directory), (timeout, token))?;
        Ok(Self { http, format, branch_of: Mutex::default() })
    }

    fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<Option<T>, Problem> {
        let Some(body) = self.http.get(url)? else { return Ok(None) };
        match serde_json::from_slice(&body.bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                if let Some(title) = http::page_title(&body.bytes) {
                    return Err(Problem::WebPage { url: body.url.clone(), address: body.url, title });
                }
                if let Some(problem) = foreign::empty(&body.url, &body.bytes) {
                    return Err(problem);
                }
                let reason = http::error_of(&body.bytes);
                let reason =
                    reason.unwrap_or_else(|| format!("the response is not the JSON of a dashboard: {error}"));
                Err(Problem::Remote { url: body.url, reason })
            }
        }
    }

    /// An answer that is not from the cache of this process.
    fn newest<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Problem> {
        let url = self.http.file(segments);
        self.http.clear_memory();
        self.json(&url)?.ok_or_else(|| Problem::Remote {
            url: url.to_string(),
            reason: "this dashboard does not have it; it may be an older version".into(),
        })
    }

    fn rows(&self, url: &Url, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem> {
        let Some(rows) = self.json::<Vec<CommitRow>>(url)? else { return Ok(None) };
        let entries: Vec<BranchEntry> = rows.into_iter().filter_map(CommitRow::entry).collect();
        let mut branch_of = self.branch_of.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &entries {
            branch_of.entry(entry.commit.clone()).or_insert_with(|| at.clone());
        }
        Ok(Some(entries))
    }

    /// The address of all commits of a branch.
    fn listing(&self, at: &BranchRef) -> Url {
        let parameters = [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("untested", "1")];
        self.http.view(&parameters)
    }

    /// The address of all commits of a branch with the counts of some tests.
    fn selected(&self, at: &BranchRef, pattern: Option<&str>, configuration: Option<&str>) -> Url {
        let mut url = self.listing(at);
        for (name, value) in [("test", pattern), ("config", configuration)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    /// Fails for a dashboard that ignores test configurations: it has tests in one that does not exist.
    fn selects_configurations(&self, at: &BranchRef) -> Result<(), Problem> {
        let answer = self.rows(&self.selected(at, None, Some(NO_CONFIGURATION)), at)?.unwrap_or_default();
        if answer.iter().all(|entry| entry.counts.total() == 0) {
            return Ok(());
        }
        Err(Problem::Remote {
            url: self.listing(at).to_string(),
            reason: "this dashboard cannot count the tests of a configuration, it may be an older version; use --test".into(),
        })
    }

    /// The blob; `None` if it is missing, damaged or not published.
    fn blob(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        let url = self.http.file(&["c", &format!("{commit}.capnp")]);
        let Some(Body { bytes, .. }) = self.http.get(&url)? else { return Ok(None) };
        Ok(decode_commit(commit, Aligned::from(&*bytes).bytes()).ok().map(|blob| blob.results))
    }

    /// The JSON view of a commit.
    fn commit_view(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        let at = self.branch_of.lock().unwrap_or_else(PoisonError::into_inner).get(commit).cloned();
        let mut parameters = Vec::new();
        if let Some(at) = &at {
            parameters.extend([("user", at.user.as_str()), ("branch", at.branch.as_str())]);
        }
        parameters.push(("commit", commit.as_str()));
        let view = self.json::<CommitView>(&self.http.view(&parameters))?;
        Ok(view.and_then(CommitView::results).filter(|results| results.commit == *commit))
    }

    /// The history view, if the dashboard has one.
    fn history_view(&self, at: &BranchRef, key: &ResultKey) -> Option<Vec<HistoryEntry>> {
        let parameters =
            [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("history", key.as_str())];
        let rows: Vec<serde_json::Value> = self.json(&self.http.view(&parameters)).ok()??;
        // Other dashboards return the listing of the branch.
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

impl Backend for Remote {
    fn users(&self) -> Result<BTreeMap<UserName, Vec<BranchName>>, Problem> {
        let url = self.http.view(&[]);
        let views: Option<Vec<UserView>> = self.json(&url)?;
        let Some(views) = views else {
            let reason = "no dashboard at this address; give the address of its start page".into();
            return Err(Problem::Remote { url: url.to_string(), reason });
        };
        let sorted = |mut view: UserView| {
            view.branches.sort_unstable();
            (view.user, view.branches)
        };
        Ok(views.into_iter().map(sorted).collect())
    }

    fn branch(&self, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem> {
        self.rows(&self.listing(at), at)
    }

    fn listings(&self, names: &[BranchRef]) -> Vec<Vec<BranchEntry>> {
        each(names, |at| self.branch(at).ok().flatten().unwrap_or_default())
    }

    fn branch_filtered(
        &self,
        at: &BranchRef,
        tests: &TestSelection,
    ) -> Result<Option<Vec<BranchEntry>>, Problem> {
        if tests.configuration().is_some() {
            self.selects_configurations(at)?;
        }
        self.rows(&self.selected(at, tests.pattern(), tests.configuration()), at)
    }

    fn may_have_configuration(&self, at: &BranchRef, wanted: &str) -> Result<bool, Problem> {
        self.selects_configurations(at)?;
        Ok(self.rows(&self.selected(at, None, Some(wanted)), at)?.is_some())
    }

    fn builds(&self, at: &BranchRef) -> Result<BTreeMap<CommitId, BuildRow>, Problem> {
        let rows = self.json::<Vec<CommitRow>>(&self.listing(at))?.unwrap_or_default();
        let build = |row: CommitRow| Some((row.commit.parse().ok()?, row.build?));
        Ok(rows.into_iter().filter_map(build).collect())
    }

    fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>, Problem> {
        if let Some(history) = self.history_view(at, key) {
            return Ok(Some(history));
        }
        let Some(commits) = self.branch(at)? else { return Ok(None) };
        Ok(Some(each(&commits, |BranchEntry { commit, message, authorship, counts, .. }| {
            let results = (counts.total() > 0).then(|| self.commit(commit).ok().flatten()).flatten();
            let entry = results.and_then(|results| results.get(key).cloned());
            HistoryEntry {
                commit: commit.clone(),
                message: message.clone(),
                authorship: authorship.clone(),
                entry,
            }
        })))
    }

    fn flaky(&self, at: &BranchRef) -> Result<Vec<FlakyRow>, Problem> {
        let parameters = [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("flaky", "")];
        Ok(self.json(&self.http.view(&parameters))?.unwrap_or_default())
    }

    fn findings(&self, at: Option<&BranchRef>, limit: usize) -> Result<Vec<RecordedFinding>, Problem> {
        let address = match at {
            Some(at) => self.http.view(&[
                ("user", at.user.as_str()),
                ("branch", at.branch.as_str()),
                ("findings", ""),
            ]),
            None => self.http.file(&["c", "findings.json"]),
        };
        let mut found: Vec<RecordedFinding> = self.json(&address)?.unwrap_or_default();
        found.truncate(limit);
        Ok(found)
    }

    fn changes(&self, at: &BranchRef) -> Result<Vec<ChangesRow>, Problem> {
        let parameters = [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("changes", "")];
        let rows: Vec<serde_json::Value> =
            self.json(&self.http.view(&parameters)).ok().flatten().unwrap_or_default();
        // Other dashboards return the listing of the branch.
        let row = |row: serde_json::Value| serde_json::from_value(row).ok();
        Ok(rows.into_iter().filter(|row| row.get("passed").is_none()).filter_map(row).collect())
    }

    fn crashes(&self, at: &BranchRef) -> Result<Vec<CrashRow>, Problem> {
        let parameters = [("user", at.user.as_str()), ("branch", at.branch.as_str()), ("crashes", "")];
        Ok(self.json(&self.http.view(&parameters))?.unwrap_or_default())
    }

    fn range_diff(&self, at: &BranchRef, of: Option<&CommitId>) -> Result<Option<RangeDiffView>, Problem> {
        let of = of.map_or("", CommitId::as_str);
        self.json(&self.http.view(&[
            ("user", at.user.as_str()),
            ("branch", at.branch.as_str()),
            ("range-diff", of),
        ]))
    }

    fn commit(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        if self.format == CommitFormat::Blobs
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
            // A commit that is no longer on a branch may still be published.
            found.push(commit);
        }
        Ok(match found.len() {
            0 => Resolved::None,
            1 => found.pop().map_or(Resolved::None, Resolved::One),
            _ => Resolved::Many(found),
        })
    }

    fn log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<Option<LogContent>, Problem> {
        let finished = self.http.get(&self.test_file(commit, key, kind.file()))?;
        if let Some(Body { bytes, url, .. }) = finished {
            return Ok(Some(LogContent::fetched(bytes, true, false, url)));
        }
        let live = self.http.get(&self.test_file(commit, key, kind.live_file()))?;
        Ok(live.map(|Body { bytes, brotli, url }| LogContent::fetched(bytes, brotli, true, url)))
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
            None => Err(Problem::Remote {
                url: url.to_string(),
                reason: "the dashboard does not serve this file".into(),
            }),
        }
    }

    fn owners(&self, results: &CommitResults) -> Result<Vec<OwnersRow>, Problem> {
        let url = self.http.view(&[("commit", results.commit.as_str())]);
        // Other dashboards have none.
        Ok(self.json::<CommitView>(&url).ok().flatten().map(|view| view.owners).unwrap_or_default())
    }

    fn suspicious(
        &self,
        base: Option<&CommitId>,
        commit: &CommitId,
    ) -> Result<Option<Vec<SuspicionRow>>, Problem> {
        let Some(base) = base else {
            let url = self.http.view(&[("commit", commit.as_str())]);
            let view = self.json::<CommitView>(&url).ok().flatten();
            // Other dashboards do not give milliseconds, and do not search.
            let view = view.filter(|view| view.tests.iter().any(|test| test.duration_ms > 0));
            return Ok(view.map(|view| view.suspicious));
        };
        let url = self.http.view(&[("compare", &format!("{base}..{commit}"))]);
        Ok(self.json::<CompareView>(&url).ok().flatten().map(|view| view.suspicious))
    }

    fn related_results(&self, commit: &CommitId) -> Result<RelatedResults, Problem> {
        let url = self.http.view(&[("commit", commit.as_str())]);
        let view = self.json::<CommitView>(&url).ok().flatten();
        let related = |CommitView { same_code, same_patch, .. }| RelatedResults { same_code, same_patch };
        Ok(view.map(related).unwrap_or_default())
    }

    fn since(&self, at: Option<&BranchRef>, commit: &CommitId) -> Result<Option<Vec<SinceRow>>, Problem> {
        let mut parameters = Vec::new();
        if let Some(at) = at {
            parameters.extend([("user", at.user.as_str()), ("branch", at.branch.as_str())]);
        }
        parameters.push(("commit", commit.as_str()));
        // Other dashboards have no such field.
        let view = self.json::<CommitView>(&self.http.view(&parameters)).ok().flatten();
        Ok(view.map(|view| view.since))
    }

    fn snapshot(&self) -> Result<Option<StatusSnapshot>, Problem> {
        self.json(&self.http.file(&["c", layout::SNAPSHOT]))
    }

    fn bisections(&self) -> Result<BisectionRecords, Problem> {
        let records = self.newest(&["c", "bisections.json"])?;
        Ok(BisectionRecords { records, problems: Vec::new() })
    }

    fn claims(&self) -> Result<ClaimRecords, Problem> {
        Ok(ClaimRecords { records: self.newest(&["c", "claims.json"])?, problems: Vec::new() })
    }

    fn submit(&self, kind: RequestKind) -> Result<String, Problem> {
        let url = self.http.file(&["requests"]);
        let body = requests::Request { version: requests::VERSION, address: None, kind };
        let answer = self.http.post(&url, serde_json::to_vec(&body).unwrap_or_default())?;
        let file = serde_json::from_slice::<serde_json::Value>(&answer).ok();
        let file = file.as_ref().and_then(|answer| answer["request"].as_str());
        file.filter(|file| requests::is_file_name(file)).map(str::to_owned).ok_or_else(|| Problem::Remote {
            url: url.to_string(),
            reason: "the response names no request".into(),
        })
    }

    fn request_state(&self, file: &str) -> Result<RequestState, Problem> {
        #[derive(serde::Deserialize)]
        struct RequestView {
            state: RequestState,
        }
        let view: RequestView = self.newest(&["requests", file])?;
        Ok(view.state)
    }

    fn refresh(&self) {
        self.http.clear_memory();
    }
}
