//! The source files that a build read, as far as the `.cmd` files of kbuild name them: each has the command of a target
//! and, of a compiled one, the headers that it includes. A commit that changes other files gives the same kernel.
//!
//! Some inputs have no `.cmd` file: makefiles, Kconfig files, and what scripts read. [`Closure::has`] therefore accepts
//! only kinds of files that kbuild gives to a compiler, and documentation, as files that a build does not read.
//!
//! A branch's Makefile can forge `.cmd` files. This affects only the kernels of its own trust domain, which it can
//! affect anyway.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

use fsx::own;
use fsx::untrusted::{Dir, EntryType};
use gitio::{ChangeKind, TreeChange};
use model::Arch;

use crate::dotconfig::DotConfig;
use crate::error::CompileError;
use crate::make::Layout;
use crate::option::KValue;
use crate::progress::CMD_BYTES;
use crate::state::OBJECT_LIMITS;
use crate::store::Kernel;
use crate::toolchain::srcarch;

/// The maximum size of the list of a build, in bytes. Of an allyesconfig kernel it has 60,000 files: 3 MB.
const LIST_BYTES: u64 = 64 << 20;
/// The name of the list in the store and in the state of an object directory.
pub(crate) const LIST: &str = "closure";
/// A file system may store modification times with a lower resolution than the clock.
const RESOLUTION: Duration = Duration::from_secs(2);

/// Options that embed files or the commit in the kernel, without a `.cmd` file that names them.
const EMBEDDING: [&str; 3] = ["IKHEADERS", "LOCALVERSION_AUTO", "MODULE_SIG"];
/// Options that name such files.
const EMBEDDED: [&str; 5] = [
    "EXTRA_FIRMWARE",
    "INITRAMFS_SOURCE",
    "SYSTEM_BLACKLIST_HASH_LIST",
    "SYSTEM_REVOCATION_KEYS",
    "SYSTEM_TRUSTED_KEYS",
];

/// Directories of which a build reads nothing but Kconfig files and makefiles.
const TEXTS: [&str; 2] = ["Documentation", "LICENSES"];
/// Directories of programs that a build runs or links, which have makefiles of their own.
const PROGRAMS: [&str; 10] = [
    "certs/",
    "scripts/",
    "tools/arch/",
    "tools/bpf/",
    "tools/build/",
    "tools/include/",
    "tools/lib/",
    "tools/objtool/",
    "tools/scripts/",
    "usr/",
];
/// Files at the top of the tree that are for people and for git.
const TOP_FILES: [&str; 11] = [
    ".clang-format",
    ".cocciconfig",
    ".editorconfig",
    ".get_maintainer.ignore",
    ".gitignore",
    ".mailmap",
    ".rustfmt.toml",
    "COPYING",
    "CREDITS",
    "MAINTAINERS",
    "README",
];

/// The source files that a build read, relative to the top of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    files: BTreeSet<String>,
}

impl Closure {
    /// Reads the list that [`Self::text`] gives.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self { files: text.lines().map(Into::into).collect() }
    }

    /// One file per line.
    #[must_use]
    pub fn text(&self) -> String {
        self.files.iter().fold(String::new(), |text, file| text + file + "\n")
    }

    /// The number of files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no file is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads the list of a kernel; `None` if it has none.
    fn of_entry(dir: &Path) -> Option<Self> {
        let text = own::read_to_string(&dir.join(LIST), LIST_BYTES).ok()?;
        Some(Self::parse(&text)).filter(|closure| !closure.is_empty())
    }

    /// Whether this change can affect the kernel. `headers`: the kernel is stored with the headers of this
    /// architecture.
    #[must_use]
    pub fn has(&self, change: &TreeChange, headers: Option<Arch>) -> bool {
        let path = change.path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_odd = change.kind == ChangeKind::Special || path.contains(char::REPLACEMENT_CHARACTER);
        let is_program = PROGRAMS.iter().any(|program| path.starts_with(program));
        if is_odd || is_program || self.files.contains(path) {
            return true;
        }
        // The other tools have makefiles of their own.
        let is_tool = path.strip_prefix("tools/").is_some_and(|rest| rest.contains('/'));
        if is_tool || name == ".gitignore" {
            return false;
        }
        if name.starts_with("Kconfig") || name.starts_with("Makefile") || name.starts_with("Kbuild") {
            return true;
        }
        let Some((top, _)) = path.split_once('/') else { return !TOP_FILES.contains(&path) };
        if TEXTS.contains(&top) {
            return false;
        }
        if headers.is_some_and(|arch| is_packed(path, arch)) {
            return true;
        }
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("c" | "S" | "dts" | "dtsi") => false,
            // A new header can be found before one with the same name in a later directory.
            Some("h") => change.kind == ChangeKind::Added && self.has_name(name),
            _ => true,
        }
    }

    fn has_name(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.rsplit('/').next() == Some(name))
    }
}

/// What is known of the source files of a stored kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFiles {
    closure: Closure,
    /// The architecture whose headers are stored with the kernel.
    headers: Option<Arch>,
}

impl BuildFiles {
    /// The files of a kernel; `None` if they are not known.
    #[must_use]
    pub fn of(kernel: &Kernel) -> Option<Self> {
        Self::of_entry(kernel.config.parent()?, kernel.modules.as_ref().map(|_| kernel.arch))
    }

    pub(crate) fn of_entry(dir: &Path, headers: Option<Arch>) -> Option<Self> {
        Some(Self { closure: Closure::of_entry(dir)?, headers })
    }

    /// Whether one of these changes can affect the kernel.
    #[must_use]
    pub fn has_any(&self, changes: &[TreeChange]) -> bool {
        changes.iter().any(|change| self.closure.has(change, self.headers))
    }
}

/// Whether the archive of headers contains this source file (see [`crate::headers`]).
fn is_packed(path: &str, arch: Arch) -> bool {
    let below =
        path.strip_prefix("arch/").and_then(|rest| rest.strip_prefix(srcarch(arch))?.strip_prefix('/'));
    path.starts_with("include/")
        || below.is_some_and(|rest| rest.split('/').any(|part| matches!(part, "include" | "scripts")))
}

/// Whether the `.cmd` files name all that a kernel of this configuration contains.
fn is_complete(config: &DotConfig) -> bool {
    let off = |name: &&str| match config.get(name) {
        KValue::No => true,
        KValue::Text(text) => text.is_empty(),
        KValue::Yes | KValue::Module | KValue::Number(_) => false,
    };
    EMBEDDING.iter().chain(&EMBEDDED).all(off)
}

/// The files that the complete build of this layout read; `None` if they are not known. Blocks on disk I/O.
pub(crate) fn read(layout: &Layout, config: &DotConfig) -> Option<Closure> {
    if !is_complete(config) {
        return None;
    }
    match update(layout) {
        Ok(closure) => Some(closure).filter(|closure| !closure.is_empty()),
        // The kernel is the same without the list.
        Err(CompileError::Failed { reason, .. }) => {
            tracing::info!("the files that the build read are not known: {reason}");
            None
        }
        Err(CompileError::Other(error)) => {
            tracing::info!("the files that the build read are not known: {error}");
            None
        }
    }
}

/// Reads the `.cmd` files that changed since the last call, and adds what they name to the list.
fn update(layout: &Layout) -> Result<Closure, CompileError> {
    let list = layout.state.closure();
    let started = SystemTime::now();
    let scanned = own::existing(&list)?.and_then(|meta| meta.modified().ok());
    let mut closure = match scanned {
        Some(_) => Closure::parse(&own::read_to_string(&list, LIST_BYTES)?),
        None => Closure::default(),
    };
    let objects = Dir::open(&layout.obj)?;
    let source = format!("{}/", layout.make_src.display());
    let mut named = HashSet::new();
    for (path, entry_type) in objects.walk(".", OBJECT_LIMITS)? {
        let is_cmd = path.extension().is_some_and(|extension| extension == "cmd");
        let changed = |modified| scanned.is_none_or(|scanned| modified + RESOLUTION >= scanned);
        if entry_type == EntryType::File
            && is_cmd
            && objects.metadata(&path)?.is_none_or(|meta| changed(meta.modified))
        {
            named.extend(named_files(&objects.read_to_string(&path, CMD_BYTES)?, &source));
        }
    }
    let root = own::canonical(&layout.src)?.unwrap_or_default();
    let new = named.into_iter().filter(|file| !closure.files.contains(file));
    let new: Vec<String> = new.filter_map(|file| real_path(&root, &file)).collect();
    closure.files.extend(new);
    own::write(&list, closure.text())?;
    own::open(&list)?.set_modified(started).map_err(fsx::Error::of("set the time of", &list))?;
    Ok(closure)
}

/// The paths in a `.cmd` file that are in the source, relative to its top.
fn named_files<'a>(text: &'a str, source: &'a str) -> impl Iterator<Item = String> + 'a {
    let ends = |c: char| c.is_whitespace() || "\"'`()<>|&;:,=\\$*?#".contains(c);
    let paths = text.match_indices(source).map(move |(at, _)| {
        let rest = &text[at + source.len()..];
        &rest[..rest.find(ends).unwrap_or(rest.len())]
    });
    paths.filter_map(normal)
}

/// A relative path without `.` and `..`; `None` if it is not below the top.
fn normal(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The path of a file without links in it: git names a changed file by this one. `None` if it is no file below `root`.
fn real_path(root: &Path, file: &str) -> Option<String> {
    let path = own::canonical(&root.join(file)).ok()??;
    let relative = path.strip_prefix(root).ok()?.to_str()?.to_owned();
    own::is_file(&path).ok()?.then_some(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, kind: ChangeKind) -> TreeChange {
        TreeChange { path: path.into(), kind }
    }

    #[test]
    fn the_files_that_a_cmd_file_names() {
        let text = "savedcmd_fs/ext4/super.o := gcc -Wp,-MMD,fs/ext4/.super.o.d -I/ktest/src/include -include \
            /ktest/src/include/linux/kconfig.h -c -o fs/ext4/super.o /ktest/src/fs/ext4/super.c ; sh /ktest/src/scripts/x.sh > y\n\n\
            source_fs/ext4/super.o := /ktest/src/fs/ext4/super.c\n\ndeps_fs/ext4/super.o := \\\n    $(wildcard include/config/X) \\\n  \
            /ktest/src/include/trace/../../fs/ext4/trace.h \\\n  include/generated/autoconf.h \\\n  /ktest/src/../../etc/passwd \\\n\n";
        let found: BTreeSet<String> = named_files(text, "/ktest/src/").collect();
        let expected =
            ["fs/ext4/super.c", "fs/ext4/trace.h", "include", "include/linux/kconfig.h", "scripts/x.sh"];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn only_files_that_no_build_step_can_read_are_outside() {
        use ChangeKind::{Added, Deleted, Modified, Special};
        let closure = Closure::parse("fs/ext4/super.c\ninclude/linux/fs.h\nlib/gen_crc32table.c\n");
        let outside = [
            ("Documentation/filesystems/ext4.rst", Modified),
            ("Documentation/new.rst", Added),
            ("Documentation/devicetree/bindings/a.yaml", Deleted),
            ("MAINTAINERS", Modified),
            (".mailmap", Modified),
            ("fs/xfs/xfs_super.c", Modified),
            ("fs/xfs/xfs_super.c", Deleted),
            ("drivers/gpu/new.c", Added),
            ("drivers/gpu/amdgpu.h", Modified),
            ("drivers/gpu/amdgpu_new.h", Added),
            ("arch/arm64/boot/dts/a.dts", Modified),
            ("tools/testing/selftests/mm/Makefile", Modified),
            ("tools/perf/util/a.c", Modified),
            ("tools/perf/Makefile.config", Modified),
            ("include/linux/amd.h", Modified),
        ];
        for (path, kind) in outside {
            assert!(!closure.has(&change(path, kind), None), "{path}");
        }
        let inside = [
            ("fs/ext4/super.c", Modified),
            ("fs/ext4/super.c", Deleted),
            ("include/linux/fs.h", Modified),
            ("fs/xfs/Makefile", Modified),
            ("Makefile", Modified),
            ("fs/xfs/Kconfig.debug", Modified),
            ("Documentation/Kconfig", Modified),
            ("Kbuild", Modified),
            ("scripts/mod/modpost.c", Modified),
            ("tools/objtool/check.c", Modified),
            ("tools/include/linux/types.h", Modified),
            ("tools/Makefile", Modified),
            ("kernel/time/timeconst.bc", Modified),
            ("lib/build_OID_registry", Modified),
            ("arch/x86/entry/syscalls/syscall_64.tbl", Modified),
            ("arch/x86/lib/x86-opcode-map.txt", Modified),
            ("arch/x86/configs/x86_64_defconfig", Modified),
            // It would be found before include/linux/fs.h.
            ("arch/x86/include/linux/fs.h", Added),
            ("drivers/gpu/link.c", Special),
            ("Documentation/link", Special),
            ("drivers/gpu/\u{fffd}.c", Modified),
            (".gitattributes", Modified),
            ("unknown", Added),
        ];
        for (path, kind) in inside {
            assert!(closure.has(&change(path, kind), None), "{path}");
        }
        // A module can be built with the headers of the kernel.
        for path in ["include/linux/amd.h", "arch/x86/include/asm/amd.h"] {
            assert!(closure.has(&change(path, Modified), Some(Arch::X86_64)), "{path}");
            assert!(!closure.has(&change(path, Modified), None), "{path}");
        }
        assert!(!closure.has(&change("arch/arm64/include/asm/amd.h", Modified), Some(Arch::X86_64)));
    }

    #[test]
    fn the_list_is_one_file_per_line() {
        let closure = Closure::parse("a\nb c\n");
        assert_eq!((closure.len(), closure.text().as_str()), (2, "a\nb c\n"));
        assert!(Closure::parse("").is_empty());
    }

    #[test]
    fn configurations_that_embed_other_files_have_no_closure() {
        let complete = |text: &str| is_complete(&DotConfig::parse(text));
        assert!(complete("CONFIG_EXT4_FS=y\nCONFIG_INITRAMFS_SOURCE=\"\"\n# CONFIG_IKHEADERS is not set\n"));
        for text in [
            "CONFIG_INITRAMFS_SOURCE=\"/x\"",
            "CONFIG_IKHEADERS=y",
            "CONFIG_IKHEADERS=m",
            "CONFIG_MODULE_SIG=y",
        ] {
            assert!(!complete(text), "{text}");
        }
    }
}
