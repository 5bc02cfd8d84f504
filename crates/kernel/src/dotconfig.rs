//! Configurations as text: parses a `.config`, and writes the fragment of a flavor that is applied to its base.
//!
//! An option that a `.config` does not contain is `n`.

use std::collections::BTreeMap;

use model::Arch;

use crate::option::{KOption, KValue};
use crate::requirements::Requirements;

const COMMON: &str = include_str!("../base/common.config");
const X86_64: &str = include_str!("../base/x86_64.config");
const AARCH64: &str = include_str!("../base/aarch64.config");

/// The options of a configuration by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DotConfig(BTreeMap<String, KValue>);

impl DotConfig {
    /// Parses a `.config` or a fragment. Other lines are skipped; if an option occurs several times, the last line
    /// wins.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut map = BTreeMap::new();
        for line in text.lines() {
            if let Some(name) =
                line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"))
            {
                map.insert(name.into(), KValue::No);
            } else if let Some((name, value)) =
                line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='))
            {
                map.insert(name.into(), KValue::parse(value));
            }
        }
        Self(map)
    }

    /// The value of an option.
    #[must_use]
    pub fn get(&self, name: &str) -> &KValue {
        self.0.get(name).unwrap_or(&KValue::No)
    }

    /// Whether an option is mentioned, including as not set.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether any option is built as a module.
    #[must_use]
    pub fn has_modules(&self) -> bool {
        self.0.values().any(|value| *value == KValue::Module)
    }

    /// Sets an option.
    pub fn set(&mut self, name: &str, value: KValue) {
        self.0.insert(name.into(), value);
    }

    /// The lines of the `.config`, sorted.
    #[must_use]
    pub fn text(&self) -> String {
        let lines =
            self.0.iter().map(|(name, value)| KOption { name: name.clone(), value: value.clone() }.line());
        lines.fold(String::new(), |text, line| text + &line + "\n")
    }
}

/// The base of every kernel of an architecture, to which the requirements of test files are added.
#[must_use]
pub fn base(arch: Arch) -> DotConfig {
    let own = match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
    };
    DotConfig::parse(&format!("{COMMON}\n{own}"))
}

/// The choices that the base makes. Kconfig selects only one option of each.
const CHOICES: [&[&str]; 3] = [
    &["DEBUG_INFO_NONE", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "DEBUG_INFO_DWARF4", "DEBUG_INFO_DWARF5"],
    &["NO_HZ_IDLE", "NO_HZ_FULL", "HZ_PERIODIC"],
    &["UNWINDER_ORC", "UNWINDER_FRAME_POINTER", "UNWINDER_GUESS"],
];

/// The fragment of a flavor: the base, then the soft requirements, then the hard ones. Later values override earlier
/// ones, also those of other options of the same choice.
#[must_use]
pub fn fragment(requirements: &Requirements) -> DotConfig {
    let mut fragment = base(requirements.arch);
    for (name, value) in requirements.soft().into_iter().chain(requirements.hard()) {
        if *value == KValue::Yes
            && let Some(choice) = CHOICES.iter().find(|choice| choice.contains(&name))
        {
            for other in choice.iter().filter(|other| **other != name) {
                fragment.0.remove(*other);
            }
        }
        fragment.set(name, value.clone());
    }
    fragment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kconfigs_output_is_parsed() {
        let config = DotConfig::parse(
            "#\n# Automatically generated file\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"a \\\"q\\\"\"\nCONFIG_D=0x20\nrubbish\nCONFIG_E=m\n",
        );
        assert_eq!(*config.get("A"), KValue::Yes);
        assert_eq!(*config.get("B"), KValue::No);
        assert_eq!(*config.get("ABSENT"), KValue::No);
        assert_eq!(*config.get("C"), KValue::Text("a \"q\"".into()));
        assert_eq!(*config.get("D"), KValue::Number("0x20".into()));
        assert!(config.mentions("B") && !config.mentions("ABSENT") && config.has_modules());
        assert_eq!(DotConfig::parse(&config.text()), config);
    }

    #[test]
    fn requirements_override_the_base() {
        let mut asked = Requirements::new(Arch::X86_64);
        assert_eq!(*fragment(&asked).get("MODULES"), KValue::Yes);
        asked.require = vec!["MODULES=n".parse().unwrap()];
        asked.require_soft = vec!["MODULES=y".parse().unwrap(), "KASAN".parse().unwrap()];
        let fragment = fragment(&asked);
        assert_eq!((fragment.get("MODULES"), fragment.get("KASAN")), (&KValue::No, &KValue::Yes));
    }

    #[test]
    fn requirements_override_the_choices_of_the_base() {
        let mut asked = Requirements::new(Arch::X86_64);
        for chosen in ["DEBUG_INFO_NONE", "NO_HZ_IDLE", "UNWINDER_ORC"] {
            assert_eq!(*fragment(&asked).get(chosen), KValue::Yes);
        }
        asked.require_soft = vec!["UNWINDER_GUESS".parse().unwrap(), "DEBUG_INFO_DWARF5".parse().unwrap()];
        asked.require =
            ["DEBUG_INFO", "DEBUG_INFO_DWARF4", "NO_HZ_FULL"].map(|name| name.parse().unwrap()).into();
        let fragment = fragment(&asked);
        for chosen in ["DEBUG_INFO_DWARF4", "NO_HZ_FULL", "UNWINDER_GUESS"] {
            assert_eq!(*fragment.get(chosen), KValue::Yes, "{chosen}");
        }
        for other in ["DEBUG_INFO_NONE", "DEBUG_INFO_DWARF5", "NO_HZ_IDLE", "UNWINDER_ORC"] {
            assert!(!fragment.mentions(other), "{other}");
        }
    }

    #[test]
    fn bases_have_each_option_once() {
        for arch in Arch::ALL {
            for needed in
                ["EXT4_FS", "9P_FS", "VIRTIO_PCI", "VIRTIO_BLK", "VIRTIO_CONSOLE", "DEVTMPFS", "KALLSYMS"]
            {
                assert_eq!(*base(arch).get(needed), KValue::Yes, "{needed}");
            }
        }
        for own in [X86_64, AARCH64] {
            let text = format!("{COMMON}\n{own}");
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).count();
            assert_eq!(DotConfig::parse(&text).0.len(), lines);
        }
    }
}
