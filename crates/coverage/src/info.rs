//! lcov tracefiles (geninfo(1)): the records `SF:`, `FN:`, `FNDA:`, `DA:` and `end_of_record`. Other records are
//! skipped; sums are computed from these.

use std::fmt;

use crate::{Coverage, FileCoverage, Function};

/// Why a tracefile cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the tracefile: {problem}")]
pub struct InfoError {
    line: usize,
    problem: &'static str,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TN:")?;
        for (name, file) in &self.files {
            writeln!(f, "SF:{name}")?;
            for (name, Function { line, .. }) in &file.functions {
                writeln!(f, "FN:{line},{name}")?;
            }
            for (name, Function { calls, .. }) in &file.functions {
                writeln!(f, "FNDA:{calls},{name}")?;
            }
            let totals = file.totals();
            writeln!(f, "FNF:{}\nFNH:{}", totals.functions, totals.functions_hit)?;
            for (line, count) in &file.lines {
                writeln!(f, "DA:{line},{count}")?;
            }
            writeln!(f, "LF:{}\nLH:{}\nend_of_record", totals.lines, totals.lines_hit)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Coverage {
    type Err = InfoError;

    fn from_str(text: &str) -> Result<Self, InfoError> {
        let mut coverage = Self::default();
        let mut open: Option<(String, FileCoverage)> = None;
        for (at, line) in text.lines().enumerate() {
            let bad = |problem| InfoError { line: at + 1, problem };
            if line == "end_of_record" {
                let (name, file) = open.take().ok_or(bad("end_of_record without SF"))?;
                coverage.files.entry(name).or_default().merge(file);
                continue;
            }
            let Some((kind, value)) = line.split_once(':') else { continue };
            if kind == "SF" {
                open = Some((value.to_owned(), FileCoverage::default()));
                continue;
            }
            if !matches!(kind, "DA" | "FN" | "FNDA") {
                continue;
            }
            let (_, file) = open.as_mut().ok_or(bad("it is outside of an SF record"))?;
            let (first, rest) = value.split_once(',').ok_or(bad("it has no comma"))?;
            let number: u64 = first.parse().map_err(|_| bad("it has no number"))?;
            let small = |number: u64| u32::try_from(number).map_err(|_| bad("its line number is too large"));
            match kind {
                "DA" => {
                    // A checksum may follow.
                    let count = rest.split(',').next().unwrap_or(rest);
                    file.add_line(
                        small(number)?,
                        count.parse().map_err(|_| bad("its count is not a number"))?,
                    );
                }
                "FN" => file.add_function(rest.into(), Function { line: small(number)?, calls: 0 }),
                _ => {
                    let named = file.functions.get(rest).map_or(0, |function| function.line);
                    file.add_function(rest.into(), Function { line: named, calls: number });
                }
            }
        }
        match open {
            Some(_) => {
                Err(InfoError { line: text.lines().count(), problem: "the file ends before end_of_record" })
            }
            None => Ok(coverage),
        }
    }
}
