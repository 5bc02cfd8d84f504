//! Resolves `function+0xoffset` to source lines, with the debug information of a kernel's ELF file.
//!
//! Functions are found by name and size, so the address at which the kernel was loaded does not matter. A location has
//! no source lines if it is ambiguous (several functions have the same name) or has no debug information.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use addr2line::gimli::{self, RunTimeEndian};
use object::read::ReadCache;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

/// A source line of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolLocation {
    /// The function.
    pub function: String,
    /// The source file, relative to the root of the kernel source if that is known.
    pub file: String,
    /// The line; in a function into which another one was inlined, the line of the call.
    pub line: u32,
}

/// Why an ELF file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the debug information of {path}: {problem}; source lines are not shown")]
pub struct SymbolsError {
    path: PathBuf,
    problem: String,
}

/// Whether the loader would open other files by names in this one, which a branch can choose: a FIFO would stop this program, and
/// a device could do anything. The kernel does not build such files.
fn names_other_files<'a>(file: &object::File<'a, &'a ReadCache<File>>) -> Result<bool, String> {
    if file.format() != object::BinaryFormat::Elf {
        return Ok(true);
    }
    let order = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: gimli::SectionId| -> Result<Cow<'a, [u8]>, object::Error> {
        file.section_by_name(id.name()).map_or(Ok(Cow::default()), |section| section.uncompressed_data())
    };
    let sections = gimli::DwarfSections::load(section).map_err(|error| error.to_string())?;
    let dwarf = sections.borrow(|section| gimli::EndianSlice::new(section, order));
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(|error| error.to_string())? {
        // The loader leaves out units that it cannot read.
        if dwarf.unit(header).is_ok_and(|unit| unit.dwo_id.is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Functions are aligned to at most 64 bytes, so padding is shorter than this.
const PADDING: u64 = 64;

/// A function of the symbol table.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    address: u64,
    size: u64,
}

/// An ELF file with debug information.
pub struct Symbols {
    loader: addr2line::Loader,
    functions: HashMap<String, Vec<Symbol>>,
    /// The directory of the kernel source; the names of source files start with it.
    root: String,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").field("functions", &self.functions.len()).field("root", &self.root).finish()
    }
}

impl Symbols {
    /// Reads an ELF file; `None` if it has no debug information.
    pub fn open(path: &Path) -> Result<Option<Self>, SymbolsError> {
        let fail = |problem: String| SymbolsError { path: path.into(), problem };
        let file = File::open(path).map_err(|error| fail(error.to_string()))?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(|error| fail(error.to_string()))?;
        let lines = elf.section_by_name(".debug_line").is_some_and(|section| section.size() > 0);
        if !lines {
            return Ok(None);
        }
        if names_other_files(&elf).map_err(fail)? {
            return Err(fail("it names other files with debug information".into()));
        }
        let mut functions: HashMap<String, Vec<Symbol>> = HashMap::new();
        for symbol in elf.symbols() {
            if symbol.kind() == SymbolKind::Text
                && symbol.is_definition()
                && let Ok(name) = symbol.name()
            {
                let found = Symbol { address: symbol.address(), size: symbol.size() };
                functions.entry(name.to_owned()).or_default().push(found);
            }
        }
        let loader = addr2line::Loader::new(path).map_err(|error| fail(error.to_string()))?;
        let mut symbols = Self { loader, functions, root: String::new() };
        symbols.root = symbols.source_root().unwrap_or_default();
        Ok(Some(symbols))
    }

    /// The directory of the kernel source, derived from the file of `start_kernel`.
    fn source_root(&self) -> Option<String> {
        let location = self.locations_of(self.function("start_kernel", None)?.address).pop()?;
        location.file.strip_suffix("init/main.c").map(str::to_owned)
    }

    /// The function with this name and size, if it is unique. In the kernel's stack traces, the size includes the
    /// padding up to the next function.
    fn function(&self, name: &str, size: Option<u64>) -> Option<Symbol> {
        let fits = |symbol: &&Symbol| {
            size.is_none_or(|size| (symbol.size..symbol.size.saturating_add(PADDING)).contains(&size))
        };
        let mut like = self.functions.get(name)?.iter().filter(fits);
        let first = *like.next()?;
        like.all(|other| other.address == first.address).then_some(first)
    }

    /// The source lines of `function+offset`, innermost first: those of inlined functions, then that of the function
    /// itself. `size` is the size of the function in the stack trace (`f+0x12/0x34`). If `returns` is set, the offset
    /// is a return address, and the source line is that of the call.
    #[must_use]
    pub fn locations(
        &self,
        function: &str,
        offset: u64,
        size: Option<u64>,
        returns: bool,
    ) -> Vec<SymbolLocation> {
        let Some(symbol) = self.function(function, size) else { return Vec::new() };
        let back = u64::from(returns && offset > 0);
        symbol.address.checked_add(offset).map_or_else(Vec::new, |address| self.locations_of(address - back))
    }

    fn locations_of(&self, address: u64) -> Vec<SymbolLocation> {
        let mut locations = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(address) else { return locations };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let location = frame.location.as_ref();
            let line = location.and_then(|location| location.file.zip(location.line));
            if let (Some(function), Some((file, line))) = (function, line) {
                locations.push(SymbolLocation {
                    function: function.into_owned(),
                    file: self.relative(file),
                    line,
                });
            }
        }
        locations
    }

    /// The name of a file without `x/../` and without the source directory.
    fn relative(&self, file: &str) -> String {
        let mut parts: Vec<&str> = Vec::new();
        for part in file.split('/') {
            match part {
                "." => {}
                ".." if parts.last().is_some_and(|last| !last.is_empty() && *last != "..") => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let file = parts.join("/");
        file.strip_prefix(&self.root).map(str::to_owned).unwrap_or(file)
    }
}
