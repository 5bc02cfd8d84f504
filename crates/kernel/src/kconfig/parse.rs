//! Parses Kconfig files, from the root through every `source`, into definitions with their dependencies.
//!
//! Unknown lines are skipped, because Kconfig itself has already accepted the files. The files are part of a branch and
//! untrusted: their depth, number and size are limited, and links are not followed.

use std::collections::HashMap;
use std::path::Path;

use fsx::untrusted::Dir;

use super::expr::Expr;

/// The type of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionType {
    /// n, y
    Bool,
    /// n, m, y
    Tristate,
    /// A string or a number, or the type is not given.
    Other,
}

/// One `config` block.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The name of the option.
    pub name: String,
    /// Its location: `fs/ext4/Kconfig:28`.
    pub position: String,
    /// Its type.
    pub option_type: OptionType,
    /// Its own `depends on` and those of the surrounding menus, ifs and choices. All of them must be met.
    pub depends: Vec<Expr>,
    /// The conditions under which a user may set it; `None` if users cannot set it.
    pub prompt: Option<Vec<Expr>>,
    /// The choice that it belongs to.
    pub choice: Option<usize>,
    /// The tool chain check that determines its default: `success,$(srctree)/scripts/rust_is_available.sh`.
    pub toolchain_check: Option<String>,
    /// Whether it is y unless a user unsets it.
    pub on_by_default: bool,
}

/// All definitions of a source tree.
#[derive(Debug, Default)]
pub struct KconfigTree {
    definitions: HashMap<String, Vec<Definition>>,
    /// Selected option -> (selecting option, condition).
    selects: HashMap<String, Vec<(String, Option<Expr>)>>,
    choices: Vec<Vec<String>>,
    truncated: bool,
}

/// The maximum nesting depth of `source`.
const DEPTH: usize = 50;
/// The maximum number of files read; a kernel has 1,700. A file that is sourced twice counts twice.
const FILES: usize = 20_000;
/// The maximum size of a file, in bytes.
const FILE_BYTES: u64 = 4 << 20;
/// The maximum total size of the files, in bytes; a kernel has 10 MB.
const BYTES: usize = 128 << 20;
/// The maximum number of definitions, selects and conditions, including those inherited from menus; a kernel has
/// 200,000.
const NODES: usize = 2_000_000;
/// The maximum number of conditions of one option.
const CONDITIONS: usize = 1000;

impl KconfigTree {
    /// Parses the tree with the root file `Kconfig`. `read` returns the text of a file, given its path below the root.
    /// `srcarch` is the directory below `arch/`: `x86`, `arm64`.
    pub fn parse(srcarch: &str, read: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        let mut reader = Reader {
            tree: Self::default(),
            srcarch,
            read,
            used: Used::default(),
            blocks: Vec::new(),
            current: None,
        };
        reader.file("Kconfig", 0);
        reader.tree
    }

    /// Parses the source tree at `source`. Blocks on disk I/O.
    #[must_use]
    pub fn read(source: &Path, srcarch: &str) -> Self {
        let source = Dir::open(source);
        Self::parse(srcarch, &mut |path| source.as_ref().ok()?.read_to_string(path, FILE_BYTES).ok())
    }

    /// The definitions of an option; empty if it is not defined.
    #[must_use]
    pub fn definitions(&self, name: &str) -> &[Definition] {
        self.definitions.get(name).map_or(&[], Vec::as_slice)
    }

    /// The options that select an option, each with its condition.
    #[must_use]
    pub fn selects(&self, name: &str) -> &[(String, Option<Expr>)] {
        self.selects.get(name).map_or(&[], Vec::as_slice)
    }

    /// The options of a choice.
    #[must_use]
    pub fn choice(&self, choice: usize) -> &[String] {
        self.choices.get(choice).map_or(&[], Vec::as_slice)
    }

    /// Whether the files exceed the limits of this reader, so that definitions are missing.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The number of defined options.
    #[must_use]
    pub fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Whether no option is defined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty()
    }
}

#[derive(PartialEq)]
enum Opener {
    If,
    Menu,
    Choice(usize),
}

struct Block {
    opener: Opener,
    depends: Vec<Expr>,
    visible: Vec<Expr>,
}

/// The entry that a property line belongs to.
enum Current {
    Config(Definition),
    Block,
    Ignored,
}

struct Reader<'a> {
    tree: KconfigTree,
    srcarch: &'a str,
    read: &'a mut dyn FnMut(&str) -> Option<String>,
    used: Used,
    blocks: Vec<Block>,
    current: Option<Current>,
}

/// The counters for the limits.
#[derive(Default)]
struct Used {
    files: usize,
    bytes: usize,
    nodes: usize,
}

impl Used {
    fn exceeds(&self) -> bool {
        self.files > FILES || self.bytes > BYTES || self.nodes > NODES
    }
}

impl Reader<'_> {
    fn file(&mut self, path: &str, depth: usize) {
        self.used.files += 1;
        self.tree.truncated |= depth > DEPTH || self.used.exceeds();
        if depth > DEPTH || self.used.exceeds() {
            return;
        }
        let Some(text) = (self.read)(path) else { return };
        self.used.bytes += text.len();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, first)) = lines.next() {
            if self.used.exceeds() {
                self.tree.truncated = true;
                break;
            }
            let mut line = first.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push_str(lines.next().map_or("", |(_, next)| next));
            }
            let trimmed = line.trim();
            if matches!(trimmed, "help" | "---help---") {
                // The help text ends at a line with less indentation than its first line.
                let mut column = None;
                while let Some((_, next)) = lines.peek() {
                    let indent = indent(next);
                    let ends = |column: usize| indent < column || indent == 0;
                    if !next.trim().is_empty() && ends(*column.get_or_insert(indent)) {
                        break;
                    }
                    lines.next();
                }
                continue;
            }
            let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
            let (word, rest) = match word.split_once('"') {
                // `source"x"` without a blank.
                Some((before, _)) if !before.is_empty() => (before, &trimmed[before.len()..]),
                _ => (word, rest.trim()),
            };
            match word {
                "source" | "rsource" | "osource" | "orsource" => {
                    self.finish();
                    let target = rest.trim_matches(['"', '\'']);
                    let target = ["$(SRCARCH)", "$SRCARCH", "$(ARCH)", "$ARCH"]
                        .iter()
                        .fold(target.to_owned(), |target, variable| target.replace(variable, self.srcarch));
                    let target = target.trim_start_matches("$(srctree)/").to_owned();
                    let target = if word.ends_with("rsource") {
                        path.rsplit_once('/').map_or(target.clone(), |(dir, _)| format!("{dir}/{target}"))
                    } else {
                        target
                    };
                    self.file(&target, depth + 1);
                }
                _ => self.line(word, rest, &format!("{path}:{}", number + 1)),
            }
        }
        self.finish();
    }

    fn line(&mut self, word: &str, rest: &str, position: &str) {
        match word {
            "config" | "menuconfig" => self.open_config(rest, position),
            "choice" => {
                self.finish();
                self.tree.choices.push(Vec::new());
                self.open(Opener::Choice(self.tree.choices.len() - 1));
            }
            "menu" => {
                self.finish();
                self.open(Opener::Menu);
            }
            "if" => {
                self.finish();
                self.open(Opener::If);
                self.depends(rest);
                self.current = None;
            }
            "endif" => self.close(|opener| *opener == Opener::If),
            "endmenu" => self.close(|opener| *opener == Opener::Menu),
            "endchoice" => self.close(|opener| matches!(opener, Opener::Choice(_))),
            "comment" | "mainmenu" => {
                self.finish();
                self.current = Some(Current::Ignored);
            }
            "depends" => self.depends(rest.strip_prefix("on").unwrap_or(rest)),
            "visible" => {
                let condition = Expr::parse(rest.trim_start_matches("if"));
                if let (Some(Current::Block), Some(block), Some(condition)) =
                    (&self.current, self.blocks.last_mut(), condition)
                {
                    block.visible.push(condition);
                }
            }
            _ => self.property(word, rest),
        }
    }

    fn property(&mut self, word: &str, rest: &str) {
        let Some(Current::Config(definition)) = &mut self.current else { return };
        let option_type = match word {
            "bool" | "boolean" | "def_bool" => Some(OptionType::Bool),
            "tristate" | "def_tristate" => Some(OptionType::Tristate),
            "string" | "int" | "hex" => Some(OptionType::Other),
            _ => None,
        };
        if let Some(option_type) = option_type {
            definition.option_type = option_type;
        }
        if matches!(word, "prompt" | "bool" | "boolean" | "tristate" | "string" | "int" | "hex")
            && !rest.is_empty()
        {
            let visible = self.blocks.iter().flat_map(|block| &block.visible);
            let mut conditions: Vec<Expr> = visible.take(CONDITIONS).cloned().collect();
            conditions.extend(condition(after_quoted(rest)));
            self.used.nodes += conditions.len();
            definition.prompt = Some(conditions);
        }
        if let ("def_bool" | "def_tristate" | "default", Some(Expr::Macro(check))) = (word, Expr::parse(rest))
        {
            definition.toolchain_check = Some(check);
        }
        if matches!(word, "def_bool" | "def_tristate" | "default") && rest.trim() == "y" {
            definition.on_by_default = true;
        }
        if word == "select" {
            let (target, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let selector = (definition.name.clone(), condition(tail));
            self.tree.selects.entry(target.into()).or_default().push(selector);
            self.used.nodes += 1;
        }
    }

    fn open_config(&mut self, name: &str, position: &str) {
        self.finish();
        let choice = self.blocks.iter().rev().find_map(|block| match block.opener {
            Opener::Choice(at) => Some(at),
            _ => None,
        });
        let inherited = self.blocks.iter().flat_map(|block| &block.depends);
        let depends: Vec<Expr> = inherited.take(CONDITIONS).cloned().collect();
        self.used.nodes += 1 + depends.len();
        self.current = Some(Current::Config(Definition {
            name: name.split_whitespace().next().unwrap_or("").into(),
            position: position.into(),
            option_type: OptionType::Other,
            depends,
            prompt: None,
            choice,
            toolchain_check: None,
            on_by_default: false,
        }));
    }

    fn depends(&mut self, text: &str) {
        let Some(expr) = Expr::parse(text) else { return };
        self.used.nodes += 1;
        match &mut self.current {
            Some(Current::Config(definition)) if definition.depends.len() < CONDITIONS => {
                definition.depends.push(expr);
            }
            Some(Current::Block) => {
                if let Some(block) = self.blocks.last_mut().filter(|block| block.depends.len() < CONDITIONS) {
                    block.depends.push(expr);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, opener: Opener) {
        self.blocks.push(Block { opener, depends: Vec::new(), visible: Vec::new() });
        self.current = Some(Current::Block);
    }

    fn close(&mut self, fits: impl Fn(&Opener) -> bool) {
        self.finish();
        if self.blocks.last().is_some_and(|block| fits(&block.opener)) {
            self.blocks.pop();
        }
    }

    fn finish(&mut self) {
        if let Some(Current::Config(definition)) = self.current.take() {
            if let Some(choice) = definition.choice {
                self.tree.choices[choice].push(definition.name.clone());
            }
            self.tree.definitions.entry(definition.name.clone()).or_default().push(definition);
        }
    }
}

/// The indentation of a line in columns, with tabs of eight.
fn indent(line: &str) -> usize {
    let mut column = 0;
    for c in line.chars() {
        match c {
            ' ' => column += 1,
            '\t' => column = (column / 8 + 1) * 8,
            _ => break,
        }
    }
    column
}

/// The text after a leading quoted string.
fn after_quoted(text: &str) -> &str {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return text };
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return &text[at + 1..];
        }
        escaped = c == '\\' && !escaped;
    }
    ""
}

/// The expression of a trailing `if ...`.
fn condition(text: &str) -> Option<Expr> {
    Expr::parse(text.trim().strip_prefix("if")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy(files: &[(&str, &str)]) -> KconfigTree {
        KconfigTree::parse("x86", &mut |path| {
            files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).into())
        })
    }

    fn show(tree: &KconfigTree, name: &str) -> String {
        let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" & ");
        tree.definitions(name)
            .iter()
            .map(|d| {
                let prompt = d.prompt.as_ref().map_or("no".into(), |p| format!("[{}]", list(p)));
                format!(
                    "{} {:?} depends [{}] prompt {prompt} choice {:?}",
                    d.position,
                    d.option_type,
                    list(&d.depends),
                    d.choice
                )
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    const ROOT: &str = r#"
mainmenu "toy"
source "arch/$(SRCARCH)/Kconfig"
source "missing/Kconfig"
menu "File systems"
	depends on BLOCK
	visible if !EXPERT
if FSES || \
   ALL
config EXT4
	tristate "ext4 \"the\" fs" if NICE
	select JBD2
	select CRC if !SLOW
	help
	  config FAKE
	    bool "in a help text"

	  endmenu
	depends on A && $(cc-option,-fx)
menuconfig LAST
	def_bool y
endif
choice
	prompt "pick"
	depends on PICKY
config ONE
	bool "one"
config TWO
	bool "two"
endchoice
endmenu
config OUTSIDE
	int "number"
	range 1 5
"#;

    #[test]
    fn dependencies_of_all_surrounding_blocks() {
        let tree = toy(&[("Kconfig", ROOT), ("arch/x86/Kconfig", "config X86\n\tdef_bool y\n")]);
        insta::assert_snapshot!(show(&tree, "EXT4"), @r#"Kconfig:10 Tristate depends [BLOCK & FSES || ALL & A && $(cc-option,-fx)] prompt [!EXPERT & NICE] choice None"#);
        insta::assert_snapshot!(show(&tree, "LAST"), @"Kconfig:20 Bool depends [BLOCK & FSES || ALL] prompt no choice None");
        insta::assert_snapshot!(show(&tree, "TWO"), @"Kconfig:28 Bool depends [BLOCK & PICKY] prompt [!EXPERT] choice Some(0)");
        insta::assert_snapshot!(show(&tree, "OUTSIDE"), @"Kconfig:32 Other depends [] prompt [] choice None");
        assert!(tree.definitions("FAKE").is_empty() && !tree.definitions("X86").is_empty());
        assert_eq!(tree.choice(0), ["ONE", "TWO"]);
        assert_eq!(tree.selects("JBD2"), [("EXT4".into(), None)]);
        assert_eq!(tree.selects("CRC")[0].1.as_ref().unwrap().to_string(), "!SLOW");
    }

    #[test]
    fn a_file_that_sources_itself_twice_is_limited() {
        let tree = toy(&[("Kconfig", "source \"Kconfig\"\nsource \"Kconfig\"\nconfig A\n\tbool\n")]);
        assert!(!tree.is_empty());
    }

    #[test]
    fn a_link_to_an_endless_device_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("Kconfig")).unwrap();
        assert!(KconfigTree::read(dir.path(), "x86").is_empty());
    }

    #[test]
    fn a_file_that_sources_itself_is_limited() {
        let tree = toy(&[("Kconfig", "source \"Kconfig\"\nconfig A\n\tbool\n")]);
        assert!(!tree.is_empty());
        assert!(KconfigTree::read(Path::new("/nowhere"), "x86").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(config A|menu|endmenu|if|endif|choice|endchoice|depends on|help|\tbool|select| \"|\n|\\\\|[ -~]){0,40}") {
            toy(&[("Kconfig", &text)]);
        }
    }
}
