//! Which lines of a source ran: gcov's JSON in, lcov's tracefiles out and in, both merged by adding up.
//!
//! Sans-IO: text in, data out; whoever has the files calls gcov. Merging is commutative and associative, so the parts of a
//! run, of a test file and of a commit can be merged in any order.

mod gcov;
mod info;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub use gcov::{GcovError, data_file, source_root};
pub use info::InfoError;

/// What ran, by source file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// By the file's name, below the root of the source.
    pub files: BTreeMap<String, FileCoverage>,
}

/// What ran of a source file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// How often each line that holds code ran.
    pub lines: BTreeMap<u32, u64>,
    /// The functions, by name.
    pub functions: BTreeMap<String, Function>,
}

/// A function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Function {
    /// The line it begins at.
    pub line: u32,
    /// How often it was called.
    pub calls: u64,
}

/// Sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines that hold code.
    pub lines: u64,
    /// Those of them that ran.
    pub lines_hit: u64,
    /// Functions.
    pub functions: u64,
    /// Those of them that were called.
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
    /// Adds what another run covered.
    pub fn merge(&mut self, other: Self) {
        for (name, file) in other.files {
            self.files.entry(name).or_default().merge(file);
        }
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
            self.ran(line, count);
        }
        for (name, function) in other.functions {
            self.called(name, function);
        }
    }

    fn ran(&mut self, line: u32, count: u64) {
        let sum = self.lines.entry(line).or_default();
        *sum = sum.saturating_add(count);
    }

    fn called(&mut self, name: String, function: Function) {
        let sum = self.functions.entry(name).or_insert(Function { calls: 0, ..function });
        // Two functions of one name in a file: the first one's place stands for both, in whichever order they come.
        sum.line = sum.line.min(function.line);
        sum.calls = sum.calls.saturating_add(function.calls);
    }

    /// The sums of the file.
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

    /// The stretches of lines that did not run; lines without code between two of them do not part them.
    #[must_use]
    pub fn missed(&self) -> Vec<RangeInclusive<u32>> {
        let mut stretches: Vec<RangeInclusive<u32>> = Vec::new();
        let mut open = false;
        for (line, count) in &self.lines {
            match stretches.last_mut().filter(|_| open && *count == 0) {
                Some(stretch) => *stretch = *stretch.start()..=*line,
                None if *count == 0 => stretches.push(*line..=*line),
                None => {}
            }
            open = *count == 0;
        }
        stretches
    }
}
