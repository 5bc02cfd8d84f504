//! The running VM of an output directory, and how `ktest ssh`, `gdb`, `mon` and other commands access it.
//!
//! `OUT/vm.json` exists while the VM runs. A file that a killed run left behind is recognized by its dead control
//! socket.

use std::path::{Path, PathBuf};

use fsx::untrusted::Dir;
use model::Arch;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use vm::machine::socket;
use vm::session::SessionInput;

/// The name of the file in the output directory.
const FILE: &str = "vm.json";
/// The maximum size of the file, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// The runner's own socket, next to QEMU's.
const CONTROL: &str = "control";

/// A running VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The process id of the `ktest` that runs it.
    pub pid: u32,
    /// The test file's name, or `boot`.
    pub what: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The directory of its sockets.
    pub sockets: PathBuf,
    /// The ELF file of its kernel, with symbols.
    pub vmlinux: Option<PathBuf>,
    /// The directory of its kernel's modules.
    pub modules: Option<PathBuf>,
    /// Whether its kernel supports kgdb over the serial line.
    pub kgdb: bool,
    /// How ssh reaches it.
    pub ssh: Option<Ssh>,
}

/// The parameters for ssh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// The port of 127.0.0.1.
    pub port: u16,
    /// The private key.
    pub identity: PathBuf,
    /// The known hosts.
    pub known_hosts: PathBuf,
}

/// Why the VM cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No VM is running.
    #[error(
        "no VM runs in {0}; start one with ktest boot or ktest run -I, or give its output directory with -o DIR"
    )]
    None(PathBuf),
    /// Its file cannot be read.
    #[error("{path}: {what}; was it written by another version of ktest?")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It does not respond.
    #[error("the VM of {out} (ktest process {pid}) does not respond: {what}")]
    Silent {
        /// The output directory.
        out: PathBuf,
        /// The process that runs it.
        pid: u32,
        /// What happened.
        what: String,
    },
}

/// Removes the file when dropped.
#[derive(Debug)]
pub struct Published(PathBuf);

impl Drop for Published {
    fn drop(&mut self) {
        let _ = Dir::open(&self.0).and_then(|out| out.remove_file(FILE));
    }
}

impl Live {
    /// Publishes the VM in `out` as long as the returned value exists.
    pub fn publish(&self, out: &Path) -> std::io::Result<Published> {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        Dir::open(out)?.write(FILE, text + "\n")?;
        Ok(Published(out.into()))
    }

    /// Finds the running VM of `out`.
    pub async fn find(out: &Path) -> Result<Self, LiveError> {
        let path = out.join(FILE);
        let text = match Dir::open(out).and_then(|out| out.read_to_string(FILE, MAX_FILE)) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Err(LiveError::None(out.into())),
            Err(error) => return Err(LiveError::Unreadable { path, what: error.to_string() }),
        };
        let live: Self = serde_json::from_str(&text)
            .map_err(|error| LiveError::Unreadable { path: path.clone(), what: error.to_string() })?;
        match UnixStream::connect(live.sockets.join(CONTROL)).await {
            Ok(_) => Ok(live),
            // The run was killed before it could remove the file.
            Err(_) => Err(LiveError::None(out.into())),
        }
    }

    /// The path of one of its sockets.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// Runs a command of QEMU's monitor.
    pub async fn monitor(&self, out: &Path, command: &str) -> Result<String, LiveError> {
        let silent = |error: std::io::Error| self.silent(out, &error);
        vm::monitor::command(&self.sockets, command).await.map_err(silent)
    }

    /// Sends a SysRq key to the guest's console.
    pub async fn sysrq(&self, out: &Path, key: char) -> Result<(), LiveError> {
        let send = async {
            let mut stream = UnixStream::connect(self.sockets.join(CONTROL)).await?;
            stream.write_all(format!("sysrq {key}\n").as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            if answer.trim() == "ok" {
                Ok(())
            } else {
                Err(std::io::Error::other("the runner refused the key"))
            }
        };
        send.await.map_err(|error| self.silent(out, &error))
    }

    fn silent(&self, out: &Path, error: &std::io::Error) -> LiveError {
        LiveError::Silent { out: out.into(), pid: self.pid, what: error.to_string() }
    }
}

/// A line of the control socket.
fn request(line: &str) -> Option<SessionInput> {
    let mut key = line.trim_end().strip_prefix("sysrq ")?.chars();
    let (Some(key), None) = (key.next(), key.next()) else { return None };
    key.is_ascii_alphanumeric().then_some(SessionInput::Sysrq(key))
}

/// Serves the control socket in `sockets` until the task is aborted.
pub fn listen(
    sockets: &Path,
    input: UnboundedSender<SessionInput>,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let listener = UnixListener::bind(sockets.join(CONTROL))?;
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let input = input.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(read, 1 << 10)).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let taken = request(&line).is_some_and(|request| input.send(request).is_ok());
                    let answer: &[u8] = if taken { b"ok\n" } else { b"refused\n" };
                    if write.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    }))
}

/// The names of the sockets of `ktest mon` and `ktest gdb`.
pub use socket::{GDB, KGDB, MONITOR};

#[cfg(test)]
mod tests {
    use super::*;

    fn live(sockets: &Path) -> Live {
        let sockets = sockets.to_path_buf();
        let (vmlinux, modules, ssh) = (None, None, None);
        Live { pid: 7, what: "boot".into(), arch: Arch::X86_64, sockets, vmlinux, modules, kgdb: false, ssh }
    }

    #[tokio::test]
    async fn a_vm_is_found_only_while_it_runs() {
        let out = tempfile::tempdir().unwrap();
        let sockets = tempfile::tempdir().unwrap();
        assert!(matches!(Live::find(out.path()).await, Err(LiveError::None(_))));
        let live = live(sockets.path());
        let published = live.publish(out.path()).unwrap();
        // No process listens, as after a killed run.
        assert!(matches!(Live::find(out.path()).await, Err(LiveError::None(_))));
        let (sender, mut inputs) = tokio::sync::mpsc::unbounded_channel();
        let task = listen(sockets.path(), sender).unwrap();
        assert_eq!(Live::find(out.path()).await.unwrap(), live);
        live.sysrq(out.path(), 't').await.unwrap();
        assert_eq!(inputs.recv().await, Some(SessionInput::Sysrq('t')));
        let error = live.monitor(out.path(), "info status").await.unwrap_err();
        assert!(error.to_string().contains("does not respond"), "{error}");
        drop(published);
        assert!(matches!(Live::find(out.path()).await, Err(LiveError::None(_))));
        task.abort();
        std::fs::write(out.path().join("vm.json"), "{").unwrap();
        assert!(matches!(Live::find(out.path()).await, Err(LiveError::Unreadable { .. })));
    }

    #[test]
    fn requests() {
        assert_eq!(request("sysrq w\n"), Some(SessionInput::Sysrq('w')));
        for bad in ["", "sysrq", "sysrq ", "sysrq ww", "sysrq \u{e4}", "quit", "sysrq \n"] {
            assert_eq!(request(bad), None, "{bad:?}");
        }
    }
}
