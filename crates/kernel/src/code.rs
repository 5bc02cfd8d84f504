//! The code of a kernel: a hash of what its ELF file and its modules put into memory, without what says only from which source
//! they are built: the build id, the banner, the version, and the line numbers of BUG() and WARN().
//!
//! A change that moves lines, such as that of a comment, gives another image with the same code. Two kernels with the same code run
//! the same instructions on the same data at the same addresses. A file that is not understood is hashed as it is.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use fsx::digest::Hasher;
use fsx::own;
use object::read::ReadCache;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionFlags, SectionIndex,
    SectionKind,
};
use walkdir::WalkDir;

use crate::error::BuildError;

/// The ELF file of a kernel, or a module.
type Elf<'a> = object::File<'a, &'a ReadCache<File>>;
type Section<'a, 'b> = object::Section<'a, 'b, &'a ReadCache<File>>;
/// A range of addresses in a section.
type Masked = (SectionIndex, Range<u64>);

/// Symbols that contain the version of the kernel, and the tables of symbol names: those of initcalls contain line numbers.
const SYMBOLS: [&str; 12] = [
    "linux_banner",
    "linux_proc_banner",
    "init_uts_ns",
    "vermagic",
    "kallsyms_offsets",
    "kallsyms_relative_base",
    "kallsyms_num_syms",
    "kallsyms_names",
    "kallsyms_markers",
    "kallsyms_seqs_of_names",
    "kallsyms_token_table",
    LAST_TABLE.0,
];
/// The last table of symbol names, with its size.
const LAST_TABLE: (&str, u64) = ("kallsyms_token_index", 512);
/// The table of BUG() and WARN().
const BUGS: &str = "__bug_table";
/// The section of a module with `name=value` strings, and those that depend on the text of the source and on the version.
const MODINFO: &str = ".modinfo";
const MODINFO_LEFT_OUT: [&[u8]; 2] = [b"srcversion=", b"vermagic="];
/// The maximum size of a section that is read.
const SECTION_BYTES: u64 = 1 << 30;

/// The hash of the code of a kernel: of its ELF file and of the modules below `modules`. `None` if the ELF file is not understood.
pub(crate) fn hash(vmlinux: &Path, modules: Option<&Path>) -> Result<Option<String>, BuildError> {
    let mut hasher = Hasher::new();
    let Some(code) = of_file(vmlinux)? else { return Ok(None) };
    hasher.field(code);
    let files = modules.into_iter().flat_map(|dir| {
        let files = WalkDir::new(dir.join("lib")).sort_by_file_name().into_iter().filter_map(Result::ok);
        files.filter(|entry| entry.file_type().is_file()).map(move |entry| (dir, entry.into_path()))
    });
    for (dir, file) in files {
        let name = file.strip_prefix(dir).unwrap_or(&file);
        let is_module = file.extension().is_some_and(|extension| extension == "ko");
        let code = if is_module { of_file(&file)? } else { None };
        hasher.field(name.as_os_str().as_encoded_bytes());
        hasher.field(code.map_or_else(|| fsx::digest::file(&file), Ok)?);
    }
    Ok(Some(hasher.finish_hex()))
}

/// The hash of the code of an ELF file; `None` if it is not understood.
fn of_file(path: &Path) -> Result<Option<String>, BuildError> {
    let cache = ReadCache::new(own::open(path)?);
    Ok(Elf::parse(&cache).and_then(|elf| of_elf(&elf)).ok())
}

fn of_elf(elf: &Elf<'_>) -> object::Result<String> {
    let mut hasher = Hasher::new();
    hasher.field(elf.entry().to_le_bytes());
    let masked = masked_ranges(elf);
    for section in elf.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if !sh_flags.contains(object::elf::SHF_ALLOC) || section.kind() == SectionKind::Note {
            continue;
        }
        for number in [sh_flags.0, section.address(), section.size()] {
            hasher.field(number.to_le_bytes());
        }
        let name = section.name()?;
        hasher.field(name);
        if section.size() <= SECTION_BYTES {
            hasher.field(content(elf, &section, name, &masked)?);
        }
        for (offset, relocation) in section.relocations() {
            let target = match relocation.target() {
                RelocationTarget::Symbol(symbol) => target(elf, symbol)?,
                other => format!("{other:?}"),
            };
            hasher.field(format!("{offset} {:?} {target} {}", relocation.flags(), relocation.addend()));
        }
    }
    Ok(hasher.finish_hex())
}

/// What a relocation of a module refers to. The number of a symbol says nothing: debug information has symbols too.
fn target(elf: &Elf<'_>, symbol: object::SymbolIndex) -> object::Result<String> {
    let symbol = elf.symbol_by_index(symbol)?;
    let section = symbol.section_index().and_then(|index| elf.section_by_index(index).ok());
    let section = section.as_ref().map(object::ObjectSection::name).transpose()?.unwrap_or_default();
    // The names of local symbols can contain line numbers.
    let name = if symbol.is_local() { "" } else { symbol.name()? };
    Ok(format!("{name} {section}+{}", symbol.address()))
}

/// The content of a section without what does not count.
fn content(
    elf: &Elf<'_>,
    section: &Section<'_, '_>,
    name: &str,
    masked: &[Masked],
) -> object::Result<Vec<u8>> {
    let mut data = section.data()?.to_vec();
    for (_, range) in masked.iter().filter(|(of, _)| *of == section.index()) {
        let at =
            |address: u64| usize::try_from(address.saturating_sub(section.address())).unwrap_or(usize::MAX);
        if let Some(hidden) = data.get_mut(at(range.start)..at(range.end)) {
            hidden.fill(0);
        }
    }
    if name == BUGS
        && let Some(entry) = bug_entry(elf, section, &data)
    {
        // The line is in the last 4 bytes, before the flags.
        data.chunks_exact_mut(entry).for_each(|bug| bug[entry - 4..entry - 2].fill(0));
    }
    if name == MODINFO {
        let strings = data.split(|byte| *byte == 0);
        let kept = strings.filter(|text| !MODINFO_LEFT_OUT.iter().any(|name| text.starts_with(name)));
        data = kept.collect::<Vec<_>>().join(&0);
    }
    Ok(data)
}

/// The size of an entry of the table of BUG() and WARN(): the address, the format (since 6.19) and the file, relative, then line
/// and flags. `None` if the table has another form.
fn bug_entry(elf: &Elf<'_>, section: &Section<'_, '_>, data: &[u8]) -> Option<usize> {
    let relocated: BTreeSet<u64> = section.relocations().map(|(offset, _)| offset).collect();
    let code: Vec<Range<u64>> = elf
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .map(|section| section.address()..section.address().saturating_add(section.size()))
        .collect();
    let fits = |size: &usize| {
        let pointers = size / 4 - 1;
        let is_bug = |(at, bug): (usize, &[u8])| {
            let at = u64::try_from(at * size).unwrap_or(u64::MAX);
            if !relocated.is_empty() {
                return (0..size / 4).all(|field| {
                    relocated.contains(&at.saturating_add(4 * field as u64)) == (field < pointers)
                });
            }
            let Some(Ok(offset)) = bug.get(..4).map(<[u8; 4]>::try_from) else { return false };
            let address = section
                .address()
                .saturating_add(at)
                .saturating_add_signed(i64::from(i32::from_le_bytes(offset)));
            code.iter().any(|code| code.contains(&address))
        };
        data.len().is_multiple_of(*size) && data.chunks_exact(*size).enumerate().all(is_bug)
    };
    [12, 16].into_iter().find(|size| elf.is_little_endian() && fits(size))
}

/// Where the ELF file says only from which source the kernel is built.
fn masked_ranges(elf: &Elf<'_>) -> Vec<Masked> {
    let symbols = || {
        elf.symbols().filter_map(|symbol| {
            let section = symbol.section_index().filter(|_| symbol.is_definition())?;
            Some((section, symbol))
        })
    };
    let starts: BTreeSet<(usize, u64)> =
        symbols().map(|(section, symbol)| (section.0, symbol.address())).collect();
    let of_symbol = |(section, symbol): (SectionIndex, object::Symbol<'_, '_, &ReadCache<File>>)| {
        let (name, start) = (symbol.name().ok().filter(|name| SYMBOLS.contains(name))?, symbol.address());
        let end = match symbol.size() {
            0 if name == LAST_TABLE.0 => start.saturating_add(LAST_TABLE.1),
            // The next symbol.
            0 => {
                starts
                    .range((section.0, start.saturating_add(1))..)
                    .next()
                    .filter(|(of, _)| *of == section.0)?
                    .1
            }
            size => start.saturating_add(size),
        };
        Some((section, start..end))
    };
    symbols().filter_map(of_symbol).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A kernel of two functions, a table of BUG(), the banner and an initcall whose name has a line number.
    const SOURCE: &str = r#"
        .globl _start
        .section .text,"ax"
        .type _start,@function
_start: nop
bug:    ud2
        .section __bug_table,"aw"
        .long bug - .
        .long file - .
        .word LINE
        .word 2
        .section .rodata,"a"
file:   .asciz "init/main.c"
        .globl linux_banner
        .type linux_banner,@object
linux_banner: .asciz "BANNER"
        .size linux_banner, . - linux_banner
        .globl kallsyms_names
kallsyms_names: .asciz "NAMES"
after:  .asciz "MESSAGE"
        .section .init.data,"aw"
initcall_main_LINE: .long 0
        .section .note.gnu.build-id,"a",@note
        .asciz "NOTE"
        .section .modinfo,"a"
        .asciz "license=LICENSE"
        .asciz "srcversion=VERSION"
        .section .debug_line
        .asciz "LINE"
"#;

    /// The hash of the code of an assembled file with these replacements.
    fn code(link: bool, changes: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (source, file) = (dir.path().join("a.S"), dir.path().join("a.o"));
        let unchanged = [
            ("LINE", "7"),
            ("BANNER", "6.1"),
            ("NAMES", "a b"),
            ("MESSAGE", "hello"),
            ("NOTE", "1"),
            ("LICENSE", "GPL"),
            ("VERSION", "1"),
        ];
        let all = changes.iter().chain(&unchanged);
        let text = all.fold(SOURCE.to_owned(), |text, (word, value)| text.replace(word, value));
        std::fs::write(&source, text).unwrap();
        let mode: &[&str] = if link { &["-nostdlib", "-static", "-Wl,--build-id=none"] } else { &["-c"] };
        let made = Command::new("gcc").args(mode).arg(&source).arg("-o").arg(&file).status().unwrap();
        assert!(made.success());
        of_file(&file).unwrap().expect("an ELF file")
    }

    #[test]
    fn lines_names_and_versions_do_not_count() {
        for link in [true, false] {
            let plain = code(link, &[]);
            for change in
                [("LINE", "8"), ("BANNER", "6.2"), ("NAMES", "b c"), ("NOTE", "2"), ("VERSION", "2")]
            {
                assert_eq!(code(link, &[change]), plain, "{change:?}");
            }
            for change in [
                ("MESSAGE", "hallo"),
                ("nop", "ud2"),
                ("LICENSE", "MIT"),
                ("init/main.c", "init/mean.c"),
                (".word 2", ".word 3"),
                ("6.1", "6.10"),
                (".long 0", ".long 1"),
            ] {
                assert_ne!(code(link, &[("BANNER", "6.1"), change]), plain, "{change:?}");
            }
        }
    }

    #[test]
    fn other_tables_of_bugs_count_as_they_are() {
        let other = ("        .word 2\n", "        .word 2\n        .word 9\n");
        assert_ne!(code(true, &[other, ("LINE", "8")]), code(true, &[other]));
        // Since 6.19, an entry has a format.
        let with_format = ("        .long file - .\n", "        .long file - .\n        .long file - .\n");
        assert_eq!(code(true, &[with_format, ("LINE", "8")]), code(true, &[with_format]));
        assert_eq!(code(false, &[with_format, ("LINE", "8")]), code(false, &[with_format]));
    }

    #[test]
    fn damaged_files_are_not_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vmlinux");
        std::fs::write(&file, "not ELF").unwrap();
        assert_eq!(hash(&file, None).unwrap(), None);
        let bytes = std::fs::read("/bin/sh").unwrap();
        for size in [64, 4096, bytes.len() / 2] {
            std::fs::write(&file, &bytes[..size]).unwrap();
            assert_eq!(hash(&file, None).unwrap(), None, "{size} bytes");
        }
    }

    #[test]
    fn modules_count() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join("lib")).unwrap();
            std::fs::write(dir.path().join("lib").join(name), text).unwrap();
            hash(Path::new("/bin/sh"), Some(dir.path())).unwrap().unwrap()
        };
        let first = of("a.ko", "1");
        assert_eq!(of("a.ko", "1"), first);
        assert_ne!(of("a.ko", "2"), first);
        assert_ne!(of("modules.dep", "x"), of("modules.dep", "y"));
    }
}
