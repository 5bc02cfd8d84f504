//! Attempts to break out of the sandbox, for `ktest doctor` and the tests. A program in the sandbox really makes each
//! attempt.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use fsx::untrusted::Scratch;
use spawn::{Cmd, Limits};

use crate::builder::Sandbox;
use crate::probe::SandboxError;

/// Makes the attempts named by its arguments and prints `NAME held` or `NAME broke` for each.
const SCRIPT: &str = include_str!("escape.bash");

/// The attempts: the name in [`SCRIPT`], and the claim that holds if the attempt fails.
const CLAIMS: [(&str, &str); 16] = [
    ("remount", "a read-only mount cannot be made writable"),
    ("write", "nothing outside the writable directories can be written"),
    ("capabilities", "the program has no capabilities"),
    ("namespace", "no user namespace can be created"),
    ("home", "the home directory of this account is invisible"),
    ("state", "/run, /var, /srv, /home and /root are invisible"),
    ("root", "files of /proc that only root can read cannot be read"),
    ("sysctl", "settings of the kernel cannot be changed"),
    ("device", "device files of this host cannot be changed"),
    ("keyring", "the keyrings of this account cannot be used"),
    ("vsock", "sockets of other virtual machines and their host cannot be reached"),
    ("lease", "no file can be leased, which would delay programs of this host that open it"),
    ("file", "files that the caller has open are closed"),
    ("socket", "sockets of this host cannot be reached"),
    ("network", "the network cannot be reached"),
    ("processes", "other processes are invisible"),
];

/// One attempt to break out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Its name, one word.
    pub name: &'static str,
    /// The claim that holds if the attempt failed.
    pub claim: &'static str,
    /// Whether the sandbox held.
    pub held: bool,
}

/// The targets of the attempts on the host. They exist as long as the value.
struct Targets {
    dir: Scratch,
    /// Is not closed when a program is executed.
    file: OwnedFd,
    _socket: UnixListener,
    _abstract_socket: UnixListener,
    abstract_name: String,
    tcp: TcpListener,
}

impl Targets {
    fn open() -> io::Result<Self> {
        let dir = Scratch::temporary()?;
        fsx::own::write(&dir.path().join("target"), "")?;
        let file = OwnedFd::from(fsx::own::open(&dir.path().join("target"))?);
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
        let abstract_name = format!("ktest-doctor-{}-{:p}", std::process::id(), &raw const dir);
        Ok(Self {
            _socket: UnixListener::bind(dir.path().join("socket"))?,
            _abstract_socket: UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name)?)?,
            abstract_name,
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            dir,
            file,
        })
    }

    fn variables(&self) -> io::Result<[(&'static str, OsString); 7]> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).unwrap_or_else(|| "/root".into());
        let comm = fsx::own::read_to_string(Path::new("/proc/self/comm"), 100)?;
        Ok([
            ("TARGET_HOME", home),
            ("TARGET_COMM", comm.trim_end().into()),
            ("TARGET_SOCKET", self.dir.path().join("socket").into()),
            ("TARGET_ABSTRACT", self.abstract_name.clone().into()),
            ("TARGET_PORT", self.tcp.local_addr()?.port().to_string().into()),
            ("TARGET_FD", self.file.as_raw_fd().to_string().into()),
            ("TARGET_PID", std::process::id().to_string().into()),
        ])
    }
}

/// Tries to break out of the sandbox in every way that this crate claims to prevent.
pub async fn try_to_escape() -> Result<Vec<Attempt>, SandboxError> {
    let sandbox = Sandbox::new();
    let in_it = |env: &[(&str, OsString)]| {
        env.iter().fold(sandbox, |sandbox, (key, value)| sandbox.env(key, value)).command("bash")
    };
    attempt(&CLAIMS, in_it).await
}

/// Makes these attempts with a bash that `command` starts with these variables.
async fn attempt(
    claims: &[(&'static str, &'static str)],
    command: impl FnOnce(&[(&'static str, OsString)]) -> Cmd,
) -> Result<Vec<Attempt>, SandboxError> {
    let refused = |error: &dyn std::fmt::Display| SandboxError::Refused(error.to_string());
    let targets = Targets::open().map_err(|error| refused(&error))?;
    let variables = targets.variables().map_err(|error| refused(&error))?;
    let cmd = command(&variables).args(["--norc", "-c", SCRIPT, "bash"]);
    let cmd = cmd.args(claims.iter().map(|(name, _)| name));
    let output = cmd.output(Limits::seconds(20)).await.map_err(|error| refused(&error))?;
    if !output.exit.success() {
        return Err(SandboxError::Refused(output.error_line()));
    }
    let text = output.text();
    let held = |name: &str| text.lines().any(|line| line.strip_prefix(name) == Some(" held"));
    Ok(claims.iter().map(|(name, claim)| Attempt { name, claim, held: held(name) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe;

    #[tokio::test]
    async fn every_attempt_to_break_out_fails() {
        if let Err(error) = probe().await {
            eprintln!("skipped: every_attempt_to_break_out_fails: {error}");
            return;
        }
        let attempts = try_to_escape().await.unwrap();
        let broke: Vec<_> = attempts.iter().filter(|attempt| !attempt.held).collect();
        assert!(broke.is_empty() && attempts.len() == CLAIMS.len(), "{broke:?}");
    }

    #[tokio::test]
    async fn outside_the_sandbox_the_attempts_succeed() {
        let plain = |env: &[(&'static str, OsString)]| {
            env.iter().fold(Cmd::new("bash"), |cmd, (key, value)| cmd.env(key, value))
        };
        let names = ["home", "state", "socket", "network", "processes"];
        let claims: Vec<_> = CLAIMS.into_iter().filter(|(name, _)| names.contains(name)).collect();
        let attempts = attempt(&claims, plain).await.unwrap();
        assert!(attempts.len() == names.len() && attempts.iter().all(|a| !a.held), "{attempts:?}");
    }
}
