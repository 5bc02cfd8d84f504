//! Which addresses a static copy has, and the names of their files.

use std::collections::{HashMap, HashSet};

use model::{BranchRef, CommitId, ResultKey, Status, UserName};

use crate::http::{Encoded, Request};
use crate::route::{
    self, BranchesQuery, CommitOrBranch, CommitRoute, FileRoute, Format, Links, ResultFile, Route,
    TableQuery, TestRoute, with_parameter,
};
use crate::site::Site;

/// The maximum length of the readable part of a file name.
const NAME_MAX: usize = 90;

/// What a file is, for the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// A page of a branch or commit.
    Page,
    /// The page of a test.
    Test,
    /// A log as text.
    Log,
    /// A style sheet, script or image.
    Asset,
}

/// A file of the copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) kind: FileKind,
    /// The address of its content. Several addresses of one page have the same one.
    pub(crate) address: String,
}

impl Target {
    fn new(kind: FileKind, address: String) -> Option<Self> {
        Some(Self { kind, address })
    }

    /// The name of the file: the address in characters that each file system accepts, and a hash that makes it unique.
    pub(crate) fn file_name(&self) -> String {
        if self.address == "/ci" {
            return "index.html".into();
        }
        let (stem, ending) = match self.kind {
            FileKind::Page | FileKind::Test => (self.address.as_str(), "html"),
            FileKind::Log => (self.address.as_str(), "txt"),
            FileKind::Asset => {
                let known = ["css", "js", "svg"].into_iter();
                let found =
                    known.filter_map(|ending| Some((self.address.strip_suffix(ending)?, ending))).next();
                found.unwrap_or((&self.address, "bin"))
            }
        };
        let mut name = String::new();
        for c in stem.chars().skip(1).take(NAME_MAX) {
            match c {
                c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
                _ if name.ends_with('-') => {}
                _ => name.push('-'),
            }
        }
        let hash = fsx::digest::sha256_hex(&self.address);
        format!("{}-{}.{ending}", name.trim_matches('-'), &hash[..16])
    }
}

/// The exported branches and commits.
pub(crate) struct Scope<'a> {
    site: &'a Site,
    branches: Vec<BranchRef>,
    /// Each commit with the first exported branch that has it.
    commits: HashMap<CommitId, BranchRef>,
}

impl<'a> Scope<'a> {
    /// The newest `count` commits with results of each branch.
    pub(crate) fn new(
        site: &'a Site,
        branches: Vec<BranchRef>,
        count: usize,
    ) -> Result<Self, crate::problem::Problem> {
        let mut commits = HashMap::new();
        for at in &branches {
            let listed = site.store().branch(at)?;
            let with_results = listed.into_iter().filter(|entry| entry.counts.total() > 0);
            for entry in with_results.take(count) {
                commits.entry(entry.commit).or_insert_with(|| at.clone());
            }
        }
        Ok(Self { site, branches, commits })
    }

    fn has_user(&self, user: &UserName) -> bool {
        self.branches.iter().any(|at| at.user == *user)
    }

    fn has_failure(&self, sha: &CommitId, key: &ResultKey) -> bool {
        self.commits.contains_key(sha)
            && self
                .site
                .store()
                .statuses(sha)
                .and_then(|found| found.get(key.as_str()))
                .is_some_and(|status| status.has_failure() || status == Status::FailedToRun)
    }

    /// The pages that do not depend on links.
    pub(crate) fn first(&self) -> Vec<Target> {
        let page = |address: String| Target { kind: FileKind::Page, address };
        let mut first = vec![page(LINKS.home())];
        for at in &self.branches {
            first.extend(
                [
                    LINKS.branch(at),
                    LINKS.crashes(at),
                    LINKS.flaky(at),
                    LINKS.findings(at),
                    LINKS.grid(at),
                    LINKS.matrix_of_tip(at),
                ]
                .map(page),
            );
        }
        first
    }

    /// The file of an address of the site, without its fragment; `None` if it is not exported.
    pub(crate) fn target(&self, address: &str) -> Option<Target> {
        let (Format::Html, Ok(route)) = route::parse(&Request::get(address)) else { return None };
        let has = |at: &BranchRef| self.branches.contains(at);
        match route {
            Route::Home(query) => page(&query, LINKS.home()),
            Route::User(user, query) if self.has_user(&user) => page(&query, LINKS.user(&user)),
            Route::Branch { at, test: None, config: None, from, .. } if has(&at) => {
                let address = LINKS.branch(&at);
                let address =
                    from.map(|from| with_parameter(&address, "from", from.as_str())).unwrap_or(address);
                Target::new(FileKind::Page, address)
            }
            Route::Crashes(at, query) if has(&at) => table(&query, LINKS.crashes(&at)),
            Route::Flaky(at, query) if has(&at) => table(&query, LINKS.flaky(&at)),
            Route::Findings(at, page) if has(&at) => numbered(LINKS.findings(&at), page),
            Route::Grid { at, test: None, config: None, page } if has(&at) => numbered(LINKS.grid(&at), page),
            Route::Matrix { of, file: None, page } => match of {
                CommitOrBranch::Branch(at) if has(&at) => numbered(LINKS.matrix_of_tip(&at), page),
                CommitOrBranch::Commit(sha) if self.commits.contains_key(&sha) => {
                    numbered(LINKS.matrix(sha.as_str(), None), page)
                }
                _ => None,
            },
            Route::Commit(CommitRoute {
                sha,
                at,
                test: None,
                config: None,
                status: None,
                page,
                reason: None,
            }) => {
                let first = self.commits.get(&sha)?;
                let at = at.filter(|at| has(at)).unwrap_or_else(|| first.clone());
                numbered(LINKS.commit(Some(&at), sha.as_str()), page)
            }
            Route::Build { sha, kernel } if self.commits.contains_key(&sha) => {
                let address = LINKS.build(sha.as_str(), None);
                let address =
                    kernel.map(|kernel| with_parameter(&address, "kernel", &kernel)).unwrap_or(address);
                Target::new(FileKind::Page, address)
            }
            Route::Test(test) => self.test(&test),
            Route::File(file) => self.log(&file),
            Route::Asset(name) => Target::new(FileKind::Asset, format!("/ci/{}", Encoded(&name))),
            _ => None,
        }
    }

    /// The page of a test at its failure. Other parts of its log lead to the log as text.
    fn test(&self, test: &TestRoute) -> Option<Target> {
        let TestRoute { sha, key, line, full, find } = test;
        if find.is_some() || !self.has_failure(sha, key) {
            return None;
        }
        let page = LINKS.test(sha.as_str(), key.as_str());
        match (line, full) {
            (None, false) => Target::new(FileKind::Test, page),
            (_, full) => {
                let file = if *full { ResultFile::FullLogBr } else { ResultFile::LogBr };
                Target::new(FileKind::Log, format!("{page}{}", file.name()))
            }
        }
    }

    /// A log of a test with a failure, or of a build.
    fn log(&self, file: &FileRoute) -> Option<Target> {
        let (sha, key, name) = match file {
            FileRoute::Result(sha, key, file) if file.is_brotli() => (sha, key, file.name()),
            FileRoute::Artifact(sha, key, name) => (sha, key, name.as_str()),
            _ => return None,
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        let is_exported = match last.strip_suffix(".br").unwrap_or(last) {
            "build.log" => self.commits.contains_key(sha),
            "log" | "full_log" => self.has_failure(sha, key),
            _ => false,
        };
        let address = || format!("{}{}", LINKS.test(sha.as_str(), key.as_str()), Encoded(name));
        is_exported.then(|| Target { kind: FileKind::Log, address: address() })
    }
}

const LINKS: Links<'static> = Links { mount: "" };

fn numbered(address: String, page: usize) -> Option<Target> {
    let address = if page > 0 { with_parameter(&address, "page", &page.to_string()) } else { address };
    Target::new(FileKind::Page, address)
}

fn page(query: &BranchesQuery, address: String) -> Option<Target> {
    if query.find.is_some() { None } else { numbered(address, query.page) }
}

fn table(query: &TableQuery, address: String) -> Option<Target> {
    if query.sort.is_some() { None } else { numbered(address, query.page) }
}

/// The anchors of the pages.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    names: HashSet<String>,
    /// The first and the last line of a log, which are on the page without a gap.
    lines: Option<(u64, u64)>,
}

impl Anchors {
    pub(crate) fn of(names: impl Iterator<Item = String>) -> Self {
        let mut anchors = Self::default();
        for name in names {
            let line = name.strip_prefix('L').and_then(|number| number.parse::<u64>().ok());
            match (line, &mut anchors.lines) {
                (Some(line), Some((_, last))) if line == last.saturating_add(1) => *last = line,
                (Some(line), lines @ None) => *lines = Some((line, line)),
                _ => drop(anchors.names.insert(name)),
            }
        }
        anchors
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let line = || name.strip_prefix('L')?.parse::<u64>().ok();
        let on_page = |(first, last): (u64, u64)| line().is_some_and(|line| (first..=last).contains(&line));
        self.names.contains(name)
            || (self.lines.is_some_and(on_page) && !name.starts_with("L0") && !name.starts_with("L+"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_and_unique() {
        let name = |kind, address: &str| Target { kind, address: address.into() }.file_name();
        assert_eq!(name(FileKind::Page, "/ci"), "index.html");
        let mut names = HashSet::new();
        for address in
            ["/c/../../etc/passwd", "/c/..", "/c/a%2Fb", "/c/A%2Fb", "/c/é", "/c/con", &"/c".repeat(999)]
        {
            let name = name(FileKind::Log, address);
            assert!(name.len() < 120 && name.starts_with('c') && name.ends_with(".txt"), "{name}");
            assert!(
                name[..name.len() - 4]
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(names.insert(name));
        }
        assert!(name(FileKind::Asset, "/ci/style.0.css").ends_with(".css"));
    }

    #[test]
    fn anchors_of_lines_need_no_names() {
        let anchors = Anchors::of(["main", "L4", "L5", "failure", "L6", "L9"].map(String::from).into_iter());
        for (name, has) in
            [("L4", true), ("L6", true), ("L7", false), ("L9", true), ("L04", false), ("main", true)]
        {
            assert_eq!(anchors.has(name), has, "{name}");
        }
        assert_eq!(anchors.names.len(), 3);
    }
}
