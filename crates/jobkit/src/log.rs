//! One log file per executor: appended line by line, so that it can be read while it is written, and rotated by
//! renaming, so that a reader who has it open keeps what it reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config::LogConfig;

/// The log of an executor. Cheap to clone; all clones write to the same file. Writing is a short blocking write
/// to a file. Without a [`LogConfig`] it swallows everything.
#[derive(Debug, Clone)]
pub struct ExecutorLog(Arc<Option<Mutex<LogFile>>>);

/// Finds a log again that is still in use, so that no two rotate the same file.
#[derive(Debug)]
pub(crate) struct WeakLog(Weak<Option<Mutex<LogFile>>>);

impl WeakLog {
    pub(crate) fn upgrade(&self) -> Option<ExecutorLog> {
        self.0.upgrade().map(ExecutorLog)
    }
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: Option<File>,
    size: u64,
    /// Lines that could not be written since the last one that could.
    lost: u64,
}

impl ExecutorLog {
    /// A log that swallows everything.
    pub(crate) fn nowhere() -> Self {
        Self(Arc::new(None))
    }

    /// The log of the executor of this name. The file is opened with the first line.
    pub(crate) fn new(config: &LogConfig, name: &str) -> Self {
        let file = LogFile {
            path: config.dir.join(file_name(name)),
            max_bytes: config.max_bytes.max(1),
            keep: config.keep,
            file: None,
            size: 0,
            lost: 0,
        };
        Self(Arc::new(Some(Mutex::new(file))))
    }

    fn file(&self) -> Option<MutexGuard<'_, LogFile>> {
        self.0.as_ref().as_ref().map(|file| file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes the file until the next line, so that executors without work hold no file open.
    pub(crate) fn close(&self) {
        if let Some(mut file) = self.file() {
            file.file = None;
        }
    }

    pub(crate) fn downgrade(&self) -> WeakLog {
        WeakLog(Arc::downgrade(&self.0))
    }

    /// The file that is being written, where there is one; rotated ones lie beside it as `.1`, `.2`, ...
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.file().map(|file| file.path.clone())
    }

    /// Writes a line with the time (UTC) before it. What cannot be written (a full disk) is counted, and the log
    /// says so when it can be written again.
    pub fn line(&self, text: impl AsRef<str>) {
        let Some(mut file) = self.file() else { return };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let lost = match file.lost {
            0 => String::new(),
            lost => format!("{now} {lost} lines before this could not be written\n"),
        };
        let line = format!("{lost}{now} {}\n", text.as_ref().trim_end());
        match file.append(line.as_bytes()) {
            Ok(()) => file.lost = 0,
            Err(_) => file.lost += 1,
        }
    }
}

/// Bytes go to the file as they are. A log that is rotated is rotated between two writes.
impl Write for &ExecutorLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(mut file) = self.file() {
            file.append(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As for a reference.
impl Write for ExecutorLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        if self.size > 0 && self.size.saturating_add(bytes.len() as u64) > self.max_bytes {
            self.rotate()?;
        }
        let Some(file) = self.file.as_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(bytes) {
            // What was written of it is there; where the file ends now is asked when it is opened again.
            self.file = None;
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        }
        for number in (0..self.keep).rev() {
            match fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.open()
    }
}

/// The path of the rotated log of that number; 0 is the one being written.
fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// One file's name for an executor's: `farm1/3` becomes `farm1.3.log`.
pub(crate) fn file_name(name: &str) -> String {
    let safe = |c: char| match c {
        '/' => '.',
        c if c.is_ascii_alphanumeric() || "._-@=+".contains(c) => c,
        _ => '_',
    };
    let name: String = name.chars().take(200).map(safe).collect();
    let name = name.trim_start_matches('.');
    format!("{}.log", if name.is_empty() { "executor" } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        assert_eq!(file_name("farm1/3"), "farm1.3.log");
        assert_eq!(file_name("../../etc/passwd"), "etc.passwd.log");
        assert_eq!(file_name("a b\n"), "a_b_.log");
        assert_eq!(file_name(""), "executor.log");
    }

    #[test]
    fn rotation_keeps_some_and_a_reader_keeps_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { dir: dir.path().join("logs"), max_bytes: 10, keep: 2 };
        let log = ExecutorLog::new(&config, "e/1");
        let path = log.path().unwrap();
        let mut first = None;
        for text in ["11111\n", "22222\n", "33333\n", "44444\n"] {
            (&log).write_all(text.as_bytes()).unwrap();
            assert_eq!(read(&path), text, "readable at once");
            first.get_or_insert_with(|| File::open(&path).unwrap());
        }
        assert_eq!(read(&rotated(&path, 1)), "33333\n");
        assert_eq!(read(&rotated(&path, 2)), "22222\n");
        assert!(!rotated(&path, 3).exists());
        assert_eq!(io::read_to_string(first.unwrap()).unwrap(), "11111\n");
        let again = ExecutorLog::new(&config, "e/1");
        (&again).write_all(b"555\n").unwrap();
        assert_eq!(read(&path), "44444\n555\n", "appended to after a restart");
    }

    #[test]
    fn lost_lines_are_owned_up_to() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("logs");
        fs::write(&blocked, "a file where the folder should be").unwrap();
        let log = ExecutorLog::new(&LogConfig::new(&blocked), "e");
        log.line("one");
        log.line("two");
        fs::remove_file(&blocked).unwrap();
        log.line("three");
        log.line("four");
        let text = read(&log.path().unwrap());
        let texts: Vec<&str> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|(_, text)| text).collect();
        assert_eq!(texts, ["2 lines before this could not be written", "three", "four"]);
    }

    #[test]
    fn nowhere_swallows() {
        let log = ExecutorLog::nowhere();
        log.line("x");
        assert_eq!(log.path(), None);
    }
}
