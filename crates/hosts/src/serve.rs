//! The remote side of a run: `ktest host serve`, started over ssh, reads orders from its standard input and runs `ktest
//! run`.
//!
//! It exits with all its child processes when its input is closed or silent for a minute. So no process remains on the
//! host when the daemon, the connection or this process is killed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::own;
use fsx::untrusted::{Dir, EntryType, TreeLimits};
use model::build::version;
use model::{Event, Stamped};
use spawn::{Child, Cmd, Exit, Stream, lines};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use crate::error::{HostError, LocalError};
use crate::frame::{self, Frame, GREETING, HEARTBEAT, Hello, Order, PROTOCOL, RemoteOrder};
use crate::slot::HostSlot;
use crate::{mirror, tests_tree};

/// The time for a run to exit after SIGTERM.
const STOP_TIME: Duration = Duration::from_secs(10);
/// The time for sending the last files.
const SEND_TIME: Duration = Duration::from_secs(1800);
/// The time for reading the pipes of a run after it exited.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// The size limit of a file that is sent back, in bytes; a larger file is truncated.
const FILE_BYTES: u64 = 256 << 20;
/// The limits of the files that are sent back.
const OUT_LIMITS: TreeLimits = TreeLimits { entries: 200_000, bytes: 2 << 30, depth: 32 };

/// The options of [`serve`].
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The cache directory.
    pub cache: PathBuf,
    /// The `ktest` command as an argv list: this program.
    pub ktest: Vec<OsString>,
}

/// A message to the local side.
enum Outgoing {
    Frame(Frame),
    /// A frame followed by the content of the file.
    File {
        path: PathBuf,
        file: std::fs::File,
    },
}

/// Serves one run on standard input and output. Returns false if the local side was lost before the end of the run.
pub async fn serve(options: &ServeOptions) -> Result<bool, HostError> {
    let mut orders = BufReader::new(tokio::io::stdin());
    let (outgoing, messages) = mpsc::channel(64);
    let writer = tokio::spawn(write_messages(messages));
    let result = Server { options, outgoing: outgoing.clone() }.serve_run(&mut orders).await;
    if let Err(error) = &result {
        let _ = outgoing.send(Outgoing::Frame(Frame::Refused(error.to_string()))).await;
    }
    drop(outgoing);
    // Files are still being sent.
    let _ = tokio::time::timeout(SEND_TIME, writer).await;
    match result? {
        Some(slot) => slot.remove().map(|()| true),
        None => Ok(false),
    }
}

/// Writes messages, and a heartbeat when there are none.
async fn write_messages(mut messages: mpsc::Receiver<Outgoing>) {
    let mut stdout = tokio::io::stdout();
    loop {
        let message = match tokio::time::timeout(HEARTBEAT, messages.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(_) => Outgoing::Frame(Frame::Alive),
        };
        let written = match message {
            Outgoing::Frame(frame) => write_frame(&mut stdout, &frame).await,
            Outgoing::File { path, file } => write_file(&mut stdout, path, file).await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn write_frame(to: &mut tokio::io::Stdout, frame: &Frame) -> std::io::Result<()> {
    let mut line = serde_json::to_string(frame).expect("frames are plain data");
    if matches!(frame, Frame::Hello(_)) {
        line.insert_str(0, GREETING);
        line.insert(0, '\n');
    }
    line.push('\n');
    to.write_all(line.as_bytes()).await?;
    to.flush().await
}

async fn write_file(to: &mut tokio::io::Stdout, path: PathBuf, file: std::fs::File) -> std::io::Result<()> {
    let size = file.metadata()?.len().min(FILE_BYTES);
    write_frame(to, &Frame::File { path, size }).await?;
    // A file that shrinks during the copy is padded with zeros, so that the stream remains valid.
    let mut content = tokio::fs::File::from_std(file).chain(tokio::io::repeat(0)).take(size);
    tokio::io::copy(&mut content, to).await?;
    to.flush().await
}

struct Server<'a> {
    options: &'a ServeOptions,
    outgoing: mpsc::Sender<Outgoing>,
}

impl Server<'_> {
    async fn send(&self, frame: Frame) -> Result<(), HostError> {
        self.outgoing.send(Outgoing::Frame(frame)).await.map_err(|_| LocalError::Closed.into())
    }

    async fn send_hello(&self) -> Result<(), HostError> {
        let cache = &self.options.cache;
        own::create_dir_all(cache)?;
        let free = own::free_bytes(cache)?;
        self.send(Frame::Hello(Hello {
            protocol: PROTOCOL,
            version: version().into(),
            arch: std::env::consts::ARCH.into(),
            unix: fsx::clock::unix_seconds(),
            cache: cache.clone(),
            free,
        }))
        .await
    }

    /// Serves one run. Returns its slot when the run has ended; `None` if the local side was lost.
    async fn serve_run(&self, orders: &mut Orders) -> Result<Option<HostSlot>, HostError> {
        self.send_hello().await?;
        let cache = &self.options.cache;
        let mirror = cache.join("mirror/linux.git");
        let mut slot = None;
        let mut tests_dir = None;
        loop {
            match frame::read(orders).await {
                Ok(Order::Prepare { slot: name, commit, suites, tests }) => {
                    slot = Some(HostSlot::claim(cache, &name).await?);
                    let tests = tests_tree::path(cache, &tests)?;
                    self.send(Frame::Ready {
                        commit: match &commit {
                            Some(commit) => mirror::has_commit(&mirror, commit).await?,
                            None => true,
                        },
                        tests: tests.is_dir(),
                        missing_suites: mirror::missing(&mirror, suites).await?,
                        mirror: mirror.clone(),
                    })
                    .await?;
                    tests_dir = Some(tests);
                }
                Ok(Order::Tests { size }) => {
                    let Some(dir) = &tests_dir else { return Err(LocalError::UnexpectedMessage.into()) };
                    tests_tree::receive(orders, size, dir).await?;
                    self.send(Frame::TestsReceived).await?;
                }
                Ok(Order::Run(run)) => {
                    let (Some(slot), Some(tests)) = (slot, tests_dir) else {
                        return Err(LocalError::UnexpectedMessage.into());
                    };
                    let ended = self.run(orders, &run, &slot, &tests, &mirror).await?;
                    return Ok(ended.then_some(slot));
                }
                Ok(Order::Alive) => {}
                Ok(Order::Kernel | Order::Stop) => return Err(LocalError::UnexpectedMessage.into()),
                Err(frame::ReadError::End) => return Ok(None),
                Err(error) => return Err(LocalError::Protocol(error).into()),
            }
        }
    }

    /// Runs `ktest run`. Returns false if the local side was lost.
    async fn run(
        &self,
        orders: &mut Orders,
        run: &RemoteOrder,
        slot: &HostSlot,
        tests: &Path,
        mirror: &Path,
    ) -> Result<bool, HostError> {
        slot.prepare()?;
        let cmd = self.command(run, slot, tests, mirror);
        let mut child = cmd.start()?;
        let mut stdin = child.take_stdin();
        let mut output = ChildOutput::of(&mut child);
        let mut files = FilesToSend::new(&slot.work)?;
        let mut open = true;
        let exit = {
            // A single future reads all orders: a partially read order must not be dropped.
            let mut order = Box::pin(next_order(orders));
            loop {
                tokio::select! {
                    (next, orders) = &mut order => match next {
                        Ok(Order::Kernel) => {
                            if let Some(stdin) = &mut stdin {
                                let _ = stdin.write_all(b"go on\n").await;
                            }
                            order.set(next_order(orders));
                        }
                        Ok(Order::Stop) => break child.stop(STOP_TIME).await?,
                        Ok(_) => order.set(next_order(orders)),
                        // The local side is lost: dropping the child kills all its processes.
                        Err(_) => return Ok(false),
                    },
                    line = output.events.recv(), if open => match line {
                        Some(line) => self.event(line, &mut files).await?,
                        None => open = false,
                    },
                    Some(line) = output.messages.recv() => self.send(Frame::Message(line)).await?,
                    exit = child.wait() => break exit?,
                }
            }
        };
        self.finish(child, exit, output, files).await?;
        Ok(true)
    }

    async fn finish(
        &self,
        child: Child,
        exit: Exit,
        mut output: ChildOutput,
        mut files: FilesToSend,
    ) -> Result<(), HostError> {
        // Kills the processes that the run left behind.
        drop(child);
        let rest = async {
            while let Some(line) = output.messages.recv().await {
                self.send(Frame::Message(line)).await?;
            }
            while let Some(line) = output.events.recv().await {
                self.event(line, &mut files).await?;
            }
            Ok::<_, HostError>(())
        };
        tokio::time::timeout(DRAIN_TIME, rest).await.unwrap_or(Ok(()))?;
        for path in files.paths(Path::new("out")) {
            self.send_file(&path, &mut files).await?;
        }
        self.send(Frame::Exit(match exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }))
        .await
    }

    /// Sends a line of the run. The files of a verdict are sent before it.
    async fn event(&self, line: String, files: &mut FilesToSend) -> Result<(), HostError> {
        if line.contains("\"verdict\"")
            && let Ok(Some(Stamped { event: Event::Verdict { dir, .. }, .. })) = Stamped::parse(&line)
        {
            for path in files.paths(&dir) {
                self.send_file(&path, files).await?;
            }
        }
        self.send(Frame::Line(line)).await
    }

    async fn send_file(&self, path: &Path, files: &mut FilesToSend) -> Result<(), HostError> {
        let Some(file) = files.take(path) else { return Ok(()) };
        let message = Outgoing::File { path: path.into(), file };
        self.outgoing.send(message).await.map_err(|_| LocalError::Closed.into())
    }

    fn command(&self, run: &RemoteOrder, slot: &HostSlot, tests: &Path, mirror: &Path) -> Cmd {
        let mut run = run.clone();
        run.suites.iter_mut().for_each(|suite| suite.repo = mirror.into());
        let order = run.run_order(mirror, tests, &slot.work, &run.subtests);
        let order = model::RunOrder { log_events: true, ask_kernel: true, ..order };
        Cmd::new(&self.options.ktest[0])
            .args(&self.options.ktest[1..])
            .arg("--cache-dir")
            .arg(&self.options.cache)
            .arg("run")
            .args(order.to_argv())
            .streams(Stream::Pipe, Stream::Pipe, Stream::Pipe)
    }
}

type Orders = BufReader<tokio::io::Stdin>;

async fn next_order(orders: &mut Orders) -> (Result<Order, frame::ReadError>, &mut Orders) {
    (frame::read(orders).await, orders)
}

/// The lines of a run's standard output and standard error.
struct ChildOutput {
    events: mpsc::Receiver<String>,
    messages: mpsc::Receiver<String>,
}

impl ChildOutput {
    fn of(child: &mut Child) -> Self {
        let (events_sender, events) = mpsc::channel(64);
        let (messages_sender, messages) = mpsc::channel(64);
        if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
            tokio::spawn(lines::send(stdout, events_sender));
            tokio::spawn(lines::send(stderr, messages_sender));
        }
        Self { events, messages }
    }
}

/// The files of a run, with those that were sent. A guest and a test write to the directory: it is untrusted.
struct FilesToSend {
    dir: Dir,
    sent: BTreeSet<PathBuf>,
    bytes: u64,
}

impl FilesToSend {
    fn new(dir: &Path) -> Result<Self, HostError> {
        Ok(Self { dir: Dir::open(dir)?, sent: BTreeSet::new(), bytes: 0 })
    }

    /// Opens a file that is to be sent. `None` if it was already sent, is not a regular file, or exceeds the limits.
    fn take(&mut self, path: &Path) -> Option<std::fs::File> {
        let file = self.dir.open_file(path).ok()?;
        let size = file.metadata().ok()?.len().min(FILE_BYTES);
        if self.bytes + size > OUT_LIMITS.bytes || !self.sent.insert(path.into()) {
            return None;
        }
        self.bytes += size;
        Some(file)
    }

    /// The paths of all files below a directory.
    fn paths(&self, dir: &Path) -> Vec<PathBuf> {
        let entries = self.dir.walk(dir, OUT_LIMITS).unwrap_or_default().into_iter();
        let files = entries.filter(|(_, entry_type)| *entry_type == EntryType::File);
        files.map(|(path, _)| dir.join(path)).collect()
    }
}
