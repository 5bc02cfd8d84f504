//! From `function+0xoffset` to source lines: a kernel's ELF file, read with its debug information.
//!
//! Functions are found by name and size, so it does not matter where the kernel was loaded. A place that cannot be
//! told for certain (two functions of one name, no debug information) is not told.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

/// A function in whose source a place lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The function.
    pub function: String,
    /// Its source file, below the root of the kernel's source where that is known.
    pub file: String,
    /// The line; of a function that another one was inlined into, the line of the call.
    pub line: u32,
}

/// Why an ELF file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}; its source lines are not shown")]
pub struct SymbolsError {
    path: PathBuf,
    what: String,
}

/// No function is padded with so many bytes: they are aligned to 64 at most.
const PADDING: u64 = 64;

/// A function as the symbol table has it.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    address: u64,
    size: u64,
}

/// An ELF file with debug information.
pub struct Symbols {
    loader: addr2line::Loader,
    functions: HashMap<String, Vec<Symbol>>,
    /// What stands before the names of source files: the folder of the source.
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
        let fail = |what: String| SymbolsError { path: path.into(), what };
        let file = File::open(path).map_err(|error| fail(error.to_string()))?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(|error| fail(error.to_string()))?;
        let lines = elf.section_by_name(".debug_line").is_some_and(|section| section.size() > 0);
        if !lines {
            return Ok(None);
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

    /// The folder of a kernel's source, by the file that its first function in C stands in.
    fn source_root(&self) -> Option<String> {
        let place = self.at(self.function("start_kernel", None)?.address).pop()?;
        place.file.strip_suffix("init/main.c").map(str::to_owned)
    }

    /// The function of this name, where there is but one (of this size). In a kernel's stack trace a function reaches to
    /// the next one: what pads it counts.
    fn function(&self, name: &str, size: Option<u64>) -> Option<Symbol> {
        let fits = |symbol: &&Symbol| {
            size.is_none_or(|size| (symbol.size..symbol.size.saturating_add(PADDING)).contains(&size))
        };
        let mut like = self.functions.get(name)?.iter().filter(fits);
        let first = *like.next()?;
        like.all(|other| other.address == first.address).then_some(first)
    }

    /// The places of `function+offset`, the innermost first: functions that were inlined there, then the function
    /// itself. `size` is the function's, as stack traces have it (`f+0x12/0x34`). With `returns`, the offset is where a
    /// call returns to, and the place is that of the call.
    #[must_use]
    pub fn places(&self, function: &str, offset: u64, size: Option<u64>, returns: bool) -> Vec<Place> {
        let Some(symbol) = self.function(function, size) else { return Vec::new() };
        let back = u64::from(returns && offset > 0);
        symbol.address.checked_add(offset).map_or_else(Vec::new, |address| self.at(address - back))
    }

    fn at(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(address) else { return places };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let location = frame.location.as_ref();
            let at = location.and_then(|location| location.file.zip(location.line));
            if let (Some(function), Some((file, line))) = (function, at) {
                places.push(Place { function: function.into_owned(), file: self.readable(file), line });
            }
        }
        places
    }

    /// A file's name without `x/../` and without the source's folder.
    fn readable(&self, file: &str) -> String {
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
