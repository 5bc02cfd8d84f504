//! The connection to a host, shared by all processes of this machine: kept open, replaced when it breaks, and retried
//! after a delay when it cannot be established.
//!
//! The connection is a background process of ssh. The health of the host is stored in files.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::clock::unix_seconds;
use fsx::lock::Lock;
use fsx::own;
use fsx::publish::{self, Durability};
use spawn::{Cmd, Limits, Stream};

use crate::backoff::Health;
use crate::error::{ConnectError, HostError, LocalError};
use crate::mirror::commit_ref;
use crate::target::SshTarget;

/// The time limit of establishing a connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// The connection to a host.
#[derive(Debug, Clone)]
pub struct Link {
    target: SshTarget,
    socket: PathBuf,
    /// The path of the state files of the host, without their extension.
    state: PathBuf,
}

impl Link {
    /// The connection to `target`, not yet established. `cache` is the cache directory of this machine.
    pub fn new(target: SshTarget, cache: &Path) -> Result<Self, HostError> {
        let dir = socket_dir()?;
        let key = serde_json::to_string(&(&target.address, &target.user, &target.ssh_config, cache))
            .expect("names and paths are plain data");
        let name = &fsx::digest::sha256_hex(key)[..16];
        let state = cache.join("farm/hosts").join(target.name.as_str());
        Ok(Self { socket: dir.join(name), state, target })
    }

    /// The host.
    #[must_use]
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    fn state_file(&self, extension: &str) -> PathBuf {
        self.state.with_extension(extension)
    }

    async fn lock(&self, extension: &str, purpose: &str) -> Result<Lock, HostError> {
        Ok(Lock::acquire(&self.state_file(extension), purpose, |_| {}).await?)
    }

    /// Establishes the connection if necessary. A host that was recently unreachable is not tried.
    pub async fn up(&self) -> Result<(), HostError> {
        let _lock = self.lock("lock", "connects").await?;
        let health = Health::load(&self.state_file("json"));
        if let Some(left_s) = health.wait(unix_seconds()) {
            return Err(HostError::BackedOff {
                host: self.target.name.to_string(),
                left_s,
                cause: health.cause,
            });
        }
        match self.connected().await {
            Ok(()) => Ok(()),
            Err(cause) => {
                let health = health.failed(&cause.to_string(), unix_seconds());
                let text = serde_json::to_string(&health).expect("plain data");
                publish::file(&self.state_file("json"), text, Durability::Cached)?;
                Err(HostError::Unreachable { host: self.target.name.to_string(), cause })
            }
        }
    }

    /// Like [`Link::up`], for an interactive command: the host is always tried, and a failure is not stored.
    pub async fn up_now(&self) -> Result<(), HostError> {
        let _lock = self.lock("lock", "connects").await?;
        let host = self.target.name.to_string();
        self.connected().await.map_err(|cause| HostError::Unreachable { host, cause })
    }

    /// Establishes the connection if necessary. The caller holds the lock.
    async fn connected(&self) -> Result<(), ConnectError> {
        if self.is_up().await {
            return Ok(());
        }
        // The connection is dead or hangs. While this process holds the lock, no other one starts a new connection.
        let _ = self.target.control(&self.socket, "exit").output(Limits::seconds(5)).await;
        let _ = own::remove_file(&self.socket);
        self.connect().await?;
        let _ = own::remove_file(&self.state_file("json"));
        Ok(())
    }

    /// Whether the connection is established.
    pub async fn is_up(&self) -> bool {
        let check = self.target.control(&self.socket, "check").output(Limits::seconds(10)).await;
        check.is_ok_and(|output| output.exit.success())
    }

    async fn connect(&self) -> Result<(), ConnectError> {
        let log = self.state_file("ssh-log");
        let _ = own::remove_file(&log);
        let master = self.target.master(&self.socket, &log).streams(Stream::Null, Stream::Null, Stream::Null);
        // In the process group of this process: cleaning up a separate group would kill the background process.
        let mut child = master.foreground().start()?;
        let exit = match tokio::time::timeout(CONNECT_TIME, child.wait()).await {
            Ok(exit) => exit?,
            Err(_) => return Err(ConnectError::TimeOut(CONNECT_TIME)),
        };
        if exit.success() {
            return Ok(());
        }
        let text = own::read_to_string(&log, 1 << 20).unwrap_or_default();
        Err(ConnectError::Ssh(ssh_error(&text).unwrap_or_else(|| format!("ssh ended with {exit}"))))
    }

    /// `ktest` on the host. The connection must be [up](Self::up).
    #[must_use]
    pub fn ktest(&self, args: &[&str]) -> Cmd {
        self.target.ktest(&self.socket, args)
    }

    /// A command line for the login shell of the host.
    #[must_use]
    pub fn remote(&self, command: &str) -> Cmd {
        self.target.remote(&self.socket, command)
    }

    /// Pushes a commit to the mirror of the host, to its own ref.
    pub async fn push(&self, repo: &Path, commit: &model::CommitId, mirror: &Path) -> Result<(), HostError> {
        let _lock = self.lock("push-lock", "pushes a commit").await?;
        let unfit = |problem: String| HostError::Unfit { host: self.target.name.to_string(), problem };
        let url = self.target.git_url(mirror).parse();
        let to = gitio::SshRemote {
            url: url.map_err(|error: model::NameError| unfit(error.to_string()))?,
            command: self.target.git_ssh(&self.socket),
        };
        let pushed = gitio::Repo::open(repo)?.push(commit, &to, &commit_ref(commit), PUSH_TIME).await;
        pushed.map_err(|error| unfit(error.to_string()))
    }
}

/// The time limit of a push. The first push to a host sends the whole history.
const PUSH_TIME: Duration = Duration::from_secs(4 * 3600);

/// The last line of ssh's log, and what to do about a host key that is not accepted.
fn ssh_error(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let line: String = line.trim_end_matches('.').chars().take(300).collect();
    let hint = if !line.contains("ost key verification failed") {
        ""
    } else if text.contains("IDENTIFICATION HAS CHANGED") {
        ": its key is not the one in known_hosts; find out why before you accept it"
    } else {
        "; add its key to known_hosts (ssh-keyscan) and compare it with the key on the host"
    };
    Some(format!("{line}{hint}"))
}

/// A private directory with a short path: the path of a socket is limited to about 100 bytes.
fn socket_dir() -> Result<PathBuf, HostError> {
    let uid = rustix::process::getuid().as_raw();
    let dir = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() && dir.is_dir() && dir.as_os_str().len() < 40 => dir.join("ktest-ssh"),
        _ => PathBuf::from(format!("/tmp/ktest-ssh-{uid}")),
    };
    let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(LocalError::io(&dir)(error).into());
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(&dir).map_err(LocalError::io(&dir))?;
    if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
        return Err(LocalError::SocketDir(dir).into());
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::ssh_error;

    #[test]
    fn ssh_errors_have_advice() {
        assert_eq!(ssh_error("\n"), None);
        let denied = "Warning: whatever\nci@h: Permission denied (publickey).\n\n";
        assert_eq!(ssh_error(denied).unwrap(), "ci@h: Permission denied (publickey)");
        let unknown = ssh_error("Host key verification failed.\r\n").unwrap();
        assert!(unknown.starts_with("Host key verification failed; add its key"), "{unknown}");
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n";
        assert!(ssh_error(changed).unwrap().contains("find out why"), "{changed}");
    }
}
