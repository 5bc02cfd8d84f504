//! A commit, as displayed on pages: id, subject, author, age, and a link to the web pages of its repository.

use model::{BranchRef, CommitId};
use results::{Authorship, BranchEntry};

use super::Context;
use crate::page::{When, cut, subject};

/// The maximum length of a subject, in bytes.
const SUBJECT_MAX: usize = 160;
/// The maximum length of a name, in bytes.
const NAME_MAX: usize = 60;

/// A commit.
#[derive(Debug, Clone)]
pub struct CommitLink {
    /// The first twelve digits of its id.
    pub short: String,
    /// Its subject, truncated.
    pub subject: String,
    /// The address of its page.
    pub href: String,
    /// The name of the author, truncated; empty if unknown.
    pub author: String,
    /// When it was committed.
    pub date: Option<When>,
    /// Its address on the web, if the configuration has one.
    pub web: Option<String>,
    /// Whether its subject is shown; it is not if the row above has the same commit.
    pub is_named: bool,
}

impl CommitLink {
    /// A commit of a listing.
    #[must_use]
    pub fn listed(context: Context<'_>, at: &BranchRef, entry: &BranchEntry) -> Self {
        Self::new(context, Some(at), &entry.commit, &entry.message, &entry.authorship)
    }

    /// A link to the commit, on a branch if it is known.
    #[must_use]
    pub fn new(
        context: Context<'_>,
        at: Option<&BranchRef>,
        commit: &CommitId,
        message: &str,
        authorship: &Authorship,
    ) -> Self {
        Self {
            short: commit.short().into(),
            subject: subject(message, SUBJECT_MAX),
            href: context.links().commit(at, commit.as_str()),
            author: author(authorship),
            date: When::unix(authorship.date),
            web: context.repos.web_address(at, commit),
            is_named: true,
        }
    }
}

/// The name of the author on one line.
#[must_use]
pub fn author(authorship: &Authorship) -> String {
    cut(&authorship.name().replace(char::is_control, " "), NAME_MAX)
}

/// Names a commit only in the first of the successive rows that have it.
pub fn unname_repeated<'a>(rows: impl IntoIterator<Item = &'a mut CommitLink>) {
    let mut above = String::new();
    for row in rows {
        row.is_named = row.href != above;
        above.clone_from(&row.href);
    }
}
