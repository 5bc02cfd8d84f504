//! Control groups (cgroup v2): limits for a child together with everything that it starts, and killing all of it.
//!
//! A group is created next to that of this process, in a group that was delegated to this user and contains no processes
//! itself: with systemd, `Delegate=` and `DelegateSubgroup=`. Without one, there are no groups.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The prefix of the names; the process id of the creator follows.
const PREFIX: &str = "ktest-";
/// How long a removal waits for the end of killed processes.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_INTERVAL: Duration = Duration::from_millis(2);

/// The limits of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupLimits {
    /// The memory of all processes together, in bytes. If they need more, all are killed.
    pub memory: Option<u64>,
    /// The number of processes and threads.
    pub processes: Option<u64>,
}

/// The directory in which this program creates groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    parent: PathBuf,
}

/// A group. When it is dropped, its processes are killed and it is removed.
#[derive(Debug)]
pub(crate) struct Group {
    dir: PathBuf,
}

impl Groups {
    /// The groups of this process; `None` if it cannot create groups with limits. The answer is cached.
    #[must_use]
    pub fn of_this_process() -> Option<&'static Self> {
        static GROUPS: OnceLock<Option<Groups>> = OnceLock::new();
        let find = || {
            let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
            let groups = Self::find(Path::new("/sys/fs/cgroup"), &own)?;
            groups.remove_abandoned(&|pid| Path::new("/proc").join(pid).exists());
            Some(groups)
        };
        GROUPS.get_or_init(find).as_ref()
    }

    /// The groups of a process whose `/proc/PID/cgroup` is `own`. Enables the controllers.
    fn find(root: &Path, own: &str) -> Option<Self> {
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let parent = root.join(own).parent()?.to_owned();
        let name = parent.file_name()?.to_str()?;
        // The slices belong to systemd.
        if !parent.starts_with(root) || parent == root || name.ends_with(".slice") {
            return None;
        }
        let words = |file: &str| std::fs::read_to_string(parent.join(file)).ok();
        // A group with processes cannot have groups with controllers.
        let available = words("cgroup.controllers")?;
        if !words("cgroup.procs")?.trim().is_empty()
            || !available.split_whitespace().any(|word| word == "memory")
        {
            return None;
        }
        let enabled = words("cgroup.subtree_control")?;
        for controller in ["memory", "pids"] {
            let has = |text: &str| text.split_whitespace().any(|word| word == controller);
            if has(&available) && !has(&enabled) {
                write(&parent.join("cgroup.subtree_control"), &format!("+{controller}")).ok()?;
            }
        }
        let groups = Self { parent };
        // A trial: this user may lack a permission.
        let limits = GroupLimits { memory: Some(1 << 30), processes: None };
        groups.create(limits).ok().map(|_| groups)
    }

    pub(crate) fn create(&self, limits: GroupLimits) -> io::Result<Group> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = self.parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir(&dir)?;
        let group = Group { dir };
        if let Some(bytes) = limits.memory {
            write(&group.dir.join("memory.max"), &bytes.to_string())?;
            // Without a swap device, or in an old kernel, these do not exist.
            let _ = write(&group.dir.join("memory.swap.max"), "0");
            let _ = write(&group.dir.join("memory.oom.group"), "1");
        }
        let pids = group.dir.join("pids.max");
        if let Some(count) = limits.processes.filter(|_| pids.exists()) {
            write(&pids, &count.to_string())?;
        }
        Ok(group)
    }

    /// Removes the groups of programs that were killed, with their processes.
    fn remove_abandoned(&self, is_running: &dyn Fn(&str) -> bool) {
        for entry in std::fs::read_dir(&self.parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
            if pid.is_some_and(|pid| !is_running(pid)) {
                drop(Group { dir: entry.path() });
            }
        }
    }
}

impl Group {
    /// The file to which a process writes `0` to enter the group.
    pub(crate) fn procs(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Since Linux 5.14. Before that, the process group has to suffice.
        let _ = write(&self.dir.join("cgroup.kill"), "1");
        for _ in 0..REMOVE_ATTEMPTS {
            match std::fs::remove_dir(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(REMOVE_INTERVAL);
                }
                _ => return,
            }
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cmd;

    /// A directory like that of a control group.
    fn fake(root: &Path, group: &str, controllers: &str, processes: &str) -> PathBuf {
        let dir = root.join(group);
        std::fs::create_dir_all(&dir).unwrap();
        let files = [
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", processes),
        ];
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn groups_are_created_only_in_a_delegated_group_without_processes() {
        let root = tempfile::tempdir().unwrap();
        let find = |own: &str| Groups::find(root.path(), own).is_some();
        fake(root.path(), "system.slice/busy.service", "memory pids", "1\n");
        fake(root.path(), "system.slice/old.service", "cpu pids", "");
        fake(root.path(), "system.slice", "memory pids", "");
        fake(root.path(), "", "memory pids", "");
        for own in ["", "0::/", "0::/x", "0::/system.slice/x.service", "0::/system.slice/busy.service/main"] {
            assert!(!find(own), "{own}");
        }
        assert!(!find("0::/system.slice/old.service/main\n"));
        assert!(!find("4:memory:/a/b\n"));
        assert!(!find("0::/../../etc/main\n"));
        // Every condition holds, but the new group has no memory.max.
        fake(root.path(), "system.slice/ci.service", "cpu memory pids", "");
        assert!(!find("0::/system.slice/ci.service/main\n"));
    }

    #[test]
    fn abandoned_groups_are_removed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["ktest-1-0", "ktest-2-0", "main", "ktest-x"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Groups { parent: root.path().into() }.remove_abandoned(&|pid| pid == "1");
        let mut left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["ktest-1-0", "ktest-x", "main"]);
    }

    /// A group of the real cgroup file system, without limits: its controllers may be in use by cgroup v1.
    #[tokio::test]
    async fn everything_in_a_group_is_killed() {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = root.and_then(|line| line.split(' ').nth(1)).map(tempfile::tempdir_in);
        let Some(Ok(parent)) = root else {
            eprintln!("skipped: everything_in_a_group_is_killed: no cgroup v2 that this user can change");
            return;
        };
        let groups = Groups { parent: parent.path().into() };
        let mut cmd = Cmd::new("sh").args(["-c", "setsid sleep 600 & echo $!; exec sleep 600"]);
        cmd = cmd.streams(crate::Stream::Null, crate::Stream::Pipe, crate::Stream::Inherit);
        let group = groups.create(GroupLimits::default()).unwrap();
        let mut child = cmd.start_in(Some(group)).unwrap();
        let mut line = String::new();
        let mut stdout = tokio::io::BufReader::new(child.take_stdout().unwrap());
        tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line).await.unwrap();
        let pid = line.trim().to_owned();
        let listed = std::fs::read_dir(parent.path()).unwrap().flatten().find(|entry| entry.path().is_dir());
        let listed = std::fs::read_to_string(listed.unwrap().path().join("cgroup.procs")).unwrap();
        assert!(listed.lines().any(|line| line == pid), "{listed:?} {pid}");
        drop(child);
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat().is_empty() || stat().contains(") Z "), "{}", stat());
        assert_eq!(
            std::fs::read_dir(parent.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count(),
            0
        );
    }
}
