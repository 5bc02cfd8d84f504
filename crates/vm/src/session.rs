//! One VM from start to end: runs QEMU, passes its console output to a [`Supervisor`], and carries out the actions.
//!
//! When [`Session::run`] returns, or its future is dropped, QEMU and all its child processes are dead.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use model::verdict::Verdict;
use rustix::process::Signal;
use spawn::{Child, Cmd, Exit, SpawnError, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::console::LineSplitter;
use crate::core_dump::{self, DumpError};
use crate::machine::{Machine, MachineError, argv};
use crate::monitor;
use crate::qemu_sandbox::QemuSandbox;
use crate::supervise::{Action, ConsoleLine, Supervisor, VmEnd, VmOutcome};

/// The interval of [`SessionEvent::Tick`].
const TICK: Duration = Duration::from_millis(100);
/// The time for QEMU to exit after its console is closed.
const EXIT_TIME: Duration = Duration::from_secs(5);
/// The maximum number of bytes of the console that are read during a request to the monitor.
const UNREAD_BYTES: usize = 64 << 20;
/// The maximum number of bytes of QEMU's standard error that are kept.
const STDERR_BYTES: usize = 64 << 10;

/// An event of a running VM.
#[derive(Debug)]
pub enum SessionEvent<'a> {
    /// Raw bytes of the console.
    ConsoleBytes(&'a [u8]),
    /// A console line.
    ConsoleLine(&'a ConsoleLine),
    /// An action of the supervisor. [`Action::Kill`], [`Action::Sysrq`] and [`Action::Monitor`] have already been
    /// carried out.
    Action(Action),
    /// The result of a request to the QEMU monitor, as a log line.
    MonitorReply(String),
    /// The memory of a guest that crashed was saved to [`core_dump::FILE`] in the temporary directory, or could not be. The
    /// verdict of the running subtest follows.
    Core(Result<(), DumpError>),
    /// Sent about ten times a second.
    Tick(&'a Supervisor),
}

/// Why a VM could not run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// QEMU did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The machine has no valid QEMU command line.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// QEMU exited before the guest ran.
    #[error("QEMU does not start the machine: {0}")]
    Refused(String),
    /// KVM stopped in the middle of the run. The guest may run under TCG.
    #[error("KVM cannot continue to run the guest: {0}")]
    Kvm(String),
}

/// The command that runs `machine`, without a sandbox.
pub fn command(machine: &Machine) -> Result<Cmd, MachineError> {
    let argv = argv(machine)?;
    Ok(Cmd::new(&argv[0]).args(&argv[1..]))
}

/// A request from outside to a running VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionInput {
    /// Type this on the guest's console.
    Console(Vec<u8>),
    /// Send a SysRq key.
    Sysrq(char),
    /// Kill the VM.
    Kill,
    /// Kill the VM because the guest did something that is not allowed. The running subtest fails with this reason.
    GiveUp(String),
    /// Kill the VM because of a failure on this host. The running subtest gets no verdict.
    InfrastructureError(String),
}

/// How a VM is run.
#[derive(Debug)]
pub struct Session<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The directory for the guest's writes to its root disk.
    pub temp_dir: &'a Path,
    /// The sandbox of QEMU; `None` if it runs without one.
    pub qemu_sandbox: Option<&'a QemuSandbox>,
    /// The start of the run, which is time zero of the supervisor.
    pub clock: Instant,
    /// Requests from outside.
    pub input: mpsc::UnboundedReceiver<SessionInput>,
    /// Pause the guest while the failure of a subtest is reported, so that its disks can be read.
    pub pause_at_failure: bool,
    /// The maximum size of the saved memory of a guest that crashed, in bytes. Applies to a machine with
    /// [`Machine::core`].
    pub core_bytes: u64,
}

impl Session<'_> {
    /// Runs the VM until it ends.
    pub async fn run(
        &mut self,
        supervisor: &mut Supervisor,
        mut on: impl FnMut(SessionEvent<'_>),
    ) -> Result<VmOutcome, SessionError> {
        let mut qemu = Qemu::start(self)?;
        let mut lines = LineSplitter::default();
        let mut buffer = vec![0; 64 << 10];
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut actions = Vec::new();
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    // The console of a QEMU that printed nothing ends only then.
                    let _ = qemu.silent && qemu.child.has_exited();
                    on(SessionEvent::Tick(supervisor));
                }
                Some(input) = self.input.recv() => actions = qemu.input(input, supervisor),
                Some(reply) = qemu.replies.recv() => on(SessionEvent::MonitorReply(reply)),
                // QEMU keeps running with a stopped guest.
                Some(error) = qemu.kvm_errors.recv() => {
                    qemu.kvm_error = Some(error);
                    actions.push(Action::Kill);
                }
                count = qemu.output.read(&mut buffer) => match count {
                    Ok(0) => break,
                    Err(error) => {
                        qemu.fail(format!("cannot read the console of QEMU: {error}"));
                        break;
                    }
                    Ok(count) => {
                        qemu.silent = false;
                        qemu.child.block_on_full_stdout();
                        on(SessionEvent::ConsoleBytes(&buffer[..count]));
                        lines.feed(&buffer[..count], |line| {
                            let line = supervisor.read(line);
                            on(SessionEvent::ConsoleLine(&line));
                            actions.extend(supervisor.line(&line, self.clock.elapsed()));
                        });
                    }
                },
            }
            actions.extend(supervisor.tick(self.clock.elapsed()));
            if supervisor.has_crashed() && actions.contains(&Action::Kill) {
                self.save_core(&mut qemu.output, &mut on).await;
            }
            self.carry_out(actions, &mut qemu, &mut on).await;
        }
        lines.finish(|line| {
            let line = supervisor.read(line);
            on(SessionEvent::ConsoleLine(&line));
            for action in supervisor.line(&line, self.clock.elapsed()) {
                on(SessionEvent::Action(action));
            }
        });
        let (actions, outcome) = qemu.end(supervisor, self.clock).await?;
        for action in actions {
            on(SessionEvent::Action(action));
        }
        Ok(outcome)
    }

    /// Carries out the actions and reports them.
    async fn carry_out(&self, actions: Vec<Action>, qemu: &mut Qemu, on: &mut impl FnMut(SessionEvent<'_>)) {
        for action in actions {
            qemu.carry_out(&action);
            let paused = self.pause(&action, &mut qemu.output).await;
            on(SessionEvent::Action(action));
            if let Some(sockets) = paused
                && let Err(error) = qemu.output.meanwhile(monitor::command(sockets, "cont")).await
            {
                tracing::warn!("cannot resume the paused guest: {error}");
            }
        }
    }

    /// Saves the memory of the guest, which is killed afterwards.
    async fn save_core(&self, output: &mut Console<ChildStdout>, on: &mut impl FnMut(SessionEvent<'_>)) {
        if let (true, Some(sockets)) = (self.machine.core, &self.machine.sockets) {
            let file = self.temp_dir.join(core_dump::FILE);
            let saved = output.meanwhile(core_dump::save(sockets, &file, self.core_bytes)).await;
            on(SessionEvent::Core(saved));
        }
    }

    /// Pauses the guest if this action reports a failed subtest. Returns the directory of the sockets for resuming it.
    async fn pause(&self, action: &Action, output: &mut Console<ChildStdout>) -> Option<&Path> {
        let Action::Finished(finished) = action else { return None };
        if !self.pause_at_failure || !matches!(finished.verdict, Verdict::Failed { .. }) {
            return None;
        }
        let sockets = self.machine.sockets.as_deref()?;
        output.meanwhile(monitor::command(sockets, "stop")).await.ok().map(|_| sockets)
    }
}

/// The QEMU process and the tasks that serve its pipes.
struct Qemu {
    child: Child,
    output: Console<ChildStdout>,
    /// Bytes for the guest's console.
    console: mpsc::UnboundedSender<Vec<u8>>,
    /// Requests of the guest to the monitor, and their results.
    requests: mpsc::UnboundedSender<String>,
    replies: mpsc::UnboundedReceiver<String>,
    /// The last line of standard error, once it is closed.
    stderr: JoinHandle<String>,
    kvm_errors: mpsc::UnboundedReceiver<String>,
    killed: bool,
    /// Whether the console has printed nothing yet.
    silent: bool,
    kvm_error: Option<String>,
    infrastructure_error: Option<String>,
}

impl Qemu {
    fn start(session: &Session<'_>) -> Result<Self, SessionError> {
        let Session { machine, temp_dir, qemu_sandbox, .. } = session;
        let cmd = match qemu_sandbox {
            Some(qemu_sandbox) => qemu_sandbox.command(machine, temp_dir)?,
            None => command(machine)?.env("TMPDIR", temp_dir),
        };
        // QEMU drops what its standard output does not take: messages of the kernel, and verdicts.
        let mut child = cmd.streams(Stream::Pipe, Stream::BlockingPipe, Stream::Pipe).start()?;
        let (kvm_error_sender, kvm_errors) = mpsc::unbounded_channel();
        let (requests, replies) = monitor_requests((*machine).clone());
        Ok(Self {
            output: Console { stream: child.take_stdout(), unread: Vec::new() },
            console: console_writer(child.take_stdin()),
            requests,
            replies,
            stderr: tokio::spawn(last_line(child.take_stderr(), kvm_error_sender)),
            kvm_errors,
            killed: false,
            silent: true,
            kvm_error: None,
            infrastructure_error: None,
            child,
        })
    }

    fn input(&mut self, input: SessionInput, supervisor: &mut Supervisor) -> Vec<Action> {
        match input {
            SessionInput::Console(bytes) => self.type_on_console(bytes),
            SessionInput::Sysrq(key) => self.type_on_console(sysrq(key)),
            SessionInput::Kill => return vec![Action::Kill],
            SessionInput::GiveUp(reason) => return supervisor.give_up(reason),
            SessionInput::InfrastructureError(error) => {
                self.infrastructure_error.get_or_insert(error);
                return vec![Action::Kill];
            }
        }
        Vec::new()
    }

    /// Kills QEMU because of a failure of this host.
    fn fail(&mut self, error: String) {
        self.infrastructure_error.get_or_insert(error);
        self.killed = true;
        self.child.signal(Signal::KILL);
    }

    /// Types on the guest's console. Write errors are ignored, because a guest that does not read its console is about
    /// to end.
    fn type_on_console(&self, bytes: Vec<u8>) {
        let _ = self.console.send(bytes);
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Kill => {
                self.killed = true;
                self.child.signal(Signal::KILL);
            }
            Action::Sysrq(key) => self.type_on_console(sysrq(*key)),
            Action::Monitor(command) => drop(self.requests.send(command.clone())),
            Action::GuestUp | Action::Started(_) | Action::Finished(_) => {}
        }
    }

    /// Waits for the process after its console was closed, and determines the result.
    async fn end(
        mut self,
        supervisor: &mut Supervisor,
        clock: Instant,
    ) -> Result<(Vec<Action>, VmOutcome), SessionError> {
        drop(self.console);
        let exit = match tokio::time::timeout(EXIT_TIME, self.child.wait()).await {
            Ok(exit) => exit?,
            Err(_) => self.child.stop(Duration::from_secs(1)).await?,
        };
        if let Some(error) = self.infrastructure_error {
            return Ok((supervisor.settle(clock.elapsed()), VmOutcome::Infrastructure(error)));
        }
        if let Some(error) = self.kvm_error {
            return Err(SessionError::Kvm(error));
        }
        let complaint = self.stderr.await.unwrap_or_default();
        if self.silent && !self.killed && exit == Exit::Code(1) && complaint.starts_with("qemu-system-") {
            return Err(SessionError::Refused(complaint));
        }
        Ok(supervisor.ended(vm_end(exit, self.killed, &complaint), clock.elapsed()))
    }
}

/// Carries out the guest's monitor requests sequentially in a separate task, so that its console is read in the
/// meantime.
fn monitor_requests(machine: Machine) -> (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>) {
    let (sender, mut requests) = mpsc::unbounded_channel::<String>();
    let (replies, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(command) = requests.recv().await {
            if replies.send(monitor::request(&machine, &command).await).is_err() {
                return;
            }
        }
    });
    (sender, receiver)
}

/// Writes to the guest's console in a separate task, because the guest may be slow to read.
fn console_writer(stdin: Option<ChildStdin>) -> mpsc::UnboundedSender<Vec<u8>> {
    let (sender, mut bytes) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        let Some(mut stdin) = stdin else { return };
        while let Some(bytes) = bytes.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    sender
}

fn vm_end(exit: Exit, killed: bool, complaint: &str) -> VmEnd {
    match exit {
        _ if killed => VmEnd::Killed,
        Exit::Code(0) => VmEnd::Guest,
        // The sandbox reports a process that was killed by signal N with exit code 128 + N.
        Exit::Code(code @ 129..=192) => {
            VmEnd::Died(format!("QEMU ended with {}: {complaint}", Exit::Signal(code - 128)))
        }
        exit => VmEnd::Died(format!("QEMU ended with {exit}: {complaint}")),
    }
}

/// Magic sysrq over the virtio console: Ctrl-O, then the key.
fn sysrq(key: char) -> Vec<u8> {
    let mut keys = vec![0x0f];
    keys.extend(u8::try_from(key).ok());
    keys
}

/// The output of QEMU, which is the guest's console.
struct Console<R> {
    stream: Option<R>,
    /// What was read during a request to the monitor.
    unread: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Console<R> {
    /// The number of bytes read; 0 at the end of the stream. Cancel safe.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.unread[..count]);
            self.unread.drain(..count);
            return Ok(count);
        }
        match &mut self.stream {
            Some(stream) => stream.read(buffer).await,
            None => Ok(0),
        }
    }

    /// Carries out a request to the monitor and reads the console meanwhile: QEMU does not answer while it waits for the
    /// reader of its output.
    async fn meanwhile<T>(&mut self, request: impl Future<Output = T>) -> T {
        let mut request = std::pin::pin!(request);
        let mut buffer = vec![0; 64 << 10];
        while let Some(stream) = &mut self.stream
            && self.unread.len() < UNREAD_BYTES
        {
            tokio::select! {
                biased;
                result = &mut request => return result,
                // The next `read` gets the end or the error again.
                count = stream.read(&mut buffer) => match count {
                    Ok(count @ 1..) => self.unread.extend_from_slice(&buffer[..count]),
                    Ok(0) | Err(_) => break,
                },
            }
        }
        request.await
    }
}

/// Reads QEMU's standard error and returns its last line. The first line which reports that KVM cannot continue is sent
/// immediately, because QEMU then dumps the registers, stops the guest, and does not exit.
async fn last_line(
    stream: Option<impl AsyncRead + Unpin>,
    kvm_errors: mpsc::UnboundedSender<String>,
) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut text, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    let mut kvm_errors = Some(kvm_errors);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..count]);
        if let Some(line) = kvm_error(&String::from_utf8_lossy(&text))
            && let Some(sender) = kvm_errors.take()
        {
            let _ = sender.send(line);
        }
        if text.len() > 2 * STDERR_BYTES {
            text.drain(..STDERR_BYTES);
        }
    }
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("no error message").trim().chars().take(500).collect()
}

/// The complete line in which QEMU reports that KVM cannot continue to run the guest.
fn kvm_error(text: &str) -> Option<String> {
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::trim);
    let mut errors = lines
        .filter(|line| line.starts_with("KVM internal error") || line.starts_with("error: kvm run failed"));
    errors.next().map(|line| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_console_is_read_during_a_request_to_the_monitor() {
        let (mut qemu, stream) = tokio::io::duplex(16);
        let mut console = Console { stream: Some(stream), unread: Vec::new() };
        // The duplex takes 16 bytes, so without a reader this does not end.
        let text = "a line of the console\n".repeat(100);
        console.meanwhile(qemu.write_all(text.as_bytes())).await.unwrap();
        qemu.write_all(b"the end").await.unwrap();
        drop(qemu);
        assert_eq!(console.meanwhile(async { 5 }).await, 5);
        let (mut found, mut buffer) = (Vec::new(), [0; 100]);
        while let Ok(count @ 1..) = console.read(&mut buffer).await {
            found.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(String::from_utf8(found).unwrap(), text + "the end");
    }

    #[tokio::test]
    async fn a_kvm_error_is_reported_at_once() {
        let (mut qemu, stderr) = tokio::io::duplex(1 << 10);
        let (sender, mut kvm_errors) = mpsc::unbounded_channel();
        let last = tokio::spawn(last_line(Some(stderr), sender));
        qemu.write_all(b"a warning\nKVM internal error. Sub").await.unwrap();
        qemu.write_all(b"error: 1\nextra data[0]: 0x1\n").await.unwrap();
        assert_eq!(kvm_errors.recv().await.as_deref(), Some("KVM internal error. Suberror: 1"));
        qemu.write_all(b"KVM internal error. Suberror: 3\n\n").await.unwrap();
        drop(qemu);
        assert_eq!(last.await.unwrap(), "KVM internal error. Suberror: 3");
        assert_eq!(kvm_errors.recv().await, None);
    }

    #[test]
    fn kvm_error_lines() {
        assert_eq!(
            kvm_error("error: kvm run failed Bad address\n").as_deref(),
            Some("error: kvm run failed Bad address")
        );
        assert_eq!(kvm_error("no KVM internal error\nKVM internal error"), None);
    }
}
