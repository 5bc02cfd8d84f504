//! The output directory of a run (docs/contract.md): `OUT/out/<file>.<subtest>/{status,log,duration}`, `OUT/out/<file>`.
//!
//! A subtest's `status` is written last: when it has a verdict, the log is complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::marker::StatusLine;
use model::{SubtestName, TestPath};
use rustix::fs::{FlockOperation, flock};
use vm::console::CappedLog;
use vm::supervise::FinishedSubtest;

/// The full log is written up to the first limit; of the rest only the end is kept, up to the second. Bytes.
const FULL_LOG_HEAD: u64 = 48 << 20;
const FULL_LOG_TAIL: usize = 16 << 20;
/// The limit of a running subtest's log, in bytes.
const LIVE_LOG: u64 = 8 << 20;

/// Why the output directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    /// Another run uses it.
    #[error("{0}: used by another ktest run; wait for it or pass --out DIR")]
    Locked(PathBuf),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OutError + '_ {
    move |source| OutError::Io { path: path.into(), source }
}

/// The output directory of one run, locked while this value lives.
#[derive(Debug)]
pub struct Out {
    dir: PathBuf,
    test: TestPath,
    full: BufWriter<File>,
    full_written: u64,
    full_rest: CappedLog,
    live: Option<(BufWriter<File>, u64)>,
    _lock: File,
}

impl Out {
    /// Prepares `dir` for a run of `test`. Removes the results of earlier runs of the same subtests.
    pub fn create(dir: &Path, test: &TestPath, subtests: &[SubtestName]) -> Result<Self, OutError> {
        let results = dir.join("out");
        std::fs::create_dir_all(&results).map_err(at(&results))?;
        let dir = std::fs::canonicalize(dir).map_err(at(dir))?;
        let lock_path = dir.join(".lock");
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(OutError::Locked(dir));
        }
        let path = dir.join("out").join(test.dotted());
        let full = BufWriter::new(File::create(&path).map_err(at(&path))?);
        let full_rest = CappedLog::tail(FULL_LOG_TAIL);
        let out = Self { dir, test: test.clone(), full, full_written: 0, full_rest, live: None, _lock: lock };
        for subtest in subtests {
            let path = out.subtest_dir(subtest);
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
                _ => {}
            }
        }
        Ok(out)
    }

    /// The absolute path of the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of a subtest, absolute.
    #[must_use]
    pub fn subtest_dir(&self, subtest: &SubtestName) -> PathBuf {
        self.dir.join(self.relative(subtest))
    }

    /// The directory of a subtest, relative to the output directory.
    #[must_use]
    pub fn relative(&self, subtest: &SubtestName) -> PathBuf {
        Path::new("out").join(format!("{}.{}", self.test.dotted(), subtest.dotted()))
    }

    /// Appends a console line to the log of the run and to that of the running subtest.
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
        let dir = self.subtest_dir(subtest);
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        let path = dir.join("log");
        self.live = Some((BufWriter::new(File::create(&path).map_err(at(&path))?), 0));
        write(&dir.join("status"), b"IN PROGRESS\n")
    }

    /// Writes a subtest's log and verdict.
    pub fn finished(&mut self, finished: &FinishedSubtest) -> Result<(), OutError> {
        self.live = None;
        let dir = self.subtest_dir(&finished.subtest);
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        write(&dir.join("log"), &finished.log)?;
        write(&dir.join("duration"), format!("{}\n", finished.duration.as_secs()).as_bytes())?;
        let FinishedSubtest { subtest, verdict, duration, .. } = finished;
        let status = StatusLine { subtest, verdict, duration: *duration };
        write(&dir.join("status"), format!("{status}\n").as_bytes())
    }

    /// Writes a file of the run, such as the QEMU command.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<(), OutError> {
        write(&self.dir.join("out").join(name), content)
    }

    /// Ends the run: appends the kept end of an overlong log.
    pub fn close(mut self) -> Result<(), OutError> {
        let rest = self.full_rest.bytes();
        let result = self.full.write_all(&rest).and_then(|()| self.full.flush());
        result.map_err(at(&self.dir.join("out").join(self.test.dotted())))
    }
}

/// Replaces a file by rename, so that a reader never gets a part of it.
fn write(path: &Path, content: &[u8]) -> Result<(), OutError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = path.with_file_name(name);
    std::fs::write(&temporary, content).map_err(at(&temporary))?;
    std::fs::rename(&temporary, path).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Verdict;

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
