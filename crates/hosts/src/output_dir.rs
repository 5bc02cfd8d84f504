//! Receives the frames of a run and writes its files to the output directory on this machine.
//!
//! The other host is untrusted: files are written with [`fsx::untrusted`], only below the output directory and up to a
//! size limit.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use fsx::own;
use fsx::untrusted::Dir;
use model::{Event, Stamped, SubtestName, TestPath};
use tokio::io::BufReader;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;

use crate::error::{HostError, LocalError};
use crate::frame::{self, Frame, ReadError};

/// The limit on the total size of all files of a run, in bytes.
const MAX_BYTES: u64 = 4 << 30;
/// The maximum number of growing logs that are kept open.
const OPEN_LOGS: usize = 16;

/// Why receiving stopped.
pub(crate) enum ReceiveError {
    /// The other end or the connection failed.
    Read(ReadError),
    /// This machine failed.
    Local(HostError),
}

impl From<ReadError> for ReceiveError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Receives frames in order and passes them on, except files and lines of growing logs, which are written to the
/// directory. So a verdict is passed on after its files have been written.
pub(crate) async fn receive(
    from: &mut BufReader<ChildStdout>,
    directory: &mut OutputDir,
    to: &mpsc::Sender<Result<Frame, ReceiveError>>,
) -> ReceiveError {
    loop {
        let frame = match frame::read(from).await {
            Ok(Frame::File { path, size }) => match directory.file(from, &path, size).await {
                Ok(()) => continue,
                Err(error) => return error,
            },
            Ok(Frame::Line(line)) if line.contains("\"log\"") => match Stamped::parse(&line) {
                Ok(Some(Stamped { event: Event::Log { subtest, lines }, .. })) => {
                    directory.log(subtest.as_ref(), &lines);
                    continue;
                }
                _ => Frame::Line(line),
            },
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        let last = matches!(frame, Frame::Exit(_) | Frame::Refused(_));
        if to.send(Ok(frame)).await.is_err() || last {
            return ReadError::End.into();
        }
    }
}

/// The output directory on this machine.
pub(crate) struct OutputDir {
    out: PathBuf,
    test: TestPath,
    /// The remaining number of bytes that may be received.
    bytes_left: u64,
    /// Logs that grow during the run.
    logs: HashMap<PathBuf, std::fs::File>,
    /// Files that were received completely.
    complete: HashSet<PathBuf>,
}

impl OutputDir {
    pub(crate) fn new(out: &Path, test: &TestPath) -> Self {
        let (logs, complete) = (HashMap::new(), HashSet::new());
        Self { out: out.into(), test: test.clone(), bytes_left: MAX_BYTES, logs, complete }
    }

    /// Receives a complete file. It replaces a log that was received line by line.
    async fn file(
        &mut self,
        from: &mut BufReader<ChildStdout>,
        path: &Path,
        size: u64,
    ) -> Result<(), ReceiveError> {
        if size > self.bytes_left {
            return Err(ReadError::Invalid(format!("a file {} of {size} bytes", path.display())).into());
        }
        self.bytes_left -= size;
        let begun = || {
            let out = Dir::open(&self.out)?;
            if let Some(parent) = path.parent() {
                out.create_dir_all(parent)?;
            }
            out.new_file(path)
        };
        let mut file = begun().map_err(|error| match error.problem() {
            Some(problem) => ReadError::Invalid(format!("a file {path:?}: it {problem}")).into(),
            None => ReceiveError::Local(error.into()),
        })?;
        let mut write_error = None;
        let copied = frame::copy(from, size, |bytes| {
            if write_error.is_none() {
                write_error = file.write_all(bytes).err();
            }
            Ok(())
        });
        copied.await?;
        if let Some(error) = write_error {
            return Err(ReceiveError::Local(LocalError::io(&self.out.join(path))(error).into()));
        }
        file.publish().map_err(|error| ReceiveError::Local(error.into()))?;
        self.logs.remove(path);
        self.complete.insert(path.into());
        Ok(())
    }

    /// Appends lines to the log of a subtest and to the full log. Lines that cannot be written are not lost: the
    /// complete log follows.
    fn log(&mut self, subtest: Option<&SubtestName>, lines: &[String]) {
        let file = self.test.dotted();
        let full = Path::new("out").join(&file);
        let own =
            subtest.map(|subtest| Path::new("out").join(format!("{file}.{}", subtest.dotted())).join("log"));
        let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
        if self.logs.len() > OPEN_LOGS {
            self.logs.clear();
        }
        for path in own.into_iter().chain([full]) {
            if self.complete.contains(&path) || text.len() as u64 > self.bytes_left {
                continue;
            }
            self.bytes_left -= text.len() as u64;
            if let Some(file) = self.open_log(path) {
                let _ = file.write_all(text.as_bytes());
            }
        }
    }

    fn open_log(&mut self, path: PathBuf) -> Option<&mut std::fs::File> {
        match self.logs.entry(path) {
            std::collections::hash_map::Entry::Occupied(file) => Some(file.into_mut()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                // The name is made of the test and the subtest, which are validated. It is not a path from the other
                // host.
                let path = self.out.join(vacant.key());
                own::create_dir_all(path.parent()?).ok()?;
                Some(vacant.insert(own::append(&path).ok()?))
            }
        }
    }
}
