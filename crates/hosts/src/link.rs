//! One connection to a host that everything goes through: kept warm, made anew when it broke, left alone for a while
//! when it cannot be made.
//!
//! All processes of this machine share it: the connection is a background process of ssh, what is known of the host lies
//! in files.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use spawn::{Cmd, Limits, Stream};

use crate::HostError;
use crate::backoff::Health;
use crate::lock::Lock;
use crate::target::Target;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);

/// The connection to a host.
#[derive(Debug, Clone)]
pub struct Link {
    target: Target,
    socket: PathBuf,
    /// What is known of the host.
    notes: PathBuf,
}

impl Link {
    /// The connection to `target`; nothing is done yet. `cache` is this machine's cache folder.
    pub fn new(target: Target, cache: &Path) -> Result<Self, HostError> {
        let dir = socket_dir()?;
        let key = serde_json::to_string(&(&target.address, &target.user, &target.ssh_config, cache))
            .expect("names and paths are plain data");
        let name: String = Sha256::digest(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let notes = cache.join("farm/hosts").join(target.name.as_str());
        Ok(Self { socket: dir.join(name), notes, target })
    }

    /// Which host.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn note(&self, ending: &str) -> PathBuf {
        self.notes.with_extension(ending)
    }

    /// Sees to it that the connection is there; a host that could not be reached lately is left alone.
    pub async fn up(&self) -> Result<(), HostError> {
        let _one_at_a_time = Lock::acquire(&self.note("lock")).await?;
        let health = Health::load(&self.note("json"));
        if let Some(left_s) = health.wait(unix_now()) {
            return Err(HostError::BackedOff { host: self.target.name.to_string(), left_s, why: health.why });
        }
        match self.connected().await {
            Ok(()) => Ok(()),
            Err(why) => {
                let health = health.failed(&why, unix_now());
                let text = serde_json::to_string(&health).expect("plain data");
                let path = self.note("json");
                std::fs::write(&path, text).map_err(|error| HostError::io(&path, &error))?;
                Err(HostError::Unreachable { host: self.target.name.to_string(), why })
            }
        }
    }

    /// The same for a person at a terminal: it is tried now, and a failure is not remembered.
    pub async fn up_now(&self) -> Result<(), HostError> {
        let _one_at_a_time = Lock::acquire(&self.note("lock")).await?;
        let host = self.target.name.to_string();
        self.connected().await.map_err(|why| HostError::Unreachable { host, why })
    }

    /// The lock is held.
    async fn connected(&self) -> Result<(), String> {
        if self.is_up().await {
            return Ok(());
        }
        // A connection that is dead or hangs; the lock is ours, so nobody makes a new one.
        let _ = self.target.control(&self.socket, "exit").output(Limits::seconds(5)).await;
        let _ = std::fs::remove_file(&self.socket);
        self.connect().await?;
        let _ = std::fs::remove_file(self.note("json"));
        Ok(())
    }

    /// Whether the connection is there.
    pub async fn is_up(&self) -> bool {
        let check = self.target.control(&self.socket, "check").output(Limits::seconds(10)).await;
        check.is_ok_and(|output| output.exit.success())
    }

    async fn connect(&self) -> Result<(), String> {
        let log = self.note("ssh-log");
        let _ = std::fs::remove_file(&log);
        let master = self.target.master(&self.socket, &log).streams(Stream::Null, Stream::Null, Stream::Null);
        // Not in a group of its own: what goes to the background may still be in that when its end is cleaned up.
        let mut child = master.foreground().start().map_err(|error| error.to_string())?;
        let exit = match tokio::time::timeout(CONNECT, child.wait()).await {
            Ok(exit) => exit.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no connection within {} s", CONNECT.as_secs())),
        };
        if exit.success() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        Err(complained(&text).unwrap_or_else(|| format!("ssh ended ({exit})")))
    }

    /// `ktest` over there. The connection must be [up](Self::up).
    #[must_use]
    pub fn ktest(&self, args: &[&str]) -> Cmd {
        self.target.ktest(&self.socket, args)
    }

    /// A command line for the login shell over there.
    #[must_use]
    pub fn remote(&self, command: &str) -> Cmd {
        self.target.remote(&self.socket, command)
    }

    /// Pushes a commit into a repository over there, under a name of its own.
    pub async fn push(&self, repo: &Path, commit: &model::CommitId, mirror: &Path) -> Result<(), HostError> {
        let _one_at_a_time = Lock::acquire(&self.note("push-lock")).await?;
        let unfit = |what: String| HostError::Unfit { host: self.target.name.to_string(), what };
        let url = self.target.git_url(mirror).parse();
        let to = gitio::SshRemote {
            url: url.map_err(|error: model::NameError| unfit(error.to_string()))?,
            command: self.target.git_ssh(&self.socket),
        };
        let repo = gitio::Repo::open(repo).map_err(|error| HostError::Here(error.to_string()))?;
        repo.push(commit, &to, &mirror_ref(commit), PUSH).await.map_err(|error| unfit(error.to_string()))
    }
}

/// The first push to a new host sends the whole history.
const PUSH: Duration = Duration::from_secs(4 * 3600);

/// The ref of a commit in the mirror of a host.
#[must_use]
pub(crate) fn mirror_ref(commit: &model::CommitId) -> model::RefName {
    format!("refs/ktest/{commit}").parse().expect("hexadecimal digits make a valid ref")
}

/// The last line of what ssh complained about, and what to do where it is the host's key.
fn complained(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let line: String = line.trim_end_matches('.').chars().take(300).collect();
    let hint = if !line.contains("ost key verification failed") {
        ""
    } else if text.contains("IDENTIFICATION HAS CHANGED") {
        ": it has another key than the one in known_hosts; find out why before you take it"
    } else {
        "; put its key into known_hosts (ssh-keyscan) and compare it with the machine's own word"
    };
    Some(format!("{line}{hint}"))
}

/// Unix seconds.
#[must_use]
pub fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// A folder of ours alone with a short path: a socket's may have about a hundred bytes.
fn socket_dir() -> Result<PathBuf, HostError> {
    let uid = rustix::process::getuid().as_raw();
    let dir = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() && dir.is_dir() && dir.as_os_str().len() < 40 => dir.join("ktest-ssh"),
        _ => PathBuf::from(format!("/tmp/ktest-ssh-{uid}")),
    };
    let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(HostError::io(&dir, &error));
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(&dir).map_err(|error| HostError::io(&dir, &error))?;
    if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
        return Err(HostError::Here(format!("{}: is somebody else's; remove it", dir.display())));
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::complained;

    #[test]
    fn what_ssh_complains_about() {
        assert_eq!(complained("\n"), None);
        let denied = "Warning: whatever\nci@h: Permission denied (publickey).\n\n";
        assert_eq!(complained(denied).unwrap(), "ci@h: Permission denied (publickey)");
        let unknown = complained("Host key verification failed.\r\n").unwrap();
        assert!(unknown.starts_with("Host key verification failed; put its key"), "{unknown}");
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n";
        assert!(complained(changed).unwrap().contains("find out why"), "{changed}");
    }
}
