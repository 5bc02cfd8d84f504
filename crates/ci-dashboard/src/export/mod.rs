//! `ci-dashboard export`: a static copy of the pages of branches.
//!
//! The pages are those of [`handle`]. Starting at the branches, the copy follows the links to all addresses in its
//! [`Scope`]. When all files are written, the links of the pages are rewritten: to a file, or to the dashboard, or to text.

mod directory;
mod rewrite;
mod scope;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use http::header;
use model::BranchRef;

use self::directory::Stage;
use self::scope::{Anchors, FileKind, Scope, Target};
use crate::http::{Body, Request, Response};
use crate::page::When;
use crate::problem::Problem;
use crate::site::{Site, handle};

/// The maximum number of pages of branches and commits.
const PAGES_MAX: usize = 20_000;
/// The maximum number of pages of tests.
const TESTS_MAX: usize = 5_000;
/// The maximum number of logs.
const LOGS_MAX: usize = 10_000;
/// The maximum size of a log, in bytes.
const LOG_MAX: u64 = 16 << 20;
/// The maximum size of all logs, in bytes.
const ALL_LOGS_MAX: u64 = 1 << 30;

/// What is exported, and where to.
#[derive(Debug, Clone)]
pub struct Export {
    /// The directory. A copy there is replaced.
    pub dir: PathBuf,
    /// The branches; all if there are none.
    pub branches: Vec<BranchRef>,
    /// The number of commits of each branch with a page.
    pub commits: usize,
    /// The address of the dashboard, for links to pages that are not exported.
    pub base_url: Option<String>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// The directory is something else.
    #[error("{}: not a directory that ci-dashboard export wrote; give another one, or remove it", .0.display())]
    NotExport(PathBuf),
    /// The path has no name.
    #[error("{}: the path does not end in a name; give the directory of the copy", .0.display())]
    Name(PathBuf),
    /// The results cannot be shown.
    #[error("{what}: {problem}")]
    Results {
        /// The branch.
        what: String,
        /// The reason.
        problem: String,
    },
    /// The address of the dashboard is not one.
    #[error("{0}: not an address of a dashboard; give one that begins with https:// or http://")]
    BaseUrl(String),
    /// A signal.
    #[error("interrupted; no copy was written")]
    Interrupted,
}

/// The number of files of a copy, and of those that were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// The pages.
    pub pages: usize,
    /// The logs.
    pub logs: usize,
    /// The size of the pages and logs, in bytes.
    pub bytes: u64,
    /// The pages beyond the limit.
    pub pages_left_out: usize,
    /// The logs beyond the limits.
    pub logs_left_out: usize,
}

/// Writes a copy of a site at the time `now`, in Unix seconds. `progress` is called after each file; the copy ends without a
/// result if it returns false.
pub fn export(
    site: Site,
    export: &Export,
    now: i64,
    mut progress: impl FnMut(&Exported) -> bool,
) -> Result<Exported, ExportError> {
    let base_url = export.base_url.as_deref().map(base_url).transpose()?;
    let stage = Stage::create(&export.dir)?;
    let branches = branches(&site, &export.branches)?;
    let site = site.showing_only(branches.clone());
    let scope =
        Scope::new(&site, branches, export.commits).map_err(|problem| results(&"the branches", &problem))?;
    let mut copy = StaticCopy { scope, stage, now, files: HashMap::new(), exported: Exported::default() };
    copy.collect(&site, &mut progress)?;
    copy.rewrite(base_url.as_deref(), &mut progress)?;
    let StaticCopy { stage, exported, .. } = copy;
    if !progress(&exported) {
        return Err(ExportError::Interrupted);
    }
    stage.publish()?;
    Ok(exported)
}

fn results(what: &impl ToString, problem: &Problem) -> ExportError {
    ExportError::Results { what: what.to_string(), problem: problem.to_string() }
}

/// The address of a dashboard, without the slash at its end.
fn base_url(text: &str) -> Result<String, ExportError> {
    let is_web = ["https://", "http://"]
        .iter()
        .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    let is_plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\"<>".contains(c));
    if is_web && is_plain {
        Ok(text.trim_end_matches('/').into())
    } else {
        Err(ExportError::BaseUrl(text.into()))
    }
}

/// The given branches, which must exist, or all.
fn branches(site: &Site, given: &[BranchRef]) -> Result<Vec<BranchRef>, ExportError> {
    if given.is_empty() {
        let users = site.reader().users().map_err(|error| results(&"the branches", &error.into()))?;
        let all =
            users.iter().flat_map(|(user, branches)| branches.iter().map(|name| BranchRef::new(user, name)));
        return Ok(all.collect());
    }
    for at in given {
        site.store().branch(at).map_err(|problem| results(at, &problem))?;
    }
    Ok(given.to_vec())
}

/// A written file.
struct Written {
    kind: FileKind,
    name: String,
    anchors: Anchors,
}

/// A copy that is being written.
struct StaticCopy<'a> {
    scope: Scope<'a>,
    stage: Stage,
    now: i64,
    /// By the address of the target.
    files: HashMap<String, Written>,
    exported: Exported,
}

impl StaticCopy<'_> {
    /// Writes the files as the server sends them.
    fn collect(
        &mut self,
        site: &Site,
        progress: &mut impl FnMut(&Exported) -> bool,
    ) -> Result<(), ExportError> {
        let mut queue: VecDeque<Target> = self.scope.first().into();
        let mut known: HashSet<Target> = queue.iter().cloned().collect();
        let mut tests = 0;
        while let Some(target) = queue.pop_front() {
            let is_over = match target.kind {
                FileKind::Page => self.exported.pages - tests >= PAGES_MAX,
                FileKind::Test => tests >= TESTS_MAX,
                FileKind::Log | FileKind::Asset => false,
            };
            if is_over {
                self.exported.pages_left_out += 1;
                continue;
            }
            let response = handle(site, &Request::get(&target.address), self.now);
            if !response.status.is_success() {
                // Not everything that has a link exists: a branch without results has no matrix.
                continue;
            }
            tests += usize::from(target.kind == FileKind::Test);
            for link in self.write(&target, response)? {
                let address = link.split('#').next().unwrap_or("");
                if let Some(found) = self.scope.target(address)
                    && known.insert(found.clone())
                {
                    queue.push_back(found);
                }
            }
            if !progress(&self.exported) {
                return Err(ExportError::Interrupted);
            }
        }
        Ok(())
    }

    /// Writes a file, and returns its links.
    fn write(&mut self, target: &Target, response: Response) -> Result<Vec<String>, ExportError> {
        let is_log = target.kind == FileKind::Log;
        let left = ALL_LOGS_MAX.saturating_sub(self.exported.bytes);
        let max = if is_log { LOG_MAX.min(left) } else { u64::MAX };
        let read = if is_log && self.exported.logs >= LOGS_MAX { Ok(None) } else { content(response, max) };
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.exported.logs_left_out += 1;
                return Ok(Vec::new());
            }
            Err(error) => {
                tracing::warn!("{}: cannot be read: {error}", target.address);
                return Ok(Vec::new());
            }
        };
        let name = target.file_name();
        self.stage.write(&name, &bytes)?;
        let (mut links, mut anchors) = (Vec::new(), Anchors::default());
        match target.kind {
            FileKind::Page | FileKind::Test => {
                let html = String::from_utf8_lossy(&bytes);
                (links, anchors) = (rewrite::links(&html), Anchors::of(rewrite::anchors(&html)));
                self.exported.pages += 1;
            }
            FileKind::Log => {
                self.exported.logs += 1;
                self.exported.bytes += bytes.len() as u64;
            }
            FileKind::Asset => {}
        }
        self.files.insert(target.address.clone(), Written { kind: target.kind, name, anchors });
        Ok(links)
    }

    /// Rewrites the links of the pages.
    fn rewrite(
        &self,
        base_url: Option<&str>,
        progress: &mut impl FnMut(&Exported) -> bool,
    ) -> Result<(), ExportError> {
        let made = When::unix(self.now).map(|when| format!(", made {when} UTC")).unwrap_or_default();
        for (address, file) in &self.files {
            if !matches!(file.kind, FileKind::Page | FileKind::Test) {
                continue;
            }
            let html = self.stage.read(&file.name)?;
            let live = base_url.map_or(String::new(), |base| {
                format!(
                    " <a href=\"{}\">The page on the dashboard</a>",
                    rewrite::escape(&format!("{base}{address}"))
                )
            });
            let note = format!("\n<p class=\"note\">A static copy{made}.{live}</p>");
            let html = rewrite::rewrite(&html, &note, |link| self.link(file, link, base_url));
            self.stage.write(&file.name, html.as_bytes())?;
            if !progress(&self.exported) {
                return Err(ExportError::Interrupted);
            }
        }
        Ok(())
    }

    /// The address of a link on a page of the copy; `None` if it leads nowhere.
    fn link(&self, page: &Written, link: &str, base_url: Option<&str>) -> Option<String> {
        if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
            return Some(link.into());
        }
        let (address, anchor) =
            link.split_once('#').map_or((link, None), |(address, anchor)| (address, Some(anchor)));
        if address.is_empty() {
            return anchor.filter(|anchor| page.anchors.has(anchor)).map(|_| link.into());
        }
        if !address.starts_with('/') {
            return None;
        }
        match self.scope.target(address).and_then(|target| self.files.get(&target.address)) {
            Some(file) => match anchor.filter(|anchor| file.anchors.has(anchor)) {
                Some(anchor) => Some(format!("{}#{anchor}", file.name)),
                None => Some(file.name.clone()),
            },
            None => base_url.map(|base| format!("{base}{link}")),
        }
    }
}

/// The body of a response, decompressed; `None` if it is longer than `max`.
fn content(response: Response, max: u64) -> io::Result<Option<Vec<u8>>> {
    let is_brotli = response.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "br");
    let limit = max.saturating_add(1);
    let mut bytes = Vec::new();
    match response.body {
        Body::File { mut file, start, length } => {
            file.seek(SeekFrom::Start(start))?;
            let stored = file.take(length);
            if is_brotli {
                brotli::Decompressor::new(stored, 64 << 10).take(limit).read_to_end(&mut bytes)?;
            } else {
                stored.take(limit).read_to_end(&mut bytes)?;
            }
        }
        body => body.write_to(&mut bytes)?,
    }
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}
