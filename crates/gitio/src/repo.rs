//! Reads a repository without a git process: revisions, commits, HEAD.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gix::ThreadSafeRepository;
use model::CommitId;

use crate::commit_object::{self, CommitObject};
use crate::error::GitError;
use crate::size;

/// A repository, bare or not. Cheap to clone, and usable from several threads.
#[derive(Debug, Clone)]
pub struct Repo {
    inner: ThreadSafeRepository,
    path: PathBuf,
    /// Whether HTTP remotes may redirect to other addresses.
    redirects: bool,
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch, without `refs/heads/`; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The commit.
    pub commit: CommitId,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: CommitId,
    /// Its complete message in UTF-8; invalid bytes are replaced.
    pub message: String,
    /// Its parents.
    pub parents: Vec<CommitId>,
    /// The committer date in Unix seconds; 0 if it cannot be read.
    pub time: i64,
    /// The id of its tree.
    pub tree: String,
    /// Name and address of the author, at most 256 characters; empty if there is none.
    pub author: String,
}

impl CommitInfo {
    /// The first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or("").trim_end()
    }
}

/// How many tags of tags lead to a commit.
const TAGS: usize = 100;

/// The size of the object cache in bytes.
const CACHE: usize = 16 << 20;

impl Repo {
    /// Opens the repository at `path`: a bare one, a `.git` directory, or the root of a checkout. The configuration
    /// and the environment of the user are ignored.
    pub fn open(path: &Path) -> Result<Self, GitError> {
        let options = gix::open::Options::isolated();
        let result = ThreadSafeRepository::open_opts(path, options);
        let inner = result.map_err(|error| open_error(path, &error))?;
        let storage = inner.to_thread_local().config_snapshot().string("extensions.refStorage");
        if storage.is_some_and(|storage| !storage.eq_ignore_ascii_case(b"files")) {
            return Err(GitError::RefStorage { path: path.into() });
        }
        Ok(Self { inner, path: path.into(), redirects: true })
    }

    /// The same repository; an HTTP remote that redirects to another address is an error.
    #[must_use]
    pub fn without_redirects(self) -> Self {
        Self { redirects: false, ..self }
    }

    /// The settings for a command that contacts a remote.
    pub(crate) fn remote_settings(&self) -> [&'static str; 2] {
        // git's own default follows a redirect only for the first request.
        ["-c", if self.redirects { "http.followRedirects=initial" } else { "http.followRedirects=false" }]
    }

    /// Opens the repository of the checkout that contains `path`.
    pub fn discover(path: &Path) -> Result<Self, GitError> {
        let open = |reason: String| GitError::Open { path: path.into(), reason };
        let absolute = path.canonicalize().map_err(|error| open(error.to_string()))?;
        let root = absolute.ancestors().find(|dir| dir.join(".git").exists() || is_bare(dir));
        Self::open(root.ok_or_else(|| open("neither it nor a directory above it is one".into()))?)
    }

    /// The path with which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that contains its refs: `.git`, or the repository itself if it is bare.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        self.inner.refs.git_dir()
    }

    pub(crate) fn local(&self) -> gix::Repository {
        let mut repo = self.inner.to_thread_local();
        repo.object_cache_size_if_unset(CACHE);
        repo
    }

    /// The commit of a revision: a ref, an id or an abbreviated id, `HEAD~3`, a tag.
    pub fn resolve(&self, spec: &str) -> Result<CommitId, GitError> {
        let missing =
            || GitError::NoSuchCommit { repo: self.path.clone(), spec: spec.chars().take(100).collect() };
        let repo = self.local();
        let failed = |error: &(dyn std::error::Error + 'static)| {
            if is_of_host(error) { self.unreadable(spec, error) } else { missing() }
        };
        let id = repo.rev_parse_single(spec).map_err(|error| failed(&error))?;
        let mut id = id.detach();
        // Only tags are read: a ref of a remote can lead to an object of any size.
        for _ in 0..TAGS {
            let header = repo.find_header(id).map_err(|error| failed(&error))?;
            match header.kind() {
                gix::object::Kind::Commit => return Ok(commit_id(&id)),
                gix::object::Kind::Tag => {}
                gix::object::Kind::Tree | gix::object::Kind::Blob => return Err(missing()),
            }
            self.check_object(&repo, id, size::COMMIT)?;
            let tag = repo.find_tag(id).map_err(|error| failed(&error))?;
            id = tag.target_id().map_err(|error| failed(&error))?.detach();
        }
        Err(missing())
    }

    /// The names of all tags, without `refs/tags/`.
    pub fn tags(&self) -> Result<Vec<String>, GitError> {
        const PREFIX: &str = "refs/tags/";
        let repo = self.local();
        let failed = |error: &(dyn std::error::Error + 'static)| self.unreadable(PREFIX, error);
        let refs = repo.references().map_err(|error| failed(&error))?;
        let tags = refs.prefixed(PREFIX).map_err(|error| failed(&error))?.filter_map(Result::ok);
        let name = |name: String| name.strip_prefix(PREFIX).map(String::from);
        Ok(tags.filter_map(|tag| name(tag.name().as_bstr().to_string())).collect())
    }

    /// True if the repository has the object of the commit.
    #[must_use]
    pub fn has_commit(&self, id: &CommitId) -> bool {
        let header = object_id(id).and_then(|id| self.local().find_header(id).ok());
        header.is_some_and(|header| header.kind() == gix::object::Kind::Commit)
    }

    /// A commit's message, parents and date.
    pub fn commit(&self, id: &CommitId) -> Result<CommitInfo, GitError> {
        self.info(&self.local(), self.object_id(id)?)
    }

    /// The complete message of a commit; invalid UTF-8 is replaced.
    pub fn commit_message(&self, id: &CommitId) -> Result<String, GitError> {
        Ok(self.commit(id)?.message)
    }

    /// The id of a commit's tree in hexadecimal, which is equal for commits with equal content.
    pub fn tree_id(&self, id: &CommitId) -> Result<String, GitError> {
        Ok(self.read_commit(&self.local(), self.object_id(id)?)?.tree.to_string())
    }

    /// Whether `old` is `new` or an ancestor of it.
    pub fn is_ancestor(&self, old: &CommitId, new: &CommitId) -> Result<bool, GitError> {
        let (old, new) = (self.object_id(old)?, self.object_id(new)?);
        let repo = self.local();
        if old == new {
            return Ok(true);
        }
        match repo.merge_bases_many(new, &[old]) {
            Ok(bases) => Ok(bases.iter().any(|base| base.detach() == old)),
            // gix stops at a commit with a date that it cannot parse.
            Err(_) => self.reaches(repo, new, old),
        }
    }

    /// What is checked out.
    pub fn head(&self) -> Result<Head, GitError> {
        let repo = self.local();
        let head = repo.head().map_err(|error| self.unreadable("HEAD", &error))?;
        let branch = head.referent_name().map(|name| name.shorten().to_string());
        let id = head.id().ok_or_else(|| GitError::Unborn { repo: self.path.clone() })?;
        Ok(Head { branch, commit: commit_id(&id.detach()) })
    }

    pub(crate) fn info(&self, repo: &gix::Repository, id: gix::ObjectId) -> Result<CommitInfo, GitError> {
        let commit = self.read_commit(repo, id)?;
        Ok(CommitInfo {
            id: commit_id(&id),
            message: commit.message,
            parents: commit.parents.iter().map(|parent| commit_id(parent)).collect(),
            time: commit_object::unix_seconds(commit.date),
            tree: commit.tree.to_string(),
            author: commit.author.chars().take(256).collect(),
        })
    }

    pub(crate) fn read_commit(
        &self,
        repo: &gix::Repository,
        id: gix::ObjectId,
    ) -> Result<CommitObject, GitError> {
        self.check_object(repo, id, size::COMMIT)?;
        let commit = repo.find_commit(id).map_err(|error| self.unreadable(&id.to_string(), &error))?;
        commit_object::parse(&commit.data).ok_or_else(|| GitError::Object {
            repo: self.path.clone(),
            object: id.to_string(),
            reason: "its tree or a parent is malformed".into(),
        })
    }

    /// The id in gix's type. A repository with another hash function cannot have the commit.
    pub(crate) fn object_id(&self, id: &CommitId) -> Result<gix::ObjectId, GitError> {
        let missing = || GitError::NoSuchCommit { repo: self.path.clone(), spec: id.as_str().into() };
        object_id(id).ok_or_else(missing)
    }

    pub(crate) fn unreadable(&self, object: &str, error: &(dyn std::error::Error + 'static)) -> GitError {
        GitError::Object { repo: self.path.clone(), object: object.into(), reason: chain(error) }
    }
}

/// The error for a directory that is not a repository, or for a repository that this host cannot read.
fn open_error(path: &Path, error: &(dyn std::error::Error + 'static)) -> GitError {
    let has_git =
        [".git", "HEAD"].iter().any(|name| !matches!(fsx::own::existing(&path.join(name)), Ok(None)));
    if has_git && is_of_host(error) {
        return GitError::Object { repo: path.into(), object: "the repository".into(), reason: chain(error) };
    }
    GitError::Open { path: path.into(), reason: chain(error) }
}

/// Whether the system reported an error other than a missing file.
fn is_of_host(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    { causes }
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

fn is_bare(dir: &Path) -> bool {
    dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir()
}

fn object_id(id: &CommitId) -> Option<gix::ObjectId> {
    gix::ObjectId::from_hex(id.as_str().as_bytes()).ok()
}

/// The id in the type of `model`.
pub(crate) fn commit_id(id: &gix::oid) -> CommitId {
    id.to_string().parse().expect("an object id prints as 40 or 64 hexadecimal digits")
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = one_line(&error.to_string());
    let mut source = error.source();
    while let Some(error) = source {
        let more = one_line(&error.to_string());
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}
