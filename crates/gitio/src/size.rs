//! Limits of the objects of a branch. A small pack can hold a commit of gigabytes, or a tree that lists the same subtree
//! over and over.

use std::collections::HashMap;

use gix::ObjectId;
use gix::objs::tree::EntryKind;
use model::CommitId;

use crate::error::GitError;
use crate::repo::Repo;

/// The size of a commit object that is read.
pub(crate) const COMMIT: u64 = 16 << 20;
/// The size of a tree object that is read: a directory of a million files.
pub(crate) const TREE: u64 = 64 << 20;

/// The limits of a tree that is checked out. Linux has less than 100,000 files, with 2 GiB.
#[derive(Debug, Clone, Copy)]
struct Limits {
    files: u64,
    bytes: u64,
    depth: u32,
}

const LIMITS: Limits = Limits { files: 1_000_000, bytes: 16 << 30, depth: 200 };

/// The files below a directory.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    files: u64,
    bytes: u64,
    depth: u32,
}

/// Why a tree is not checked out.
enum Failure {
    TooLarge(String),
    Unreadable(GitError),
}

struct Count<'a> {
    this: &'a Repo,
    repo: gix::Repository,
    limits: Limits,
    /// By the id of the tree: a tree can be listed any number of times.
    known: HashMap<ObjectId, Size>,
    /// The tree objects that were read.
    read: u64,
}

impl Repo {
    /// Checks that the tree of a commit can be checked out: git has no limits of its own. Reads each of its directories once.
    pub(crate) fn check_size(&self, commit: &CommitId) -> Result<(), GitError> {
        self.check_size_with(commit, LIMITS)
    }

    fn check_size_with(&self, commit: &CommitId, limits: Limits) -> Result<(), GitError> {
        let repo = self.local();
        let tree = self.read_commit(&repo, self.object_id(commit)?)?.tree;
        let mut count = Count { this: self, repo, limits, known: HashMap::new(), read: 0 };
        count.tree(tree, 0).map(drop).map_err(|failure| match failure {
            Failure::TooLarge(message) => GitError::InvalidTree { commit: commit.short().into(), message },
            Failure::Unreadable(error) => error,
        })
    }

    /// An error if an object is larger than `max`. A missing object is an error of the caller.
    pub(crate) fn check_object(
        &self,
        repo: &gix::Repository,
        id: ObjectId,
        max: u64,
    ) -> Result<(), GitError> {
        match repo.find_header(id) {
            Ok(header) if header.size() > max => Err(GitError::Object {
                repo: self.path().into(),
                object: id.to_string(),
                reason: format!("it is larger than {} MiB", max >> 20),
            }),
            _ => Ok(()),
        }
    }
}

impl Count<'_> {
    fn tree(&mut self, id: ObjectId, depth: u32) -> Result<Size, Failure> {
        if let Some(size) = self.known.get(&id) {
            self.check(*size, depth)?;
            return Ok(*size);
        }
        self.check(Size::default(), depth)?;
        self.this
            .check_object(&self.repo, id, TREE)
            .map_err(|_| too_large("a directory with too many entries"))?;
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            Failure::Unreadable(self.this.unreadable(&id.to_string(), error))
        };
        let data = self.repo.find_tree(id).map_err(|error| unreadable(&error))?.data.clone();
        let mut size = Size::default();
        for entry in gix::objs::TreeRefIter::from_bytes(&data, id.kind()) {
            let entry = entry.map_err(|error| unreadable(&error))?;
            let below = match entry.mode.kind() {
                EntryKind::Tree => self.tree(entry.oid.to_owned(), depth + 1)?,
                EntryKind::Commit => Size::default(),
                // A partial clone does not have it.
                _ => Size {
                    files: 1,
                    bytes: self.repo.find_header(entry.oid).map_or(0, |it| it.size()),
                    depth: 0,
                },
            };
            size.files = size.files.saturating_add(below.files);
            size.bytes = size.bytes.saturating_add(below.bytes);
            size.depth = size.depth.max(below.depth + 1);
            self.check(size, depth)?;
        }
        self.read += 1;
        self.known.insert(id, size);
        Ok(size)
    }

    fn check(&self, size: Size, depth: u32) -> Result<(), Failure> {
        let Limits { files, bytes, depth: levels } = self.limits;
        if size.files > files || self.read > files {
            return Err(too_large(&format!("more than {files} files")));
        }
        if size.bytes > bytes {
            return Err(too_large(&format!("more than {} GiB", bytes >> 30)));
        }
        if size.depth.saturating_add(depth) > levels {
            return Err(too_large(&format!("more than {levels} levels of directories")));
        }
        Ok(())
    }
}

fn too_large(what: &str) -> Failure {
    Failure::TooLarge(format!("it has {what}"))
}
