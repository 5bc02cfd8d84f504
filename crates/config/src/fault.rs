//! An error at a line of a file. Every message is one line with the key, the error and the nearest valid name.

use crate::nearest::Hint;

/// An error in a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Invalid TOML or JSON5.
    #[error("{0}")]
    Syntax(String),
    /// An unknown key.
    #[error("unknown key {key:?}{}{hint}", within(section))]
    UnknownKey {
        /// The key.
        key: String,
        /// The table of the key.
        section: String,
        /// The nearest valid name.
        hint: Hint,
    },
    /// A required key is missing.
    #[error("{key:?} is missing{}", within(section))]
    Missing {
        /// The key.
        key: &'static str,
        /// The table of the key.
        section: String,
    },
    /// A setting is given in two spellings.
    #[error("{first:?} and {second:?} are the same setting; remove one")]
    Both {
        /// The first spelling.
        first: &'static str,
        /// The second spelling.
        second: &'static str,
    },
    /// A value of the wrong type.
    #[error("{key} must be {wanted}, not {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What was expected, with its article.
        wanted: &'static str,
        /// What was found, with its article.
        found: &'static str,
    },
    /// A number is out of range.
    #[error("{key} must be {least} to {most}, not {n}")]
    Range {
        /// The key.
        key: String,
        /// The number.
        n: i64,
        /// The minimum.
        least: i64,
        /// The maximum.
        most: i64,
    },
    /// A text that is not a name of its kind.
    #[error("{key}: {error}")]
    Name {
        /// The key.
        key: String,
        /// The error.
        error: model::NameError,
    },
    /// A text that is not a duration.
    #[error("{key}: {text:?} is not a time; write \"60s\", \"10m\" or a number of seconds")]
    Time {
        /// The key.
        key: String,
        /// The text.
        text: String,
    },
    /// An error of a section.
    #[error(transparent)]
    Section(Box<dyn std::error::Error + Send + Sync>),
}

fn within(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in {section}") }
}

/// An error and its line, from 1.
#[derive(Debug)]
pub(crate) struct Fault {
    pub line: usize,
    pub problem: Problem,
}

/// Marks the error types of sections, which convert to [`Problem`].
pub(crate) trait SectionError: std::error::Error + Send + Sync + 'static {}

impl<E: SectionError> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::Section(Box::new(error))
    }
}
