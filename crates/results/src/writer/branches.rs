//! The listings of branches, updated from the results of their commits.

use std::collections::{BTreeMap, HashMap};

use model::{BranchRef, CommitId};

use super::commits::Commits;
use super::pass::{Content, Publication, Subject};
use crate::branch_file;
use crate::codec;
use crate::db::Database;
use crate::error::Result;
use crate::reader::Reader;
use crate::types::{Authorship, BranchEntry, Summary};

#[derive(Default)]
struct Listing {
    commits: Vec<(CommitId, String)>,
    dirty: bool,
}

pub struct Branches {
    reader: Reader,
    listings: BTreeMap<BranchRef, Listing>,
    of: HashMap<CommitId, Vec<BranchRef>>,
    summaries: HashMap<CommitId, Summary>,
    authorships: HashMap<CommitId, Authorship>,
}

impl Branches {
    /// Reads the listings, and marks those with a published file that differs, because the last writer did not write
    /// them.
    pub fn load(db: &Database, reader: &Reader) -> Result<Self> {
        let mut branches = Self {
            reader: reader.clone(),
            listings: BTreeMap::new(),
            of: HashMap::new(),
            summaries: HashMap::new(),
            authorships: HashMap::new(),
        };
        for (name, entries) in db.listings()? {
            let dirty = reader.branch(&name).ok().flatten().as_ref() != Some(&entries);
            for entry in &entries {
                let summary = Summary { counts: entry.counts, duration: entry.duration };
                branches.summaries.insert(entry.commit.clone(), summary);
                branches.authorships.insert(entry.commit.clone(), entry.authorship.clone());
            }
            let commits = entries.into_iter().map(|entry| (entry.commit, entry.message)).collect();
            branches.listings.insert(name, Listing { commits, dirty });
        }
        branches.index();
        Ok(branches)
    }

    /// The commits of a listing, newest first; empty if the listing does not exist.
    pub fn commits(&self, name: &BranchRef) -> &[(CommitId, String)] {
        self.listings.get(name).map_or(&[], |listing| &listing.commits)
    }

    /// All listings, each newest commit first.
    pub fn listings(&self) -> impl Iterator<Item = &[(CommitId, String)]> {
        self.listings.values().map(|listing| listing.commits.as_slice())
    }

    fn index(&mut self) {
        self.of.clear();
        for (name, listing) in &self.listings {
            for (commit, _) in &listing.commits {
                let names = self.of.entry(commit.clone()).or_default();
                if names.last() != Some(name) {
                    names.push(name.clone());
                }
            }
        }
        let of = &self.of;
        self.summaries.retain(|commit, _| of.contains_key(commit));
        self.authorships.retain(|commit, _| of.contains_key(commit));
    }

    /// Replaces the listing of a branch, newest commit first.
    pub fn set(&mut self, name: BranchRef, commits: Vec<(CommitId, String)>) {
        let listing =
            self.listings.entry(name).or_insert_with(|| Listing { dirty: true, ..Listing::default() });
        if listing.commits != commits {
            listing.commits = commits;
            listing.dirty = true;
            self.index();
        }
    }

    /// Drops the listing of a branch. Returns whether it existed.
    pub fn unlist(&mut self, name: &BranchRef) -> bool {
        let had = self.listings.remove(name).is_some();
        if had {
            self.index();
        }
        had
    }

    /// Marks the listings that contain a commit with changed results as out of date.
    pub fn touch(&mut self, commit: &CommitId) {
        self.summaries.remove(commit);
        self.mark_dirty(commit);
    }

    /// Sets the author and date of a listed commit.
    pub fn set_authorship(&mut self, commit: &CommitId, authorship: Authorship) {
        if self.of.contains_key(commit) && self.authorships.get(commit) != Some(&authorship) {
            self.authorships.insert(commit.clone(), authorship);
            self.mark_dirty(commit);
        }
    }

    fn mark_dirty(&mut self, commit: &CommitId) {
        for name in self.of.get(commit).into_iter().flatten() {
            if let Some(listing) = self.listings.get_mut(name) {
                listing.dirty = true;
            }
        }
    }

    pub fn is_dirty(&self) -> bool {
        self.listings.values().any(|listing| listing.dirty)
    }

    pub fn failed(&mut self, name: &BranchRef) {
        if let Some(listing) = self.listings.get_mut(name) {
            listing.dirty = true;
        }
    }

    /// Returns the listings that are out of date, and marks them as up to date.
    pub fn take_dirty(&mut self, db: &Database, commits: &Commits) -> Vec<Publication> {
        let names: Vec<BranchRef> =
            self.listings.iter().filter(|(_, listing)| listing.dirty).map(|(name, _)| name.clone()).collect();
        let mut publications = Vec::new();
        for name in names {
            let bytes = codec::encode_branch(&self.entries(db, &name, commits));
            if let Some(listing) = self.listings.get_mut(&name) {
                listing.dirty = false;
            }
            // A name that is not valid as a file name was refused when the branch was set.
            let Ok(file) = branch_file::file_name(&name) else { continue };
            let path = self.reader.output_dir().join(file);
            publications.push(Publication {
                subject: Subject::Branch(name),
                path,
                content: Content::Bytes(bytes),
            });
        }
        publications
    }

    fn entries(&mut self, db: &Database, name: &BranchRef, commits: &Commits) -> Vec<BranchEntry> {
        let Some(listing) = self.listings.get(name) else { return Vec::new() };
        let (summaries, authorships) = (&mut self.summaries, &mut self.authorships);
        let entries = listing.commits.iter().map(|(commit, message)| {
            let summary = match commits.state(commit) {
                Some(state) => Summary { counts: state.counts(), duration: state.duration() },
                None => *summaries.entry(commit.clone()).or_insert_with(|| logged(db.summary(commit))),
            };
            let authorship =
                authorships.entry(commit.clone()).or_insert_with(|| logged(db.authorship(commit)));
            BranchEntry {
                commit: commit.clone(),
                message: message.clone(),
                authorship: authorship.clone(),
                counts: summary.counts,
                duration: summary.duration,
            }
        });
        entries.collect()
    }
}

/// The default for what cannot be read: a listing without it is better than none.
fn logged<T: Default>(read: Result<T>) -> T {
    read.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        T::default()
    })
}
