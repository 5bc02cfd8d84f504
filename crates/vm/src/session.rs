//! One VM from start to end: QEMU as a child process, its console fed to a [`Supervisor`], what that asks for done.
//!
//! When [`run`] returns, or its future is dropped, QEMU and all it started are gone.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use spawn::{Cmd, Exit, SpawnError, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::console::Lines;
use crate::machine::{Machine, MachineError, argv};
use crate::monitor;
use crate::supervise::{Act, Ending, Supervisor, VmEnd};

/// What a VM does, as it happens.
#[derive(Debug)]
pub enum Seen<'a> {
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
}

/// The command that runs `machine`.
pub fn command(machine: &Machine) -> Result<Cmd, MachineError> {
    let argv = argv(machine)?;
    Ok(Cmd::new(&argv[0]).args(&argv[1..]))
}

/// Runs the VM to its end. `clock` is the beginning of the run, from which the supervisor counts.
pub async fn run(
    machine: &Machine,
    temp_dir: &Path,
    supervisor: &mut Supervisor,
    clock: Instant,
    mut on: impl FnMut(Seen<'_>),
) -> Result<Ending, SessionError> {
    // QEMU keeps what the guest writes to its root in an unlinked file in TMPDIR.
    let cmd = command(machine)?.env("TMPDIR", temp_dir).streams(Stream::Pipe, Stream::Pipe, Stream::Pipe);
    let mut child = cmd.start()?;
    let mut stdin = child.take_stdin();
    let mut stdout = child.take_stdout();
    let stderr = tokio::spawn(last_bytes(child.take_stderr()));
    let mut lines = Lines::default();
    let mut buffer = vec![0; 64 << 10];
    let mut killed = false;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    loop {
        let mut acts = Vec::new();
        tokio::select! {
            biased;
            _ = tick.tick() => on(Seen::Tick(supervisor)),
            read = read(&mut stdout, &mut buffer) => match read {
                0 => break,
                got => lines.feed(&buffer[..got], |line| {
                    on(Seen::Line(line));
                    acts.extend(supervisor.line(line, clock.elapsed()));
                }),
            },
        }
        acts.extend(supervisor.tick(clock.elapsed()));
        for act in acts {
            match &act {
                Act::Kill => {
                    killed = true;
                    child.signal(Signal::KILL);
                }
                Act::Sysrq(key) => sysrq(&mut stdin, *key).await,
                Act::Monitor(command) => on(Seen::Answer(monitor::request(machine, command).await)),
                _ => {}
            }
            on(Seen::Act(act));
        }
    }
    lines.finish(|line| {
        on(Seen::Line(line));
        for act in supervisor.line(line, clock.elapsed()) {
            on(Seen::Act(act));
        }
    });
    drop(stdin);
    // Its console is closed: it is gone, or about to be.
    let exit = match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
        Ok(exit) => exit?,
        Err(_) => child.stop(Duration::from_secs(1)).await?,
    };
    let complaint = stderr.await.unwrap_or_default();
    let (acts, ending) = supervisor.ended(vm_end(exit, killed, &complaint), clock.elapsed());
    for act in acts {
        on(Seen::Act(act));
    }
    Ok(ending)
}

fn vm_end(exit: Exit, killed: bool, complaint: &str) -> VmEnd {
    match exit {
        _ if killed => VmEnd::Killed,
        Exit::Code(0) => VmEnd::Guest,
        exit => VmEnd::Died(format!("QEMU ended with {exit}: {complaint}")),
    }
}

/// Magic sysrq over the virtio console: Ctrl-O, then the key.
async fn sysrq(stdin: &mut Option<tokio::process::ChildStdin>, key: char) {
    if let (Some(stdin), Ok(key)) = (stdin, u8::try_from(key)) {
        // A guest too dead to read is about to be killed anyway.
        let keys = [0x0f, key];
        let _ = tokio::time::timeout(Duration::from_millis(500), stdin.write_all(&keys)).await;
    }
}

/// Bytes read; 0 at the end of the stream, and for a stream that failed, which means the same.
async fn read(stream: &mut Option<tokio::process::ChildStdout>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

/// The last line QEMU said on its standard error, of the last 64 KiB.
async fn last_bytes(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    while let Ok(got @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..got]);
        if kept.len() > 128 << 10 {
            kept.drain(..64 << 10);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it said nothing").trim().chars().take(500).collect()
}
