//! The sandbox of a build: bubblewrap without network; of the host only the tool chain and the source are visible.
//!
//! A branch's Makefile is untrusted code. It can write to the object folder, the compiler cache and the output folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use spawn::{Cmd, Limits};

use crate::error::{BuildError, InfrastructureError};

/// A host folder that is visible in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path in the sandbox.
    pub inside: PathBuf,
    /// Whether the sandboxed program can write to it.
    pub writable: bool,
}

/// An entry of the host's root folder: `/bin` is a folder or a link to `usr/bin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootEntry {
    /// A folder, visible read-only.
    Dir(PathBuf),
    /// A symbolic link: its path and its target.
    Link(PathBuf, PathBuf),
}

/// The program folders of this host. Reads the disk.
#[must_use]
pub fn root_entries() -> Vec<RootEntry> {
    let entry = |name: &&str| {
        let path = Path::new("/").join(name);
        match fsx::own::read_link(&path) {
            Ok(target) => Some(RootEntry::Link(path, target)),
            Err(_) if path.is_dir() => Some(RootEntry::Dir(path)),
            Err(_) => None,
        }
    };
    ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"].iter().filter_map(entry).collect()
}

/// The files of `/etc` that programs need to start. None of them is a secret.
const ETC: [&str; 5] =
    ["/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ssl/openssl.cnf"];

/// The command line of bubblewrap, to be followed by that of the sandboxed program.
#[must_use]
pub fn argv(root: &[RootEntry], mounts: &[Mount], env: &[(&str, OsString)], dir: &Path) -> Vec<OsString> {
    let mut argv: Vec<OsString> = Vec::new();
    let mut add =
        |words: &[&dyn AsRef<std::ffi::OsStr>]| argv.extend(words.iter().map(|word| word.as_ref().into()));
    add(&[&"bwrap", &"--unshare-all", &"--die-with-parent", &"--new-session", &"--clearenv"]);
    for entry in root {
        match entry {
            RootEntry::Dir(path) => add(&[&"--ro-bind", path, path]),
            RootEntry::Link(path, target) => add(&[&"--symlink", target, path]),
        }
    }
    for path in ETC {
        add(&[&"--ro-bind-try", &path, &path]);
    }
    add(&[&"--proc", &"/proc", &"--dev", &"/dev", &"--tmpfs", &"/tmp"]);
    for mount in mounts {
        add(&[if mount.writable { &"--bind" } else { &"--ro-bind" }, &mount.host, &mount.inside]);
    }
    for (key, value) in env {
        add(&[&"--setenv", key, value]);
    }
    add(&[&"--chdir", &dir, &"--"]);
    argv
}

/// Checks that bubblewrap works on this host.
pub async fn probe() -> Result<(), BuildError> {
    let argv = argv(&root_entries(), &[], &[], Path::new("/"));
    let cmd = Cmd::new(&argv[0]).args(&argv[1..]).arg("true");
    match cmd.output(Limits::seconds(20)).await {
        Ok(output) if output.exit.success() => Ok(()),
        Ok(output) => Err(InfrastructureError::Sandbox(output.error_line()).into()),
        Err(error) => Err(InfrastructureError::Sandbox(error.to_string()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let root = [RootEntry::Dir("/usr".into()), RootEntry::Link("/bin".into(), "usr/bin".into())];
        let mounts = [
            Mount { host: "/cache/trees/0/src".into(), inside: "/ktest/src".into(), writable: false },
            Mount { host: "/cache/trees/0/obj/f".into(), inside: "/ktest/obj".into(), writable: true },
        ];
        let argv = argv(&root, &mounts, &[("LC_ALL", "C".into())], Path::new("/ktest/obj"));
        let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
        insta::assert_snapshot!(words.join(" ").replace(" --", "\n--"), @r"
        bwrap
        --unshare-all
        --die-with-parent
        --new-session
        --clearenv
        --ro-bind /usr /usr
        --symlink usr/bin /bin
        --ro-bind-try /etc/alternatives /etc/alternatives
        --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache
        --ro-bind-try /etc/ld.so.conf /etc/ld.so.conf
        --ro-bind-try /etc/ld.so.conf.d /etc/ld.so.conf.d
        --ro-bind-try /etc/ssl/openssl.cnf /etc/ssl/openssl.cnf
        --proc /proc
        --dev /dev
        --tmpfs /tmp
        --ro-bind /cache/trees/0/src /ktest/src
        --bind /cache/trees/0/obj/f /ktest/obj
        --setenv LC_ALL C
        --chdir /ktest/obj
        --
        ");
    }

    #[tokio::test]
    async fn no_network_and_no_secrets() {
        if let Err(error) = probe().await {
            eprintln!("SKIPPED: {error}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        let mounts = [Mount { host: dir.path().into(), inside: "/ktest/src".into(), writable: false }];
        let argv =
            argv(&root_entries(), &mounts, &[("PATH", "/usr/bin:/bin".into())], Path::new("/ktest/src"));
        let script = "cat secret; (echo y > secret) 2>/dev/null || echo read-only; grep -c : /proc/net/dev; \
                      ls -d /home /root /etc/shadow /var 2>/dev/null; pwd";
        let output = Cmd::new(&argv[0]).args(&argv[1..]).args(["sh", "-c", script]);
        let text = output.output(Limits::seconds(20)).await.unwrap().text();
        assert_eq!(text, "xread-only\n1\n/ktest/src\n");
    }
}
