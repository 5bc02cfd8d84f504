//! The near end of a run on another host: sends what it needs, prints its events, keeps its files.
//!
//! To whoever started it, this process is `ktest run --events`: a verdict is told only when its log is in the output
//! folder.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use model::build::version;
use model::{Event, KernelId, Stamped, SubtestName, TestPath};
use spawn::{Stream, lines};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use crate::frame::{self, BEAT, Frame, Hello, Order, ReadError, RemoteOrder};
use crate::kernels::{Claim, Kernels};
use crate::link::{Link, unix_now};
use crate::{HostError, PROTOCOL, pack};

/// Less free space than this is a full disk, in bytes.
const LEAST_FREE: u64 = 256 << 20;
/// Of all files of a run together so much is taken, in bytes.
const FILES: u64 = 4 << 30;
/// A clock that is off by more is worth a word, in seconds.
const CLOCK: u64 = 300;
/// How long the other end gets to close the line.
const FAREWELL: Duration = Duration::from_secs(5);

/// A run on another host.
#[derive(Debug)]
pub struct Job {
    /// The host.
    pub link: Link,
    /// A name that one run at a time has there.
    pub slot: String,
    /// The repository that has the commit.
    pub linux_repo: PathBuf,
    /// The tree with the tests.
    pub tests_dir: PathBuf,
    /// The output folder, here.
    pub out: PathBuf,
    /// What to run.
    pub order: RemoteOrder,
    /// The farm's kernels.
    pub kernels: Kernels,
    /// What the host is said to be.
    pub arch: Option<model::Arch>,
}

/// What a run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// A line for standard output: an event.
    Event(&'a str),
    /// A line for standard error.
    Complaint(&'a str),
}

/// Runs it; the exit code of `ktest run` over there, none if a signal killed it.
pub async fn run(job: &Job, say: &mut dyn FnMut(Said<'_>)) -> Result<Option<i32>, HostError> {
    let host = job.link.target().name.to_string();
    let (tests, archive) = pack::tests(&job.tests_dir)?;
    job.link.up().await?;
    let mut child =
        job.link.ktest(&["host", "serve"]).streams(Stream::Pipe, Stream::Pipe, Stream::Pipe).start()?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.take_stdin(), child.take_stdout(), child.take_stderr())
    else {
        return Err(HostError::Here("no pipes to ssh".into()));
    };
    let (complaints_to, complaints) = mpsc::channel(64);
    tokio::spawn(lines::send(stderr, complaints_to));
    let (orders, orders_from) = mpsc::channel(16);
    tokio::spawn(send_orders(stdin, orders_from));
    let mut there = There { job, host, orders, complaints, last: String::new() };
    let code = match there.follow(stdout, &tests, archive, say).await {
        Ok(code) => code,
        Err(error) => return Err(there.explain(error).await),
    };
    let _ = tokio::time::timeout(FAREWELL, child.wait()).await;
    Ok(code)
}

/// What goes to the host.
enum Out {
    Order(Order),
    Tests(Vec<u8>),
}

/// Sends orders, and a word now and then when there are none.
async fn send_orders(mut stdin: ChildStdin, mut orders: mpsc::Receiver<Out>) {
    loop {
        let (order, content) = match tokio::time::timeout(BEAT, orders.recv()).await {
            Ok(Some(Out::Order(order))) => (order, Vec::new()),
            Ok(Some(Out::Tests(bytes))) => (Order::Tests { size: bytes.len() as u64 }, bytes),
            Ok(None) => return,
            Err(_) => (Order::Alive, Vec::new()),
        };
        let mut line = serde_json::to_vec(&order).expect("orders are plain data");
        line.push(b'\n');
        let sent = async {
            stdin.write_all(&line).await?;
            stdin.write_all(&content).await?;
            stdin.flush().await
        };
        if sent.await.is_err() {
            return;
        }
    }
}

/// A claim under way: the kernel, and whether the host is to build it itself.
type Claiming<'a> = Pin<Box<dyn Future<Output = Result<(Claim, bool), HostError>> + 'a>>;

struct There<'a> {
    job: &'a Job,
    host: String,
    orders: mpsc::Sender<Out>,
    complaints: mpsc::Receiver<String>,
    last: String,
}

impl There<'_> {
    fn unfit(&self, what: impl Into<String>) -> HostError {
        HostError::Unfit { host: self.host.clone(), what: what.into() }
    }

    fn lost(&self, error: &ReadError) -> HostError {
        HostError::Lost { host: self.host.clone(), what: error.to_string() }
    }

    /// What ssh said of a line that broke.
    async fn explain(&mut self, error: HostError) -> HostError {
        let HostError::Lost { host, what } = error else { return error };
        let rest = async {
            while let Some(line) = self.complaints.recv().await {
                self.last = line;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
        let why = if self.last.trim().is_empty() { what } else { format!("{what} ({})", self.last.trim()) };
        HostError::Lost { host, what: why }
    }

    async fn order(&self, order: Order) -> Result<(), HostError> {
        self.out(Out::Order(order)).await
    }

    async fn out(&self, out: Out) -> Result<(), HostError> {
        self.orders.send(out).await.map_err(|_| self.lost(&ReadError::End))
    }

    async fn follow(
        &mut self,
        stdout: ChildStdout,
        tests: &str,
        archive: Vec<u8>,
        say: &mut dyn FnMut(Said<'_>),
    ) -> Result<Option<i32>, HostError> {
        let mut from = BufReader::with_capacity(256 << 10, stdout);
        let hello = frame::read_hello(&mut from).await.map_err(|error| self.lost(&error))?;
        self.check(&hello, say)?;
        let (frames_to, mut frames) = mpsc::channel(64);
        let mut folder = Folder::new(&self.job.out, &self.job.order.test);
        tokio::spawn(async move {
            let end = receive(&mut from, &mut folder, &frames_to).await;
            let _ = frames_to.send(Err(end)).await;
        });
        self.prepare(&mut frames, tests, archive).await?;
        self.order(Order::Run(Box::new(self.job.order.clone()))).await?;
        self.listen(&mut frames, say).await
    }

    fn check(&self, hello: &Hello, say: &mut dyn FnMut(Said<'_>)) -> Result<(), HostError> {
        if (hello.protocol, hello.version.as_str()) != (PROTOCOL, version()) {
            return Err(self.unfit(format!(
                "it has ktest {}, this is {}; install the same with `ktest host setup`",
                hello.version,
                version()
            )));
        }
        if let Some(arch) = self.job.arch
            && hello.arch != arch.as_str()
        {
            let there = &hello.arch;
            say(Said::Complaint(&format!(
                "host {}: it is {there}, guests of {arch} are emulated",
                self.host
            )));
        }
        if hello.free < LEAST_FREE {
            let (dir, free) = (hello.cache.display(), hello.free >> 20);
            return Err(self.unfit(format!("{dir}: {free} MiB free; make room there")));
        }
        let off = hello.unix.abs_diff(unix_now());
        if off > CLOCK {
            say(Said::Complaint(&format!("host {}: its clock is off by {off} s", self.host)));
        }
        Ok(())
    }

    async fn prepare(
        &mut self,
        frames: &mut mpsc::Receiver<Result<Frame, FrameError>>,
        tests: &str,
        archive: Vec<u8>,
    ) -> Result<(), HostError> {
        let job = self.job;
        let commit = job.order.commit.clone();
        let prepare = Order::Prepare { slot: job.slot.clone(), commit: commit.clone(), tests: tests.into() };
        self.order(prepare).await?;
        let Frame::Ready { commit: has_commit, tests: has_tests, mirror } = self.next(frames).await? else {
            return Err(self.unfit("it answers something else than it was asked"));
        };
        if let Some(commit) = commit.filter(|_| !has_commit) {
            let push = job.link.push(&job.linux_repo, &commit, &mirror);
            tokio::pin!(push);
            loop {
                tokio::select! {
                    pushed = &mut push => break pushed?,
                    frame = frames.recv() => match self.checked(frame)? {
                        Frame::Alive => {}
                        _ => return Err(self.unfit("it speaks out of turn")),
                    },
                }
            }
        }
        if !has_tests {
            self.out(Out::Tests(archive)).await?;
            if self.next(frames).await? != Frame::TestsThere {
                return Err(self.unfit("it does not take the tests"));
            }
        }
        Ok(())
    }

    fn checked(&self, frame: Option<Result<Frame, FrameError>>) -> Result<Frame, HostError> {
        match frame {
            Some(Ok(Frame::Refused(why))) => Err(self.unfit(why)),
            Some(Ok(frame)) => Ok(frame),
            Some(Err(FrameError::Read(error))) => Err(self.lost(&error)),
            Some(Err(FrameError::Here(error))) => Err(error),
            None => Err(self.lost(&ReadError::End)),
        }
    }

    async fn next(&self, frames: &mut mpsc::Receiver<Result<Frame, FrameError>>) -> Result<Frame, HostError> {
        loop {
            match self.checked(frames.recv().await)? {
                Frame::Alive => {}
                frame => return Ok(frame),
            }
        }
    }

    async fn listen(
        &mut self,
        frames: &mut mpsc::Receiver<Result<Frame, FrameError>>,
        say: &mut dyn FnMut(Said<'_>),
    ) -> Result<Option<i32>, HostError> {
        let job = self.job;
        let mut claiming: Option<Claiming<'_>> = None;
        let mut building: Option<Claim> = None;
        loop {
            let frame = tokio::select! {
                claimed = async { claiming.as_mut().expect("guarded").await }, if claiming.is_some() => {
                    claiming = None;
                    let (claim, provided) = claimed?;
                    if provided {
                        say(Said::Complaint("the kernel came from another host"));
                    } else {
                        building = Some(claim);
                    }
                    self.order(Order::Kernel).await?;
                    continue;
                }
                frame = frames.recv() => self.checked(frame)?,
            };
            match frame {
                Frame::Alive => {}
                Frame::Complaint(line) => say(Said::Complaint(&line)),
                Frame::Exit(code) => return Ok(code),
                Frame::Line(line) => match Stamped::parse(&line) {
                    Ok(Some(Stamped { event: Event::KernelWanted { kernel }, .. })) => {
                        building = None;
                        claiming = Some(Box::pin(claim(job, kernel)));
                    }
                    Ok(Some(stamped)) => {
                        match &stamped.event {
                            Event::KernelReady { kernel, .. } => match building.take() {
                                Some(claim) => claim.built(job.link.target()),
                                None => job.kernels.is_there(kernel, job.link.target()),
                            },
                            // The host remembers the failure in its store, if it is a certain one.
                            Event::BuildFailed { .. } => {
                                if let Some(claim) = building.take() {
                                    claim.built(job.link.target());
                                }
                            }
                            _ => {}
                        }
                        say(Said::Event(&line));
                    }
                    // Whoever reads the events judges what is none.
                    _ => say(Said::Event(&line)),
                },
                Frame::File { .. } | Frame::Hello(_) | Frame::Ready { .. } | Frame::TestsThere => {
                    return Err(self.unfit("it speaks out of turn"));
                }
                Frame::Refused(why) => return Err(self.unfit(why)),
            }
        }
    }
}

/// Waits until nobody else builds the kernel, and takes it from whoever has it: true if it was put into the store.
async fn claim(job: &Job, kernel: KernelId) -> Result<(Claim, bool), HostError> {
    let claim = job.kernels.claim(&kernel).await?;
    let provided = job.kernels.provide(&kernel, &claim, &job.link).await;
    Ok((claim, provided))
}

enum FrameError {
    Read(ReadError),
    Here(HostError),
}

impl From<ReadError> for FrameError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Receives frames; files and the lines of growing logs go into the output folder on the way, in the order in which they
/// come and before what is said of them.
async fn receive(
    from: &mut BufReader<ChildStdout>,
    folder: &mut Folder,
    to: &mpsc::Sender<Result<Frame, FrameError>>,
) -> FrameError {
    loop {
        let frame = match frame::read(from).await {
            Ok(Frame::File { path, size }) => match folder.keep(from, &path, size).await {
                Ok(()) => continue,
                Err(error) => return error,
            },
            Ok(Frame::Line(line)) if line.contains("\"log\"") => match Stamped::parse(&line) {
                Ok(Some(Stamped { event: Event::Log { subtest, lines }, .. })) => {
                    folder.log(subtest.as_ref(), &lines);
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

/// The output folder here while it fills.
struct Folder {
    out: PathBuf,
    test: TestPath,
    /// How many bytes may still come.
    room: u64,
    /// The logs that grow while the run goes on there.
    logs: HashMap<PathBuf, std::fs::File>,
    /// What is there as a whole and grows no more.
    whole: HashSet<PathBuf>,
}

impl Folder {
    fn new(out: &Path, test: &TestPath) -> Self {
        let (logs, whole) = (HashMap::new(), HashSet::new());
        Self { out: out.into(), test: test.clone(), room: FILES, logs, whole }
    }

    /// Takes a file as a whole.
    async fn keep(
        &mut self,
        from: &mut BufReader<ChildStdout>,
        path: &Path,
        size: u64,
    ) -> Result<(), FrameError> {
        let Some(place) = pack::place(&self.out, path).filter(|_| size <= self.room) else {
            return Err(ReadError::Rubbish(format!("a file {} of {size} bytes", path.display())).into());
        };
        self.room -= size;
        let here = |error: std::io::Error| FrameError::Here(HostError::io(&place, &error));
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(here)?;
        }
        // By rename: what was received line by line stays until the whole is there.
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let part = place.with_file_name(name);
        let mut file = std::fs::File::create(&part).map_err(here)?;
        let mut trouble = None;
        let copied = frame::copy(from, size, |bytes| {
            if trouble.is_none() {
                trouble = file.write_all(bytes).err();
            }
            Ok(())
        });
        copied.await?;
        if let Some(error) = trouble {
            return Err(here(error));
        }
        std::fs::rename(&part, &place).map_err(here)?;
        self.logs.remove(path);
        self.whole.insert(path.into());
        Ok(())
    }

    /// What cannot be written now comes with the whole log later.
    fn log(&mut self, subtest: Option<&SubtestName>, lines: &[String]) {
        let file = self.test.dotted();
        let full = Path::new("out").join(&file);
        let own =
            subtest.map(|subtest| Path::new("out").join(format!("{file}.{}", subtest.dotted())).join("log"));
        let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
        if self.logs.len() > 16 {
            self.logs.clear();
        }
        for path in own.into_iter().chain([full]) {
            if self.whole.contains(&path) || text.len() as u64 > self.room {
                continue;
            }
            self.room -= text.len() as u64;
            let place = self.out.join(&path);
            let file = match self.logs.entry(path) {
                std::collections::hash_map::Entry::Occupied(file) => file.into_mut(),
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    let made = place.parent().map_or(Ok(()), std::fs::create_dir_all);
                    let open =
                        made.and_then(|()| std::fs::File::options().append(true).create(true).open(&place));
                    let Ok(file) = open else { continue };
                    vacant.insert(file)
                }
            };
            let _ = file.write_all(text.as_bytes());
        }
    }
}
