//! The far end of a run: `ktest host serve`, started over ssh, obeys orders from its standard input and runs `ktest run`.
//!
//! It ends, and everything it started with it, as soon as its input ends or says nothing for a minute: so when the daemon,
//! the connection or this process is killed, nothing goes on here.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::build::version;
use model::{CommitId, Event, KernelId, Stamped};
use spawn::{Child, Cmd, Exit, Stream, lines};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use walkdir::WalkDir;

use crate::frame::{self, BEAT, Frame, GREETING, Hello, Order, RemoteOrder};
use crate::kernels::ARCHIVE;
use crate::link::{mirror_ref, unix_now};
use crate::lock::Lock;
use crate::{HostError, PROTOCOL, pack};

/// How long a run gets to end by itself when it is told to.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last files may take on their way.
const FAREWELL: Duration = Duration::from_secs(1800);
/// How long what a run left in its pipes is read after its end.
const DRAIN: Duration = Duration::from_secs(5);
/// Of one file so much goes back, in bytes.
const FILE: u64 = 256 << 20;
/// Of all files of a run together.
const FILES: u64 = 2 << 30;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Serve {
    /// The cache folder.
    pub cache: PathBuf,
    /// The command that runs, as an argv list: this program.
    pub ktest: Vec<OsString>,
}

/// What goes out.
enum Out {
    Frame(Frame),
    /// A file's content after its frame.
    File {
        path: PathBuf,
        from: PathBuf,
    },
}

/// Serves one run on standard input and output; true if it came to its end.
pub async fn serve(options: &Serve) -> Result<bool, HostError> {
    let mut orders = BufReader::new(tokio::io::stdin());
    let (out, outs) = mpsc::channel(64);
    let writer = tokio::spawn(write_out(outs));
    let result = Server { options, out: out.clone() }.one(&mut orders).await;
    if let Err(error) = &result {
        let _ = out.send(Out::Frame(Frame::Refused(error.to_string()))).await;
    }
    drop(out);
    // Files are still on their way; whoever does not read them is gone.
    let _ = tokio::time::timeout(FAREWELL, writer).await;
    match result? {
        Some(slot) => slot.empty(false).map(|()| true),
        None => Ok(false),
    }
}

/// Writes what goes out, and a word now and then when nothing does.
async fn write_out(mut outs: mpsc::Receiver<Out>) {
    let mut stdout = tokio::io::stdout();
    loop {
        let out = match tokio::time::timeout(BEAT, outs.recv()).await {
            Ok(Some(out)) => out,
            Ok(None) => return,
            Err(_) => Out::Frame(Frame::Alive),
        };
        let written = match out {
            Out::Frame(frame) => write_frame(&mut stdout, &frame).await,
            Out::File { path, from } => write_file(&mut stdout, path, &from).await,
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

async fn write_file(to: &mut tokio::io::Stdout, path: PathBuf, from: &Path) -> std::io::Result<()> {
    let Ok(file) = tokio::fs::File::open(from).await else { return Ok(()) };
    let size = file.metadata().await?.len().min(FILE);
    write_frame(to, &Frame::File { path, size }).await?;
    // A file that shrinks meanwhile does not break the stream.
    let mut content = file.chain(tokio::io::repeat(0)).take(size);
    tokio::io::copy(&mut content, to).await?;
    to.flush().await
}

struct Server<'a> {
    options: &'a Serve,
    out: mpsc::Sender<Out>,
}

impl Server<'_> {
    async fn say(&self, frame: Frame) -> Result<(), HostError> {
        self.out.send(Out::Frame(frame)).await.map_err(|_| HostError::Here("nobody listens any more".into()))
    }

    async fn one(&self, orders: &mut Orders) -> Result<Option<Slot>, HostError> {
        let cache = &self.options.cache;
        std::fs::create_dir_all(cache).map_err(|error| HostError::io(cache, &error))?;
        let stat = rustix::fs::statvfs(cache).map_err(|error| HostError::io(cache, &error.into()))?;
        self.say(Frame::Hello(Hello {
            protocol: PROTOCOL,
            version: version().into(),
            arch: std::env::consts::ARCH.into(),
            unix: unix_now(),
            cache: cache.clone(),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        }))
        .await?;
        let mirror = cache.join("mirror/linux.git");
        let mut slot = None;
        let mut tests_dir = None;
        loop {
            match frame::read(orders).await {
                Ok(Order::Prepare { slot: name, commit, tests }) => {
                    slot = Some(Slot::claim(cache, &name).await?);
                    let tests = tests_tree(cache, &tests)?;
                    self.say(Frame::Ready {
                        commit: match &commit {
                            Some(commit) => has_commit(&mirror, commit).await?,
                            None => true,
                        },
                        tests: tests.is_dir(),
                        mirror: mirror.clone(),
                    })
                    .await?;
                    tests_dir = Some(tests);
                }
                Ok(Order::Tests { size }) => {
                    let Some(dir) = &tests_dir else { return Err(out_of_turn()) };
                    receive_tests(orders, size, dir).await?;
                    self.say(Frame::TestsThere).await?;
                }
                Ok(Order::Run(run)) => {
                    let (Some(slot), Some(tests)) = (slot, tests_dir) else { return Err(out_of_turn()) };
                    let whole = self.run(orders, &run, &slot, &tests, &mirror).await?;
                    return Ok(whole.then_some(slot));
                }
                Ok(Order::Alive) => {}
                Ok(Order::Kernel | Order::Stop) => return Err(out_of_turn()),
                Err(frame::ReadError::End) => return Ok(None),
                Err(error) => return Err(HostError::Here(error.to_string())),
            }
        }
    }

    async fn run(
        &self,
        orders: &mut BufReader<tokio::io::Stdin>,
        run: &RemoteOrder,
        slot: &Slot,
        tests: &Path,
        mirror: &Path,
    ) -> Result<bool, HostError> {
        slot.empty(true)?;
        let cmd = self.command(run, slot, tests, mirror);
        let mut child = cmd.start()?;
        let mut stdin = child.take_stdin();
        let (events_to, mut events) = mpsc::channel(64);
        let (complaints_to, mut complaints) = mpsc::channel(64);
        if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
            tokio::spawn(lines::send(stdout, events_to));
            tokio::spawn(lines::send(stderr, complaints_to));
        }
        let mut sent = Sent { dir: slot.work.clone(), files: BTreeSet::new(), bytes: 0 };
        let mut talking = true;
        let exit = {
            // Orders are read by one future from here to the end: reading is not to be interrupted.
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
                        Ok(Order::Stop) => break child.stop(GRACE).await?,
                        Ok(_) => order.set(next_order(orders)),
                        // Nobody is there any more: dropping the child kills all that it started.
                        Err(_) => return Ok(false),
                    },
                    line = events.recv(), if talking => match line {
                        Some(line) => self.event(line, &mut sent).await?,
                        None => talking = false,
                    },
                    Some(line) = complaints.recv() => self.say(Frame::Complaint(line)).await?,
                    exit = child.wait() => break exit?,
                }
            }
        };
        self.finish(child, exit, (events, complaints), sent).await?;
        Ok(true)
    }

    async fn finish(
        &self,
        child: Child,
        exit: Exit,
        (mut events, mut complaints): (mpsc::Receiver<String>, mpsc::Receiver<String>),
        mut sent: Sent,
    ) -> Result<(), HostError> {
        // What it started must not outlive it.
        drop(child);
        let rest = async {
            while let Some(line) = complaints.recv().await {
                self.say(Frame::Complaint(line)).await?;
            }
            while let Some(line) = events.recv().await {
                self.event(line, &mut sent).await?;
            }
            Ok::<_, HostError>(())
        };
        tokio::time::timeout(DRAIN, rest).await.unwrap_or(Ok(()))?;
        let rest = sent.rest();
        for (path, from) in rest {
            self.send_file(path, from).await?;
        }
        self.say(Frame::Exit(match exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }))
        .await
    }

    /// A line of the run: before a verdict go the files it speaks of.
    async fn event(&self, line: String, sent: &mut Sent) -> Result<(), HostError> {
        if line.contains("\"verdict\"")
            && let Ok(Some(Stamped { event: Event::Verdict { dir, .. }, .. })) = Stamped::parse(&line)
        {
            for name in ["log", "status", "duration", "crash"] {
                if let Some((path, from)) = sent.take(&dir.join(name)) {
                    self.send_file(path, from).await?;
                }
            }
        }
        self.say(Frame::Line(line)).await
    }

    async fn send_file(&self, path: PathBuf, from: PathBuf) -> Result<(), HostError> {
        let out = Out::File { path, from };
        self.out.send(out).await.map_err(|_| HostError::Here("nobody listens any more".into()))
    }

    fn command(&self, run: &RemoteOrder, slot: &Slot, tests: &Path, mirror: &Path) -> Cmd {
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

fn out_of_turn() -> HostError {
    HostError::Here("an order came out of turn; is the other end ktest of the same version?".into())
}

type Orders = BufReader<tokio::io::Stdin>;

async fn next_order(orders: &mut Orders) -> (Result<Order, frame::ReadError>, &mut Orders) {
    (frame::read(orders).await, orders)
}

/// Which files went back already.
struct Sent {
    dir: PathBuf,
    files: BTreeSet<PathBuf>,
    bytes: u64,
}

impl Sent {
    /// A file that is to be sent now, if it is there, is a plain one and there is room for it.
    fn take(&mut self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let from = pack::place(&self.dir, path)?;
        let meta = std::fs::symlink_metadata(&from).ok().filter(std::fs::Metadata::is_file)?;
        let size = meta.len().min(FILE);
        if self.bytes + size > FILES || !self.files.insert(path.into()) {
            return None;
        }
        self.bytes += size;
        Some((path.into(), from))
    }

    /// All that was not sent yet.
    fn rest(&mut self) -> Vec<(PathBuf, PathBuf)> {
        let entries = WalkDir::new(&self.dir).sort_by_file_name().into_iter().filter_map(Result::ok);
        let paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.path().strip_prefix(&self.dir).ok()?.to_path_buf()))
            .collect();
        paths.iter().filter(|path| path.starts_with("out")).filter_map(|path| self.take(path)).collect()
    }
}

/// The right to run under a name, and the folder for it.
struct Slot {
    work: PathBuf,
    _lock: Lock,
}

impl Slot {
    /// Takes the name; whoever has it still is a run that nobody follows any more, and is ended.
    async fn claim(cache: &Path, name: &str) -> Result<Self, HostError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(HostError::Here(format!("{name:?} is no name of a slot")));
        }
        let path = cache.join("host").join(format!("{name}.lock"));
        for _ in 0..100 {
            if let Some(lock) = Lock::try_acquire(&path)? {
                let mut file = lock.file();
                let text = own_identity();
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(text.as_bytes()));
                written.map_err(|error| HostError::io(&path, &error))?;
                return Ok(Self { work: cache.join("host").join(name), _lock: lock });
            }
            end_holder(&path);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(HostError::Here(format!("{}: its holder cannot be ended", path.display())))
    }

    fn empty(&self, make: bool) -> Result<(), HostError> {
        let io = |error: std::io::Error| HostError::io(&self.work, &error);
        match std::fs::remove_dir_all(&self.work) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        if make { std::fs::create_dir_all(&self.work).map_err(io) } else { Ok(()) }
    }
}

/// Process id and start time, which no other process ever has.
fn own_identity() -> String {
    let pid = std::process::id();
    format!("{pid} {}\n", start_time(pid).unwrap_or_default())
}

/// The 22nd field of `/proc/PID/stat`.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(ToOwned::to_owned)
}

/// Kills the process that holds a slot, stopped or not; what it started dies with it.
fn end_holder(path: &Path) {
    let mut text = String::new();
    if std::fs::File::open(path).and_then(|file| file.take(100).read_to_string(&mut text)).is_err() {
        return;
    }
    let Some((pid, started)) = text.trim().split_once(' ') else { return };
    let Ok(pid) = pid.parse::<u32>() else { return };
    if pid == std::process::id() || start_time(pid).as_deref() != Some(started) {
        return;
    }
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Where the tests of that name are.
fn tests_tree(cache: &Path, name: &str) -> Result<PathBuf, HostError> {
    if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(HostError::Here(format!("{name:?} is no name of tests")));
    }
    Ok(cache.join("tests").join(&name[..32]))
}

/// How many bytes of tests may come.
const TESTS: u64 = 512 << 20;

async fn receive_tests(orders: &mut Orders, size: u64, dir: &Path) -> Result<(), HostError> {
    let parent = dir.parent().unwrap_or(dir);
    let io = |error: std::io::Error| HostError::io(parent, &error);
    if size > TESTS {
        return Err(HostError::Here(format!("the tests have more than {} MiB", TESTS >> 20)));
    }
    std::fs::create_dir_all(parent).map_err(io)?;
    let mut archive = tempfile::tempfile_in(parent).map_err(io)?;
    frame::copy(orders, size, |bytes| archive.write_all(bytes))
        .await
        .map_err(|error| HostError::Here(format!("{}: {error}", parent.display())))?;
    archive.rewind().map_err(io)?;
    let stage = tempfile::Builder::new().prefix(".stage-").tempdir_in(parent).map_err(io)?;
    std::fs::set_permissions(stage.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(io)?;
    pack::unpack(archive, stage.path()).map_err(io)?;
    match std::fs::rename(stage.path(), dir) {
        Ok(()) => {
            let _ = stage.keep();
            Ok(())
        }
        // Another slot was quicker.
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Whether the mirror, created if it does not exist, has the commit and all that it needs.
async fn has_commit(mirror: &Path, commit: &CommitId) -> Result<bool, HostError> {
    let _one_at_a_time = Lock::acquire(&mirror.with_extension("lock")).await?;
    let repo =
        gitio::Repo::create_mirror(mirror).await.map_err(|error| HostError::Here(error.to_string()))?;
    // The ref is created last, when everything that the commit needs was received.
    Ok(repo.resolve(mirror_ref(commit).as_str()).is_ok())
}

/// `ktest host kernel-send`: a kernel of this store as an archive on standard output.
pub fn send_kernel(cache: &Path, id: &KernelId) -> Result<(), HostError> {
    let store = kernel::Store::of(&kernel::Cache { dir: cache.into() });
    let dir = store.entry_dir(id).ok_or_else(|| HostError::Here(format!("no kernel {} here", id.short())))?;
    let mut out = std::io::stdout().lock();
    let packed = out.write_all(b"\n").and_then(|()| out.write_all(ARCHIVE));
    packed.and_then(|()| pack::pack_whole(&dir, out, KERNEL)).map_err(|error| HostError::io(&dir, &error))
}

/// A kernel may be so large, in bytes.
const KERNEL: u64 = 8 << 30;

/// `ktest host kernel-receive`: a kernel from standard input into this store.
pub async fn receive_kernel(cache: &Path, id: &KernelId) -> Result<(), HostError> {
    let store = kernel::Store::of(&kernel::Cache { dir: cache.into() });
    let here = |error: kernel::BuildError| HostError::Here(error.to_string());
    let stage = store.receive().map_err(here)?;
    pack::unpack_whole(std::io::stdin().lock(), stage.path())
        .map_err(|error| HostError::io(cache, &error))?;
    store.adopt(id, stage).await.map_err(here)
}
