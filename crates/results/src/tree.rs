//! The directories `<sha>/<key>/` for clients that read files: derived from the database and the packs.
//!
//! Nothing here is synced: the writer, or `ci-daemon export-tree`, writes what is missing again.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{CommitId, ResultKey, Status};

use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::files::is_absent;
use crate::layout::{Layout, LogKind};
use crate::packs::{Region, StoredFile};
use crate::reader::Reader;
use crate::types::TestEntry;

/// The number of streams whose file is remembered, to link it.
const LINKS_MAX: usize = 10_000;

/// The directory of one test to update.
#[derive(Debug)]
pub struct TestFiles {
    pub commit: CommitId,
    pub key: ResultKey,
    /// The text of `status`, and of `duration` if the test ended; `None` removes both.
    pub content: Option<(String, Option<u64>)>,
    /// Whether logs and artifacts are written, too.
    pub stored: bool,
    /// The attempts with a log that do not give the verdict.
    pub others: Vec<(LogKind, u32)>,
}

impl TestFiles {
    pub fn new(commit: &CommitId, key: &ResultKey, entry: Option<&TestEntry>, stored: bool) -> Self {
        let content = entry.map(status_files);
        let mut others = Vec::new();
        for other in entry.iter().flat_map(|entry| &entry.others).filter(|_| stored) {
            let kinds = [LogKind::Subtest, LogKind::Full].into_iter();
            others.extend(kinds.filter(|kind| kind.bytes(other) > 0).map(|kind| (kind, other.number)));
        }
        others.sort_unstable_by_key(|(_, number)| *number);
        Self { commit: commit.clone(), key: key.clone(), content, stored, others }
    }
}

/// The line of the status file, and the seconds of the duration file if the test ended.
pub fn status_files(entry: &TestEntry) -> (String, Option<u64>) {
    let ended = entry.decisive.status.is_final().then_some(entry.decisive.duration.as_secs());
    (status_line(entry), ended)
}

/// The line of a status file (docs/formats.md), with the key as the name of the subtest.
fn status_line(entry: &TestEntry) -> String {
    let seconds = entry.decisive.duration.as_secs();
    let name = match entry.key.as_str().parse::<model::SubtestName>() {
        Ok(_) => entry.key.as_str(),
        Err(_) => "test",
    };
    match entry.decisive.status {
        Status::InProgress => "IN PROGRESS\n".into(),
        Status::Passed => format!("========= PASSED {name} in {seconds}s\n"),
        Status::Failed | Status::Flaky => format!("========= FAILED {name} in {seconds}s\n"),
        Status::NotRun => {
            let reason = entry.decisive.reason.as_deref().unwrap_or("");
            format!("========= NOTRUN {name} in {seconds}s: {reason}\n")
        }
        Status::FailedToRun => "FAILED TO RUN\n".into(),
        Status::Unknown => "UNKNOWN\n".into(),
    }
}

/// Writes and removes directories of tests.
pub struct TreeWriter {
    reader: Reader,
    disk: Disk,
    to: Layout,
    /// The file and inode that has a stream: the tests of a VM share its log as hard links.
    links: HashMap<(CommitId, Region), (PathBuf, u64)>,
}

impl TreeWriter {
    /// Writes what `reader` reads to directories below `to`.
    pub fn new(reader: &Reader, disk: &Disk, to: &Layout) -> Self {
        Self { reader: reader.clone(), disk: disk.clone(), to: to.clone(), links: HashMap::new() }
    }

    /// Brings the directory of a test up to date.
    pub fn write(&mut self, files: &TestFiles) -> Result<()> {
        let dir = self.to.test(&files.commit, &files.key);
        let error = |source| Error::io("write", &dir)(source);
        // An empty directory can be removed at the same time: a live log ended.
        match self.write_once(files, &dir) {
            Err(Error::Io { source, .. }) if is_absent(&source) => self.write_once(files, &dir),
            result => result,
        }
        .map_err(|inner| match inner {
            Error::Io { source, .. } => error(source),
            other => other,
        })
    }

    fn write_once(&mut self, files: &TestFiles, dir: &Path) -> Result<()> {
        let (status, duration) = (dir.join("status"), dir.join("duration"));
        let Some((line, seconds)) = &files.content else {
            for path in [&status, &duration] {
                self.disk.remove_file(path).map_err(Error::io("remove", path))?;
            }
            remove_empty(&self.to, &files.commit, dir);
            return Ok(());
        };
        self.disk.make_dir(dir, Durable::No).map_err(Error::io("create", dir))?;
        // The status last, so that a reader of a verdict finds its duration and its log.
        if files.stored {
            self.write_stored(files, dir)?;
        }
        if let Some(seconds) = seconds {
            self.replace(&duration, format!("{seconds}\n").as_bytes())?;
        }
        self.replace(&status, line.as_bytes())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.disk.publish(path, bytes, Durable::No).map_err(Error::io("write", path))
    }

    /// Writes the logs and artifacts that are in packs.
    fn write_stored(&mut self, files: &TestFiles, dir: &Path) -> Result<()> {
        let rows = self.reader.stored(&files.commit, &files.key);
        self.set_aside(files, &rows, dir)?;
        for row in &rows {
            match self.write_row(&files.commit, row, dir) {
                Ok(()) => {}
                // The others are still written.
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!("{error}");
                    continue;
                }
                Err(error) => return Err(error),
            }
            // A copy from when this attempt gave the verdict.
            let (path, top) = (dir.join(row.path()), dir.join(format!("{}.br", row.name)));
            let moved = path != top && !rows.iter().any(|other| dir.join(other.path()) == top);
            let is_copy = |content| std::fs::read(&path).is_ok_and(|own| own == content);
            if moved && std::fs::read(&top).is_ok_and(is_copy) {
                self.disk.remove_file(&top).map_err(Error::io("remove", &top))?;
            }
        }
        Ok(())
    }

    fn write_row(&mut self, commit: &CommitId, row: &StoredFile, dir: &Path) -> Result<()> {
        let path = dir.join(row.path());
        let at = (commit.clone(), row.region);
        let inode = |path: &Path| path.symlink_metadata().map_or(0, |data| data.ino());
        let linked = self.links.get(&at).filter(|(first, number)| inode(first) == *number);
        if let Some((first, number)) = linked {
            if inode(&path) == *number {
                return Ok(());
            }
            self.make_parent(&path)?;
            // A file has a limited number of links.
            if self.disk.link(first, &path, Durable::No).is_ok() {
                return Ok(());
            }
        }
        let bytes = row.packed(&self.reader.layout, commit).bytes()?;
        let found =
            path.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == row.region.length);
        if !found || !std::fs::read(&path).is_ok_and(|content| content == bytes) {
            self.make_parent(&path)?;
            self.replace(&path, &bytes)?;
        }
        if self.links.len() >= LINKS_MAX {
            self.links.clear();
        }
        let number = inode(&path);
        self.links.insert(at, (path, number));
        Ok(())
    }

    fn make_parent(&self, path: &Path) -> Result<()> {
        let Some(dir) = path.parent() else { return Ok(()) };
        self.disk.make_dir(dir, Durable::No).map_err(Error::io("create", dir))
    }

    /// In a directory of an earlier version: moves the log of the formerly decisive attempt to the directory of that
    /// attempt, before that of another attempt gets its place.
    fn set_aside(&self, files: &TestFiles, rows: &[StoredFile], dir: &Path) -> Result<()> {
        for kind in [LogKind::Subtest, LogKind::Full] {
            let is_stored =
                |attempt: u32| rows.iter().any(|row| row.attempt == attempt && row.name == kind.name());
            let mut others = files.others.iter().filter(|(of, _)| *of == kind).map(|(_, number)| *number);
            let replaced = rows.iter().any(|row| row.decisive && row.name == kind.name());
            let Some(number) = others.find(|number| !is_stored(*number)).filter(|_| replaced) else {
                continue;
            };
            let from = dir.join(kind.file());
            let directory = self.to.attempt(&files.commit, &files.key, number);
            let to = directory.join(kind.file());
            if from.exists() && !to.exists() {
                self.disk.make_dir(&directory, Durable::No).map_err(Error::io("create", &directory))?;
                self.disk.rename(&from, &to, Durable::No).map_err(Error::io("rename", &from))?;
            }
        }
        Ok(())
    }

    /// Removes the files of a test that the database has, and directories that are empty then.
    pub fn remove(&self, commit: &CommitId, key: &ResultKey) -> Result<()> {
        let dir = self.to.test(commit, key);
        let mut paths: Vec<PathBuf> = vec![dir.join("status"), dir.join("duration")];
        for row in self.reader.stored(commit, key) {
            paths.push(dir.join(row.path()));
            paths.push(dir.join(format!("{}.br", row.name)));
        }
        for path in &paths {
            self.disk.remove_file(path).map_err(Error::io("remove", path))?;
        }
        for directory in paths.iter().filter_map(|path| path.parent()).filter(|directory| *directory != dir) {
            // It is kept if it has other files.
            let _ = std::fs::remove_dir(directory);
        }
        remove_empty(&self.to, commit, &dir);
        Ok(())
    }
}

/// Removes the directory of a test and of its commit if they are empty.
pub fn remove_empty(layout: &Layout, commit: &CommitId, dir: &Path) {
    if std::fs::remove_dir(dir).is_ok() {
        let _ = std::fs::remove_dir(layout.commit(commit));
    }
}

/// What was written out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// The number of commits.
    pub commits: u64,
    /// The number of tests of all commits.
    pub tests: u64,
    /// The number of logs and artifacts.
    pub files: u64,
}

/// Writes the directories of these commits (none: all with results) to `to`: status, duration, logs and artifacts of
/// every test. Files that are there are replaced.
pub fn export_tree(reader: &Reader, to: &Path, commits: &[CommitId]) -> Result<Exported> {
    std::fs::create_dir_all(to).map_err(Error::io("create", to))?;
    let scratch = to.join(".export-tree.tmp");
    let disk = Disk::new(scratch.clone(), None);
    disk.remove_dir(&scratch).map_err(Error::io("remove", &scratch))?;
    disk.make_dir(&scratch, Durable::No).map_err(Error::io("create", &scratch))?;
    let all = if commits.is_empty() { reader.commits()? } else { commits.to_vec() };
    let mut writer = TreeWriter::new(reader, &disk, &Layout::new(to));
    let mut exported = Exported::default();
    for commit in &all {
        let results = reader
            .commit(commit)?
            .ok_or_else(|| Error::damaged(to, format_args!("no results of commit {commit}")))?;
        for entry in &results.entries {
            writer.write(&TestFiles::new(commit, &entry.key, Some(entry), true))?;
            exported.tests += 1;
            exported.files += writer.copy_others(commit, &entry.key)?;
        }
        exported.commits += 1;
    }
    disk.remove_dir(&scratch).map_err(Error::io("remove", &scratch))?;
    Ok(exported)
}

impl TreeWriter {
    /// Copies the logs and artifacts of a test that are files of their own. Returns the number of all of them.
    fn copy_others(&mut self, commit: &CommitId, key: &ResultKey) -> Result<u64> {
        let dir = self.to.test(commit, key);
        let stored = self.reader.stored(commit, key);
        let mut count = 0;
        for row in self.reader.artifacts(commit, key)? {
            if matches!(row.name.as_str(), "status" | "duration") {
                continue;
            }
            count += 1;
            if stored.iter().any(|file| file.path() == row.name) {
                continue;
            }
            let path = dir.join(&row.name);
            if let Some(directory) = path.parent() {
                self.disk.make_dir(directory, Durable::No).map_err(Error::io("create", directory))?;
            }
            self.replace(&path, &self.reader.artifact(commit, key, &row.name)?)?;
        }
        Ok(count)
    }
}

/// A short text for a request for `status` or `duration` of a test without a directory.
pub fn status_text(entry: &TestEntry, name: &str) -> Option<String> {
    let (line, seconds) = status_files(entry);
    match name {
        "status" => Some(line),
        "duration" => seconds.map(|seconds| format!("{seconds}\n")),
        _ => None,
    }
}
