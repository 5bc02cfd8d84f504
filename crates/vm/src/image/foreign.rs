//! Root images for an architecture that this host cannot execute. The packages are only unpacked, and this module does
//! the part of their installation scripts that a guest needs. Needs no emulator, binfmt handler or root privileges.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use fsx::own;

/// The essential packages. A package manager includes them automatically; they must be listed if packages are only
/// unpacked.
pub(super) const ESSENTIAL: [&str; 20] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "login",
    "ncurses-base",
    "ncurses-bin",
    "perl-base",
    "sed",
    "sysvinit-utils",
    "tar",
    "util-linux",
];

/// The unprivileged account of sshd, which its installation script creates.
const SSHD: &str = "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n";

/// The alternatives that installation scripts select: name and program.
const LINKS: [(&str, &str); 4] =
    [("awk", "mawk"), ("nawk", "mawk"), ("which", "which.debianutils"), ("pager", "more")];

/// Does the work of the installation scripts in the unpacked `root`.
pub(super) fn configure(root: &Path) -> io::Result<()> {
    let etc = root.join("etc");
    let master = |name: &str| own::read_to_string(&root.join("usr/share/base-passwd").join(name), 1 << 20);
    let mut passwd = master("passwd.master")?.replacen("root:*:", "root:x:", 1);
    passwd.push_str(SSHD);
    own::write(&etc.join("passwd"), &passwd)?;
    own::write(&etc.join("group"), master("group.master")?)?;
    let shadow: String = passwd
        .lines()
        .filter_map(|line| line.split(':').next())
        .map(|user| format!("{user}:*:19000:0:99999:7:::\n"))
        .collect();
    own::write(&etc.join("shadow"), shadow)?;
    let names = root.join("usr/share/libc-bin/nsswitch.conf");
    if names.is_file() {
        own::copy(&names, &etc.join("nsswitch.conf"))?;
    }
    for (name, target) in LINKS {
        let link = root.join("usr/bin").join(name);
        if std::fs::symlink_metadata(&link).is_err() && root.join("usr/bin").join(target).exists() {
            symlink(target, link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn accounts_and_names() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for dir in ["etc", "usr/bin", "usr/share/base-passwd"] {
            fs::create_dir_all(path(dir)).unwrap();
        }
        fs::write(path("usr/share/base-passwd/passwd.master"), "root:*:0:0:root:/root:/bin/bash\n").unwrap();
        fs::write(path("usr/share/base-passwd/group.master"), "root:*:0:\n").unwrap();
        fs::write(path("usr/bin/mawk"), "").unwrap();
        configure(root.path()).unwrap();
        assert_eq!(
            fs::read_to_string(path("etc/passwd")).unwrap(),
            format!("root:x:0:0:root:/root:/bin/bash\n{SSHD}")
        );
        assert!(fs::read_to_string(path("etc/shadow")).unwrap().starts_with("root:*:"));
        assert_eq!(fs::read_link(path("usr/bin/awk")).unwrap(), Path::new("mawk"));
        assert!(fs::symlink_metadata(path("usr/bin/pager")).is_err());
        // A root without these packages is an error, not an incomplete image.
        assert!(configure(&path("etc")).is_err());
    }
}
