//! apt with a root of its own: another suite's or architecture's packages, without touching the host's apt.
//!
//! Where packages come from is given ([`Mirror`]); what is downloaded is checked by apt against signed indices.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Arch;
use spawn::{Cmd, Limits, Output};

use crate::cache::make_dir;
use crate::error::BuildError;

/// Where packages come from: what apt is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Lines of a `sources.list`.
    pub lines: Vec<String>,
    /// Settings, as `apt-config dump` prints them without the last semicolon: `Acquire::http::Proxy "..."`.
    pub settings: Vec<String>,
}

/// Fetching indices and packages of a distribution.
const LIMIT: Duration = Duration::from_secs(1800);

/// Debian's word for an architecture.
pub(super) fn debian_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    }
}

/// A package, as its index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub name: String,
    pub version: String,
    pub depends: String,
    pub sha256: String,
}

impl Package {
    /// From the first stanza of `apt-cache show`.
    fn parse(text: &str) -> Option<Self> {
        let stanza = text.split("\n\n").next()?;
        let field = |name: &str| {
            let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
            stanza.lines().find_map(value)
        };
        Some(Self {
            name: field("Package")?,
            version: field("Version")?,
            depends: field("Depends").unwrap_or_default(),
            sha256: field("SHA256")?,
        })
    }

    /// The first package that it depends on whose name begins so.
    pub(super) fn needs(&self, prefix: &str) -> Option<&str> {
        let names = self.depends.split([',', '|']).filter_map(|one| one.split_whitespace().next());
        names.into_iter().find(|name| name.starts_with(prefix))
    }
}

/// apt's folder for one suite and architecture. The caller holds its lock.
#[derive(Debug)]
pub(super) struct Apt {
    root: PathBuf,
    /// The first thing that went wrong while the indices were fetched: the cause if a package is not found.
    complaint: Option<String>,
}

impl Apt {
    /// Prepares the folder and fetches the indices.
    pub(super) async fn update(root: &Path, arch: Arch, mirror: &Mirror) -> Result<Self, BuildError> {
        let text = root.to_string_lossy();
        if text.contains(|c: char| "\"\\;".contains(c) || c.is_control()) {
            return Err(BuildError::Source(format!("{text}: apt cannot work at such a path")));
        }
        for dir in ["etc/trusted.gpg.d", "lists/partial", "archives/partial", "none"] {
            make_dir(&root.join(dir))?;
        }
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::write(&path, text).map_err(|error| BuildError::io(&path, &error))
        };
        let lines: String = mirror.lines.iter().map(|line| format!("{line}\n")).collect();
        write("etc/sources.list", &lines)?;
        write("status", "")?;
        write("apt.conf", &configuration(root, arch, mirror))?;
        copy_keys(&root.join("etc/trusted.gpg.d"))?;
        let mut apt = Self { root: root.into(), complaint: None };
        let output = apt.run("apt-get", &["-q", "update"], root).await?;
        let text = String::from_utf8_lossy(&output.stderr);
        let first = text.lines().find(|line| ["E: ", "W: "].iter().any(|head| line.starts_with(head)));
        apt.complaint = first.map(|line| line[3..].to_owned());
        Ok(apt)
    }

    async fn run(&self, program: &str, args: &[&str], dir: &Path) -> Result<Output, BuildError> {
        let cmd = Cmd::new(program).args(args).dir(dir);
        let cmd = cmd.env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C");
        Ok(cmd.output(Limits { time: LIMIT, bytes: 16 << 20 }).await?)
    }

    /// What the indices say of a package.
    pub(super) async fn show(&self, name: &str) -> Result<Package, BuildError> {
        let output = self.run("apt-cache", &["show", "--no-all-versions", name], &self.root).await?;
        Package::parse(&output.text()).ok_or_else(|| {
            let why = self.complaint.clone().unwrap_or_else(|| output.complaint());
            BuildError::Infrastructure(format!("the mirror has no package {name}: {why}"))
        })
    }

    /// Downloads a package into a folder; its file.
    pub(super) async fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf, BuildError> {
        let exactly = format!("{}={}", package.name, package.version);
        let output = self.run("apt-get", &["-q", "download", &exactly], dir).await?;
        if !output.exit.success() {
            return Err(BuildError::Infrastructure(format!("apt-get download: {}", output.complaint())));
        }
        let prefix = format!("{}_", package.name);
        let entries = std::fs::read_dir(dir).map_err(|error| BuildError::io(dir, &error))?;
        let files = entries.filter_map(Result::ok).map(|entry| entry.path());
        let ours = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
        };
        files.into_iter().find(ours).ok_or_else(|| {
            BuildError::Infrastructure(format!("apt-get download: it left no file of {}", package.name))
        })
    }
}

/// The keys of the host's distribution: those it trusts itself, and those of other suites that it has.
fn copy_keys(to: &Path) -> Result<(), BuildError> {
    let list = |dir: &str| {
        std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
    };
    let own = list("/etc/apt/trusted.gpg.d");
    let archives = list("/usr/share/keyrings").filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.ends_with("-archive-keyring.gpg"))
    });
    for key in own.chain(archives) {
        let Some(name) = key.file_name() else { continue };
        let to = to.join(name);
        std::fs::copy(&key, &to).map_err(|error| BuildError::io(&key, &error))?;
    }
    Ok(())
}

/// apt's configuration: read before the host's, whose place it moves away, so that nothing of the host's applies but
/// what the mirror needs.
fn configuration(root: &Path, arch: Arch, mirror: &Mirror) -> String {
    let root = root.display();
    let arch = debian_arch(arch);
    let mut text = format!(
        "APT::Architecture \"{arch}\";\n\
         APT::Architectures {{ \"{arch}\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Dir::State \"{root}\";\n\
         Dir::State::lists \"{root}/lists\";\n\
         Dir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}\";\n\
         Dir::Cache::archives \"{root}/archives\";\n\
         Dir::Etc \"{root}/etc\";\n\
         Dir::Etc::sourcelist \"{root}/etc/sources.list\";\n\
         Dir::Etc::sourceparts \"{root}/none\";\n\
         Dir::Etc::main \"{root}/none/apt.conf\";\n\
         Dir::Etc::parts \"{root}/none\";\n\
         Dir::Etc::preferences \"{root}/none/preferences\";\n\
         Dir::Etc::preferencesparts \"{root}/none\";\n\
         Dir::Etc::trusted \"{root}/none/trusted.gpg\";\n\
         Dir::Etc::trustedparts \"{root}/etc/trusted.gpg.d\";\n"
    );
    for setting in &mirror.settings {
        text.push_str(setting);
        text.push_str(";\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_apt_is_left_alone() {
        let mirror =
            Mirror { lines: Vec::new(), settings: vec!["Acquire::http::Proxy \"http://p:3128\"".into()] };
        let text = configuration(Path::new("/c/apt/trixie-arm64"), Arch::Aarch64, &mirror);
        assert!(text.ends_with("Acquire::http::Proxy \"http://p:3128\";\n"));
        let elsewhere = text.lines().filter(|line| line.starts_with("Dir") && !line.contains("\"/c/apt/"));
        assert_eq!(elsewhere.count(), 0, "{text}");
        assert!(text.starts_with("APT::Architecture \"arm64\";\n"));
    }

    #[test]
    fn packages_as_apt_shows_them() {
        let text = "Package: linux-image-amd64\nVersion: 6.1.192-2\nDepends: foo (>= 1), linux-image-6.1.0-56-amd64 (= 6.1.192-2)\n\
                    Description: x\n more\nSHA256: 00be\n\nPackage: other\n";
        let package = Package::parse(text).unwrap();
        assert_eq!((package.version.as_str(), package.sha256.as_str()), ("6.1.192-2", "00be"));
        assert_eq!(package.needs("linux-image-"), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(package.needs("zfs"), None);
        assert_eq!(Package::parse("Package: x\nVersion: 1\n"), None);
        assert_eq!(Package::parse(""), None);
    }
}
