//! The part of the log of a build that explains why it failed: the lines around the first error.
//!
//! The log is the output of make on code of a branch, so it is text of any kind and size. The error is the one of the verdict, in
//! which paths are relative to the source and control characters are blanks.

use regress::excerpt::{build_error, is_build_error};

use crate::logtext::readable;

/// The number of lines before and after the error.
const BEFORE: usize = 12;
const AFTER: usize = 16;
/// The maximum number of further errors that are listed.
const ERRORS_MAX: usize = 20;

/// The lines around the first error.
#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The lines: number from 1, style class, text.
    pub lines: Vec<(usize, &'static str, String)>,
    /// The number of the line with the error, if it is found.
    pub error: Option<usize>,
    /// The number of lines of the log.
    pub total: usize,
    /// The first errors after it, outside of the excerpt: number and text.
    pub others: Vec<(usize, String)>,
}

impl Excerpt {
    /// The excerpt around `error`. If the error is not found, around the first line that looks like one, or else the end.
    #[must_use]
    pub fn new(text: &str, error: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let at = build_error(&lines, error);
        let center = at.unwrap_or(lines.len().saturating_sub(1));
        let (first, last) = (center.saturating_sub(BEFORE), (center + AFTER + 1).min(lines.len()));
        let shown =
            (first..last).map(|row| (row + 1, class(lines[row], at == Some(row)), readable(lines[row])));
        let is_other = |row: &usize| !(first..last).contains(row) && is_build_error(lines[*row]);
        let others = (center..lines.len()).filter(is_other).take(ERRORS_MAX);
        Self {
            lines: shown.collect(),
            error: at.map(|at| at + 1),
            total: lines.len(),
            others: others.map(|row| (row + 1, readable(lines[row]))).collect(),
        }
    }
}

fn class(line: &str, is_first: bool) -> &'static str {
    match line {
        _ if is_first => "k",
        _ if is_build_error(line) => "mf",
        _ if line.contains("warning:") => "w",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> String {
        let mut log: String = (0..100).map(|number| format!("  CC      fs/ext4/a{number}.o\n")).collect();
        log.push_str(
            "/b/fs/ext4/acl.c: In function 'f':\n/b/fs/ext4/acl.c:143:2: error: expected ';'\n  143 |  x\n",
        );
        log.push_str("fs/ext4/acl.c:150:1: warning: unused\nmake[4]: *** [scripts/Makefile.build:1: fs/ext4/acl.o] Error 1\n");
        log.push_str(&"  CC      x.o\n".repeat(50));
        log.push_str("make: *** [Makefile:1: fs] Error 2\n");
        log
    }

    #[test]
    fn the_excerpt_is_around_the_first_error() {
        let found = Excerpt::new(&log(), "fs/ext4/acl.c:143:2: error: expected ';'");
        assert_eq!((found.error, found.total), (Some(102), 156));
        let classes: Vec<_> = found.lines.iter().filter(|(_, class, _)| !class.is_empty()).collect();
        let classes: Vec<_> = classes.iter().map(|(number, class, _)| (*number, *class)).collect();
        assert_eq!(classes, [(102, "k"), (104, "w"), (105, "mf")]);
        assert_eq!((found.lines[0].0, found.lines.len()), (90, 29));
        assert_eq!(found.others, [(156, "make: *** [Makefile:1: fs] Error 2".into())]);
    }

    #[test]
    fn an_error_of_several_lines() {
        let rust = "error[E0308]: mismatched types\n --> rust/a.rs:3:5\n";
        assert_eq!(Excerpt::new(rust, "rust/a.rs:3:5: error[E0308]: mismatched types").error, Some(1));
        let linker = "a.o: in function `f':\na.c:(.text+0x1): undefined reference to `g'\n";
        assert_eq!(Excerpt::new(linker, "a.o: in function f: undefined reference to `g'").error, Some(2));
        let long = format!("a.c:1: error: {}", "x".repeat(400));
        assert_eq!(Excerpt::new(&long, &long[..300]).error, Some(1));
    }

    #[test]
    fn a_log_without_the_error() {
        let end = Excerpt::new(&"x\n".repeat(100), "a.c:1: error: no");
        assert_eq!((end.error, end.lines.last().map(|line| line.0)), (None, Some(100)));
        assert_eq!(
            Excerpt::new("", "x"),
            Excerpt { lines: Vec::new(), error: None, total: 0, others: Vec::new() }
        );
        assert_eq!(Excerpt::new("a\n", "").error, None);
    }

    proptest::proptest! {
        #[test]
        fn no_log_panics(text in "(\\PC|\n|\u{1b}|error: ){0,60}", error in "\\PC{0,20}") {
            let _ = Excerpt::new(&text, &error);
        }
    }
}
