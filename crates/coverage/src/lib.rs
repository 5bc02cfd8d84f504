//! Line coverage: reads gcov's JSON, reads and writes lcov tracefiles, and merges coverage by adding counts.
//!
//! Sans-IO: the caller runs gcov and passes its output. Merging is commutative and associative, so the parts of a run,
//! of a test file and of a commit can be merged in any order.

mod gcov;
mod info;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub use gcov::{GcovError, data_file, source_root};
pub use info::InfoError;

/// The coverage of a source tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The files by name, relative to the source root.
    pub files: BTreeMap<String, FileCoverage>,
}

/// The coverage of a source file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// The execution count of each line that has code.
    pub lines: BTreeMap<u32, u64>,
    /// The functions, by name.
    pub functions: BTreeMap<String, Function>,
}

/// The coverage of a function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Function {
    /// The first line.
    pub line: u32,
    /// The number of calls.
    pub calls: u64,
}

/// Sums over a file or a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines that have code.
    pub lines: u64,
    /// Lines that were executed.
    pub lines_hit: u64,
    /// Functions.
    pub functions: u64,
    /// Functions that were called.
    pub functions_hit: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.lines_hit += other.lines_hit;
        self.functions += other.functions;
        self.functions_hit += other.functions_hit;
    }
}

impl Coverage {
    /// Adds the coverage of another run.
    pub fn merge(&mut self, other: Self) {
        for (name, file) in other.files {
            self.files.entry(name).or_default().merge(file);
        }
    }

    /// The files with lines that were executed.
    pub fn executed_files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|(_, file)| file.totals().lines_hit > 0).map(|(name, _)| name.as_str())
    }

    /// The sums over all files.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.files.values().for_each(|file| totals += file.totals());
        totals
    }
}

impl FileCoverage {
    fn merge(&mut self, other: Self) {
        for (line, count) in other.lines {
            self.add_line(line, count);
        }
        for (name, function) in other.functions {
            self.add_function(name, function);
        }
    }

    fn add_line(&mut self, line: u32, count: u64) {
        let sum = self.lines.entry(line).or_default();
        *sum = sum.saturating_add(count);
    }

    fn add_function(&mut self, name: String, function: Function) {
        let sum = self.functions.entry(name).or_insert(Function { calls: 0, ..function });
        // Several functions with the same name in a file count as one, at the line of the first.
        sum.line = sum.line.min(function.line);
        sum.calls = sum.calls.saturating_add(function.calls);
    }

    /// The sums of a file.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let count = |number: usize| number as u64;
        Totals {
            lines: count(self.lines.len()),
            lines_hit: count(self.lines.values().filter(|count| **count > 0).count()),
            functions: count(self.functions.len()),
            functions_hit: count(self.functions.values().filter(|function| function.calls > 0).count()),
        }
    }

    /// The ranges of lines that were not executed. A range continues across lines without code.
    #[must_use]
    pub fn missed(&self) -> Vec<RangeInclusive<u32>> {
        let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
        let mut open = false;
        for (line, count) in &self.lines {
            match ranges.last_mut().filter(|_| open && *count == 0) {
                Some(range) => *range = *range.start()..=*line,
                None if *count == 0 => ranges.push(*line..=*line),
                None => {}
            }
            open = *count == 0;
        }
        ranges
    }
}
