//! A running process and its process group.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cgroup::Group;
use crate::error::SpawnError;
use crate::output::Exit;

/// A running child. Dropping it kills its process group.
#[derive(Debug)]
pub struct Child {
    pub(crate) program: String,
    pub(crate) child: tokio::process::Child,
    pub(crate) group: Option<Pid>,
    /// The write end of the standard output, if it is a [`Stream::BlockingPipe`](crate::Stream::BlockingPipe). The child
    /// has the same open file description, so its flags can be changed here.
    pub(crate) stdout_writer: Option<OwnedFd>,
    /// Dropped last.
    pub(crate) _control_group: Option<Group>,
}

impl Child {
    /// The process id; none after [`Child::wait`].
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Takes the standard input, if it is a pipe. `None` on a second call.
    pub fn take_stdin(&mut self) -> Option<tokio::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Takes the standard output, if it is a pipe. `None` on a second call.
    pub fn take_stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the standard error, if it is a pipe. `None` on a second call.
    pub fn take_stderr(&mut self) -> Option<tokio::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Makes the child wait while its standard output is full, although it has set it to non-blocking. For a
    /// [`Stream::BlockingPipe`](crate::Stream::BlockingPipe), as soon as the child has printed something: before that, it
    /// may not have set it yet. The output does not end before this call or [`Child::has_exited`].
    pub fn block_on_full_stdout(&mut self) {
        let Some(writer) = self.stdout_writer.take() else { return };
        let flags = rustix::fs::fcntl_getfl(&writer);
        let _ = flags.and_then(|flags| rustix::fs::fcntl_setfl(&writer, flags - OFlags::NONBLOCK));
    }

    /// Whether the process has exited.
    pub fn has_exited(&mut self) -> bool {
        let exited = !matches!(self.child.try_wait(), Ok(None));
        if exited {
            self.stdout_writer = None;
        }
        exited
    }

    /// Waits until the process exits. Cancel safe.
    pub async fn wait(&mut self) -> Result<Exit, SpawnError> {
        match self.child.wait().await {
            Ok(status) => Ok(status.into()),
            Err(source) => Err(SpawnError::Io { program: self.program.clone(), source }),
        }
    }

    /// Sends SIGTERM to the whole group, waits up to `grace`, then sends SIGKILL.
    pub async fn stop(&mut self, grace: Duration) -> Result<Exit, SpawnError> {
        self.signal(Signal::TERM);
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            self.signal(Signal::KILL);
            return exit;
        }
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Sends a signal to the whole group, or to the process if it has no group of its own.
    pub fn signal(&mut self, signal: Signal) {
        match self.group {
            // The group outlives its leader: processes that the leader started may still run.
            Some(group) => {
                let _ = kill_process_group(group, signal);
            }
            None => {
                if let Some(pid) =
                    self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
                {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // kill_on_drop reaps the leader; this kills what the leader started.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::Cmd;

    #[tokio::test]
    async fn dropping_kills_grandchildren() {
        let dir = std::env::temp_dir().join(format!("spawn-test-{}", std::process::id()));
        let script = format!("sleep 60 & echo $! > {}; wait", dir.display());
        let child = Cmd::new("sh").args(["-c", &script]).start().unwrap();
        let mut pid = None;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            pid = std::fs::read_to_string(&dir).ok().and_then(|t| t.trim().parse::<i32>().ok());
            if pid.is_some() {
                break;
            }
        }
        drop(child);
        let pid = Pid::from_raw(pid.unwrap()).unwrap();
        let mut gone = false;
        for _ in 0..200 {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            gone = stat.is_empty() || stat.contains(") Z ");
            if gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = std::fs::remove_file(&dir);
        assert!(gone);
    }
}
