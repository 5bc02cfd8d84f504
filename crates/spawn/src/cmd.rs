//! A command to run, and running it with captured output.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::cgroup::{Group, GroupLimits, Groups};
use crate::child::Child;
use crate::devices;
use crate::error::SpawnError;
use crate::guard;
use crate::output::{Limits, Output};
use crate::package;
use crate::unprivileged::{Access, SharedArg, Stage};

/// What a standard stream of the child is connected to in [`Cmd::start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe to [`Child`].
    Pipe,
    /// Standard output: a large pipe to [`Child`], for a program that sets its output to non-blocking and drops what
    /// does not fit. [`Child::block_on_full_stdout`] makes it wait instead.
    BlockingPipe,
    /// The parent's stream.
    Inherit,
}

impl From<Stream> for Stdio {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Null => Self::null(),
            Stream::Pipe | Stream::BlockingPipe => Self::piped(),
            Stream::Inherit => Self::inherit(),
        }
    }
}

/// A command: its arguments, environment, working directory and streams.
#[derive(Debug, Clone)]
pub struct Cmd {
    argv: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    env_clear: bool,
    dir: Option<PathBuf>,
    input: Vec<u8>,
    streams: [Stream; 3],
    own_group: bool,
    guarded: bool,
    unprivileged: bool,
    group_limits: Option<GroupLimits>,
    data: Vec<DataArg>,
    shared: Vec<SharedArg>,
    rlimits: Vec<(Resource, u64)>,
}

/// An argument that is the number of a file descriptor from which the child reads `bytes`.
#[derive(Debug, Clone)]
struct DataArg {
    /// The index in `argv`.
    at: usize,
    bytes: &'static [u8],
}

/// The pipe of [`Stream::BlockingPipe`].
struct StdoutPipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// The size of the pipe of [`Stream::BlockingPipe`]: what every user may have (`fs.pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;

/// The maximum size of [`Cmd::arg_data`]: it fits into the buffer of a pipe on every Linux system.
const DATA_BYTES: usize = 4096;

impl Cmd {
    /// The command `program` without arguments. It is looked up in PATH unless it contains a `/`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().into()],
            env: Vec::new(),
            env_clear: false,
            dir: None,
            input: Vec::new(),
            streams: [Stream::Null; 3],
            rlimits: Vec::new(),
            own_group: true,
            guarded: false,
            unprivileged: false,
            group_limits: None,
            data: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    /// Adds an argument that is the number of a file descriptor; the child reads `bytes` from it. At most 4096 bytes.
    #[must_use]
    pub fn arg_data(mut self, bytes: &'static [u8]) -> Self {
        assert!(bytes.len() <= DATA_BYTES, "the bytes of an argument fit into a pipe");
        self.data.push(DataArg { at: self.argv.len(), bytes });
        self.arg("FD")
    }

    /// Adds an argument that is the path of a file, directory or device of the host. The child can access it also if it is
    /// [unprivileged](Self::unprivileged), and files of root then belong to its user. The path may be another one.
    #[must_use]
    pub fn arg_shared(mut self, path: impl AsRef<Path>, access: Access) -> Self {
        let path = path.as_ref();
        self.shared.push(SharedArg { at: self.argv.len(), path: path.into(), access });
        self.arg(path)
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

    /// Clears the environment that the child would inherit.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().into());
        self
    }

    /// Sets the bytes that [`Cmd::output`] writes to the standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Sets the standard streams of [`Cmd::start`]: input, output, error.
    #[must_use]
    pub fn streams(mut self, stdin: Stream, stdout: Stream, stderr: Stream) -> Self {
        self.streams = [stdin, stdout, stderr];
        self
    }

    /// Leaves the child in the parent's process group, for programs that use the terminal.
    #[must_use]
    pub fn foreground(mut self) -> Self {
        self.own_group = false;
        self
    }

    /// Puts a process between this program and the child that kills the child's process group when this program or the
    /// child is killed. For programs such as bwrap, whose child processes do not end with them at all times. Has no
    /// effect in the parent's process group.
    #[must_use]
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self
    }

    /// If this process is root, the child runs as a user of its own without rights, in a mount namespace of its own, with
    /// `/` as the working directory. For programs that give files of the host to others. If this process is root in a user
    /// namespace only, there is no such user: then the child cannot change the modes, owners and dates of device files.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// Limits the child and everything that it starts together, if this process can create control groups
    /// ([`Groups::of_this_process`]).
    #[must_use]
    pub fn group_limits(mut self, limits: GroupLimits) -> Self {
        self.group_limits = Some(limits);
        self
    }

    /// Limits the memory that each process of the child may allocate, in bytes. Files that it maps do not count.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.rlimits.push((Resource::Data, bytes));
        self
    }

    /// Limits the size of each file that the child writes, in bytes. A larger one is an error or SIGXFSZ.
    #[must_use]
    pub fn file_size_limit(mut self, bytes: u64) -> Self {
        self.rlimits.push((Resource::Fsize, bytes));
        self
    }

    /// The arguments; the program is the first.
    #[must_use]
    pub fn argv(&self) -> &[OsString] {
        &self.argv
    }

    /// The program, for messages.
    #[must_use]
    pub fn program(&self) -> String {
        self.argv[0].to_string_lossy().into_owned()
    }

    /// Starts the process. Dropping the handle kills its whole process group.
    ///
    /// The child also gets SIGKILL when the *thread* that calls this ends. Call it from a thread that lives as long as
    /// the child: a worker thread of the runtime or the main thread, not a thread of the blocking pool.
    pub fn start(&self) -> Result<Child, SpawnError> {
        let limits = self.group_limits.zip(Groups::of_this_process());
        let group = limits.map(|(limits, groups)| groups.create(limits)).transpose();
        self.start_in(group.map_err(|source| self.start_error(source))?)
    }

    /// Starts the process in a control group.
    pub(crate) fn start_in(&self, control_group: Option<Group>) -> Result<Child, SpawnError> {
        let procs = control_group.as_ref().map(Group::procs).transpose();
        let procs = procs.map_err(|source| self.start_error(source))?;
        let pipes = self.open_pipes().map_err(|source| self.start_error(source))?;
        let stage = if self.unprivileged { Stage::open(&self.shared) } else { Ok(None) };
        let stage = stage.map_err(|source| self.start_error(source))?;
        let mut command = self.to_tokio(&pipes, stage.as_ref());
        let stdout = self.blocking_stdout().map_err(|source| self.start_error(source))?;
        if let Some(pipe) = &stdout {
            command.stdout(pipe.writer.try_clone().map_err(|source| self.start_error(source))?);
        }
        let parent = rustix::process::getpid();
        let rlimits = self.rlimits.clone();
        let guarded = self.guarded && self.own_group;
        let protect_devices = self.unprivileged && stage.is_none() && rustix::process::geteuid().is_root();
        // SAFETY: between fork and exec, only system calls are made; nothing allocates or takes a lock. The process has
        // one thread.
        unsafe {
            command.pre_exec(move || {
                devices::close_inherited();
                if protect_devices {
                    devices::protect()?;
                }
                for pipe in &pipes {
                    rustix::io::fcntl_setfd(pipe, rustix::io::FdFlags::empty())?;
                }
                if let Some(procs) = &procs {
                    rustix::io::write(procs, b"0")?;
                }
                if let Some(stage) = &stage {
                    stage.enter()?;
                }
                // A change of the user clears it.
                set_parent_process_death_signal(Some(Signal::KILL))?;
                for (resource, limit) in &rlimits {
                    // Only root can raise the hard limit.
                    let hard = getrlimit(*resource).maximum;
                    let limit = Some(hard.map_or(*limit, |hard| hard.min(*limit)));
                    setrlimit(*resource, Rlimit { current: limit, maximum: limit })?;
                }
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::Error::from(rustix::io::Errno::SRCH));
                }
                if guarded { guard::fork(parent) } else { Ok(()) }
            });
        }
        let mut child = command.spawn().map_err(|source| self.start_error(source))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut stdout_writer = None;
        if let Some(pipe) = stdout {
            let reader = tokio::process::ChildStdout::from_std(pipe.reader.into());
            child.stdout = Some(reader.map_err(|source| self.start_error(source))?);
            stdout_writer = Some(pipe.writer);
        }
        let group = group.filter(|_| self.own_group);
        Ok(Child { program: self.program(), child, group, stdout_writer, _control_group: control_group })
    }

    /// The pipe of [`Stream::BlockingPipe`]. No other child inherits it.
    fn blocking_stdout(&self) -> io::Result<Option<StdoutPipe>> {
        if self.streams[1] != Stream::BlockingPipe {
            return Ok(None);
        }
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A larger buffer stops the child less often. The limit of a user may be lower; then the size is unchanged.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Some(StdoutPipe { reader, writer }))
    }

    /// One pipe for each [`DataArg`], filled, with the write end closed. No other child inherits it.
    fn open_pipes(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |data: &DataArg| {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            std::fs::File::from(write).write_all(data.bytes)?;
            Ok(read)
        };
        self.data.iter().map(open).collect()
    }

    fn to_tokio(&self, pipes: &[OwnedFd], stage: Option<&Stage>) -> tokio::process::Command {
        let mut argv = self.argv.clone();
        for (at, path) in stage.into_iter().flat_map(Stage::paths) {
            argv[at] = path;
        }
        for (data, pipe) in self.data.iter().zip(pipes) {
            argv[data.at] = pipe.as_raw_fd().to_string().into();
        }
        let mut command = tokio::process::Command::new(&argv[0]);
        command.args(&argv[1..]).kill_on_drop(true);
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
        // A guard creates a session, which a leader of a process group cannot.
        if self.own_group && !self.guarded {
            command.process_group(0);
        }
        command
    }

    fn start_error(&self, source: io::Error) -> SpawnError {
        let program = self.program();
        let dir_exists = self.dir.as_ref().is_none_or(|dir| dir.is_dir());
        if source.kind() == io::ErrorKind::NotFound && dir_exists {
            return SpawnError::NotFound { hint: package::install_hint(&program), program };
        }
        SpawnError::Start { program, source }
    }

    /// Runs the process until it exits and captures its output.
    pub async fn output(&self, limits: Limits) -> Result<Output, SpawnError> {
        self.capture(limits, &AtomicU64::new(0)).await
    }

    /// Like [`Cmd::output`], for a program that reports its progress. It is killed if it prints nothing for `idle`,
    /// which is detected after at most twice that time.
    pub async fn output_with_progress(&self, limits: Limits, idle: Duration) -> Result<Output, SpawnError> {
        let printed = AtomicU64::new(0);
        let stalled = async {
            let mut before = u64::MAX;
            loop {
                let now = printed.load(Ordering::Relaxed);
                if now == before {
                    return;
                }
                before = now;
                tokio::time::sleep(idle).await;
            }
        };
        tokio::select! {
            result = self.capture(limits, &printed) => result,
            () = stalled => Err(SpawnError::Idle { program: self.program(), limit: idle }),
        }
    }

    /// Runs the process until it exits; `printed` counts the bytes of its output.
    async fn capture(&self, limits: Limits, printed: &AtomicU64) -> Result<Output, SpawnError> {
        let mut cmd = self.clone();
        cmd.streams =
            [if self.input.is_empty() { Stream::Null } else { Stream::Pipe }, Stream::Pipe, Stream::Pipe];
        let mut child = cmd.start()?;
        let program = self.program();
        let work = async {
            let (stdin, stdout, stderr) = (child.take_stdin(), child.take_stdout(), child.take_stderr());
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // The child may exit without reading all of its input.
                    let _ = stdin.write_all(&self.input).await;
                }
                Ok(())
            };
            let (stdout, stderr, ()) = tokio::try_join!(
                read_bounded(stdout, limits.bytes, printed),
                read_bounded(stderr, limits.bytes, printed),
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
    /// The command line, quoted for a shell.
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

/// Quotes `text` as one word of a POSIX shell.
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

async fn read_bounded(
    stream: Option<impl AsyncRead + Unpin>,
    limit: usize,
    printed: &AtomicU64,
) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    let mut stream = stream.take(limit as u64 + 1);
    loop {
        let count = stream.read_buf(&mut bytes).await?;
        printed.fetch_add(count as u64, Ordering::Relaxed);
        if count == 0 {
            return if bytes.len() > limit { Err(ReadError::Size) } else { Ok(bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::Exit;

    #[tokio::test]
    async fn output_is_captured_and_a_signal_is_not_an_exit_code() {
        let out = Cmd::new("sh")
            .args(["-c", "cat; echo e >&2; exit 3"])
            .input("hello")
            .output(Limits::seconds(10))
            .await;
        let out = out.unwrap();
        assert_eq!((out.exit, out.text().as_str(), out.error_line().as_str()), (Exit::Code(3), "hello", "e"));
        let out = Cmd::new("sh").args(["-c", "kill -9 $$"]).output(Limits::seconds(10)).await.unwrap();
        assert_eq!(out.exit, Exit::Signal(9));
    }

    #[tokio::test]
    async fn time_and_output_are_limited() {
        let limits = Limits { time: Duration::from_millis(200), bytes: 1000 };
        assert!(matches!(Cmd::new("sleep").arg("60").output(limits).await, Err(SpawnError::Time { .. })));
        let limits = Limits { time: Duration::from_secs(20), bytes: 1000 };
        assert!(matches!(Cmd::new("yes").output(limits).await, Err(SpawnError::Size { .. })));
    }

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let limits = Limits::seconds(20);
        let idle = Duration::from_millis(400);
        let ticks = Cmd::new("sh").args(["-c", "for i in 1 2 3 4 5 6 7 8; do echo $i >&2; sleep 0.2; done"]);
        assert!(ticks.output_with_progress(limits, idle).await.unwrap().exit.success());
        let silent = Cmd::new("sh").args(["-c", "echo 1; sleep 60"]);
        let error = silent.output_with_progress(limits, idle).await.unwrap_err();
        assert!(matches!(error, SpawnError::Idle { .. }), "{error}");
        let error = Cmd::new("/nowhere/qemu-system-x86_64").output(Limits::seconds(1)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere/qemu-system-x86_64: not installed; apt-get install qemu-system-x86"
        );
    }

    #[tokio::test]
    async fn a_child_reads_the_bytes_of_its_arguments() {
        let cmd = Cmd::new("bash").args(["-c", "cat <&$1; cat <&$2", "bash"]).arg_data(b"a").arg_data(b"b");
        for _ in 0..2 {
            assert_eq!(cmd.output(Limits::seconds(10)).await.unwrap().text(), "ab");
        }
    }

    #[tokio::test]
    async fn memory_and_file_sizes_are_limited() {
        let dir = std::env::temp_dir();
        let script = "perl -e '$x = \"x\" x (512 << 20)' 2>/dev/null || echo memory
            head -c 2000000 /dev/zero >\"$0\" 2>/dev/null || echo file";
        let limited = |file: &str| {
            let cmd = Cmd::new("bash").args(["-c", script, file]);
            cmd.memory_limit(256 << 20).file_size_limit(1 << 20)
        };
        let file = dir.join(format!("spawn-{}", std::process::id())).display().to_string();
        let output = limited(&file).output(Limits::seconds(20)).await.unwrap();
        let _ = std::fs::remove_file(&file);
        assert_eq!(output.text(), "memory\nfile\n");
    }

    /// What arrives of `bytes` from a program that sets its output to non-blocking and drops what does not fit.
    async fn received(bytes: usize, block: bool) -> usize {
        let script = "use Fcntl; fcntl(STDOUT, F_SETFL, O_NONBLOCK | O_WRONLY); $SIG{PIPE} = 'IGNORE';
            syswrite(STDOUT, 'x'); sleep 1; syswrite(STDOUT, 'y' x 1000) for 1 .. $ARGV[0] / 1000";
        let cmd = Cmd::new("perl").args(["-e", script, &bytes.to_string()]);
        let mut child = cmd.streams(Stream::Null, Stream::BlockingPipe, Stream::Inherit).start().unwrap();
        let mut stdout = child.take_stdout().unwrap();
        let mut count = stdout.read(&mut [0]).await.unwrap();
        if block {
            child.block_on_full_stdout();
        } else {
            child.stdout_writer = None;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut buffer = vec![0; 64 << 10];
        while let Ok(more @ 1..) = stdout.read(&mut buffer).await {
            count += more;
        }
        count
    }

    #[tokio::test]
    async fn a_program_waits_for_the_reader_of_its_output() {
        let bytes = 4_000_000;
        assert_eq!(received(bytes, true).await, bytes + 1);
        assert!(received(bytes, false).await < bytes);
    }

    #[tokio::test]
    async fn the_output_of_a_program_that_has_exited_ends() {
        let cmd = Cmd::new("true").streams(Stream::Null, Stream::BlockingPipe, Stream::Null);
        let mut child = cmd.start().unwrap();
        let mut stdout = child.take_stdout().unwrap();
        while !child.has_exited() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(stdout.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(child.wait().await.unwrap(), crate::Exit::Code(0));
    }

    #[test]
    fn command_lines_are_quoted_for_a_shell() {
        assert_eq!(quote("a b'c"), r"'a b'\''c'");
        assert_eq!(Cmd::new("x").args(["-a", "", "k=v"]).to_string(), "x -a '' k=v");
    }
}
