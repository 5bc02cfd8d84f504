//! A slot of a host: the right to run under a name, and the work directory of that name.
//!
//! A new run takes over the slot. The process of an older run with the same name has lost its local side and is killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::lock::{Lock, holder};
use fsx::own;
use fsx::untrusted::Dir;

use crate::error::{HostError, LocalError};

/// How often the holder of a slot is killed before the claim fails.
const ATTEMPTS: u32 = 100;
const RETRY: Duration = Duration::from_millis(100);

/// A claimed slot.
pub(crate) struct HostSlot {
    /// The work directory.
    pub(crate) work: PathBuf,
    _lock: Lock,
}

impl HostSlot {
    /// Claims the slot `name`. A process that holds it is killed.
    pub(crate) async fn claim(cache: &Path, name: &str) -> Result<Self, HostError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(LocalError::Name(name.into(), "a slot").into());
        }
        let path = cache.join("host").join(format!("{name}.lock"));
        for _ in 0..ATTEMPTS {
            if let Some(lock) = Lock::try_acquire(&path, "")? {
                lock.set_text(&own_identity())?;
                return Ok(Self { work: cache.join("host").join(name), _lock: lock });
            }
            kill_holder(&path);
            tokio::time::sleep(RETRY).await;
        }
        Err(LocalError::SlotHeld(path).into())
    }

    /// Empties the work directory and creates it.
    pub(crate) fn prepare(&self) -> Result<(), HostError> {
        self.remove()?;
        Ok(own::create_dir_all(&self.work)?)
    }

    /// Removes the work directory.
    pub(crate) fn remove(&self) -> Result<(), HostError> {
        if let (Some(parent), Some(name)) = (self.work.parent(), self.work.file_name())
            && parent.is_dir()
        {
            Dir::open(parent)?.remove_tree(name)?;
        }
        Ok(())
    }
}

/// Process id and start time, which identify a process even after its id is reused.
fn own_identity() -> String {
    let pid = std::process::id();
    format!("{pid} {}\n", start_time(pid).unwrap_or_default())
}

/// The 22nd field of `/proc/PID/stat`.
fn start_time(pid: u32) -> Option<String> {
    let stat = own::read_to_string(Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(ToOwned::to_owned)
}

/// Kills the process that holds a slot, even if it is stopped. Its child processes are killed too.
fn kill_holder(path: &Path) {
    let Some(text) = holder(path) else { return };
    let Some((pid, started)) = text.trim().split_once(' ') else { return };
    let Ok(pid) = pid.parse::<u32>() else { return };
    if pid == std::process::id() || start_time(pid).as_deref() != Some(started) {
        return;
    }
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
