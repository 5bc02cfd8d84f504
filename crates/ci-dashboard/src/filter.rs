//! `test=REGEX`: which tests are shown. The pattern is a stranger's, so its length and compiled size are bounded;
//! matching takes time linear in the names (the `regex` crate never backtracks).

use regex::{Regex, RegexBuilder};

use crate::problem::Problem;

/// The longest pattern, in bytes.
pub const PATTERN_MAX: usize = 300;
/// The largest compiled pattern, in bytes.
const COMPILED_MAX: usize = 256 << 10;

/// Which tests are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pattern: Option<Regex>,
}

impl Filter {
    /// From the parameter; absent or empty means all.
    pub fn new(pattern: Option<&str>) -> Result<Self, Problem> {
        match pattern.filter(|pattern| !pattern.is_empty()) {
            Some(pattern) => Self::build(pattern, false),
            None => Ok(Self::default()),
        }
    }

    /// For the lines of a log, in which people look for words in any case.
    pub fn ignoring_case(pattern: &str) -> Result<Self, Problem> {
        Self::build(pattern, true)
    }

    fn build(pattern: &str, any_case: bool) -> Result<Self, Problem> {
        if pattern.len() > PATTERN_MAX {
            return Err(Problem::BadRequest(format!("the pattern is longer than {PATTERN_MAX} bytes")));
        }
        let built = RegexBuilder::new(pattern)
            .case_insensitive(any_case)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .nest_limit(32)
            .build();
        match built {
            Ok(pattern) => Ok(Self { pattern: Some(pattern) }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(Problem::TooExpensive("the pattern is too large when compiled; use a simpler one".into()))
            }
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
                Err(Problem::BadRequest(format!("the pattern is not a regular expression: {why}")))
            }
        }
    }

    /// Whether all tests are wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.pattern.is_none()
    }

    /// Whether this test is wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_bounded() {
        assert!(Filter::new(Some("")).unwrap().is_all());
        assert!(Filter::new(Some("ext4.*punch$")).unwrap().wants("fs.ext4.basic.punch"));
        assert!(matches!(Filter::new(Some("(")), Err(Problem::BadRequest(_))));
        assert!(matches!(Filter::new(Some(&"a".repeat(301))), Err(Problem::BadRequest(_))));
        assert!(matches!(Filter::new(Some("(a{100}){100}{100}")), Err(Problem::TooExpensive(_))));
        assert!(Filter::new(Some(&"(".repeat(200))).is_err());
        // What a backtracking engine would never finish.
        assert!(!Filter::new(Some("^(a+)+$")).unwrap().wants(&format!("{}!", "a".repeat(255))));
    }
}
