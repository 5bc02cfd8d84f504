//! Compares the requirements with the final `.config` and explains the differences.
//!
//! An option that the source does not define is listed and otherwise ignored. An option that is defined and has another
//! value is unmet, and the explanation contains the missing dependency.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dotconfig::DotConfig;
use crate::kconfig::{Definition, Expr, KconfigTree, OptionType, Tri};
use crate::option::{KOption, KValue};

/// A hard requirement that did not get its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmetOption {
    /// The required value.
    pub option: KOption,
    /// The value in the final configuration.
    pub got: String,
    /// The reason in one line: the unmet dependency.
    #[serde(rename = "why")]
    pub reason: String,
}

impl fmt::Display for UnmetOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.option, self.got, self.reason)
    }
}

/// The maximum length of a reason, in characters.
const REASON_CHARS: usize = 1000;
/// The maximum number of options in a reason.
const NAMED: usize = 5;

/// The result of [`check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Hard requirements that did not get their value.
    pub unmet: Vec<UnmetOption>,
    /// Required options, hard or soft, that the source does not define; sorted.
    pub unknown: Vec<String>,
}

/// Whether every requirement has its value, so that no [`KconfigTree`] is needed.
#[must_use]
pub fn all_met<'a>(options: impl IntoIterator<Item = &'a KOption>, config: &DotConfig) -> bool {
    options.into_iter().all(|option| config.get(&option.name).agrees(&option.value))
}

/// The required options that are missing in a kernel that was not built for them. A module is accepted in place of a
/// built-in option.
#[must_use]
pub fn missing_options(hard: &[KOption], config: &DotConfig) -> Vec<String> {
    let enabled = |value: &KValue| matches!(value, KValue::Yes | KValue::Module);
    let met = |option: &&KOption| {
        let got = config.get(&option.name);
        got.agrees(&option.value) || enabled(got) && enabled(&option.value)
    };
    hard.iter().filter(|option| !met(option)).map(ToString::to_string).collect()
}

/// The options that unmet requirements depend on, that are on by default and that nothing requires to be off, such as
/// `CRYPTO_HW`. allnoconfig unsets them, and leaves no sign of it where they are in a menu that is off. Sorted.
#[must_use]
pub fn unset_defaults(hard: &[KOption], config: &DotConfig, tree: &KconfigTree) -> Vec<String> {
    let enabled = |option: &&KOption| matches!(option.value, KValue::Yes | KValue::Module);
    let missing =
        hard.iter().filter(enabled).filter(|option| !config.get(&option.name).agrees(&option.value));
    let needs = missing
        .flat_map(|option| tree.definitions(&option.name))
        .flat_map(|definition| unmet(&definition.depends, config, Tri::Module));
    let mut names: Vec<String> = needs
        .filter(|name| !hard.iter().any(|option| option.name == *name))
        .filter(|name| tree.definitions(name).iter().any(|d| d.on_by_default && d.prompt.is_some()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Checks the hard and soft requirements against a final configuration.
#[must_use]
pub fn check(hard: &[KOption], soft: &[KOption], config: &DotConfig, tree: &KconfigTree) -> Checked {
    let mut checked = Checked::default();
    for (option, must) in hard.iter().map(|o| (o, true)).chain(soft.iter().map(|o| (o, false))) {
        let got = config.get(&option.name);
        if got.agrees(&option.value) {
            continue;
        }
        let is_defined = !tree.definitions(&option.name).is_empty();
        if !is_defined && !tree.is_truncated() {
            checked.unknown.push(option.name.clone());
        } else if must {
            let reason = if is_defined {
                explain(option, config, tree).chars().take(REASON_CHARS).collect()
            } else {
                "the Kconfig files of the source are larger than this program reads".into()
            };
            checked.unmet.push(UnmetOption { option: option.clone(), got: got.to_string(), reason });
        }
    }
    checked.unknown.sort();
    checked.unknown.dedup();
    checked
}

/// Why a defined option does not have its required value.
fn explain(option: &KOption, config: &DotConfig, tree: &KconfigTree) -> String {
    let definitions = tree.definitions(&option.name);
    let got = Tri::of(config.get(&option.name));
    let wanted = match &option.value {
        KValue::No => return why_set(option, definitions, config, tree),
        KValue::Module => Tri::Module,
        _ => Tri::Yes,
    };
    if wanted < got {
        return why_set(option, definitions, config, tree);
    }
    let is_bool = definitions.iter().all(|d| d.option_type == OptionType::Bool);
    if option.value == KValue::Module && is_bool {
        return "it cannot be a module, it is y or n".into();
    }
    if option.value == KValue::Module && *config.get("MODULES") == KValue::No {
        return "it cannot be a module without MODULES".into();
    }
    // A bool can be y if its dependencies are m.
    let needed = if is_bool { Tri::Module } else { wanted };
    let mut blocked = Vec::new();
    for definition in definitions {
        let parts = unmet(&definition.depends, config, needed);
        if parts.is_empty() {
            return if definition.prompt.is_none() {
                only_selected(option, tree)
            } else {
                why_prompt_failed(definition, config, tree, needed)
            };
        }
        blocked.push((parts, &definition.position));
    }
    // Of several definitions, choose the one with the fewest missing dependencies.
    match blocked.iter().min_by_key(|(parts, _)| parts.len()) {
        Some((parts, position)) => {
            let parts: Vec<String> = parts.iter().map(|part| with_check(part, tree)).collect();
            format!("unmet dependency: {} ({position})", parts.join(" and "))
        }
        None => "Kconfig gives no reason".into(),
    }
}

/// The option, with the tool chain check that determines its default.
fn with_check(part: &str, tree: &KconfigTree) -> String {
    match tree.definitions(part).iter().find_map(|definition| definition.toolchain_check.as_ref()) {
        Some(check) => format!("{part}, which depends on the toolchain: $({check})"),
        None => part.into(),
    }
}

fn why_prompt_failed(definition: &Definition, config: &DotConfig, tree: &KconfigTree, needed: Tri) -> String {
    let hidden = definition.prompt.as_ref().map_or(Vec::new(), |prompt| unmet(prompt, config, needed));
    if !hidden.is_empty() {
        return format!("it can only be set with {} ({})", hidden.join(" and "), definition.position);
    }
    if let Some(choice) = definition.choice {
        let chosen = tree.choice(choice).iter().find(|name| Tri::of(config.get(name)) == Tri::Yes);
        if let Some(chosen) = chosen {
            return format!("it is part of a choice, and {chosen} is selected ({})", definition.position);
        }
    }
    if !matches!(definition.option_type, OptionType::Bool | OptionType::Tristate) {
        return format!("the value is not of its type or out of its range ({})", definition.position);
    }
    let macros = definition.depends.iter().filter(|expr| expr.eval(config).is_none());
    let checks: Vec<_> = macros.map(ToString::to_string).collect();
    if checks.is_empty() {
        format!("its dependencies are met, Kconfig gives no reason ({})", definition.position)
    } else {
        format!(
            "it depends on {}, which this toolchain may not have ({})",
            checks.join(" and "),
            definition.position
        )
    }
}

fn only_selected(option: &KOption, tree: &KconfigTree) -> String {
    let mut by: Vec<&str> = tree.selects(&option.name).iter().map(|(name, _)| name.as_str()).collect();
    by.sort_unstable();
    by.dedup();
    match by.as_slice() {
        [] => "it has no prompt and nothing selects it".into(),
        [one] => format!("it has no prompt, only {one} selects it: require that"),
        some => {
            let shown = some.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            let more =
                if some.len() > NAMED { format!(" and {} more", some.len() - NAMED) } else { String::new() };
            format!("it has no prompt, only these select it: {shown}{more}")
        }
    }
}

/// Why an option is set or built in, contrary to the requirement.
fn why_set(option: &KOption, definitions: &[Definition], config: &DotConfig, tree: &KconfigTree) -> String {
    let by: Vec<&str> = tree
        .selects(&option.name)
        .iter()
        .filter(|(name, condition)| {
            let on = |expr: &Expr| expr.eval(config) != Some(Tri::No);
            Tri::of(config.get(name)) > Tri::of(&option.value) && condition.as_ref().is_none_or(on)
        })
        .map(|(name, _)| name.as_str())
        .take(NAMED)
        .collect();
    if !by.is_empty() {
        return format!("selected by {}", by.join(" and "));
    }
    let Some(definition) = definitions.first() else { return "Kconfig gives no reason".into() };
    match &definition.prompt {
        None => format!("it has no prompt, its default decides ({})", definition.position),
        Some(prompt) => {
            let hidden = unmet(prompt, config, Tri::Yes);
            if hidden.is_empty() {
                format!("its dependencies are met, Kconfig gives no reason ({})", definition.position)
            } else {
                format!("it can only be unset with {} ({})", hidden.join(" and "), definition.position)
            }
        }
    }
}

fn unmet(all: &[Expr], config: &DotConfig, wanted: Tri) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in all.iter().flat_map(|expr| expr.unmet(config, wanted)) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const KCONFIG: &str = r#"
config MODULES
	bool "modules"
config EXPERT
	bool "expert"
config RUST
	bool "Rust support"
	depends on HAVE_RUST && RUST_IS_AVAILABLE
	depends on !GCC_PLUGINS
config HAVE_RUST
	def_bool y
config RUST_IS_AVAILABLE
	def_bool $(success,rustc)
config GCC_PLUGINS
	bool "plugins"
config JBD2
	tristate
config EXT4_FS
	tristate "ext4"
	select JBD2
config OCFS2
	tristate "ocfs2"
	select JBD2
config VT
	bool "vt" if EXPERT
	default y
config LZ
	tristate "lz"
	depends on USB
config USB
	tristate "usb"
choice
	prompt "preemption"
config P_NONE
	bool "none"
config P_FULL
	bool "full"
endchoice
config SHIFT
	int "shift"
	range 1 20
config RAM
	bool "x"
	depends on $(cc-option,-mfoo)
"#;

    fn lines(hard: &str, config: &str) -> String {
        let tree = KconfigTree::parse("x86", &mut |path| (path == "Kconfig").then(|| KCONFIG.into()));
        let hard: Vec<KOption> = hard.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let config: String = config.split_whitespace().map(|word| format!("CONFIG_{word}\n")).collect();
        let checked = check(&hard, &["NOSUCH_SOFT".parse().unwrap()], &DotConfig::parse(&config), &tree);
        let unmet: String = checked.unmet.iter().map(|unmet| format!("{unmet}\n")).collect();
        format!("{unmet}unknown: {}", checked.unknown.join(" "))
    }

    #[test]
    fn every_reason() {
        insta::assert_snapshot!(lines("RUST MODULES=n NOSUCH NOTHERE=n", "GCC_PLUGINS=y HAVE_RUST=y"), @r"
        RUST=y is n: unmet dependency: RUST_IS_AVAILABLE, which depends on the toolchain: $(success,rustc) and GCC_PLUGINS=n (it is y) (Kconfig:6)
        unknown: NOSUCH NOSUCH_SOFT
        ");
        insta::assert_snapshot!(lines("JBD2 P_FULL SHIFT=99 RAM", "P_NONE=y SHIFT=20"), @r"
        JBD2=y is n: it has no prompt, only these select it: EXT4_FS, OCFS2
        P_FULL=y is n: it is part of a choice, and P_NONE is selected (Kconfig:36)
        SHIFT=99 is 20: the value is not of its type or out of its range (Kconfig:39)
        RAM=y is n: it depends on $(cc-option,-mfoo), which this toolchain may not have (Kconfig:42)
        unknown: NOSUCH_SOFT
        ");
        insta::assert_snapshot!(lines("VT=n JBD2=n EXT4_FS=m RUST=m", "VT=y JBD2=y EXT4_FS=y OCFS2=m"), @r"
        VT=n is y: it can only be unset with EXPERT (Kconfig:24)
        JBD2=n is y: selected by EXT4_FS and OCFS2
        EXT4_FS=m is y: its dependencies are met, Kconfig gives no reason (Kconfig:18)
        RUST=m is n: it cannot be a module, it is y or n
        unknown: NOSUCH_SOFT
        ");
        insta::assert_snapshot!(lines("LZ LZ=m", "USB=m LZ=m MODULES=y"), @r"
        LZ=y is m: unmet dependency: USB=y (it is m) (Kconfig:27)
        unknown: NOSUCH_SOFT
        ");
        insta::assert_snapshot!(lines("LZ=m", ""), @r"
        LZ=m is n: it cannot be a module without MODULES
        unknown: NOSUCH_SOFT
        ");
    }

    #[test]
    fn menus_that_are_on_by_default_are_found() {
        const MENUS: &str = r#"
menuconfig CRYPTO_HW
	bool "hardware"
	default y
config CRYPTO_FEW
	bool "few"
	default y if CRYPTO_HW
config HAVE_IT
	def_bool y
	depends on CRYPTO_FEW
config DEV
	tristate "dev"
	depends on CRYPTO_HW && CRYPTO_FEW && HAVE_IT
"#;
        let tree = KconfigTree::parse("x86", &mut |path| (path == "Kconfig").then(|| MENUS.into()));
        let find = |hard: &str, config: &str| {
            let hard: Vec<KOption> = hard.split_whitespace().map(|word| word.parse().unwrap()).collect();
            unset_defaults(&hard, &DotConfig::parse(config), &tree)
        };
        assert_eq!(find("DEV", ""), ["CRYPTO_HW"]);
        assert!(find("DEV", "CONFIG_DEV=y\n").is_empty() && find("DEV=n", "").is_empty());
        // Required to be off.
        assert!(find("DEV CRYPTO_HW=n", "").is_empty());
    }

    #[test]
    fn all_requirements_met() {
        let options: Vec<KOption> = vec!["A".parse().unwrap(), "B=n".parse().unwrap()];
        assert!(all_met(&options, &DotConfig::parse("CONFIG_A=y\n")));
        assert!(!all_met(&options, &DotConfig::parse("CONFIG_A=y\nCONFIG_B=m\n")));
    }
}
