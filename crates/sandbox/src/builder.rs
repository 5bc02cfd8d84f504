//! Builds the command line of bubblewrap from what a sandboxed program may access. Pure, except for [`root_entries`].

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use spawn::{Access, Cmd};

use crate::resources::Resources;
use crate::seccomp;

/// PATH in the sandbox, unless the caller sets another one.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// PATH for bubblewrap itself.
const HOST_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// The files of `/etc` that programs need to start. None of them is a secret.
const ETC: [&str; 5] =
    ["/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ssl/openssl.cnf"];
/// The additional files of `/etc` that a program with network access needs.
const ETC_NETWORK: [&str; 7] = [
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
];

/// The user and group databases in the sandbox, in place of the host's.
const PASSWD: &[u8] = b"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
    ktest:x:1000:1000:ktest:/tmp:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &[u8] = b"root:x:0:\nktest:x:1000:\nnogroup:x:65534:\n";
/// The user and group id in the sandbox. On the host, the program runs with the ids of this process, or without rights if
/// this process is root. The files that it writes belong to the user of this process.
const ID: &str = "1000";

/// An entry of the host's root directory: `/bin` is a directory or a link to `usr/bin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootEntry {
    /// A directory, visible read-only.
    Dir(PathBuf),
    /// A symbolic link: its path and its target.
    Link(PathBuf, PathBuf),
}

/// The program directories of this host. Reads the disk.
#[must_use]
pub fn root_entries() -> Vec<RootEntry> {
    let entry = |name: &&str| {
        let path = Path::new("/").join(name);
        match fsx::own::read_link(&path) {
            Ok(target) => Some(RootEntry::Link(path, target)),
            Err(error) if error.is_not_found() => None,
            // It is not a link or cannot be read: bubblewrap shows it if it exists.
            Err(_) => Some(RootEntry::Dir(path)),
        }
    };
    ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"].iter().filter_map(entry).collect()
}

/// The network of a sandboxed program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Only its own loopback device.
    #[default]
    None,
    /// The host's network, with the certificates and the name resolution that it needs. The program can also connect to
    /// the host's abstract sockets.
    Host,
}

/// What is visible at a path in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// The path of the host; `None` for an empty directory in memory.
    host: Option<(PathBuf, Access)>,
    inside: PathBuf,
}

/// What a sandboxed program may access. A later mount hides an earlier one at the same path or below it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    root: Vec<RootEntry>,
    mounts: Vec<Mount>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    network: Network,
    resources: Resources,
}

impl Sandbox {
    /// Only the programs of this host, with the working directory `/tmp` and the limits of [`Resources::of_this_host`].
    #[must_use]
    pub fn new() -> Self {
        Self::with(root_entries(), Resources::of_this_host())
    }

    /// Like [`Sandbox::new`], with these program directories and limits.
    #[must_use]
    pub fn with(root: Vec<RootEntry>, resources: Resources) -> Self {
        let env = vec![("PATH".into(), PATH.into())];
        Self { root, mounts: Vec::new(), env, dir: "/tmp".into(), network: Network::None, resources }
    }

    /// Shows a file or directory of the host, read-only, at the path `inside`.
    #[must_use]
    pub fn read_only(self, host: impl AsRef<Path>, inside: impl AsRef<Path>) -> Self {
        self.mount(Some((host.as_ref().into(), Access::ReadOnly)), inside.as_ref())
    }

    /// Lets the program write to a directory of the host, at the path `inside`. The files that it leaves there are
    /// untrusted: read them with `fsx::untrusted`.
    #[must_use]
    pub fn writable(self, host: impl AsRef<Path>, inside: impl AsRef<Path>) -> Self {
        self.mount(Some((host.as_ref().into(), Access::Writable)), inside.as_ref())
    }

    /// Gives the program an empty directory in memory at the path `inside`, as large as its `/tmp` at most.
    #[must_use]
    pub fn memory(self, inside: impl AsRef<Path>) -> Self {
        self.mount(None, inside.as_ref())
    }

    /// Gives the program access to a device of the host, at the same path.
    #[must_use]
    pub fn device(self, path: impl AsRef<Path>) -> Self {
        self.mount(Some((path.as_ref().into(), Access::Device)), path.as_ref())
    }

    fn mount(mut self, host: Option<(PathBuf, Access)>, inside: &Path) -> Self {
        self.mounts.push(Mount { host, inside: inside.into() });
        self
    }

    /// Sets an environment variable for the program, replacing an earlier value. It does not affect bubblewrap itself.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(existing, _)| existing != key.as_ref());
        self.env.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Sets the working directory, a path in the sandbox.
    #[must_use]
    pub fn dir(mut self, inside: impl AsRef<Path>) -> Self {
        self.dir = inside.as_ref().into();
        self
    }

    /// Sets the network access.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Sets the resource limits.
    #[must_use]
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// The command that runs `program` in the sandbox; append its arguments. Set environment variables of the program
    /// only with [`Sandbox::env`]: variables of the command would affect bubblewrap.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Cmd {
        let mut cmd = self.namespaces();
        for entry in &self.root {
            cmd = match entry {
                RootEntry::Dir(path) => words(cmd, &[&"--ro-bind-try", path, path]),
                RootEntry::Link(path, target) => words(cmd, &[&"--symlink", target, path]),
            };
        }
        let network: &[&str] = if self.network == Network::Host { &ETC_NETWORK } else { &[] };
        for path in ETC.iter().chain(network) {
            cmd = words(cmd, &[&"--ro-bind-try", path, path]);
        }
        cmd = words(cmd, &[&"--ro-bind-data"]).arg_data(PASSWD).arg("/etc/passwd");
        cmd = words(cmd, &[&"--ro-bind-data"]).arg_data(GROUP).arg("/etc/group");
        cmd = words(cmd, &[&"--proc", &"/proc", &"--dev", &"/dev"]);
        let tmp = self.resources.tmp.to_string();
        for dir in ["/dev/shm", "/tmp"] {
            cmd = words(cmd, &[&"--size", &tmp, &"--tmpfs", &dir]);
        }
        for mount in &self.mounts {
            let Some((host, access)) = &mount.host else {
                cmd = words(cmd, &[&"--size", &tmp, &"--tmpfs", &mount.inside]);
                continue;
            };
            let option = match access {
                Access::ReadOnly => "--ro-bind",
                Access::Writable => "--bind",
                Access::Device => "--dev-bind",
            };
            cmd = cmd.arg(option).arg_shared(host, *access).arg(&mount.inside);
        }
        for (key, value) in &self.env {
            cmd = words(cmd, &[&"--setenv", key, value]);
        }
        // /dev and / are tmpfs mounts without a size limit. The user of root without another one owns the files of /proc/sys.
        for dir in ["/proc", "/dev", "/"] {
            cmd = words(cmd, &[&"--remount-ro", &dir]);
        }
        cmd = words(cmd, &[&"--seccomp"]).arg_data(seccomp::filter());
        cmd = words(cmd, &[&"--chdir", &self.dir, &"--"]);
        cmd.args(self.resources.argv()).arg(program)
    }

    fn namespaces(&self) -> Cmd {
        let mut cmd = Cmd::new("bwrap")
            .guarded()
            .unprivileged()
            .group_limits(self.resources.group())
            .env_clear()
            .env("PATH", HOST_PATH)
            .args([
                "--unshare-user",
                "--disable-userns",
                "--unshare-pid",
                "--unshare-ipc",
                "--unshare-uts",
                "--unshare-cgroup-try",
            ]);
        if self.network == Network::None {
            cmd = cmd.arg("--unshare-net");
        }
        cmd.args(["--cap-drop", "ALL", "--uid", ID, "--gid", ID]).args([
            "--hostname",
            "sandbox",
            "--die-with-parent",
            "--clearenv",
        ])
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

fn words(cmd: Cmd, words: &[&dyn AsRef<OsStr>]) -> Cmd {
    words.iter().fold(cmd, |cmd, word| cmd.arg(word.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let root = vec![RootEntry::Dir("/usr".into()), RootEntry::Link("/bin".into(), "usr/bin".into())];
        let resources =
            Resources { memory: Some(8 << 30), total_memory: None, processes: 9, file_size: 10, tmp: 11 };
        let sandbox = Sandbox::with(root, resources)
            .read_only("/cache/trees/0/src", "/ktest/src")
            .writable("/cache/trees/0/obj/f", "/ktest/obj")
            .device("/dev/kvm")
            .env("LC_ALL", "C")
            .dir("/ktest/obj");
        let line = sandbox.command("make").arg("vmlinux").to_string();
        insta::assert_snapshot!(line.replace(" --", "\n--"), @r"
        bwrap
        --unshare-user
        --disable-userns
        --unshare-pid
        --unshare-ipc
        --unshare-uts
        --unshare-cgroup-try
        --unshare-net
        --cap-drop ALL
        --uid 1000
        --gid 1000
        --hostname sandbox
        --die-with-parent
        --clearenv
        --ro-bind-try /usr /usr
        --symlink usr/bin /bin
        --ro-bind-try /etc/alternatives /etc/alternatives
        --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache
        --ro-bind-try /etc/ld.so.conf /etc/ld.so.conf
        --ro-bind-try /etc/ld.so.conf.d /etc/ld.so.conf.d
        --ro-bind-try /etc/ssl/openssl.cnf /etc/ssl/openssl.cnf
        --ro-bind-data FD /etc/passwd
        --ro-bind-data FD /etc/group
        --proc /proc
        --dev /dev
        --size 11
        --tmpfs /dev/shm
        --size 11
        --tmpfs /tmp
        --ro-bind /cache/trees/0/src /ktest/src
        --bind /cache/trees/0/obj/f /ktest/obj
        --dev-bind /dev/kvm /dev/kvm
        --setenv PATH /usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
        --setenv LC_ALL C
        --remount-ro /proc
        --remount-ro /dev
        --remount-ro /
        --seccomp FD
        --chdir /ktest/obj
        -- /usr/bin/prlimit
        --core=0
        --as=8589934592
        --nproc=9
        --fsize=10
        -- /usr/bin/setsid
        -- make vmlinux
        ");
        let online = sandbox.network(Network::Host).command("git").to_string();
        assert!(!online.contains("--unshare-net") && online.contains("/etc/resolv.conf"));
    }

    #[test]
    fn a_directory_in_memory_is_limited_like_tmp() {
        let resources = Resources { tmp: 11, ..Resources::of_this_host() };
        let sandbox = Sandbox::with(Vec::new(), resources).read_only("/tree", "/tree").memory("/tree/tests");
        let line = sandbox.command("make").to_string();
        assert!(line.contains("--ro-bind /tree /tree --size 11 --tmpfs /tree/tests "), "{line}");
    }
}
