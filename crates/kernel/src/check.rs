//! Did the requirements take? Compares them with the finished `.config` and explains what did not.
//!
//! An option that the source tree does not know is ignored but listed; a known one that has another value is
//! unmet, and its explanation names the dependency that is missing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dotconfig::DotConfig;
use crate::kconfig::{Definition, Expr, Kind, Tree, Tri};
use crate::option::{KOption, KValue};

/// A hard requirement that did not take its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// What was asked for.
    pub option: KOption,
    /// What it is in the finished configuration.
    pub got: String,
    /// Why, in one line: the dependency that is not met.
    pub why: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.option, self.got, self.why)
    }
}

/// How the requirements fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Hard requirements that did not take.
    pub unmet: Vec<Unmet>,
    /// Required options, hard or soft, that this source tree does not know; sorted.
    pub unknown: Vec<String>,
}

/// Whether every requirement took its value, so that no [`Tree`] need be read.
#[must_use]
pub fn all_met<'a>(options: impl IntoIterator<Item = &'a KOption>, config: &DotConfig) -> bool {
    options.into_iter().all(|option| config.get(&option.name).agrees(&option.value))
}

/// The required options that a kernel built by somebody else does not have; a module serves as well as what is built in.
#[must_use]
pub fn lacks(hard: &[KOption], config: &DotConfig) -> Vec<String> {
    let there = |value: &KValue| matches!(value, KValue::Yes | KValue::Module);
    let met = |option: &&KOption| {
        let got = config.get(&option.name);
        got.agrees(&option.value) || there(got) && there(&option.value)
    };
    hard.iter().filter(|option| !met(option)).map(ToString::to_string).collect()
}

/// Checks the hard and soft requirements against a finished configuration.
#[must_use]
pub fn check(hard: &[KOption], soft: &[KOption], config: &DotConfig, tree: &Tree) -> Checked {
    let mut checked = Checked::default();
    for (option, must) in hard.iter().map(|o| (o, true)).chain(soft.iter().map(|o| (o, false))) {
        let got = config.get(&option.name);
        if got.agrees(&option.value) {
            continue;
        }
        if tree.definitions(&option.name).is_empty() {
            checked.unknown.push(option.name.clone());
        } else if must {
            let why = explain(option, config, tree);
            checked.unmet.push(Unmet { option: option.clone(), got: got.to_string(), why });
        }
    }
    checked.unknown.sort();
    checked.unknown.dedup();
    checked
}

/// Why a known option has not the value that was asked for.
fn explain(option: &KOption, config: &DotConfig, tree: &Tree) -> String {
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
    let is_bool = definitions.iter().all(|d| d.kind == Kind::Bool);
    if option.value == KValue::Module && is_bool {
        return "it cannot be a module, it is y or n".into();
    }
    if option.value == KValue::Module && *config.get("MODULES") == KValue::No {
        return "it cannot be a module without MODULES".into();
    }
    // A bool is y as soon as its dependencies are m.
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
        blocked.push((parts, &definition.place));
    }
    // Of several definitions the one that lacks least.
    match blocked.iter().min_by_key(|(parts, _)| parts.len()) {
        Some((parts, place)) => {
            let parts: Vec<String> = parts.iter().map(|part| with_question(part, tree)).collect();
            format!("unmet dependency: {} ({place})", parts.join(" and "))
        }
        None => "Kconfig does not say why".into(),
    }
}

/// An option that only the tool chain's answer sets comes with the question.
fn with_question(part: &str, tree: &Tree) -> String {
    match tree.definitions(part).iter().find_map(|definition| definition.question.as_ref()) {
        Some(question) => format!("{part}, asked of the tool chain: $({question})"),
        None => part.into(),
    }
}

fn why_prompt_failed(definition: &Definition, config: &DotConfig, tree: &Tree, needed: Tri) -> String {
    let hidden = definition.prompt.as_ref().map_or(Vec::new(), |prompt| unmet(prompt, config, needed));
    if !hidden.is_empty() {
        return format!("it can only be set with {} ({})", hidden.join(" and "), definition.place);
    }
    if let Some(choice) = definition.choice {
        let chosen = tree.choice(choice).iter().find(|name| Tri::of(config.get(name)) == Tri::Yes);
        if let Some(chosen) = chosen {
            return format!("it is one of a choice, and {chosen} is chosen ({})", definition.place);
        }
    }
    if !matches!(definition.kind, Kind::Bool | Kind::Tristate) {
        return format!("the value is not of its type or out of its range ({})", definition.place);
    }
    let macros = definition.depends.iter().filter(|expr| expr.eval(config).is_none());
    let questions: Vec<_> = macros.map(ToString::to_string).collect();
    if questions.is_empty() {
        format!("its dependencies are met, Kconfig does not say why ({})", definition.place)
    } else {
        format!(
            "it depends on {}, which this tool chain may not have ({})",
            questions.join(" and "),
            definition.place
        )
    }
}

fn only_selected(option: &KOption, tree: &Tree) -> String {
    let mut by: Vec<&str> = tree.selects(&option.name).iter().map(|(name, _)| name.as_str()).collect();
    by.sort_unstable();
    by.dedup();
    match by.as_slice() {
        [] => "it has no prompt and nothing selects it".into(),
        [one] => format!("it has no prompt, only {one} selects it: require that"),
        some => {
            let shown = some.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = if some.len() > 5 { format!(" and {} more", some.len() - 5) } else { String::new() };
            format!("it has no prompt, only these select it: {shown}{more}")
        }
    }
}

/// Why an option is set (or built in) that should not be.
fn why_set(option: &KOption, definitions: &[Definition], config: &DotConfig, tree: &Tree) -> String {
    let by: Vec<&str> = tree
        .selects(&option.name)
        .iter()
        .filter(|(name, condition)| {
            let on = |expr: &Expr| expr.eval(config) != Some(Tri::No);
            Tri::of(config.get(name)) > Tri::of(&option.value) && condition.as_ref().is_none_or(on)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if !by.is_empty() {
        return format!("selected by {}", by.join(" and "));
    }
    let Some(definition) = definitions.first() else { return "Kconfig does not say why".into() };
    match &definition.prompt {
        None => format!("it has no prompt, its default decides ({})", definition.place),
        Some(prompt) => {
            let hidden = unmet(prompt, config, Tri::Yes);
            if hidden.is_empty() {
                format!("its dependencies are met, Kconfig does not say why ({})", definition.place)
            } else {
                format!("it can only be unset with {} ({})", hidden.join(" and "), definition.place)
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
        let tree = Tree::parse("x86", &mut |path| (path == "Kconfig").then(|| KCONFIG.into()));
        let hard: Vec<KOption> = hard.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let config: String = config.split_whitespace().map(|word| format!("CONFIG_{word}\n")).collect();
        let checked = check(&hard, &["NOSUCH_SOFT".parse().unwrap()], &DotConfig::parse(&config), &tree);
        let unmet: String = checked.unmet.iter().map(|unmet| format!("{unmet}\n")).collect();
        format!("{unmet}unknown: {}", checked.unknown.join(" "))
    }

    #[test]
    fn every_reason() {
        insta::assert_snapshot!(lines("RUST MODULES=n NOSUCH NOTHERE=n", "GCC_PLUGINS=y HAVE_RUST=y"), @r"
        RUST=y is n: unmet dependency: RUST_IS_AVAILABLE, asked of the tool chain: $(success,rustc) and GCC_PLUGINS=n (it is y) (Kconfig:6)
        unknown: NOSUCH NOSUCH_SOFT
        ");
        insta::assert_snapshot!(lines("JBD2 P_FULL SHIFT=99 RAM", "P_NONE=y SHIFT=20"), @r"
        JBD2=y is n: it has no prompt, only these select it: EXT4_FS, OCFS2
        P_FULL=y is n: it is one of a choice, and P_NONE is chosen (Kconfig:36)
        SHIFT=99 is 20: the value is not of its type or out of its range (Kconfig:39)
        RAM=y is n: it depends on $(cc-option,-mfoo), which this tool chain may not have (Kconfig:42)
        unknown: NOSUCH_SOFT
        ");
        insta::assert_snapshot!(lines("VT=n JBD2=n EXT4_FS=m RUST=m", "VT=y JBD2=y EXT4_FS=y OCFS2=m"), @r"
        VT=n is y: it can only be unset with EXPERT (Kconfig:24)
        JBD2=n is y: selected by EXT4_FS and OCFS2
        EXT4_FS=m is y: its dependencies are met, Kconfig does not say why (Kconfig:18)
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
    fn nothing_to_say_when_all_took() {
        let options: Vec<KOption> = vec!["A".parse().unwrap(), "B=n".parse().unwrap()];
        assert!(all_met(&options, &DotConfig::parse("CONFIG_A=y\n")));
        assert!(!all_met(&options, &DotConfig::parse("CONFIG_A=y\nCONFIG_B=m\n")));
    }
}
