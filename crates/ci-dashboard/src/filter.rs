//! The filter of a view: `test=REGEX` and `config=NAME` for tests, `find=REGEX` for the lines of a log. Case is ignored.
//!
//! Patterns are untrusted, so their length and compiled size are limited. Matching takes time linear in the length of
//! the text, because the `regex` crate does not backtrack.

use regex::{Regex, RegexBuilder};
use regress::configurations::ConfigurationSet;

use crate::page::cut;
use crate::problem::Problem;

/// The maximum length of a pattern, in bytes.
pub const PATTERN_MAX: usize = 300;
/// The maximum size of a compiled pattern, in bytes.
const COMPILED_MAX: usize = 256 << 10;

/// A compiled filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pattern: Option<Regex>,
    /// The test configurations that match.
    configurations: Option<ConfigurationSet>,
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
            Ok(pattern) => Ok(Self { pattern: Some(pattern), configurations: None }),
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

    /// The same filter for the tests in the configurations that a parameter selects among those of these tests. Without tests, nothing
    /// matches.
    pub fn in_configurations<'a>(
        self,
        wanted: Option<&str>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Problem> {
        let Some(wanted) = wanted else { return Ok(self) };
        let configurations = ConfigurationSet::select(wanted, names).map_err(|known| {
            let nearest = config::nearest(wanted, known.iter().map(String::as_str));
            let question = nearest.question();
            Problem::NotFound(format!("no test configuration {:?}{question}", cut(wanted, 100)))
        })?;
        Ok(Self { configurations: Some(configurations), ..self })
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.pattern.is_none() && self.configurations.is_none()
    }

    /// Whether this name or line matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && self.configurations.as_ref().is_none_or(|configurations| configurations.has(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_selected() {
        let names = ["a.x", "a@ktest_arch=aarch64.x", "a@ktest_flavor=kasan.x"];
        let of = |wanted: &str| Filter::default().in_configurations(Some(wanted), names);
        let found = of("arch=aarch64").unwrap();
        assert!(found.matches(names[1]) && !found.matches(names[0]) && !found.is_all());
        assert!(of("default").unwrap().matches("other.y"));
        let error = of("kasam").unwrap_err().to_string();
        assert_eq!(error, "no test configuration \"kasam\"; did you mean \"kasan\"?");
        assert!(!Filter::default().in_configurations(Some("x"), []).unwrap().matches("a.x"));
    }

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
