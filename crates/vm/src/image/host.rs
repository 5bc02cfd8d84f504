//! What the host has for making an image, and which way of making one follows from it.
//!
//! [`Host::look`] reads; [`Host::mode`] decides and is pure.

use std::path::Path;

use debian::HostApt;
use debian::programs::find_program;
use spawn::{Cmd, Limits};

use super::{ImageError, build};
use model::Arch;

/// How mmdebstrap gets to write files of many owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As root.
    Root,
    /// In a user namespace with the user's subordinate ids.
    Unshare,
    /// By pretending.
    Fakechroot,
}

impl Mode {
    /// mmdebstrap's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unshare => "unshare",
            Self::Fakechroot => "fakechroot",
        }
    }
}

/// What matters of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Whether we are root.
    pub root: bool,
    /// The user's name, for messages.
    pub user: String,
    /// Whether newuidmap is there.
    pub newuidmap: bool,
    /// Whether `/etc/subuid` and `/etc/subgid` give the user ids.
    pub subordinate_ids: bool,
    /// Whether the user may make user namespaces.
    pub namespaces: bool,
    /// Whether fakechroot is there.
    pub fakechroot: bool,
    /// The architecture of the host, if it is a supported one.
    pub arch: Option<Arch>,
    /// Whether programs of these other architectures run here.
    pub foreign: Vec<Arch>,
    /// Its apt: the mirror that images are made from.
    pub apt: HostApt,
    /// Whether mmdebstrap has its hook for merged `/usr`.
    pub merged_usr_hook: bool,
}

impl Host {
    /// Looks at this host.
    pub async fn look() -> Self {
        let root = rustix::process::geteuid().is_root();
        let uid = rustix::process::geteuid().as_raw();
        let user = std::env::var("USER").unwrap_or_else(|_| uid.to_string());
        let (name, number) = (format!("{user}:"), format!("{uid}:"));
        let lists_user = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.lines().any(|line| line.starts_with(&name) || line.starts_with(&number))
        };
        let foreign = |arch: &Arch| {
            let handler = format!("/proc/sys/fs/binfmt_misc/qemu-{arch}");
            std::fs::read_to_string(handler).is_ok_and(|text| text.starts_with("enabled"))
        };
        Self {
            root,
            subordinate_ids: lists_user("/etc/subuid") && lists_user("/etc/subgid"),
            newuidmap: find_program("newuidmap").is_some(),
            namespaces: !root && says(&["unshare", "--user", "--map-root-user", "true"]).await.is_some(),
            fakechroot: find_program("fakechroot").is_some(),
            arch: Arch::native(),
            foreign: [Arch::X86_64, Arch::Aarch64].into_iter().filter(foreign).collect(),
            apt: HostApt::read().await,
            merged_usr_hook: Path::new(build::MERGED_USR_HOOK).is_dir(),
            user,
        }
    }

    /// How mmdebstrap can work here, or what to do so that it can.
    pub fn mode(&self) -> Result<Mode, ImageError> {
        if self.root {
            return Ok(Mode::Root);
        }
        if self.newuidmap && self.subordinate_ids && self.namespaces {
            return Ok(Mode::Unshare);
        }
        if self.fakechroot {
            return Ok(Mode::Fakechroot);
        }
        let user = &self.user;
        let what = if !self.newuidmap {
            "newuidmap is missing; apt-get install uidmap".into()
        } else if !self.subordinate_ids {
            format!(
                "{user} has no subordinate ids; as root: \
                 usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            )
        } else {
            "users may not make user namespaces here; apt-get install fakechroot, or allow them with sysctl"
                .into()
        };
        Err(ImageError::Rights(what))
    }

    /// Whether programs of `arch` run here, which an ordinary installation of packages needs.
    #[must_use]
    pub fn can_run(&self, arch: Arch) -> bool {
        self.arch == Some(arch) || self.foreign.contains(&arch)
    }
}

/// The output of a quick command, if it succeeds.
async fn says(argv: &[&str]) -> Option<String> {
    let output = Cmd::new(find_program(argv[0])?).args(&argv[1..]).output(Limits::seconds(10)).await.ok()?;
    output.exit.success().then(|| output.text())
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
    fn the_way_follows_from_the_host() {
        assert_eq!(Host { root: true, ..host() }.mode().unwrap(), Mode::Root);
        assert_eq!(host().mode().unwrap(), Mode::Unshare);
        assert_eq!(Host { namespaces: false, fakechroot: true, ..host() }.mode().unwrap(), Mode::Fakechroot);
        let complaint = |host: Host| host.mode().unwrap_err().to_string();
        insta::assert_snapshot!(complaint(Host { newuidmap: false, ..host() }), @"an image cannot be made as this user: newuidmap is missing; apt-get install uidmap");
        insta::assert_snapshot!(complaint(Host { subordinate_ids: false, ..host() }), @"an image cannot be made as this user: kim has no subordinate ids; as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 kim");
        insta::assert_snapshot!(complaint(Host { namespaces: false, ..host() }), @"an image cannot be made as this user: users may not make user namespaces here; apt-get install fakechroot, or allow them with sysctl");
    }

    #[test]
    fn foreign_programs_need_an_emulator() {
        assert!(host().can_run(Arch::X86_64));
        assert!(Host { foreign: vec![Arch::Aarch64], ..host() }.can_run(Arch::Aarch64));
        assert!(!host().can_run(Arch::Aarch64));
    }
}
