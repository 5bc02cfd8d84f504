//! The thread that appends the files of runs to packs. A group of files shares one sync of each pack; the database names
//! them afterwards.
//!
//! An interrupted append leaves bytes that no row names; the next one comes after them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use model::{ArtifactName, CommitId, ResultKey};

use super::command::{Command, Reply};
use super::gather::Gather;
use crate::disk::{Disk, Durable, Step};
use crate::error::{Error, Result};
use crate::layout::{Layout, LogKind};
use crate::pack_header::Header;
use crate::packs::{Region, packs_of};

/// The number of files that are appended together.
const GROUP_MAX: usize = 1024;
/// The maximum wait for files that are expected.
const GATHER_MAX: Duration = Duration::from_millis(10);
/// A pack of this size is full, in bytes.
const PACK_MAX: u64 = 64 << 20;
/// The number of packs that stay open.
const OPEN_MAX: usize = 64;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    Log(LogKind),
    Artifact(ArtifactName),
}

impl FileName {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Log(kind) => kind.name(),
            Self::Artifact(name) => name.as_str(),
        }
    }
}

/// A file to store.
#[derive(Debug)]
pub struct NewFile {
    pub commit: CommitId,
    /// The tests that have it, and their attempts; 0 for a file that a later attempt replaces.
    pub owners: Vec<(ResultKey, u32)>,
    pub name: FileName,
    /// The brotli stream.
    pub stream: Vec<u8>,
    pub plain_bytes: u64,
    /// The number of removals of commits before.
    pub removals: u64,
    pub reply: Reply<()>,
}

/// A task of the thread.
#[derive(Debug)]
pub enum PackTask {
    Store(NewFile),
    /// Remove the packs of commits that are no longer in the database.
    Remove(Vec<CommitId>, Reply<()>),
}

/// A durable file that the database does not have yet.
#[derive(Debug)]
pub struct Stored {
    pub commit: CommitId,
    pub owners: Vec<(ResultKey, u32)>,
    pub name: FileName,
    pub region: Region,
    pub plain_bytes: u64,
    pub removals: u64,
    pub reply: Reply<()>,
}

struct Open {
    number: u32,
    path: PathBuf,
    file: File,
    size: u64,
    used: u64,
}

/// The packs that are written.
struct Packs {
    disk: Disk,
    layout: Layout,
    open: HashMap<CommitId, Open>,
    clock: u64,
    /// Whether the names of the packs of the last writer are durable.
    names_synced: bool,
}

/// Stores files until the queue is closed.
pub fn pack_loop(disk: &Disk, layout: &Layout, queue: Receiver<PackTask>, engine: &Sender<Command>) {
    let mut packs = Packs {
        disk: disk.clone(),
        layout: layout.clone(),
        open: HashMap::new(),
        clock: 0,
        names_synced: false,
    };
    let is_file = |task: &PackTask| matches!(task, PackTask::Store(_));
    let mut queue = Gather::new(queue, GROUP_MAX, GATHER_MAX, is_file);
    while let Some(tasks) = queue.next(None) {
        let mut group = Vec::new();
        for task in tasks {
            match task {
                PackTask::Store(file) => group.push(file),
                PackTask::Remove(commits, reply) => {
                    // In the order of the queue: a file that was stored before goes into the old packs.
                    if !packs.store_all(std::mem::take(&mut group), &mut queue, engine) {
                        return;
                    }
                    let _ = reply.send(packs.remove(&commits));
                }
            }
        }
        if !packs.store_all(group, &mut queue, engine) {
            return;
        }
    }
}

/// The bytes before the stream of a file.
fn header(file: &NewFile) -> Vec<u8> {
    let header = Header {
        file: file.name.as_str().into(),
        length: file.stream.len() as u64,
        crc: crc32fast::hash(&file.stream),
        plain_bytes: file.plain_bytes,
        owners: file.owners.clone(),
    };
    header.encode()
}

impl Packs {
    /// Stores a group of files and tells the engine. Returns whether the engine runs.
    fn store_all(
        &mut self,
        group: Vec<NewFile>,
        queue: &mut Gather<PackTask>,
        engine: &Sender<Command>,
    ) -> bool {
        let (count, begun) = (group.len(), Instant::now());
        if count == 0 {
            return true;
        }
        let files = self.store(group);
        queue.synced(count, begun.elapsed());
        engine.send(Command::Stored { files, count }).is_ok()
    }

    /// Appends files and makes them durable. A file that cannot be stored gets the error as its reply.
    fn store(&mut self, group: Vec<NewFile>) -> Vec<Stored> {
        let mut by_commit: BTreeMap<CommitId, Vec<NewFile>> = BTreeMap::new();
        for file in group {
            by_commit.entry(file.commit.clone()).or_default().push(file);
        }
        let mut stored = Vec::new();
        for (commit, files) in by_commit {
            match self.append(&commit, &files) {
                Ok(regions) => stored.extend(files.into_iter().zip(regions).map(|(file, region)| {
                    let NewFile { commit, owners, name, plain_bytes, removals, reply, .. } = file;
                    Stored { commit, owners, name, region, plain_bytes, removals, reply }
                })),
                Err(error) => {
                    // What is in the pack is uncertain now: the next files go into a new one, or after its end.
                    self.open.remove(&commit);
                    let text = error.to_string();
                    for file in files {
                        let _ = file.reply.send(Err(Error::Write(text.clone())));
                    }
                }
            }
        }
        self.close_some();
        stored
    }

    fn append(&mut self, commit: &CommitId, files: &[NewFile]) -> Result<Vec<Region>> {
        let mut regions = Vec::new();
        for file in files {
            let disk = self.disk.clone();
            let open = self.pack(commit)?;
            let mut bytes = header(file);
            let (offset, length) = (open.size + bytes.len() as u64, file.stream.len() as u64);
            bytes.extend_from_slice(&file.stream);
            disk.append(&mut open.file, &open.path, &bytes).map_err(Error::io("write", &open.path))?;
            regions.push(Region { pack: open.number, offset, length });
            open.size = offset + length;
            if open.size >= PACK_MAX {
                self.sync(commit)?;
                self.open.remove(commit);
            }
        }
        self.sync(commit)?;
        Ok(regions)
    }

    fn sync(&self, commit: &CommitId) -> Result<()> {
        let Some(open) = self.open.get(commit) else { return Ok(()) };
        self.disk.sync(&open.file, &open.path).map_err(Error::io("sync", &open.path))
    }

    /// The pack for the next file of a commit: its last one, or a new one if that is full.
    fn pack(&mut self, commit: &CommitId) -> Result<&mut Open> {
        self.clock += 1;
        if !self.open.contains_key(commit) {
            let open = self.open_last(commit)?;
            self.open.insert(commit.clone(), open);
        }
        let open = self.open.get_mut(commit).ok_or(Error::Closed)?;
        open.used = self.clock;
        Ok(open)
    }

    fn open_last(&mut self, commit: &CommitId) -> Result<Open> {
        let dir = self.layout.packs();
        self.disk.make_dir(&dir, Durable::Yes).map_err(Error::io("create", &dir))?;
        let mut number = 1;
        loop {
            let path = self.layout.pack(commit, number);
            let next = self.layout.pack(commit, number + 1);
            let size = path.symlink_metadata().ok().map(|data| data.len());
            if next.symlink_metadata().is_ok() || size.is_some_and(|size| size >= PACK_MAX) {
                number += 1;
                continue;
            }
            if size.is_none() {
                self.disk.step(Step::Create(&path)).map_err(Error::io("create", &path))?;
            }
            let file = OpenOptions::new().append(true).create(true).open(&path);
            let file = file.map_err(Error::io("open", &path))?;
            if size.is_none() || !self.names_synced {
                self.names_synced = false;
                self.disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
                self.names_synced = true;
            }
            let size = file.metadata().map_err(Error::io("read", &path))?.len();
            return Ok(Open { number, path, file, size, used: self.clock });
        }
    }

    fn remove(&mut self, commits: &[CommitId]) -> Result<()> {
        for commit in commits {
            self.open.remove(commit);
            // The last one first: those that an interrupted removal leaves are numbered without gaps.
            for path in packs_of(&self.layout, commit).iter().rev() {
                self.disk.remove_file(path).map_err(Error::io("remove", path))?;
            }
        }
        Ok(())
    }

    /// Closes the packs that were not used for the longest time.
    fn close_some(&mut self) {
        while self.open.len() > OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(commit, _)| commit.clone());
            let Some(oldest) = oldest else { return };
            self.open.remove(&oldest);
        }
    }
}
