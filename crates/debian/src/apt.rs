//! apt with its own root: packages of any suite and architecture, without a change to the host's apt.
//!
//! apt checks the indices against the keys of the host's distribution, and every package against its index.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::own;
use model::Arch;
use spawn::{Cmd, Limits, Output};

use crate::error::DebianError;
use crate::package::Package;
use crate::sources::Mirror;

/// The time limit of one apt command, long enough for a slow mirror.
const LIMIT: Duration = Duration::from_secs(1800);
const OUTPUT_BYTES: usize = 16 << 20;
/// The end of apt's message for a suite that the mirror does not have.
const NO_SUITE: &str = "does not have a Release file";

/// The apt root of a suite and architecture. The caller must hold a lock on it.
#[derive(Debug)]
pub struct AptRoot {
    dir: PathBuf,
    /// The first error of `apt-get update`: the cause if a package is not found.
    update_error: Option<String>,
}

impl AptRoot {
    /// Sets up the root in `dir` and downloads the indices. If an index cannot be downloaded, this is not an error yet;
    /// it is reported as the cause of [`DebianError::NoPackage`].
    pub async fn update(dir: &Path, arch: Arch, mirror: &Mirror) -> Result<Self, DebianError> {
        let text = dir.to_string_lossy();
        if text.contains(|c: char| "\"\\;".contains(c) || c.is_control()) {
            return Err(DebianError::Path(dir.into()));
        }
        for name in ["etc/trusted.gpg.d", "lists/partial", "archives/partial", "none"] {
            own::create_dir_all(&dir.join(name))?;
        }
        let write = |name: &str, text: &str| own::write(&dir.join(name), text);
        let lines: String = mirror.lines.iter().map(|line| format!("{line}\n")).collect();
        write("etc/sources.list", &lines)?;
        write("status", "")?;
        write("apt.conf", &configuration(dir, arch, mirror))?;
        copy_keys(&dir.join("etc/trusted.gpg.d"))?;
        let mut root = Self { dir: dir.into(), update_error: None };
        let output = root.run("apt-get", &["-q", "update"], dir).await?;
        let text = String::from_utf8_lossy(&output.stderr);
        root.update_error = text
            .lines()
            .find_map(|line| line.strip_prefix("E: ").or(line.strip_prefix("W: ")))
            .map(String::from);
        Ok(root)
    }

    async fn run(&self, program: &str, args: &[&str], dir: &Path) -> Result<Output, DebianError> {
        let cmd = Cmd::new(program).args(args).dir(dir);
        let cmd = cmd.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C");
        Ok(cmd.output(Limits { time: LIMIT, bytes: OUTPUT_BYTES }).await?)
    }

    /// The index entry of the newest version of a package.
    pub async fn show(&self, name: &str) -> Result<Package, DebianError> {
        let output = self.run("apt-cache", &["show", "--no-all-versions", name], &self.dir).await?;
        Package::parse(&output.text()).ok_or_else(|| DebianError::NoPackage {
            name: name.into(),
            cause: self.update_error.clone().unwrap_or_else(|| output.error_line()),
            certain: self.update_error.as_ref().is_none_or(|error| error.contains(NO_SUITE)),
        })
    }

    /// Downloads exactly this version of a package into `dir` and returns the path of the file.
    pub async fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf, DebianError> {
        let version = format!("{}={}", package.name, package.version);
        let failed = |cause: String| DebianError::Download { package: version.clone(), cause };
        let output = self.run("apt-get", &["-q", "download", &version], dir).await?;
        if !output.exit.success() {
            return Err(failed(output.error_line()));
        }
        let prefix = format!("{}_", package.name);
        let downloaded =
            |entry: &own::OwnEntry| entry.name.to_str().is_some_and(|name| name.starts_with(&prefix));
        let mut files = own::list(dir)?.into_iter().filter(downloaded).map(|entry| entry.path);
        files.next().ok_or_else(|| failed("no file was written".into()))
    }
}

/// Copies the archive keys of the host: those that its apt trusts, and those of other suites in `/usr/share/keyrings`.
fn copy_keys(to: &Path) -> Result<(), DebianError> {
    let list = |dir: &str| own::list(Path::new(dir)).unwrap_or_default().into_iter();
    let trusted = list("/etc/apt/trusted.gpg.d");
    let archives = list("/usr/share/keyrings")
        .filter(|entry| entry.name.to_str().is_some_and(|name| name.ends_with("-archive-keyring.gpg")));
    for key in trusted.chain(archives) {
        own::copy(&key.path, &to.join(&key.name))?;
    }
    Ok(())
}

/// apt's configuration. apt reads it before the host's, and then looks for the host's in the directories named here,
/// which are empty: of the host's settings, only those in `mirror` apply.
fn configuration(root: &Path, arch: Arch, mirror: &Mirror) -> String {
    let root = root.display();
    let arch = arch.debian_name();
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
    fn no_path_outside_the_root_is_configured() {
        let mirror =
            Mirror { lines: Vec::new(), settings: vec!["Acquire::http::Proxy \"http://p:3128\"".into()] };
        let text = configuration(Path::new("/c/apt/trixie-arm64"), Arch::Aarch64, &mirror);
        assert!(text.ends_with("Acquire::http::Proxy \"http://p:3128\";\n"));
        let elsewhere = text.lines().filter(|line| line.starts_with("Dir") && !line.contains("\"/c/apt/"));
        assert_eq!(elsewhere.count(), 0, "{text}");
        assert!(text.starts_with("APT::Architecture \"arm64\";\n"));
    }
}
