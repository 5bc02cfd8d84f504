//! The output directory of a run (docs/contract.md): `OUT/out/<file>.<subtest>/{status,log,duration}`, `OUT/out/<file>`.
//!
//! A subtest's `status` is written last, so its log is complete when it has a verdict. The tests write only to
//! `OUT/files`; everything else in the directory belongs to the run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::lock::{Lock, LockError};
use fsx::untrusted::{Dir, UntrustedError};
use model::marker::StatusLine;
use model::{ArtifactName, SubtestName, TestPath};
use vm::console::CappedLog;
use vm::supervise::FinishedSubtest;

mod collect;

pub(crate) use collect::Keep;

/// The limits of the full log in bytes. The log is written up to the first limit; of the remainder, only the end is
/// kept, up to the second limit.
const FULL_LOG_HEAD: u64 = 48 << 20;
const FULL_LOG_TAIL: usize = 16 << 20;
/// The limit of a running subtest's log, in bytes.
const LIVE_LOG: u64 = 8 << 20;
/// The directory that tests write to.
const FILES: &str = "files";

/// Why the output directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    /// Another run uses it.
    #[error("{0}: used by another ktest run; wait for it or pass --out DIR")]
    Locked(PathBuf),
    /// The directory cannot be created.
    #[error(transparent)]
    Own(#[from] fsx::Error),
    /// A file in it cannot be used.
    #[error(transparent)]
    File(#[from] UntrustedError),
    /// It cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be written.
    #[error("cannot write the log in {path}: {source}")]
    Log {
        /// The output directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The output directory of a run, locked as long as this value exists. In runs of older versions, tests could write to
/// the whole directory, so every access uses [`Dir`].
#[derive(Debug)]
pub struct Out {
    path: PathBuf,
    dir: Dir,
    test: TestPath,
    full: BufWriter<File>,
    full_written: u64,
    full_rest: CappedLog,
    live: Option<(BufWriter<File>, u64)>,
    /// The bytes of the artifacts of tests that were moved.
    collected: u64,
    _lock: Lock,
}

impl Out {
    /// Prepares `dir` for a run of `test`. Removes the results of earlier runs of the same subtests.
    pub fn create(dir: &Path, test: &TestPath, subtests: &[SubtestName]) -> Result<Self, OutError> {
        fsx::own::create_dir_all(dir)?;
        let path = dir.canonicalize().map_err(fsx::Error::of("open", dir))?;
        let dir = Dir::open(&path)?;
        let Some(lock) = Lock::try_acquire_in(&dir, Path::new(".lock"), "ktest run")? else {
            return Err(OutError::Locked(path));
        };
        make_dir(&dir, Path::new("out"))?;
        make_dir(&dir, Path::new(FILES))?;
        dir.remove_tree(Path::new(FILES).join(ArtifactName::DIR))?;
        let full = BufWriter::new(new_log(&dir, &Path::new("out").join(test.dotted()))?);
        let full_rest = CappedLog::tail(FULL_LOG_TAIL);
        let test = test.clone();
        let out =
            Self { path, dir, test, full, full_written: 0, full_rest, live: None, collected: 0, _lock: lock };
        for subtest in subtests {
            out.dir.remove_tree(out.relative(subtest))?;
        }
        Ok(out)
    }

    /// The absolute path of the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.path
    }

    /// The directory that the tests of this run write to, as an absolute path: `ktest_out`. Its content is untrusted.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        files_of(&self.path)
    }

    /// The directory of a subtest, absolute.
    #[must_use]
    pub fn subtest_dir(&self, subtest: &SubtestName) -> PathBuf {
        self.path.join(self.relative(subtest))
    }

    /// The directory of a subtest, relative to the output directory.
    #[must_use]
    pub fn relative(&self, subtest: &SubtestName) -> PathBuf {
        Path::new("out").join(format!("{}.{}", self.test.dotted(), subtest.dotted()))
    }

    /// Appends a console line to the log of the run and to the log of the running subtest.
    pub fn line(&mut self, line: &str, since: Duration) -> io::Result<()> {
        let text = format!("{:05} {line}", since.as_secs());
        if self.full_written < FULL_LOG_HEAD {
            writeln!(self.full, "{text}")?;
            self.full_written += text.len() as u64 + 1;
        } else {
            self.full_rest.line(&text);
        }
        if let Some((live, written)) = &mut self.live
            && *written < LIVE_LOG
        {
            writeln!(live, "{text}")?;
            *written += text.len() as u64 + 1;
        }
        Ok(())
    }

    /// Flushes the logs.
    pub fn flush(&mut self) -> io::Result<()> {
        self.full.flush()?;
        self.live.as_mut().map_or(Ok(()), |(live, _)| live.flush())
    }

    /// Starts a subtest's log.
    pub fn started(&mut self, subtest: &SubtestName) -> Result<(), OutError> {
        let dir = self.relative(subtest);
        make_dir(&self.dir, &dir)?;
        self.live = Some((BufWriter::new(new_log(&self.dir, &dir.join("log"))?), 0));
        Ok(self.dir.write(dir.join("status"), b"IN PROGRESS\n")?)
    }

    /// Writes a subtest's log and verdict.
    pub fn finished(&mut self, finished: &FinishedSubtest) -> Result<(), OutError> {
        self.live = None;
        let FinishedSubtest { subtest, verdict, duration, log, .. } = finished;
        self.subtest_file(subtest, "log", log)?;
        self.subtest_file(subtest, "duration", format!("{}\n", duration.as_secs()).as_bytes())?;
        let status = StatusLine { subtest, verdict, duration: *duration };
        self.subtest_file(subtest, "status", format!("{status}\n").as_bytes())
    }

    /// Writes a file of a subtest.
    pub fn subtest_file(&self, subtest: &SubtestName, name: &str, content: &[u8]) -> Result<(), OutError> {
        let dir = self.relative(subtest);
        make_dir(&self.dir, &dir)?;
        Ok(self.dir.write(dir.join(name), content)?)
    }

    /// Writes a file of the run, such as the QEMU command.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<(), OutError> {
        make_dir(&self.dir, Path::new("out"))?;
        Ok(self.dir.write(Path::new("out").join(name), content)?)
    }

    /// The handle for accessing files in the directory.
    #[must_use]
    pub fn handle(&self) -> &Dir {
        &self.dir
    }

    /// Ends the run: if the log exceeded its limit, appends the kept end.
    pub fn close(mut self) -> Result<(), OutError> {
        let rest = self.full_rest.bytes();
        let result = self.full.write_all(&rest).and_then(|()| self.full.flush());
        result.map_err(|source| OutError::Log { path: self.path, source })
    }
}

/// The directory that tests write to in an output directory.
#[must_use]
pub(crate) fn files_of(out: &Path) -> PathBuf {
    out.join(FILES)
}

/// Creates a directory for the run's own files. Anything else at this path or at a parent path is removed, because the
/// guest created it.
pub(crate) fn make_dir(dir: &Dir, relative: &Path) -> Result<(), UntrustedError> {
    let mut result = dir.create_dir_all(relative);
    for name in relative.ancestors().filter(|name| !name.as_os_str().is_empty()) {
        match result {
            Err(error) if error.problem().is_some() => {}
            _ => break,
        }
        let _ = dir.remove_tree(name);
        result = dir.create_dir_all(relative);
    }
    result.map(drop)
}

/// Creates a file for a log that readers follow while it grows.
fn new_log(dir: &Dir, relative: &Path) -> Result<File, UntrustedError> {
    dir.remove_tree(relative)?;
    dir.create_new(relative)
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use model::Verdict;

    #[test]
    fn nothing_is_written_through_links_of_the_guest() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let subtest: SubtestName = "x".parse().unwrap();
        let mut out = Out::create(dir.path(), &"a".parse().unwrap(), &[]).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out/a.x")).unwrap();
        out.started(&subtest).unwrap();
        std::os::unix::fs::symlink(outside.path().join("kernel"), dir.path().join("out/kernel")).unwrap();
        out.file("kernel", b"id").unwrap();
        std::fs::rename(dir.path().join("out"), dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        out.subtest_file(&subtest, "crash", b"report").unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(std::fs::read(dir.path().join("out/a.x/crash")).unwrap(), b"report");
    }

    #[test]
    fn the_layout_of_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let subtest: SubtestName = "generic/001".parse().unwrap();
        let test = "fs/xfs/fstests".parse().unwrap();
        let mut out = Out::create(dir.path(), &test, std::slice::from_ref(&subtest)).unwrap();
        assert!(matches!(Out::create(dir.path(), &test, &[]), Err(OutError::Locked(_))));
        out.started(&subtest).unwrap();
        out.line("hello", Duration::from_secs(7)).unwrap();
        out.flush().unwrap();
        let at = dir.path().join("out/fs.xfs.fstests.generic.001");
        let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
        assert_eq!((read("log"), read("status")), ("00007 hello\n".into(), "IN PROGRESS\n".into()));
        let status = "========= PASSED generic/001 in 2s";
        out.finished(&FinishedSubtest {
            subtest,
            verdict: Verdict::Passed,
            duration: Duration::from_millis(2900),
            crash: None,
            log: format!("00007 hello\n00009 {status}\n").into_bytes(),
        })
        .unwrap();
        assert_eq!((read("status"), read("duration")), (format!("{status}\n"), "2\n".into()));
        assert!(read("log").ends_with(&format!("{status}\n")));
        out.close().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("out/fs.xfs.fstests")).unwrap(), "00007 hello\n");
    }
}
