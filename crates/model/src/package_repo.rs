//! Package repositories of distributions, from which kernels are fetched: `[kernel_source.NAME]` in the configuration,
//! `--kernel-repo` on the command line. One type parses and prints both.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::names::{NameError, PackageName, StoreKernel, as_text, bad};

/// The format of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepoFormat {
    /// Debian, Ubuntu: `dists/SUITE/InRelease`.
    Apt,
    /// Fedora, openSUSE, CentOS Stream: `repodata/repomd.xml`.
    RpmMd,
    /// Arch: `SUITE.db`.
    Pacman,
}

/// (format, its name).
const FORMATS: [(RepoFormat, &str); 3] =
    [(RepoFormat::Apt, "apt"), (RepoFormat::RpmMd, "rpm-md"), (RepoFormat::Pacman, "pacman")];

impl fmt::Display for RepoFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(FORMATS[*self as usize].1)
    }
}

impl FromStr for RepoFormat {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = FORMATS.iter().find(|(_, name)| *name == text);
        found
            .map(|(format, _)| *format)
            .ok_or_else(|| bad("a repository format", text, "use apt, rpm-md or pacman"))
    }
}

/// The keys of [`PackageRepo`], in the configuration and on the command line.
pub const REPO_KEYS: [&str; 7] = ["format", "url", "suite", "component", "package", "key", "unsigned"];

/// A package repository. Each value can be printed as `--kernel-repo` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageRepo {
    name: String,
    format: RepoFormat,
    urls: Vec<String>,
    suite: Option<String>,
    components: Vec<String>,
    packages: Vec<PackageName>,
    key: Option<PathBuf>,
    unsigned: bool,
}

impl PackageRepo {
    /// Validates the settings: pairs of a key and a value, in which `url`, `component` and `package` may be repeated.
    pub fn new<'a>(
        name: &str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, NameError> {
        let mut format = None;
        let mut repo = Self {
            name: name.into(),
            format: RepoFormat::Apt,
            urls: Vec::new(),
            suite: None,
            components: Vec::new(),
            packages: Vec::new(),
            key: None,
            unsigned: false,
        };
        for (key, value) in settings {
            match key {
                "format" => format = Some(value.parse()?),
                "url" => repo.urls.push(url(value)?),
                "suite" => repo.suite = Some(word("a suite", value)?),
                "component" => repo.components.push(word("a component", value)?),
                "package" => repo.packages.push(value.parse()?),
                "key" if value.starts_with('/') && plain(value) => repo.key = Some(value.into()),
                "key" => {
                    return Err(bad("a key file", value, "give an absolute path without commas or quotes"));
                }
                "unsigned" => {
                    let no_bool = || bad("true or false", value, "write unsigned = true, or leave it out");
                    repo.unsigned = value.parse().map_err(|_| no_bool())?;
                }
                _ => return Err(bad("a setting of a kernel source", key, KEYS_RULE)),
            }
        }
        let rule = |rule| bad("a kernel source", name, rule);
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let named = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters);
        if !named || name.len() > 40 {
            return Err(rule("its name starts with a lower-case letter, then letters, digits and . _ -"));
        }
        if ["debian", "upstream"].contains(&name) {
            return Err(rule(
                "kernels with that first part of the name have another origin; use another name",
            ));
        }
        repo.format = format.ok_or_else(|| rule("format is missing; use apt, rpm-md or pacman"))?;
        if repo.urls.is_empty() {
            return Err(rule("url is missing"));
        }
        let checked = repo.format == RepoFormat::Apt || repo.key.is_some() || repo.unsigned;
        if !checked && repo.urls.iter().any(|url| !url.starts_with("https://")) {
            return Err(rule("without https:// its index can be modified in transit; set key = \"FILE\""));
        }
        if repo.format != RepoFormat::Apt && !repo.components.is_empty() {
            return Err(rule("only the format apt has components"));
        }
        Ok(repo)
    }

    /// The first part of its kernels' names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> RepoFormat {
        self.format
    }

    /// The components of an apt repository.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        let default = Some("main").filter(|_| self.components.is_empty());
        default.into_iter().chain(self.components.iter().map(String::as_str))
    }

    /// The packages of the kernel: the first has the boot image. Empty for those that the format's distributions use.
    #[must_use]
    pub fn packages(&self) -> &[PackageName] {
        &self.packages
    }

    /// The keyring that verifies the signatures.
    #[must_use]
    pub fn key(&self) -> Option<&Path> {
        self.key.as_deref()
    }

    /// Whether the operator accepts that no signature is verified.
    #[must_use]
    pub fn is_unsigned(&self) -> bool {
        self.unsigned
    }

    /// The other settings, as pairs of a key and a value.
    fn settings(&self) -> impl Iterator<Item = (&str, String)> {
        let list =
            |key, values: &[String]| values.iter().map(move |value| (key, value.clone())).collect::<Vec<_>>();
        let packages = self.packages.iter().map(|package| ("package", package.to_string()));
        let key = self.key.iter().map(|key| ("key", key.to_string_lossy().into_owned()));
        [("format", self.format.to_string())]
            .into_iter()
            .chain(list("url", &self.urls))
            .chain(self.suite.iter().map(|suite| ("suite", suite.clone())))
            .chain(list("component", &self.components))
            .chain(packages)
            .chain(key)
            .chain(self.unsigned.then(|| ("unsigned", "true".into())))
    }
}

const KEYS_RULE: &str = "use format, url, suite, component, package, key or unsigned";

/// Whether the text needs no quotes, neither on this command line nor in apt's configuration.
fn plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control() || ",\"'\\;[]".contains(c))
}

fn url(text: &str) -> Result<String, NameError> {
    let web = text.starts_with("https://") || text.starts_with("http://");
    if web && plain(text) && text.len() < 1000 {
        return Ok(text.trim_end_matches('/').into());
    }
    Err(bad("the URL of a repository", text, "write https://HOST/PATH, without commas and quotes"))
}

fn word(kind: &'static str, text: &str) -> Result<String, NameError> {
    let ok = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && text.len() <= 50;
    if ok { Ok(text.into()) } else { Err(bad(kind, text, "use letters, digits and . _ -")) }
}

impl fmt::Display for PackageRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.settings().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

as_text!(PackageRepo);

impl FromStr for PackageRepo {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, rest) = text.split_once(',').unwrap_or((text, ""));
        let words = rest.split(',').filter(|word| !word.is_empty());
        let pairs = words.map(|word| {
            word.split_once('=')
                .ok_or_else(|| bad("a setting", word, "write NAME,format=rpm-md,url=https://..."))
        });
        Self::new(name, pairs.collect::<Result<Vec<_>, _>>()?)
    }
}

/// A kernel of a package repository: `NAME`, `NAME/SUITE`, each with or without `/ARCH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoKernel {
    repo: PackageRepo,
    suite: Option<String>,
    arch: Arch,
}

impl RepoKernel {
    /// The kernel with this name, if its first part is the name of `repo`.
    pub fn parse(name: &StoreKernel, repo: &PackageRepo, default: Arch) -> Option<Result<Self, NameError>> {
        let rest = name.as_str().strip_prefix(repo.name())?;
        let mut parts: Vec<&str> = match rest.strip_prefix('/') {
            Some(rest) => rest.split('/').collect(),
            None if rest.is_empty() => Vec::new(),
            None => return None,
        };
        let arch = parts.last().and_then(|part| part.parse().ok());
        parts.truncate(parts.len() - usize::from(arch.is_some()));
        let suite = match parts.as_slice() {
            [] => repo.suite.clone(),
            [suite] => Some((*suite).to_owned()),
            _ => {
                return Some(Err(bad(
                    "a kernel of a package repository",
                    name.as_str(),
                    "use NAME/SUITE/ARCH",
                )));
            }
        };
        let needs_suite =
            repo.format == RepoFormat::Apt || repo.urls.iter().any(|url| url.contains("{suite}"));
        if needs_suite && suite.is_none() {
            let rule = "name a suite, as in ubuntu/noble, or set suite in the kernel source";
            return Some(Err(bad("a kernel of a package repository", name.as_str(), rule)));
        }
        if let Some(Err(error)) = suite.as_deref().map(|suite| word("a suite", suite)) {
            return Some(Err(error));
        }
        Some(Ok(Self { repo: repo.clone(), suite, arch: arch.unwrap_or(default) }))
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &PackageRepo {
        &self.repo
    }

    /// The suite; in a pacman repository the name of its database.
    #[must_use]
    pub fn suite(&self) -> Option<&str> {
        self.suite.as_deref()
    }

    /// The architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The URLs, with `{suite}` and `{arch}` replaced.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let suite = self.suite.as_deref().unwrap_or_default();
        let filled = |url: &String| url.replace("{suite}", suite).replace("{arch}", self.arch.as_str());
        self.repo.urls.iter().map(filled).collect()
    }

    /// The complete name.
    #[must_use]
    pub fn name(&self) -> StoreKernel {
        let suite = self.suite.iter().map(|suite| format!("/{suite}")).collect::<String>();
        format!("{}{suite}/{}", self.repo.name, self.arch).parse().expect("its parts were checked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEDORA: &str = "fedora,format=rpm-md,url=https://d.example/{suite}/{arch}/os/,suite=42";

    fn kernel(name: &str, repo: &str) -> Option<Result<RepoKernel, String>> {
        let parsed = RepoKernel::parse(&name.parse().unwrap(), &repo.parse().unwrap(), Arch::X86_64);
        parsed.map(|kernel| kernel.map_err(|error| error.to_string()))
    }

    #[test]
    fn a_repository_prints_what_it_parses() {
        for text in [
            "fedora,format=rpm-md,url=https://d.example/{suite}/os,suite=42,package=kernel-core,package=kernel-devel",
            "ubuntu,format=apt,url=http://u.example/ubuntu,component=main,component=universe,key=/k.gpg",
            "arch,format=pacman,url=http://a.example/core,unsigned=true",
        ] {
            assert_eq!(text.parse::<PackageRepo>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refused_repositories() {
        for (text, reason) in [
            ("x", "format is missing"),
            ("x,format=apt", "url is missing"),
            ("x,format=zypp,url=https://x", "use apt, rpm-md or pacman"),
            ("x,format=rpm-md,url=http://x", "key = \"FILE\""),
            ("x,format=pacman,url=https://x,component=main", "only the format apt"),
            ("x,format=apt,url=file:///etc", "write https://"),
            ("x,format=apt,url=https://x y", "write https://"),
            ("x,format=apt,url=https://x,suite=../y", "letters, digits"),
            ("x,format=apt,url=https://x,key=k.gpg", "absolute path"),
            ("x,format=apt,url=https://x,color=red", "use format, url"),
            ("x,format", "write NAME,format="),
            ("X,format=apt,url=https://x", "lower-case letter"),
            ("debian,format=apt,url=https://x", "use another name"),
        ] {
            let error = text.parse::<PackageRepo>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.lines().count() == 1, "{text}: {error}");
        }
    }

    #[test]
    fn kernels_by_name() {
        let named = |name: &str| kernel(name, FEDORA).unwrap().unwrap();
        assert_eq!(named("fedora").name().as_str(), "fedora/42/x86_64");
        assert_eq!(named("fedora/41").urls(), ["https://d.example/41/x86_64/os"]);
        assert_eq!(named("fedora/41/arm64").name().as_str(), "fedora/41/aarch64");
        assert_eq!(named("fedora/arm64").urls(), ["https://d.example/42/aarch64/os"]);
        assert!(kernel("fedora-x", FEDORA).is_none());
        assert!(kernel("fedora/1/2/3", FEDORA).unwrap().unwrap_err().contains("NAME/SUITE/ARCH"));
        let apt = "ubuntu,format=apt,url=https://u.example";
        assert!(kernel("ubuntu", apt).unwrap().unwrap_err().contains("name a suite"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z]{1,3}(,(format|url|suite|key)=(apt|pacman|https://x|/k|[a-z/.]{0,5})){0,4}") {
            if let Ok(repo) = text.parse::<PackageRepo>() {
                proptest::prop_assert_eq!(repo.to_string().parse::<PackageRepo>().unwrap(), repo);
            }
        }
    }
}
