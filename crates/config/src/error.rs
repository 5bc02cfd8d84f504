//! What can be wrong with a configuration. Every message is one line: where, what, and the nearest valid name.

use std::path::PathBuf;

use crate::branch::BranchError;
use crate::group::GroupError;
use crate::hook::HookError;
use crate::host::HostError;
use crate::image::ImageError;
use crate::nearest::Hint;
use crate::repo::RepoError;
use crate::top::TopError;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error("no configuration found; write {} or name one with --config (looked at: {})",
        places.first().map(|p| p.display().to_string()).unwrap_or_default(),
        places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// A file or folder of it cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's ending says neither TOML nor JSON5.
    #[error("{}: its name ends neither in .toml nor in .json5; rename it", path.display())]
    Format {
        /// Which.
        path: PathBuf,
    },
    /// Two files speak for one user.
    #[error("{}: user {user:?} has another file, {}; keep one", path.display(), other.display())]
    TwoFiles {
        /// The second.
        path: PathBuf,
        /// The user.
        user: model::UserName,
        /// The first.
        other: PathBuf,
    },
    /// A user's file whose name cannot be a user's.
    #[error("{}: {error}; rename the file", path.display())]
    UserName {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: model::NameError,
    },
    /// Something in a file is wrong.
    #[error("{}:{line}: {what}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        what: Box<What>,
    },
}

/// What is wrong at a place of a file.
#[derive(Debug, thiserror::Error)]
pub enum What {
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
    /// In the settings of the whole farm.
    #[error(transparent)]
    Top(#[from] TopError),
    /// In a test group.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// In a branch.
    #[error(transparent)]
    Branch(#[from] BranchError),
    /// In a repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// In a root image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// In a host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// In the hook.
    #[error(transparent)]
    Hook(#[from] HookError),
}

fn within(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in {section}") }
}

/// Something wrong at a line of the file being read.
#[derive(Debug)]
pub(crate) struct Fault {
    pub line: usize,
    pub what: What,
}
