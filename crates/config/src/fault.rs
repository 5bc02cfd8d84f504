//! A mistake at a line of a file. Every message is one line: the key, the mistake, the nearest valid name.

use crate::nearest::Hint;

/// A mistake in a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not TOML or JSON5 at all.
    #[error("{0}")]
    Syntax(String),
    /// A key that means nothing there.
    #[error("unknown key {key:?}{}{hint}", within(section))]
    UnknownKey {
        /// The key.
        key: String,
        /// The table it stands in.
        section: String,
        /// What it may have been meant to be.
        hint: Hint,
    },
    /// A key that must be there.
    #[error("{key:?} is missing{}", within(section))]
    Missing {
        /// The key.
        key: &'static str,
        /// The table it should stand in.
        section: String,
    },
    /// Two spellings of one setting.
    #[error("{first:?} and {second:?} mean the same; keep one")]
    Both {
        /// The one.
        first: &'static str,
        /// The other.
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
    /// A number out of its range.
    #[error("{key} must be {least} to {most}, not {n}")]
    Range {
        /// The key.
        key: String,
        /// The number.
        n: i64,
        /// The least it may be.
        least: i64,
        /// The most it may be.
        most: i64,
    },
    /// A text that is not a name of its kind.
    #[error("{key}: {error}")]
    Name {
        /// The key.
        key: String,
        /// Why not.
        error: model::NameError,
    },
    /// A text that is not a span of time.
    #[error("{key}: {text:?} is not a time; write \"60s\", \"10m\" or a number of seconds")]
    Time {
        /// The key.
        key: String,
        /// The text.
        text: String,
    },
    /// A setting that its section refuses; the error of that section.
    #[error(transparent)]
    Section(Box<dyn std::error::Error + Send + Sync>),
}

fn within(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in {section}") }
}

/// A mistake and the line (from 1) on which it is.
#[derive(Debug)]
pub(crate) struct Fault {
    pub line: usize,
    pub problem: Problem,
}

/// The error of a section: marked so that it becomes a [`Problem`].
pub(crate) trait SectionError: std::error::Error + Send + Sync + 'static {}

impl<E: SectionError> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::Section(Box::new(error))
    }
}
