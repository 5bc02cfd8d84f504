//! The requirements of a test file on its kernel. If an option occurs several times, the last requirement wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::Arch;
use serde::{Deserialize, Serialize};

use crate::option::{KOption, KValue};

/// The base of a configuration other than allnoconfig.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KconfigBase {
    /// A file in the format of a `.config`.
    File(PathBuf),
    /// A make target of the kernel: `defconfig`.
    Target(String),
}

impl KconfigBase {
    /// Parses `ktest_kconfig_base`: a make target such as `defconfig`, or else a file relative to `dir`.
    #[must_use]
    pub fn parse(text: &str, dir: &Path) -> Self {
        let target = text.ends_with("config")
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            && !text.starts_with('-')
            && !dir.join(text).is_file();
        if target { Self::Target(text.into()) } else { Self::File(dir.join(text)) }
    }
}

/// The requirements of one test file, or of all files of a flavor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Requirements {
    /// The architecture of the guest.
    pub arch: Arch,
    /// `gcc`, `gcc-13`, `clang`, `clang-17` or a path; `None` means gcc.
    pub compiler: Option<String>,
    /// Options that must take their value.
    pub require: Vec<KOption>,
    /// Options that should take their value if possible.
    pub require_soft: Vec<KOption>,
    /// The initial configuration; `None` means allnoconfig.
    pub kconfig_base: Option<KconfigBase>,
    /// Additional arguments of make, such as `KCFLAGS=-g`.
    pub make_append: Vec<String>,
    /// A make target in addition to the boot image and the modules, such as `dtbs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kbuild_target: Option<String>,
}

impl Requirements {
    /// No requirements except the architecture.
    #[must_use]
    pub fn new(arch: Arch) -> Self {
        Self {
            arch,
            compiler: None,
            require: Vec::new(),
            require_soft: Vec::new(),
            kconfig_base: None,
            make_append: Vec::new(),
            kbuild_target: None,
        }
    }

    /// The hard requirements by name.
    #[must_use]
    pub fn hard(&self) -> BTreeMap<&str, &KValue> {
        self.require.iter().map(|option| (option.name.as_str(), &option.value)).collect()
    }

    /// The soft requirements by name, without those that a hard requirement overrides.
    #[must_use]
    pub fn soft(&self) -> BTreeMap<&str, &KValue> {
        let hard = self.hard();
        let mut soft: BTreeMap<_, _> =
            self.require_soft.iter().map(|option| (option.name.as_str(), &option.value)).collect();
        soft.retain(|name, _| !hard.contains_key(name));
        soft
    }

    /// The compiler's name, or the default.
    #[must_use]
    pub fn compiler_name(&self) -> &str {
        self.compiler.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or("gcc")
    }

    /// The requirements in canonical form, which is the same for equal requirements: sorted, with each option once.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let list = |map: BTreeMap<&str, &KValue>| {
            map.into_iter().map(|(name, value)| KOption { name: name.into(), value: value.clone() }).collect()
        };
        Self {
            arch: self.arch,
            compiler: Some(self.compiler_name().into()).filter(|name| name != "gcc"),
            require: list(self.hard()),
            require_soft: list(self.soft()),
            kconfig_base: self.kconfig_base.clone(),
            make_append: self.make_append.clone(),
            kbuild_target: self.kbuild_target.clone(),
        }
    }
}

/// The output of `make kernelversion`, derived from the text of the source's Makefile: `6.1.174-rc1`.
#[must_use]
pub fn kernel_version(makefile: &str) -> Option<String> {
    let field = |name: &str| {
        makefile.lines().take(30).find_map(|line| {
            let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
            let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
            plain.then_some(value)
        })
    };
    let version = field("VERSION").filter(|version| !version.is_empty())?;
    let part = |name: &str| {
        field(name).filter(|part| !part.is_empty()).map_or(String::new(), |part| format!(".{part}"))
    };
    let extra = field("EXTRAVERSION").unwrap_or("");
    Some(format!("{version}{}{}{extra}", part("PATCHLEVEL"), part("SUBLEVEL")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_make() {
        let version = |text| kernel_version(text);
        let makefile =
            "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 174\nEXTRAVERSION =\nNAME = Curry Ramen\n";
        assert_eq!(version(makefile).as_deref(), Some("6.1.174"));
        assert_eq!(
            version("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\n").as_deref(),
            Some("6.12.0-rc3")
        );
        assert_eq!(version("VERSION = $(shell id)\n"), None);
        assert_eq!(version("all:\n"), None);
    }

    #[test]
    fn the_last_requirement_wins_and_hard_overrides_soft() {
        let mut asked = Requirements::new(Arch::X86_64);
        asked.compiler = Some("gcc".into());
        asked.require = ["A", "B=5", "A=n"].map(|text| text.parse().unwrap()).into();
        asked.require_soft = ["A=y", "C=m"].map(|text| text.parse().unwrap()).into();
        let canonical = asked.canonical();
        let texts = |list: &[KOption]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(texts(&canonical.require), "A=n B=5");
        assert_eq!(texts(&canonical.require_soft), "C=m");
        assert_eq!(canonical.compiler, None);
        assert_eq!(canonical.canonical(), canonical);
    }

    #[test]
    fn a_base_is_a_target_or_a_file() {
        let dir = Path::new("/nowhere");
        assert_eq!(KconfigBase::parse("defconfig", dir), KconfigBase::Target("defconfig".into()));
        assert_eq!(
            KconfigBase::parse("x86_64_defconfig", dir),
            KconfigBase::Target("x86_64_defconfig".into())
        );
        assert_eq!(KconfigBase::parse("my.config", dir), KconfigBase::File("/nowhere/my.config".into()));
        assert_eq!(
            KconfigBase::parse("/etc/kernelconfig", dir),
            KconfigBase::File("/etc/kernelconfig".into())
        );
    }
}
