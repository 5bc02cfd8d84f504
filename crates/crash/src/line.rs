//! Classifies the lines of a console log: kernel trouble, a further line of a report, an error message, or other.
//!
//! The class depends on the line and on whether a report has started. [`split`] finds the kernel's message first.

pub use crate::stamp::{Caller, ConsoleLine, split};
use crate::trouble::{TroubleKind, trouble_in};

/// The class of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineClass {
    /// Nothing special.
    Plain,
    /// A line that starts kernel trouble.
    Trouble,
    /// A further line of a kernel report.
    Report,
    /// An error message or a warning, of the kernel or of a program.
    Error,
    /// A kernel message of level debug.
    Debug,
}

/// The maximum number of lines that are marked as one report.
const LONGEST_REPORT: usize = 120;

/// Classifies the lines of a log, in their order.
#[derive(Debug, Default)]
pub struct Classifier {
    /// How many more lines may belong to the report.
    report: usize,
}

impl Classifier {
    /// The class of the next line.
    pub fn line(&mut self, line: &ConsoleLine<'_>) -> LineClass {
        let class = self.class(line);
        self.report = match class {
            LineClass::Trouble => LONGEST_REPORT,
            LineClass::Report if !ends_report(line.text) => self.report - 1,
            _ => 0,
        };
        class
    }

    /// Ends the report: the next line belongs to something else.
    pub fn end_report(&mut self) {
        self.report = 0;
    }

    fn class(&self, line: &ConsoleLine<'_>) -> LineClass {
        let in_report = self.report > 0;
        match trouble_in(line.text).map(|trouble| trouble.kind) {
            // The oops header is part of the report that the kernel's message started.
            Some(TroubleKind::Oops | TroubleKind::Gpf) if in_report => LineClass::Report,
            Some(_) => LineClass::Trouble,
            None if in_report => LineClass::Report,
            None if is_error(line.text) || line.level.is_some_and(|level| level <= 4) => LineClass::Error,
            None if line.level == Some(7) => LineClass::Debug,
            None => LineClass::Plain,
        }
    }
}

fn ends_report(text: &str) -> bool {
    text.is_empty() || text.starts_with("---[ end")
}

/// Whether a line looks like an error message: by its first word, or by the format in which file systems and assertions
/// report.
fn is_error(text: &str) -> bool {
    const FIRST: [&str; 3] = ["error", "warning", "fatal"];
    const INSIDE: [&str; 4] = [": error: ", "EXT4-fs error", " error (device", "Assertion "];
    FIRST.iter().any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
        || INSIDE.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let mut classifier = Classifier::default();
        let log = "[    1.000000] EXT4-fs (vdb): mounted\n\
            WARNING: ext4 signature detected on /dev/vdb\n\
            40%[    2.000000] CFI failure at f+0x1/0x2 (target: g+0x0/0x2; expected type: 0x1)\n\
            [    2.000001] Oops: invalid opcode: 0000 [#1] SMP\n\
            [    2.000002]  f+0x1/0x2\n\
            [    2.000003] ---[ end trace 0 ]---\n\
            <7>[    2.000004] quiet\n\
            [    3.000000] [ BUG: Invalid wait context ]\n\n\
            [    4.000000] BUG kmalloc-64 (Not tainted): Poison overwritten";
        let classes: Vec<_> = log.lines().map(|line| classifier.line(&split(line))).collect();
        use LineClass::{Debug, Error, Plain, Report, Trouble};
        assert_eq!(classes, [Plain, Error, Trouble, Report, Report, Report, Debug, Trouble, Report, Trouble]);
    }

    #[test]
    fn a_report_ends() {
        let class = |classifier: &mut Classifier, text: &str| classifier.line(&split(text));
        let mut classifier = Classifier::default();
        assert_eq!(class(&mut classifier, "Oops: 0000 [#1] SMP"), LineClass::Trouble);
        assert_eq!(class(&mut classifier, "general protection fault: 0000 [#1]"), LineClass::Report);
        classifier.end_report();
        assert_eq!(class(&mut classifier, " f+0x1/0x2"), LineClass::Plain);
        assert_eq!(class(&mut classifier, "BUG: x"), LineClass::Trouble);
        for number in 0..LONGEST_REPORT {
            assert_eq!(class(&mut classifier, " f+0x1/0x2"), LineClass::Report, "{number}");
        }
        assert_eq!(class(&mut classifier, " f+0x1/0x2"), LineClass::Plain);
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(lines in proptest::collection::vec("[\\[\\]<>0-9.TC: BUG]{0,40}", 0..8)) {
            let mut classifier = Classifier::default();
            for line in &lines {
                let _ = classifier.line(&split(line));
            }
        }
    }
}
