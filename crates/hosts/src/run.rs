//! The local side of a run on another host: sends the commit and the tests, prints the events, writes the files.
//!
//! It behaves like `ktest run --events`: a verdict is printed after its log is in the output directory.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use model::build::version;
use model::{CommitId, Event, KernelId, Stamped};
use spawn::{Stream, lines};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use crate::error::HostError;
use crate::frame::{self, Frame, HEARTBEAT, Hello, Order, PROTOCOL, ReadError, RemoteOrder};
use crate::kernels::{KernelClaim, Kernels};
use crate::link::Link;
use crate::output_dir::{OutputDir, ReceiveError, receive};
use crate::pack;

/// A host with less free space than this is not used, in bytes.
const MIN_FREE: u64 = 256 << 20;
/// A warning is printed if the clocks differ by more than this, in seconds.
const CLOCK_S: u64 = 300;
/// The time for the other end to close the connection.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// The time to wait for the last error lines of ssh after the connection broke.
const STDERR_TIME: Duration = Duration::from_millis(500);

/// A run on another host.
#[derive(Debug)]
pub struct RemoteJob {
    /// The host.
    pub link: Link,
    /// The name of the run on the host. A new run stops an older one with the same name.
    pub slot: String,
    /// The repository that contains the commit.
    pub linux_repo: PathBuf,
    /// The tree that contains the tests.
    pub tests_dir: PathBuf,
    /// The output directory on this machine.
    pub out: PathBuf,
    /// The run.
    pub order: RemoteOrder,
    /// The farm's kernels.
    pub kernels: Kernels,
    /// The expected architecture of the host.
    pub arch: Option<model::Arch>,
}

/// A line of a run's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<'a> {
    /// An event, for standard output.
    Event(&'a str),
    /// A message, for standard error.
    Message(&'a str),
}

/// Runs a job. Returns the exit code of `ktest run` on the host; `None` if a signal killed it.
pub async fn run(job: &RemoteJob, on: &mut dyn FnMut(Output<'_>)) -> Result<Option<i32>, HostError> {
    let host = job.link.target().name.to_string();
    let (tests, archive) = pack::tests(&job.tests_dir)?;
    job.link.up().await?;
    let mut child =
        job.link.ktest(&["host", "serve"]).streams(Stream::Pipe, Stream::Pipe, Stream::Pipe).start()?;
    let (stdin, stdout, stderr) = (child.take_stdin(), child.take_stdout(), child.take_stderr());
    let (stdin, stdout, stderr) = stdin
        .zip(stdout)
        .zip(stderr)
        .map(|((stdin, stdout), stderr)| (stdin, stdout, stderr))
        .expect("all three streams are pipes");
    let (messages_sender, messages) = mpsc::channel(64);
    tokio::spawn(lines::send(stderr, messages_sender));
    let (orders, orders_receiver) = mpsc::channel(16);
    tokio::spawn(send_orders(stdin, orders_receiver));
    let mut remote = RemoteRun { job, host, orders, messages, last_message: String::new() };
    let code = match remote.follow(stdout, &tests, archive, on).await {
        Ok(code) => code,
        Err(error) => return Err(remote.add_ssh_error(error).await),
    };
    let _ = tokio::time::timeout(CLOSE_TIME, child.wait()).await;
    Ok(code)
}

/// A message to the host.
enum Outgoing {
    Order(Order),
    Tests(Vec<u8>),
}

/// Sends orders, and a heartbeat when there are none.
async fn send_orders(mut stdin: ChildStdin, mut orders: mpsc::Receiver<Outgoing>) {
    loop {
        let (order, content) = match tokio::time::timeout(HEARTBEAT, orders.recv()).await {
            Ok(Some(Outgoing::Order(order))) => (order, Vec::new()),
            Ok(Some(Outgoing::Tests(bytes))) => (Order::Tests { size: bytes.len() as u64 }, bytes),
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

/// A claim in progress: the claim, and whether the kernel was copied to the host.
type PendingClaim<'a> = Pin<Box<dyn Future<Output = Result<(KernelClaim, bool), HostError>> + 'a>>;

struct RemoteRun<'a> {
    job: &'a RemoteJob,
    host: String,
    orders: mpsc::Sender<Outgoing>,
    /// The lines of ssh's standard error.
    messages: mpsc::Receiver<String>,
    last_message: String,
}

impl RemoteRun<'_> {
    fn unfit(&self, problem: impl Into<String>) -> HostError {
        HostError::Unfit { host: self.host.clone(), problem: problem.into() }
    }

    fn lost(&self, error: &ReadError) -> HostError {
        HostError::Lost { host: self.host.clone(), problem: error.to_string() }
    }

    /// Adds ssh's last message to the error of a broken connection.
    async fn add_ssh_error(&mut self, error: HostError) -> HostError {
        let HostError::Lost { host, problem } = error else { return error };
        let rest = async {
            while let Some(line) = self.messages.recv().await {
                self.last_message = line;
            }
        };
        let _ = tokio::time::timeout(STDERR_TIME, rest).await;
        match self.last_message.trim() {
            "" => HostError::Lost { host, problem },
            message => HostError::Lost { host, problem: format!("{problem} ({message})") },
        }
    }

    async fn order(&self, order: Order) -> Result<(), HostError> {
        self.send(Outgoing::Order(order)).await
    }

    async fn send(&self, message: Outgoing) -> Result<(), HostError> {
        self.orders.send(message).await.map_err(|_| self.lost(&ReadError::End))
    }

    async fn follow(
        &mut self,
        stdout: ChildStdout,
        tests: &str,
        archive: Vec<u8>,
        on: &mut dyn FnMut(Output<'_>),
    ) -> Result<Option<i32>, HostError> {
        let mut from = BufReader::with_capacity(256 << 10, stdout);
        let hello = frame::read_hello(&mut from).await.map_err(|error| self.lost(&error))?;
        self.check(&hello, on)?;
        let (frames_sender, mut frames) = mpsc::channel(64);
        let mut directory = OutputDir::new(&self.job.out, &self.job.order.test);
        tokio::spawn(async move {
            let end = receive(&mut from, &mut directory, &frames_sender).await;
            let _ = frames_sender.send(Err(end)).await;
        });
        self.prepare(&mut frames, tests, archive).await?;
        self.order(Order::Run(Box::new(self.job.order.clone()))).await?;
        self.handle_frames(&mut frames, on).await
    }

    fn check(&self, hello: &Hello, on: &mut dyn FnMut(Output<'_>)) -> Result<(), HostError> {
        if (hello.protocol, hello.version.as_str()) != (PROTOCOL, version()) {
            return Err(self.unfit(format!(
                "it has ktest {}, this is {}; install the same version with `ktest host setup`",
                hello.version,
                version()
            )));
        }
        if let Some(arch) = self.job.arch
            && hello.arch != arch.as_str()
        {
            on(Output::Message(&format!(
                "host {}: its architecture is {}, {arch} guests are emulated",
                self.host, hello.arch
            )));
        }
        if hello.free < MIN_FREE {
            let (dir, free) = (hello.cache.display(), hello.free >> 20);
            return Err(self.unfit(format!("{dir}: only {free} MiB are free; free some disk space")));
        }
        let off = hello.unix.abs_diff(fsx::clock::unix_seconds());
        if off > CLOCK_S {
            on(Output::Message(&format!("host {}: its clock is off by {off} s", self.host)));
        }
        Ok(())
    }

    async fn prepare(
        &mut self,
        frames: &mut mpsc::Receiver<Result<Frame, ReceiveError>>,
        tests: &str,
        archive: Vec<u8>,
    ) -> Result<(), HostError> {
        let job = self.job;
        let commit = job.order.commit.clone();
        let suites = job.order.suites.iter().map(|suite| suite.version.commit.clone()).collect();
        let tests = tests.to_owned();
        self.order(Order::Prepare { slot: job.slot.clone(), commit: commit.clone(), suites, tests }).await?;
        let Frame::Ready { commit: has_commit, tests: has_tests, missing_suites, mirror } =
            self.next(frames).await?
        else {
            return Err(self.unfit("it sent an unexpected reply"));
        };
        if let Some(commit) = commit.filter(|_| !has_commit) {
            self.push(frames, &job.linux_repo, &commit, &mirror).await?;
        }
        for suite in &job.order.suites {
            if missing_suites.contains(&suite.version.commit) {
                self.push(frames, &suite.repo, &suite.version.commit, &mirror).await?;
            }
        }
        if !has_tests {
            self.send(Outgoing::Tests(archive)).await?;
            if self.next(frames).await? != Frame::TestsReceived {
                return Err(self.unfit("it did not accept the tests"));
            }
        }
        Ok(())
    }

    /// Sends a commit to the mirror of the host.
    async fn push(
        &self,
        frames: &mut mpsc::Receiver<Result<Frame, ReceiveError>>,
        repo: &Path,
        commit: &CommitId,
        mirror: &Path,
    ) -> Result<(), HostError> {
        let push = self.job.link.push(repo, commit, mirror);
        tokio::pin!(push);
        loop {
            tokio::select! {
                pushed = &mut push => return pushed,
                frame = frames.recv() => match self.checked(frame)? {
                    Frame::Alive => {}
                    _ => return Err(self.unfit("it sent an unexpected message")),
                },
            }
        }
    }

    fn checked(&self, frame: Option<Result<Frame, ReceiveError>>) -> Result<Frame, HostError> {
        match frame {
            Some(Ok(Frame::Refused(problem))) => Err(self.unfit(problem)),
            Some(Ok(frame)) => Ok(frame),
            Some(Err(ReceiveError::Read(error))) => Err(self.lost(&error)),
            Some(Err(ReceiveError::Local(error))) => Err(error),
            None => Err(self.lost(&ReadError::End)),
        }
    }

    async fn next(
        &self,
        frames: &mut mpsc::Receiver<Result<Frame, ReceiveError>>,
    ) -> Result<Frame, HostError> {
        loop {
            match self.checked(frames.recv().await)? {
                Frame::Alive => {}
                frame => return Ok(frame),
            }
        }
    }

    async fn handle_frames(
        &mut self,
        frames: &mut mpsc::Receiver<Result<Frame, ReceiveError>>,
        on: &mut dyn FnMut(Output<'_>),
    ) -> Result<Option<i32>, HostError> {
        let job = self.job;
        let mut pending: Option<PendingClaim<'_>> = None;
        let mut building: Option<KernelClaim> = None;
        loop {
            let frame = tokio::select! {
                claimed = async { pending.as_mut().expect("guarded by the condition").await }, if pending.is_some() => {
                    pending = None;
                    let (claim, copied) = claimed?;
                    if copied {
                        on(Output::Message("the kernel was copied from another host"));
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
                Frame::Message(line) => on(Output::Message(&line)),
                Frame::Exit(code) => return Ok(code),
                Frame::Line(line) => {
                    match Stamped::parse(&line).ok().flatten().map(|stamped| stamped.event) {
                        Some(Event::KernelWanted { kernel }) => {
                            building = None;
                            pending = Some(Box::pin(claim(job, kernel)));
                        }
                        event => {
                            if let Some(event) = event {
                                note_kernel(job, &event, &mut building);
                            }
                            // A line that is not an event is passed on, and the reader rejects it.
                            on(Output::Event(&line));
                        }
                    }
                }
                Frame::File { .. } | Frame::Hello(_) | Frame::Ready { .. } | Frame::TestsReceived => {
                    return Err(self.unfit("it sent an unexpected message"));
                }
                Frame::Refused(problem) => return Err(self.unfit(problem)),
            }
        }
    }
}

/// Records that the host has a kernel.
fn note_kernel(job: &RemoteJob, event: &Event, building: &mut Option<KernelClaim>) {
    match event {
        Event::KernelReady { kernel, .. } => match building.take() {
            Some(claim) => claim.built(job.link.target()),
            None => job.kernels.record(kernel, job.link.target()),
        },
        // If the failure is certain, the host's store has recorded it.
        Event::BuildFailed { .. } => {
            if let Some(claim) = building.take() {
                claim.built(job.link.target());
            }
        }
        _ => {}
    }
}

/// Waits until no other process builds the kernel, and copies it to the host if another host has it. Returns true if it
/// was copied.
async fn claim(job: &RemoteJob, kernel: KernelId) -> Result<(KernelClaim, bool), HostError> {
    let claim = job.kernels.claim(&kernel).await?;
    let copied = job.kernels.copy_to(&kernel, &claim, &job.link).await;
    Ok((claim, copied))
}
