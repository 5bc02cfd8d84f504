//! One VM from start to end: QEMU as a child process, its console fed to a [`Supervisor`], what that asks for done.
//!
//! When [`Session::run`] returns, or its future is dropped, QEMU and all it started are gone.

use std::path::Path;
use std::time::{Duration, Instant};

use model::verdict::Verdict;
use rustix::process::Signal;
use spawn::{Cmd, Exit, SpawnError, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::console::Lines;
use crate::machine::{Machine, MachineError, argv};
use crate::monitor;
use crate::supervise::{Act, Ending, Supervisor, VmEnd};

/// What a VM does, as it happens.
#[derive(Debug)]
pub enum Seen<'a> {
    /// What came from the console, as it came.
    Bytes(&'a [u8]),
    /// A console line.
    Line(&'a str),
    /// What the supervisor concluded; [`Act::Kill`], [`Act::Sysrq`] and [`Act::Monitor`] are already done.
    Act(Act),
    /// What became of a request to the QEMU monitor.
    Answer(String),
    /// Nothing new; the time passes. Called about ten times a second.
    Tick(&'a Supervisor),
}

/// Why a VM could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// QEMU did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The machine cannot be described.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// KVM ran the guest up to here and cannot go on; under TCG it may well run.
    #[error("KVM gave the guest up: {0}")]
    Kvm(String),
}

/// The command that runs `machine`.
pub fn command(machine: &Machine) -> Result<Cmd, MachineError> {
    let argv = argv(machine)?;
    Ok(Cmd::new(&argv[0]).args(&argv[1..]))
}

/// What comes from outside while a VM runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// For the guest's console.
    Bytes(Vec<u8>),
    /// A magic sysrq key.
    Sysrq(char),
    /// End the VM.
    End,
    /// End the VM: the guest did what it must not, and the subtest that runs has failed, for this reason.
    GiveUp(String),
    /// End the VM: something is wrong here, and the subtest that runs gets no verdict.
    Break(String),
}

/// How a VM is run.
#[derive(Debug)]
pub struct Session<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Where QEMU keeps what the guest writes to its root.
    pub temp_dir: &'a Path,
    /// The beginning of the run, from which the supervisor counts.
    pub clock: Instant,
    /// What comes from outside.
    pub input: mpsc::UnboundedReceiver<Input>,
    /// Let the guest stand still while it is told that a subtest failed: its disks can be read then.
    pub pause_at_failure: bool,
}

impl Session<'_> {
    /// Runs the VM to its end.
    pub async fn run(
        mut self,
        supervisor: &mut Supervisor,
        mut on: impl FnMut(Seen<'_>),
    ) -> Result<Ending, SessionError> {
        let cmd = command(self.machine)?.env("TMPDIR", self.temp_dir);
        let mut child = cmd.streams(Stream::Pipe, Stream::Pipe, Stream::Pipe).start()?;
        let console = console_writer(child.take_stdin());
        let mut stdout = child.take_stdout();
        let (gave_up, mut kvm) = mpsc::unbounded_channel();
        let stderr = tokio::spawn(last_bytes(child.take_stderr(), gave_up));
        let mut lines = Lines::default();
        let mut buffer = vec![0; 64 << 10];
        let mut killed = false;
        let mut broken = None;
        let mut without_kvm = None;
        let (requests, mut answers) = requests(self.machine.clone());
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

        loop {
            let mut acts = Vec::new();
            tokio::select! {
                biased;
                _ = tick.tick() => on(Seen::Tick(supervisor)),
                Some(input) = self.input.recv() => match input {
                    // A guest too dead to read its console is about to be ended anyway.
                    Input::Bytes(bytes) => drop(console.send(bytes)),
                    Input::Sysrq(key) => drop(console.send(sysrq(key))),
                    Input::End => acts.push(Act::Kill),
                    Input::GiveUp(reason) => acts.extend(supervisor.give_up(reason)),
                    Input::Break(what) => {
                        broken.get_or_insert(what);
                        acts.push(Act::Kill);
                    }
                },
                Some(answer) = answers.recv() => on(Seen::Answer(answer)),
                // QEMU itself would wait, with a guest that stands still.
                Some(why) = kvm.recv() => {
                    without_kvm = Some(why);
                    acts.push(Act::Kill);
                }
                read = read(&mut stdout, &mut buffer) => match read {
                    0 => break,
                    got => {
                        on(Seen::Bytes(&buffer[..got]));
                        lines.feed(&buffer[..got], |line| {
                            on(Seen::Line(line));
                            acts.extend(supervisor.line(line, self.clock.elapsed()));
                        });
                    }
                },
            }
            acts.extend(supervisor.tick(self.clock.elapsed()));
            for act in acts {
                match &act {
                    Act::Kill => {
                        killed = true;
                        child.signal(Signal::KILL);
                    }
                    Act::Sysrq(key) => drop(console.send(sysrq(*key))),
                    Act::Monitor(command) => drop(requests.send(command.clone())),
                    _ => {}
                }
                let paused = self.pause(&act).await;
                on(Seen::Act(act));
                if let Some(sockets) = paused
                    && let Err(error) = monitor::command(sockets, "cont").await
                {
                    tracing::warn!("the guest stands still: {error}");
                }
            }
        }
        lines.finish(|line| {
            on(Seen::Line(line));
            for act in supervisor.line(line, self.clock.elapsed()) {
                on(Seen::Act(act));
            }
        });
        drop(console);
        // Its console is closed: it is gone, or about to be.
        let exit = match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
            Ok(exit) => exit?,
            Err(_) => child.stop(Duration::from_secs(1)).await?,
        };
        if let Some(what) = broken {
            return Ok(Ending::Infrastructure(what));
        }
        if let Some(why) = without_kvm {
            return Err(SessionError::Kvm(why));
        }
        let complaint = stderr.await.unwrap_or_default();
        let (acts, ending) = supervisor.ended(vm_end(exit, killed, &complaint), self.clock.elapsed());
        for act in acts {
            on(Seen::Act(act));
        }
        Ok(ending)
    }

    /// Lets the guest stand still if this is the end of a failed subtest; the sockets by which it goes on.
    async fn pause(&self, act: &Act) -> Option<&Path> {
        let Act::Finished(finished) = act else { return None };
        if !self.pause_at_failure || !matches!(finished.verdict, Verdict::Failed { .. }) {
            return None;
        }
        let sockets = self.machine.sockets.as_deref()?;
        monitor::command(sockets, "stop").await.ok().map(|_| sockets)
    }
}

/// Carries out the guest's requests to the monitor one after another, while its console is read on; the answers.
fn requests(machine: Machine) -> (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>) {
    let (sender, mut commands) = mpsc::unbounded_channel::<String>();
    let (told, answers) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            if told.send(monitor::request(&machine, &command).await).is_err() {
                return;
            }
        }
    });
    (sender, answers)
}

/// Writes to the guest's console, whose reader may be slow or gone.
fn console_writer(stdin: Option<tokio::process::ChildStdin>) -> mpsc::UnboundedSender<Vec<u8>> {
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
        exit => VmEnd::Died(format!("QEMU ended with {exit}: {complaint}")),
    }
}

/// Magic sysrq over the virtio console: Ctrl-O, then the key.
fn sysrq(key: char) -> Vec<u8> {
    let mut keys = vec![0x0f];
    keys.extend(u8::try_from(key).ok());
    keys
}

/// Bytes read; 0 at the end of the stream, and for a stream that failed, which means the same.
async fn read(stream: &mut Option<tokio::process::ChildStdout>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

/// The last line QEMU said on its standard error, of the last 64 KiB. The first by which it says that KVM cannot go on is
/// told at once: it says what the processor's registers held, stops the guest, and stays.
async fn last_bytes(
    stream: Option<impl AsyncRead + Unpin>,
    gave_up: mpsc::UnboundedSender<String>,
) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    let mut gave_up = Some(gave_up);
    while let Ok(got @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..got]);
        if let Some(line) = kvm_complaint(&String::from_utf8_lossy(&kept))
            && let Some(gave_up) = gave_up.take()
        {
            let _ = gave_up.send(line);
        }
        if kept.len() > 128 << 10 {
            kept.drain(..64 << 10);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it said nothing").trim().chars().take(500).collect()
}

/// The line, whole, by which QEMU says that it stopped the guest because KVM cannot go on.
fn kvm_complaint(text: &str) -> Option<String> {
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::trim);
    let mut found = lines
        .filter(|line| line.starts_with("KVM internal error") || line.starts_with("error: kvm run failed"));
    found.next().map(|line| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn kvm_that_cannot_go_on_is_told_at_once() {
        let (mut qemu, ours) = tokio::io::duplex(1 << 10);
        let (gave_up, mut kvm) = mpsc::unbounded_channel();
        let last = tokio::spawn(last_bytes(Some(ours), gave_up));
        qemu.write_all(b"a warning\nKVM internal error. Sub").await.unwrap();
        qemu.write_all(b"error: 1\nextra data[0]: 0x1\n").await.unwrap();
        assert_eq!(kvm.recv().await.as_deref(), Some("KVM internal error. Suberror: 1"));
        qemu.write_all(b"KVM internal error. Suberror: 3\n\n").await.unwrap();
        drop(qemu);
        assert_eq!(last.await.unwrap(), "KVM internal error. Suberror: 3");
        assert_eq!(kvm.recv().await, None);
    }

    #[test]
    fn words_of_kvm() {
        assert_eq!(
            kvm_complaint("error: kvm run failed Bad address\n").as_deref(),
            Some("error: kvm run failed Bad address")
        );
        assert_eq!(kvm_complaint("no KVM internal error\nKVM internal error"), None);
    }
}
