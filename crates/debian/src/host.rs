//! The host's own apt: its sources, its release, and the settings for its mirror.

use std::path::{Path, PathBuf};

use fsx::own;
use spawn::{Cmd, Limits};

use crate::programs::find_program;
use crate::sources::{
    AptSource, DEFAULT_COMPONENTS, Mirror, mirror_lines, parse_list, parse_stanzas, preference,
};

/// The maximum size of a configuration file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The configuration of the host's apt. Empty on a host without apt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostApt {
    /// The entries of `sources.list` and `sources.list.d`.
    pub sources: Vec<AptSource>,
    /// The code name of the release, from `/etc/os-release`.
    pub codename: Option<String>,
    /// The settings for access to a mirror (proxies, retries, age checks), as `apt-config dump` prints them, without
    /// the semicolon.
    pub settings: Vec<String>,
}

impl HostApt {
    /// Reads the configuration of this host.
    pub async fn read() -> Self {
        let os_release = own::read_to_string(Path::new("/etc/os-release"), MAX_BYTES).unwrap_or_default();
        Self {
            sources: read_sources(Path::new("/etc/apt")),
            codename: codename(&os_release),
            settings: access_settings(&apt_config().await.unwrap_or_default()),
        }
    }

    /// The suite of the host: its code name, or else the first suite of its distribution's archive.
    #[must_use]
    pub fn suite(&self) -> Option<String> {
        self.codename.clone().or_else(|| archive_suite(&self.sources).map(String::from))
    }

    /// The mirror for packages of `suite`: the host's sources for that suite, or else the host's repositories with
    /// `suite` instead of its own suite. An overlay such as `trixie-backports` includes the release below it. It has no
    /// lines if the host's sources contain no archive of the distribution.
    #[must_use]
    pub fn mirror(&self, suite: &str) -> Mirror {
        let own = self.suite().unwrap_or_default();
        let lines = mirror_lines(&self.sources, &own, suite, &DEFAULT_COMPONENTS);
        let settings = self.settings.iter().cloned().chain(preference(suite)).collect();
        Mirror { lines, settings }
    }
}

fn read_sources(dir: &Path) -> Vec<AptSource> {
    let mut files: Vec<PathBuf> = vec![dir.join("sources.list")];
    let parts = own::list(&dir.join("sources.list.d")).unwrap_or_default();
    files.extend(parts.into_iter().map(|part| part.path));
    files.sort();
    let read = |file: &PathBuf| {
        let text = own::read_to_string(file, MAX_BYTES).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_list(&text),
            Some("sources") => parse_stanzas(&text),
            _ => vec![],
        }
    };
    files.iter().flat_map(read).collect()
}

/// The first suite of the distribution's archive, which is the suite that the host runs.
fn archive_suite(sources: &[AptSource]) -> Option<&str> {
    let suites = sources.iter().filter(|source| source.is_archive()).flat_map(|source| &source.suites);
    suites.map(String::as_str).find(|suite| !suite.contains(['-', '/']))
}

fn codename(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    let apt_based = os_release.lines().any(|line| {
        let words = line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")).unwrap_or("");
        words.trim_matches('"').split(' ').any(|word| word == "debian" || word == "ubuntu")
    });
    (apt_based && !value.is_empty()).then(|| value.into())
}

async fn apt_config() -> Option<String> {
    let output = Cmd::new(find_program("apt-config")?).arg("dump").output(Limits::seconds(10)).await.ok()?;
    output.exit.success().then(|| output.text())
}

/// The settings in the output of `apt-config dump` for access to a mirror and for the maximum age of its indices.
fn access_settings(dump: &str) -> Vec<String> {
    let prefixes = ["Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries"];
    let lines = dump.lines().filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)));
    lines.filter(|line| !line.ends_with(" \"\";")).map(|line| line.trim_end_matches(';').into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm".into()));
        assert_eq!(codename("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=x"), Some("x".into()));
        assert_eq!(codename("ID=fedora\nVERSION_CODENAME=\"\"\n"), None);
        assert_eq!(codename(""), None);
    }

    #[test]
    fn settings() {
        let dump = "Acquire::http::Proxy \"http://p:3128\";\nAcquire::https::Proxy \"\";\nAPT::X \"y\";\nAcquire::Check-Date \"false\";\n";
        assert_eq!(
            access_settings(dump),
            ["Acquire::http::Proxy \"http://p:3128\"", "Acquire::Check-Date \"false\""]
        );
    }

    #[test]
    fn the_suite_is_the_code_name_or_the_archives() {
        let sources = parse_list(
            "deb http://m.example/debian bookworm-updates main\ndeb http://m.example/debian bookworm main\n",
        );
        let apt = HostApt { sources, ..HostApt::default() };
        assert_eq!(apt.suite(), Some("bookworm".into()));
        assert_eq!(apt.mirror("trixie").lines[1], "deb http://m.example/debian trixie main");
        let apt = HostApt { codename: Some("trixie".into()), ..apt };
        assert_eq!(apt.suite(), Some("trixie".into()));
    }
}
