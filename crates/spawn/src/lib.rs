//! Child processes, the one way all crates start them.
//!
//! A child is an argv list in a process group of its own. Whoever drops its handle kills the whole group; it also
//! dies when the process that started it dies. Captured runs are bounded in time and in bytes.

pub mod lines;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Why a process did not do its work; its own failure (exit code) is not among them.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is not installed.
    #[error("{program}: not installed{hint}")]
    NotFound {
        /// The program.
        program: String,
        /// `; apt-get install PACKAGE`, or empty where the package is not known.
        hint: String,
    },
    /// It could not be started.
    #[error("{program}: cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ran longer than it may and was killed.
    #[error("{program}: killed, it ran longer than {} s", limit.as_secs())]
    Time {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It printed more than it may and was killed.
    #[error("{program}: killed, it printed more than {limit} bytes")]
    Size {
        /// The program.
        program: String,
        /// The limit.
        limit: usize,
    },
    /// Talking to it failed.
    #[error("{program}: {source}")]
    Io {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// How a process ended. Death by a signal is never success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Code(code),
            None => Self::Signal(status.signal().unwrap_or(0)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// What a captured run left.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, bad UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last line of standard error that is not empty: what a program says when it fails.
    #[must_use]
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().into()
    }
}

/// What a captured run may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall time.
    pub time: Duration,
    /// Bytes of standard output and of standard error, each.
    pub bytes: usize,
}

impl Limits {
    /// So many seconds and 64 MiB.
    #[must_use]
    pub fn seconds(seconds: u64) -> Self {
        Self { time: Duration::from_secs(seconds), bytes: 64 << 20 }
    }
}

/// What becomes of the child's standard streams in [`Cmd::start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// Nothing: `/dev/null`.
    #[default]
    Null,
    /// A pipe that the handle holds.
    Pipe,
    /// The parent's.
    Inherit,
}

impl From<Stream> for Stdio {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Null => Self::null(),
            Stream::Pipe => Self::piped(),
            Stream::Inherit => Self::inherit(),
        }
    }
}

/// A command to be run: an argv list and its surroundings.
#[derive(Debug, Clone)]
pub struct Cmd {
    argv: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    env_clear: bool,
    dir: Option<PathBuf>,
    input: Vec<u8>,
    streams: [Stream; 3],
    own_group: bool,
}

impl Cmd {
    /// `program`, found in PATH unless it holds a `/`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().into()],
            env: Vec::new(),
            env_clear: false,
            dir: None,
            input: Vec::new(),
            streams: [Stream::Null; 3],
            own_group: true,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().into(), Some(value.as_ref().into())));
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().into(), None));
        self
    }

    /// Starts from an empty environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().into());
        self
    }

    /// What a captured run reads from its standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// The standard streams of [`Cmd::start`]: input, output, error.
    #[must_use]
    pub fn streams(mut self, stdin: Stream, stdout: Stream, stderr: Stream) -> Self {
        self.streams = [stdin, stdout, stderr];
        self
    }

    /// Stays in the parent's process group: for programs that talk to the terminal.
    #[must_use]
    pub fn foreground(mut self) -> Self {
        self.own_group = false;
        self
    }

    /// The argv list, the program first.
    #[must_use]
    pub fn argv(&self) -> &[OsString] {
        &self.argv
    }

    /// The program, for messages.
    #[must_use]
    pub fn program(&self) -> String {
        self.argv[0].to_string_lossy().into_owned()
    }

    /// Starts it; the handle kills the whole process group when it is dropped.
    ///
    /// The child also gets SIGKILL when the *thread* that calls this ends: call it from a thread that lives as long
    /// as the child should (a runtime's worker or the main thread, not a blocking-pool thread).
    pub fn start(&self) -> Result<Child, SpawnError> {
        let mut command = tokio::process::Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).kill_on_drop(true);
        if self.env_clear {
            command.env_clear();
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let [stdin, stdout, stderr] = self.streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        if self.own_group {
            command.process_group(0);
        }
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only two system calls are made, no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::Error::from(rustix::io::Errno::SRCH));
                }
                Ok(())
            });
        }
        let child = command.spawn().map_err(|source| self.start_error(source))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Child { program: self.program(), child, group: group.filter(|_| self.own_group) })
    }

    fn start_error(&self, source: io::Error) -> SpawnError {
        let program = self.program();
        let dir_there = self.dir.as_ref().is_none_or(|dir| dir.is_dir());
        if source.kind() == io::ErrorKind::NotFound && dir_there {
            let hint = package_of(&program).map_or(String::new(), |p| format!("; apt-get install {p}"));
            return SpawnError::NotFound { program, hint };
        }
        SpawnError::Start { program, source }
    }

    /// Runs it to its end, its output captured.
    pub async fn output(&self, limits: Limits) -> Result<Output, SpawnError> {
        let mut cmd = self.clone();
        cmd.streams =
            [if self.input.is_empty() { Stream::Null } else { Stream::Pipe }, Stream::Pipe, Stream::Pipe];
        let mut child = cmd.start()?;
        let program = self.program();
        let work = async {
            let (stdin, stdout, stderr) = (child.take_stdin(), child.take_stdout(), child.take_stderr());
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A child that does not read its input to the end is not an error of ours.
                    let _ = stdin.write_all(&self.input).await;
                }
                Ok(())
            };
            let (stdout, stderr, ()) = tokio::try_join!(
                read_bounded(stdout, limits.bytes),
                read_bounded(stderr, limits.bytes),
                feed
            )?;
            Ok::<_, ReadError>(Output { exit: child.child.wait().await?.into(), stdout, stderr })
        };
        let result = tokio::time::timeout(limits.time, work).await;
        match result {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(ReadError::Size)) => Err(SpawnError::Size { program, limit: limits.bytes }),
            Ok(Err(ReadError::Io(source))) => Err(SpawnError::Io { program, source }),
            Err(_) => Err(SpawnError::Time { program, limit: limits.time }),
        }
    }
}

impl fmt::Display for Cmd {
    /// As it could be pasted into a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arg) in self.argv.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&quote(&arg.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// `text` as one word of a POSIX shell.
#[must_use]
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

enum ReadError {
    Size,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn read_bounded(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    stream.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > limit { Err(ReadError::Size) } else { Ok(bytes) }
}

/// Programs whose Debian package has the same name.
const SAME_NAME: [&str; 13] = [
    "git",
    "make",
    "gcc",
    "clang",
    "flex",
    "bison",
    "bc",
    "mmdebstrap",
    "fakeroot",
    "ccache",
    "gdb",
    "brotli",
    "bash",
];

/// The Debian package of a program that ktest-ci needs.
fn package_of(program: &str) -> Option<String> {
    let name = program.rsplit('/').next().unwrap_or(program);
    // Compilers of a version: gcc-13, clang-19.
    let versioned = name
        .rsplit_once('-')
        .filter(|(_, version)| !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit()));
    match versioned {
        Some(("gcc" | "clang", _)) => return Some(name.into()),
        Some(("ld.lld", version)) => return Some(format!("lld-{version}")),
        _ => {}
    }
    let package = match name {
        "qemu-system-x86_64" => Some("qemu-system-x86"),
        "qemu-system-aarch64" => Some("qemu-system-arm"),
        "qemu-img" => Some("qemu-utils"),
        "mke2fs" | "mkfs.ext4" => Some("e2fsprogs"),
        "bwrap" => Some("bubblewrap"),
        "aarch64-linux-gnu-gcc" => Some("gcc-aarch64-linux-gnu"),
        "x86_64-linux-gnu-gcc" => Some("gcc-x86-64-linux-gnu"),
        "ld" => Some("binutils"),
        "ld.lld" => Some("lld"),
        "ssh" => Some("openssh-client"),
        _ => SAME_NAME.into_iter().find(|known| *known == name),
    };
    package.map(Into::into)
}

/// A running child. Dropping it kills its process group.
#[derive(Debug)]
pub struct Child {
    program: String,
    child: tokio::process::Child,
    group: Option<Pid>,
}

impl Child {
    /// Its process id, while it has not been waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its standard input, once, if it was asked for as a pipe.
    pub fn take_stdin(&mut self) -> Option<tokio::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, once, if it was asked for as a pipe.
    pub fn take_stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, once, if it was asked for as a pipe.
    pub fn take_stderr(&mut self) -> Option<tokio::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end. Safe to cancel.
    pub async fn wait(&mut self) -> Result<Exit, SpawnError> {
        match self.child.wait().await {
            Ok(status) => Ok(status.into()),
            Err(source) => Err(SpawnError::Io { program: self.program.clone(), source }),
        }
    }

    /// Asks the whole group to end (SIGTERM), waits up to `grace`, then kills it.
    pub async fn stop(&mut self, grace: Duration) -> Result<Exit, SpawnError> {
        self.signal(Signal::TERM);
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            self.signal(Signal::KILL);
            return exit;
        }
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Sends a signal to the whole group (or the process, where it has no group of its own).
    pub fn signal(&mut self, signal: Signal) {
        match self.group {
            // The group outlives its leader: what the leader started may still be there.
            Some(group) => {
                let _ = kill_process_group(group, signal);
            }
            None => {
                if let Some(pid) =
                    self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
                {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // kill_on_drop reaps the leader; this ends what it started.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_package() {
        let package = |program: &str| package_of(program).unwrap_or_default();
        assert_eq!(package("/usr/bin/clang-19"), "clang-19");
        assert_eq!(package("ld.lld-19"), "lld-19");
        assert_eq!(package("ld.lld"), "lld");
        assert_eq!(package("gcc-x"), "");
    }

    #[tokio::test]
    async fn captures_and_tells_code_from_signal() {
        let out = Cmd::new("sh")
            .args(["-c", "cat; echo e >&2; exit 3"])
            .input("hello")
            .output(Limits::seconds(10))
            .await;
        let out = out.unwrap();
        assert_eq!((out.exit, out.text().as_str(), out.complaint().as_str()), (Exit::Code(3), "hello", "e"));
        let out = Cmd::new("sh").args(["-c", "kill -9 $$"]).output(Limits::seconds(10)).await.unwrap();
        assert_eq!(out.exit, Exit::Signal(9));
    }

    #[tokio::test]
    async fn bounded_in_time_and_bytes() {
        let limits = Limits { time: Duration::from_millis(200), bytes: 1000 };
        assert!(matches!(Cmd::new("sleep").arg("60").output(limits).await, Err(SpawnError::Time { .. })));
        let limits = Limits { time: Duration::from_secs(20), bytes: 1000 };
        assert!(matches!(Cmd::new("yes").output(limits).await, Err(SpawnError::Size { .. })));
    }

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let error = Cmd::new("/nowhere/qemu-system-x86_64").output(Limits::seconds(1)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere/qemu-system-x86_64: not installed; apt-get install qemu-system-x86"
        );
    }

    #[tokio::test]
    async fn dropping_kills_grandchildren() {
        let dir = std::env::temp_dir().join(format!("spawn-test-{}", std::process::id()));
        let script = format!("sleep 60 & echo $! > {}; wait", dir.display());
        let child = Cmd::new("sh").args(["-c", &script]).start().unwrap();
        let mut pid = None;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            pid = std::fs::read_to_string(&dir).ok().and_then(|t| t.trim().parse::<i32>().ok());
            if pid.is_some() {
                break;
            }
        }
        drop(child);
        let pid = Pid::from_raw(pid.unwrap()).unwrap();
        let mut gone = false;
        for _ in 0..200 {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            gone = stat.is_empty() || stat.contains(") Z ");
            if gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = std::fs::remove_file(&dir);
        assert!(gone);
    }

    #[test]
    fn shell_words() {
        assert_eq!(quote("a b'c"), r"'a b'\''c'");
        assert_eq!(Cmd::new("x").args(["-a", "", "k=v"]).to_string(), "x -a '' k=v");
    }
}
