//! The commits of a branch in the order of `git log BASE..TIP`: newest first, never a parent before its child.

use std::collections::{BinaryHeap, HashMap, HashSet};

use model::CommitId;

use crate::error::GitError;
use crate::repo::{CommitInfo, Repo};

/// A commit that the walk has reached.
struct Visited {
    parents: Vec<gix::ObjectId>,
    time: u64,
    /// Reachable from the base.
    hidden: bool,
    /// No longer in the queue.
    done: bool,
}

/// How many commits the walk visits after it could stop. A child may have an older date than its parent; then the walk
/// reaches the hidden commits late. git does the same (`SLOP` in revision.c).
const SLOP: usize = 64;
/// The size of the messages of all listed commits, in bytes.
const MESSAGES: usize = 64 << 20;
/// What is kept of a message beyond [`MESSAGES`], in characters.
const MESSAGE: usize = 1000;

impl Repo {
    /// The commits that are reachable from `tip` and not from `base`, newest first, children before parents; at most
    /// `max`. All messages together have at most 64 MiB: beyond that, only their beginning is kept. If `base` is not an ancestor of the tip, it hides only the commits that both have in common.
    pub fn walk(
        &self,
        tip: &CommitId,
        base: Option<&CommitId>,
        max: usize,
    ) -> Result<Vec<CommitInfo>, GitError> {
        let mut walk = Walk::new(self, self.local());
        walk.push(self.object_id(tip)?, false)?;
        if let Some(base) = base {
            walk.push(self.object_id(base)?, true)?;
        }
        let listed = walk.limited(max)?;
        let order = walk.order(&listed);
        let mut left = MESSAGES;
        let info = |id| {
            let mut info = self.info(&walk.repo, id)?;
            if info.message.len() > left {
                info.message = info.message.chars().take(MESSAGE).collect();
            }
            left = left.saturating_sub(info.message.len());
            Ok(info)
        };
        order.into_iter().take(max).map(info).collect()
    }

    /// Whether `old` is an ancestor of `new`, regardless of the dates. Reads all ancestors if it is not.
    pub(crate) fn reaches(
        &self,
        repo: gix::Repository,
        new: gix::ObjectId,
        old: gix::ObjectId,
    ) -> Result<bool, GitError> {
        let walk = Walk::new(self, repo);
        let mut seen = HashSet::from([new]);
        let mut todo = vec![new];
        while let Some(id) = todo.pop() {
            if id == old {
                return Ok(true);
            }
            let (parents, _) = walk.read(id)?;
            todo.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(false)
    }
}

struct Walk<'a> {
    this: &'a Repo,
    repo: gix::Repository,
    graph: Option<gix::commitgraph::Graph>,
    seen: HashMap<gix::ObjectId, Visited>,
    /// By date, then by id, so that the order of equal dates is the same on every host.
    queue: BinaryHeap<(u64, gix::ObjectId)>,
    /// The number of commits in the queue that are not hidden.
    waiting: usize,
    any_hidden: bool,
}

impl<'a> Walk<'a> {
    fn new(this: &'a Repo, repo: gix::Repository) -> Self {
        // If git wrote a commit-graph file, it has parents and dates without unpacking objects.
        let graph = repo.commit_graph().ok();
        let (seen, queue) = (HashMap::new(), BinaryHeap::new());
        Self { this, repo, graph, seen, queue, waiting: 0, any_hidden: false }
    }

    fn push(&mut self, id: gix::ObjectId, hidden: bool) -> Result<(), GitError> {
        if let Some(seen) = self.seen.get(&id) {
            if hidden && !seen.hidden {
                self.hide(id);
            }
            return Ok(());
        }
        self.any_hidden |= hidden;
        self.waiting += usize::from(!hidden);
        let (parents, time) = self.read(id)?;
        self.queue.push((time, id));
        self.seen.insert(id, Visited { parents, time, hidden, done: false });
        Ok(())
    }

    fn read(&self, id: gix::ObjectId) -> Result<(Vec<gix::ObjectId>, u64), GitError> {
        if let Some(graph) = &self.graph
            && let Some(commit) = graph.commit_by_id(id)
        {
            let parents: Result<Vec<_>, _> =
                commit.iter_parents().map(|at| at.map(|at| graph.id_at(at).to_owned())).collect();
            if let Ok(parents) = parents {
                return Ok((parents, commit.committer_timestamp()));
            }
        }
        let commit = self.this.read_commit(&self.repo, id)?;
        let shallow = self.repo.shallow_commits().ok().flatten();
        let cut = shallow.is_some_and(|commits| commits.contains(&id));
        Ok((if cut { Vec::new() } else { commit.parents }, commit.date))
    }

    /// Hides a commit and its visited ancestors.
    fn hide(&mut self, id: gix::ObjectId) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            if let Some(seen) = self.seen.get_mut(&id)
                && !seen.hidden
            {
                seen.hidden = true;
                if seen.done {
                    todo.extend(seen.parents.iter().copied());
                } else {
                    self.waiting -= 1;
                }
            }
        }
    }

    /// Walks by date until `max` commits are listed or only hidden ones are left, and then [`SLOP`] more commits.
    fn limited(&mut self, max: usize) -> Result<Vec<gix::ObjectId>, GitError> {
        let mut listed = Vec::new();
        let mut oldest = u64::MAX;
        let mut slop = SLOP;
        while let Some((time, id)) = self.queue.pop() {
            let Some(seen) = self.seen.get_mut(&id) else { continue };
            seen.done = true;
            let (hidden, parents) = (seen.hidden, seen.parents.clone());
            if !hidden {
                self.waiting -= 1;
                oldest = oldest.min(time);
                listed.push(id);
            }
            for parent in parents {
                self.push(parent, hidden)?;
            }
            if listed.len() < max && self.waiting > 0 {
                continue;
            }
            // A listed commit may still turn out to be hidden.
            if !self.any_hidden {
                break;
            }
            let younger = self.queue.peek().is_some_and(|(time, _)| *time > oldest);
            slop = if younger { SLOP } else { slop - 1 };
            if slop == 0 {
                break;
            }
        }
        listed.retain(|id| self.seen.get(id).is_some_and(|seen| !seen.hidden));
        Ok(listed)
    }

    /// The listed commits: children before parents, otherwise by date.
    fn order(&self, listed: &[gix::ObjectId]) -> Vec<gix::ObjectId> {
        let mut children: HashMap<gix::ObjectId, usize> = listed.iter().map(|id| (*id, 0)).collect();
        for id in listed {
            for parent in &self.seen[id].parents {
                if let Some(count) = children.get_mut(parent) {
                    *count += 1;
                }
            }
        }
        let mut ready: BinaryHeap<(u64, gix::ObjectId)> = children
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(id, _)| (self.seen[id].time, *id))
            .collect();
        let mut order = Vec::with_capacity(listed.len());
        while let Some((_, id)) = ready.pop() {
            order.push(id);
            for parent in &self.seen[&id].parents {
                if let Some(count) = children.get_mut(parent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push((self.seen[parent].time, *parent));
                    }
                }
            }
        }
        order
    }
}
