//! The progress of a build: the number of objects that make announces, out of those to build.
//!
//! An object is a compiled or assembled `.o` of the kernel; host programs and links do not count.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fsx::own;
use fsx::untrusted::Dir;
use model::KernelId;

use crate::state::OBJECT_LIMITS;

/// The maximum size of the `.cmd` file of an object, in bytes.
pub(crate) const CMD_BYTES: u64 = 4 << 20;

/// The current step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Another process builds this kernel or uses the build tree.
    WaitingForLock {
        /// The process and its activity, if known.
        holder: String,
    },
    /// A distribution kernel is being downloaded.
    Fetching {
        /// The step, such as "downloading ...".
        step: String,
    },
    /// The commit changes only files that are not part of the build: it has the kernel of another commit.
    Predicted {
        /// The id of that kernel.
        kernel: KernelId,
        /// The number of changed files.
        changes: usize,
        /// Whether it is built all the same, to check this.
        checked: bool,
    },
    /// The commit is being checked out into a build tree.
    CheckingOut,
    /// Kconfig runs.
    Configuring,
    /// make runs.
    Compiling {
        /// The number of objects built so far.
        done: u32,
        /// The number of objects to build, if known; never less than `done`.
        total: Option<u32>,
    },
    /// The kernel is being copied into the store.
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
    // Newer kernels also print other variants: `CC [D] `.
    let path = rest.trim_start().strip_prefix("[D]").unwrap_or(rest).trim();
    let counts = path.ends_with(".o") && !path.starts_with('/') && !path.starts_with(".tmp_");
    (counts && !path.contains(char::is_whitespace)).then_some(path)
}

/// The number of objects in the output of `make -n`.
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

/// A file that an object depends on.
struct Dependency<'a> {
    path: &'a str,
    /// Whether the file may be missing: it is the stamp of an option, `$(wildcard include/config/X)`.
    may_be_missing: bool,
}

/// The dependencies in the `.cmd` file of an object, with make's paths; `None` if the file does not belong to an
/// object.
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

/// The number of objects that are older than one of their dependencies. An incremental build compiles at least these.
/// `None` if the directory contains no objects. `on_host` maps a path of make to the host; only modification times are
/// read there. Blocks on disk I/O.
#[must_use]
pub fn outdated(objects: &Dir, on_host: &dyn Fn(&str) -> PathBuf) -> Option<u32> {
    let mut times: HashMap<String, Option<SystemTime>> = HashMap::new();
    let modified = |path: &Path| own::metadata(path).ok().and_then(|meta| meta.modified().ok());
    let (mut count, mut outdated) = (0u32, 0u32);
    for (path, _) in objects.walk(".", OBJECT_LIMITS).ok()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(object) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".o.cmd")) else {
            continue;
        };
        if object.starts_with(".tmp_") || path.components().any(|part| part.as_os_str() == "tools") {
            continue;
        }
        let Ok(text) = objects.read_to_string(&path, CMD_BYTES) else { continue };
        let Some(files) = dependencies(&text) else { continue };
        count += 1;
        let built = objects.metadata(path.with_file_name(format!("{object}.o"))).ok().flatten();
        let stale = built.is_none_or(|built| {
            files.into_iter().any(|file| {
                let time = match times.get(file.path) {
                    Some(time) => *time,
                    None => *times.entry(file.path.into()).or_insert_with(|| modified(&on_host(file.path))),
                };
                time.map_or(!file.may_be_missing, |time| time > built.modified)
            })
        });
        outdated += u32::from(stale);
    }
    (count > 0).then_some(outdated)
}

/// Counts the objects that make announces.
#[derive(Debug, Clone, Copy)]
pub struct ObjectCounter {
    done: u32,
    total: Option<u32>,
}

impl ObjectCounter {
    /// Starts at 0 of `total` objects.
    #[must_use]
    pub fn new(total: Option<u32>) -> Self {
        Self { done: 0, total }
    }

    /// Handles a line of make's output. Returns true if it announces an object.
    pub fn feed(&mut self, line: &str) -> bool {
        let one = object(line).is_some();
        self.done += u32::from(one);
        one
    }

    /// The number of objects so far.
    #[must_use]
    pub fn done(&self) -> u32 {
        self.done
    }

    /// The count, as a progress report.
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
    fn a_dry_run_is_counted_by_its_echo_lines() {
        let output = "set -e; echo '  CC      init/main.o'; gcc -c\n\
            set -e;  echo '  AS [M]  a/b.o';  as\n\
            echo '  AR      x.a'; ar\nmake -f x\necho '  CC      \n";
        assert_eq!(count_dry_run(output), 2);
    }

    #[test]
    fn done_never_exceeds_total() {
        let mut counter = ObjectCounter::new(Some(1));
        assert_eq!(counter.progress(), Progress::Compiling { done: 0, total: Some(1) });
        for line in ["  CC      a.o", "  LD      vmlinux", "  CC      b.o"] {
            counter.feed(line);
        }
        assert_eq!(counter.progress(), Progress::Compiling { done: 2, total: Some(2) });
        assert_eq!(ObjectCounter::new(None).progress(), Progress::Compiling { done: 0, total: None });
    }

    #[test]
    fn outdated_objects_by_their_cmd_files() {
        let dir = tempfile::tempdir().unwrap();
        let obj = dir.path();
        let objects = Dir::open(obj).unwrap();
        assert_eq!(outdated(&objects, &|path| path.into()), None);
        let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let touch = |name: &str, seconds: u64| {
            let file = std::fs::File::create(obj.join(name)).unwrap();
            file.set_modified(old + std::time::Duration::from_secs(seconds)).unwrap();
        };
        let cmd = |name: &str, header: &str| {
            let text = format!(
                "savedcmd_{name}.o := gcc -c {name}.c\n\nsource_{name}.o := /make/{name}.c\n\ndeps_{name}.o := \\\n    $(wildcard include/config/X) \\\n  /make/{header} \\\n\n{name}.o: $(deps_{name}.o)\n\n$(deps_{name}.o):\n"
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
        let on_host = |path: &str| obj.join(path.strip_prefix("/make/").unwrap_or(path));
        // b: its header is newer; c: its source is newer; d: it has no object.
        assert_eq!(outdated(&objects, &on_host), Some(3));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in "( |CC|AS|\\[M\\]|x\\.o|echo '|'|\\PC){0,12}") {
            let _ = object(&line);
            let _ = count_dry_run(&line);
        }
    }
}
