//! Where a build stands: make's own lines counted against the objects that are to be made.
//!
//! An object is one compiled or assembled `.o` of the kernel; tools for the host and links do not count.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a build does right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Somebody else builds this kernel or uses the build tree.
    WaitingForLock {
        /// Who and what, where it is known.
        holder: String,
    },
    /// A kernel of a distribution is being brought.
    Fetching {
        /// A few words, in the present participle.
        what: String,
    },
    /// The commit is being checked out into a build tree.
    CheckingOut,
    /// The configuration is being made.
    Configuring,
    /// make runs.
    Compiling {
        /// Objects made so far.
        done: u32,
        /// Objects to be made, where it is known; never less than `done`.
        total: Option<u32>,
    },
    /// The kernel goes into the store.
    Publishing,
}

/// The object that a line of make's output announces: `  CC [M]  fs/ext4/super.o`.
#[must_use]
pub fn object(line: &str) -> Option<&str> {
    let line = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
    let (tool, rest) = line.split_once(' ')?;
    if !matches!(tool, "CC" | "AS" | "RUSTC") {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("[M]").unwrap_or(rest);
    // Newer kernels mark other variants: `CC [D] `.
    let path = rest.trim_start().strip_prefix("[D]").unwrap_or(rest).trim();
    let counts = path.ends_with(".o") && !path.starts_with('/') && !path.starts_with(".tmp_");
    (counts && !path.contains(char::is_whitespace)).then_some(path)
}

/// How many objects `make -n` would make, from its output.
#[must_use]
pub fn count_dry_run(output: &str) -> u32 {
    let mut count = 0;
    for line in output.lines() {
        // set -e; echo '  CC      fs/ext4/super.o'; gcc ...
        let Some((_, rest)) = line.split_once("echo '") else { continue };
        let announced = rest.split('\'').next().unwrap_or("");
        count += u32::from(object(announced).is_some());
    }
    count
}

/// A file that an object was made from.
struct Dependency<'a> {
    path: &'a str,
    /// An option's stamp, `$(wildcard include/config/X)`: it need not be there.
    may_be_missing: bool,
}

/// The files that an object's `.cmd` file says it was made from, as make sees them; `None` for what is no object.
fn dependencies(cmd: &str) -> Option<impl Iterator<Item = Dependency<'_>>> {
    let at = cmd.find("\ndeps_")?;
    let source = cmd[..at].lines().rev().find_map(|line| line.strip_prefix("source_"));
    let source = source.and_then(|line| line.split_once(":= ")).map(|(_, path)| path.trim());
    let body = cmd[at..].split_once(":=")?.1;
    let end = body.find("\n\n").unwrap_or(body.len());
    let words = body[..end].split_whitespace().filter(|word| !matches!(*word, "\\" | "$(wildcard"));
    Some(source.into_iter().chain(words).map(|word| match word.strip_suffix(')') {
        Some(path) => Dependency { path, may_be_missing: true },
        None => Dependency { path: word, may_be_missing: false },
    }))
}

/// How many objects of an object folder are older than what they were made from: what an incremental build will make
/// at least. `None` if the folder holds no objects. `at` tells where the host has the path that make saw. Blocks.
#[must_use]
pub fn outdated(obj: &Path, at: &dyn Fn(&str) -> PathBuf) -> Option<u32> {
    let mut times: HashMap<String, Option<SystemTime>> = HashMap::new();
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let (mut objects, mut outdated) = (0u32, 0u32);
    for entry in walkdir::WalkDir::new(obj).into_iter().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy();
        let Some(object) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".o.cmd")) else {
            continue;
        };
        if object.starts_with(".tmp_") || entry.path().components().any(|part| part.as_os_str() == "tools") {
            continue;
        }
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let Some(files) = dependencies(&text) else { continue };
        objects += 1;
        let made = modified(&entry.path().with_file_name(format!("{object}.o")));
        let stale = made.is_none_or(|made| {
            files.into_iter().any(|file| {
                let time = match times.get(file.path) {
                    Some(time) => *time,
                    None => *times.entry(file.path.into()).or_insert_with(|| modified(&at(file.path))),
                };
                time.map_or(!file.may_be_missing, |time| time > made)
            })
        });
        outdated += u32::from(stale);
    }
    (objects > 0).then_some(outdated)
}

/// Counts objects as make announces them.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    done: u32,
    total: Option<u32>,
}

impl Counter {
    /// Nothing done yet of so many.
    #[must_use]
    pub fn new(total: Option<u32>) -> Self {
        Self { done: 0, total }
    }

    /// Reads one line; whether it was one more object.
    pub fn feed(&mut self, line: &str) -> bool {
        let one = object(line).is_some();
        self.done += u32::from(one);
        one
    }

    /// Objects made.
    #[must_use]
    pub fn done(&self) -> u32 {
        self.done
    }

    /// As progress.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress::Compiling { done: self.done, total: self.total.map(|total| total.max(self.done)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_makes_lines() {
        assert_eq!(object("  CC      fs/ext4/super.o"), Some("fs/ext4/super.o"));
        assert_eq!(object("  CC [M]  fs/ext4/super.o"), Some("fs/ext4/super.o"));
        assert_eq!(object("  AS      arch/x86/entry/entry_64.o"), Some("arch/x86/entry/entry_64.o"));
        for other in [
            "  AR      fs/ext4/built-in.a",
            "  HOSTCC  scripts/kallsyms.o",
            "  CC      kernel/bounds.s",
            "  CC      /ktest/obj/tools/objtool/check.o",
            "  AS      .tmp_vmlinux.kallsyms1.o",
            "  CC",
            "CC      x.o",
            "   12 | CC x.o",
            "",
        ] {
            assert_eq!(object(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_dry_run_counts_what_would_be_echoed() {
        let output = "set -e; echo '  CC      init/main.o'; gcc -c\n\
            set -e;  echo '  AS [M]  a/b.o';  as\n\
            echo '  AR      x.a'; ar\nmake -f x\necho '  CC      \n";
        assert_eq!(count_dry_run(output), 2);
    }

    #[test]
    fn never_more_done_than_total() {
        let mut counter = Counter::new(Some(1));
        assert_eq!(counter.progress(), Progress::Compiling { done: 0, total: Some(1) });
        for line in ["  CC      a.o", "  LD      vmlinux", "  CC      b.o"] {
            counter.feed(line);
        }
        assert_eq!(counter.progress(), Progress::Compiling { done: 2, total: Some(2) });
        assert_eq!(Counter::new(None).progress(), Progress::Compiling { done: 0, total: None });
    }

    #[test]
    fn outdated_objects_by_their_cmd_files() {
        let dir = tempfile::tempdir().unwrap();
        let obj = dir.path();
        assert_eq!(outdated(obj, &|path| path.into()), None);
        let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let touch = |name: &str, seconds: u64| {
            let file = std::fs::File::create(obj.join(name)).unwrap();
            file.set_modified(old + std::time::Duration::from_secs(seconds)).unwrap();
        };
        let cmd = |name: &str, header: &str| {
            let text = format!(
                "savedcmd_{name}.o := gcc -c {name}.c\n\nsource_{name}.o := /seen/{name}.c\n\ndeps_{name}.o := \\\n    $(wildcard include/config/X) \\\n  /seen/{header} \\\n\n{name}.o: $(deps_{name}.o)\n\n$(deps_{name}.o):\n"
            );
            std::fs::write(obj.join(format!(".{name}.o.cmd")), text).unwrap();
        };
        for (name, header) in [("a", "old.h"), ("b", "new.h"), ("c", "old.h"), ("d", "old.h")] {
            touch(&format!("{name}.c"), 0);
            cmd(name, header);
        }
        for (name, seconds) in
            [("old.h", 1), ("new.h", 50), ("a.o", 10), ("b.o", 10), ("c.o", 10), ("c.c", 60)]
        {
            touch(name, seconds);
        }
        std::fs::write(obj.join(".built-in.a.cmd"), "savedcmd_built-in.a := ar\n").unwrap();
        let at = |path: &str| obj.join(path.strip_prefix("/seen/").unwrap_or(path));
        // b: its header is newer; c: its source is newer; d: there is no object.
        assert_eq!(outdated(obj, &at), Some(3));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in "( |CC|AS|\\[M\\]|x\\.o|echo '|'|\\PC){0,12}") {
            let _ = object(&line);
            let _ = count_dry_run(&line);
        }
    }
}
