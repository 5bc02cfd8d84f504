//! One log file per executor, appended line by line, so that it can be read at any time. Rotation renames the file, so
//! a reader that has it open is not affected.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config::LogConfig;

/// The log of an executor. Cheap to clone; all clones write to the same file. Writes block for a short time. Without a
/// [`LogConfig`], nothing is written.
#[derive(Debug, Clone)]
pub struct ExecutorLog(Arc<Option<Mutex<LogFile>>>);

/// A weak reference to a log that may be in use, so that a file is never rotated by two logs.
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
    /// The number of lines that could not be written since the last successful write.
    lost: u64,
}

impl ExecutorLog {
    /// A log that discards its input.
    pub(crate) fn disabled() -> Self {
        Self(Arc::new(None))
    }

    /// The log for the executor with this name. The file is opened with the first line.
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

    /// Closes the file until the next line, so that idle executors have no open file.
    pub(crate) fn close(&self) {
        if let Some(mut file) = self.file() {
            file.file = None;
        }
    }

    pub(crate) fn downgrade(&self) -> WeakLog {
        WeakLog(Arc::downgrade(&self.0))
    }

    /// The path of the file, if logs are enabled. Rotated files have the suffixes `.1`, `.2`, ...
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.file().map(|file| file.path.clone())
    }

    /// Writes a line with a UTC time stamp. Lines that cannot be written, for example because the disk is full, are
    /// counted; the next successful write reports the number.
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

/// Writes bytes unchanged. Rotation happens between two writes.
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
            // A part may have been written. Reopening the file reads its size.
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

/// The path of the rotated log of that number; 0 is the current log.
fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The file name for an executor: `farm1.3.log` for `farm1/3`.
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
    fn log_names_cannot_leave_the_directory() {
        assert_eq!(file_name("farm1/3"), "farm1.3.log");
        assert_eq!(file_name("../../etc/passwd"), "etc.passwd.log");
        assert_eq!(file_name("a b\n"), "a_b_.log");
        assert_eq!(file_name(""), "executor.log");
    }

    #[test]
    fn rotation_keeps_the_newest_and_an_open_file_stays_readable() {
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
        let reopened = ExecutorLog::new(&config, "e/1");
        (&reopened).write_all(b"555\n").unwrap();
        assert_eq!(read(&path), "44444\n555\n", "appended to after a restart");
    }

    #[test]
    fn lost_lines_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("logs");
        fs::write(&blocked, "a file in place of the directory").unwrap();
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
    fn a_disabled_log_has_no_file() {
        let log = ExecutorLog::disabled();
        log.line("x");
        assert_eq!(log.path(), None);
    }
}
