//! The properties of this host that affect image builds, and the resulting mode of mmdebstrap.
//!
//! [`Host::read`] reads the host; [`Host::mode`] decides and is pure.

use std::path::Path;

use debian::HostApt;
use debian::programs::find_program;
use fsx::own;
use spawn::{Cmd, Limits};

use super::ImageError;
use model::Arch;

/// The mmdebstrap hook that avoids the package usrmerge, and with it perl.
pub(super) const MERGED_USR_HOOK: &str = "/usr/share/mmdebstrap/hooks/maybe-merged-usr";

/// The mmdebstrap hook that makes files of packages visible in the root.
pub(super) const PACKAGE_FILE_HOOK: &str = "/usr/share/mmdebstrap/hooks/file-mirror-automount";

/// How mmdebstrap creates files with different owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallMode {
    /// As root.
    Root,
    /// In a user namespace with the user's subordinate ids.
    Unshare,
    /// With faked system calls.
    Fakechroot,
}

impl InstallMode {
    /// Its name in mmdebstrap.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unshare => "unshare",
            Self::Fakechroot => "fakechroot",
        }
    }
}

/// The properties of this host that affect image builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Whether the user is root.
    pub root: bool,
    /// The user's name, for messages.
    pub user: String,
    /// Whether newuidmap is installed.
    pub newuidmap: bool,
    /// Whether the user has ids in `/etc/subuid` and `/etc/subgid`.
    pub subordinate_ids: bool,
    /// Whether the user may create user namespaces.
    pub namespaces: bool,
    /// Whether root may create mount namespaces; in a container it may not.
    pub mount_namespaces: bool,
    /// Whether fakechroot is installed.
    pub fakechroot: bool,
    /// The architecture of the host, if it is supported.
    pub arch: Option<Arch>,
    /// Other architectures that this host can execute.
    pub foreign: Vec<Arch>,
    /// Its apt configuration, with the mirror for images.
    pub apt: HostApt,
    /// Whether mmdebstrap has its hook for a merged `/usr`.
    pub merged_usr_hook: bool,
    /// Whether mmdebstrap has its hook for files of packages.
    pub package_file_hook: bool,
}

impl Host {
    /// Reads the properties of this host.
    pub async fn read() -> Self {
        let root = rustix::process::geteuid().is_root();
        let uid = rustix::process::geteuid().as_raw();
        let user = std::env::var("USER").unwrap_or_else(|_| uid.to_string());
        let (name, number) = (format!("{user}:"), format!("{uid}:"));
        let lists_user = |file: &str| {
            let text = own::read_to_string(Path::new(file), 1 << 20).unwrap_or_default();
            text.lines().any(|line| line.starts_with(&name) || line.starts_with(&number))
        };
        let foreign = |arch: &Arch| {
            let handler = format!("/proc/sys/fs/binfmt_misc/qemu-{arch}");
            own::read_to_string(Path::new(&handler), 4096).is_ok_and(|text| text.starts_with("enabled"))
        };
        Self {
            root,
            subordinate_ids: lists_user("/etc/subuid") && lists_user("/etc/subgid"),
            newuidmap: find_program("newuidmap").is_some(),
            namespaces: !root && succeeds(&["unshare", "--user", "--map-root-user", "true"]).await,
            mount_namespaces: root && succeeds(&["unshare", "--mount", "true"]).await,
            fakechroot: find_program("fakechroot").is_some(),
            arch: Arch::native(),
            foreign: [Arch::X86_64, Arch::Aarch64].into_iter().filter(foreign).collect(),
            apt: HostApt::read().await,
            merged_usr_hook: Path::new(MERGED_USR_HOOK).is_dir(),
            package_file_hook: Path::new(PACKAGE_FILE_HOOK).is_dir(),
            user,
        }
    }

    /// The mode of mmdebstrap on this host. The error contains the action to take.
    pub fn mode(&self) -> Result<InstallMode, ImageError> {
        if self.root {
            return Ok(InstallMode::Root);
        }
        if self.newuidmap && self.subordinate_ids && self.namespaces {
            return Ok(InstallMode::Unshare);
        }
        if self.fakechroot {
            return Ok(InstallMode::Fakechroot);
        }
        let user = &self.user;
        let problem = if !self.newuidmap {
            "newuidmap is missing; apt-get install uidmap".into()
        } else if !self.subordinate_ids {
            format!(
                "{user} has no subordinate ids; as root: \
                 usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            )
        } else {
            "users cannot create user namespaces on this host; apt-get install fakechroot, or allow them with sysctl"
                .into()
        };
        Err(ImageError::Rights(problem))
    }

    /// Fails if packages from files cannot be installed in an image for `arch`.
    pub(super) fn check_package_files(&self, arch: Arch) -> Result<(), ImageError> {
        if !self.can_run(arch) {
            return Err(ImageError::NoPackageFiles(
                "this host cannot execute programs of the image's architecture",
            ));
        }
        if !self.package_file_hook {
            return Err(ImageError::NoPackageFiles("the mmdebstrap of this host is too old"));
        }
        Ok(())
    }

    /// Whether this host can execute programs for `arch`, which the installation scripts of packages require.
    #[must_use]
    pub fn can_run(&self, arch: Arch) -> bool {
        self.arch == Some(arch) || self.foreign.contains(&arch)
    }
}

/// Whether a command succeeds.
async fn succeeds(argv: &[&str]) -> bool {
    let Some(program) = find_program(argv[0]) else { return false };
    let output = Cmd::new(program).args(&argv[1..]).output(Limits::seconds(10)).await;
    output.is_ok_and(|output| output.exit.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            root: false,
            user: "kim".into(),
            newuidmap: true,
            subordinate_ids: true,
            namespaces: true,
            arch: Some(Arch::X86_64),
            ..Host::default()
        }
    }

    #[test]
    fn the_mode_follows_from_the_host() {
        assert_eq!(Host { root: true, ..host() }.mode().unwrap(), InstallMode::Root);
        assert_eq!(host().mode().unwrap(), InstallMode::Unshare);
        assert_eq!(
            Host { namespaces: false, fakechroot: true, ..host() }.mode().unwrap(),
            InstallMode::Fakechroot
        );
        let error = |host: Host| host.mode().unwrap_err().to_string();
        insta::assert_snapshot!(error(Host { newuidmap: false, ..host() }), @"this user cannot build an image: newuidmap is missing; apt-get install uidmap");
        insta::assert_snapshot!(error(Host { subordinate_ids: false, ..host() }), @"this user cannot build an image: kim has no subordinate ids; as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 kim");
        insta::assert_snapshot!(error(Host { namespaces: false, ..host() }), @"this user cannot build an image: users cannot create user namespaces on this host; apt-get install fakechroot, or allow them with sysctl");
    }

    #[test]
    fn foreign_programs_need_an_emulator() {
        assert!(host().can_run(Arch::X86_64));
        assert!(Host { foreign: vec![Arch::Aarch64], ..host() }.can_run(Arch::Aarch64));
        assert!(!host().can_run(Arch::Aarch64));
    }
}
