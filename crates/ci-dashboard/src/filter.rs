//! The filter of a view: `test=REGEX` for tests, `find=REGEX` for the lines of a log. Case is ignored.
//!
//! Patterns are untrusted, so their length and compiled size are limited. Matching takes time linear in the length of
//! the text, because the `regex` crate does not backtrack.

use regex::{Regex, RegexBuilder};

use crate::problem::Problem;

/// The maximum length of a pattern, in bytes.
pub const PATTERN_MAX: usize = 300;
/// The maximum size of a compiled pattern, in bytes.
const COMPILED_MAX: usize = 256 << 10;

/// A compiled filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pattern: Option<Regex>,
}

impl Filter {
    /// Creates a filter from a parameter. If it is absent or empty, everything matches.
    pub fn new(pattern: Option<&str>) -> Result<Self, Problem> {
        pattern.filter(|pattern| !pattern.is_empty()).map_or_else(|| Ok(Self::default()), Self::build)
    }

    fn build(pattern: &str) -> Result<Self, Problem> {
        if pattern.len() > PATTERN_MAX {
            return Err(Problem::Filter(format!("the pattern is longer than {PATTERN_MAX} bytes")));
        }
        let built = RegexBuilder::new(pattern)
            .case_insensitive(true)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .nest_limit(32)
            .build();
        match built {
            Ok(pattern) => Ok(Self { pattern: Some(pattern) }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(Problem::TooExpensive("the compiled pattern is too large; use a simpler pattern".into()))
            }
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
                Err(Problem::Filter(format!("not a valid regular expression: {reason}")))
            }
        }
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.pattern.is_none()
    }

    /// Whether this name or line matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_bounded() {
        assert!(Filter::new(Some("")).unwrap().is_all());
        assert!(Filter::new(Some("ext4.*punch$")).unwrap().matches("fs.ext4.basic.punch"));
        assert!(Filter::new(Some("PUNCH")).unwrap().matches("fs.ext4.basic.punch"));
        assert!(!Filter::new(Some("(?-i)PUNCH")).unwrap().matches("fs.ext4.basic.punch"));
        assert!(matches!(Filter::new(Some("(")), Err(Problem::Filter(_))));
        assert!(matches!(Filter::new(Some(&"a".repeat(301))), Err(Problem::Filter(_))));
        assert!(matches!(Filter::new(Some("(a{100}){100}{100}")), Err(Problem::TooExpensive(_))));
        assert!(Filter::new(Some(&"(".repeat(200))).is_err());
        // A backtracking engine would take exponential time.
        assert!(!Filter::new(Some("^(a+)+$")).unwrap().matches(&format!("{}!", "a".repeat(255))));
    }
}
