//! Long lists of commits, in pages.

use std::ops::Range;

use model::CommitId;

use super::pager::Pager;
use crate::problem::Problem;

/// The maximum number of commits on a page.
pub(super) const COMMITS_MAX: usize = 50;

/// The commits on one page, and links to the other pages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommitPages {
    /// The commits of this page, the newest of all is 0.
    pub rows: Range<usize>,
    /// The links.
    pub pager: Pager,
}

impl CommitPages {
    /// The page that begins with the commit `from`. `address` is that of the first page.
    pub(super) fn new<'a>(
        commits: impl Iterator<Item = &'a CommitId>,
        from: Option<&CommitId>,
        address: &str,
    ) -> Result<Self, Problem> {
        let commits: Vec<&CommitId> = commits.collect();
        let total = commits.len();
        let href = |row: usize| match row {
            0 => address.to_owned(),
            row => format!("{address}&from={}", commits[row]),
        };
        let start = match from {
            None => 0,
            Some(from) => commits
                .iter()
                .position(|commit| *commit == from)
                .ok_or_else(|| Problem::NotFound("this commit is not on the branch".into()))?,
        };
        let end = total.min(start + COMMITS_MAX);
        let newer = start.saturating_sub(COMMITS_MAX);
        let position = format!("commits {} to {end} of {total}", start + 1);
        let pager = Pager {
            first: (newer > 0).then(|| href(0)),
            newer: (start > 0).then(|| href(newer)),
            older: (end < total).then(|| href(end)),
            position: if end - start < total { position } else { String::new() },
        };
        Ok(Self { rows: start..end, pager })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(total: usize, from: Option<usize>) -> CommitPages {
        let ids: Vec<CommitId> = (0..total).map(|row| format!("{row:040x}").parse().unwrap()).collect();
        let from = from.map(|row| &ids[row]);
        CommitPages::new(ids.iter(), from, "/b").unwrap()
    }

    #[test]
    fn each_commit_is_on_one_page() {
        let href = |row: u32| if row == 0 { "/b".to_string() } else { format!("/b&from={row:040x}") };
        let links = |page: &CommitPages| {
            [&page.pager.first, &page.pager.newer, &page.pager.older]
                .map(|link| link.clone().unwrap_or_default())
        };
        assert_eq!((page(0, None).rows, page(0, None).pager.position), (0..0, String::new()));
        assert_eq!((page(50, None).rows, page(50, None).pager.position), (0..50, String::new()));
        let first = page(120, None);
        assert_eq!((first.rows.clone(), first.pager.position.as_str()), (0..50, "commits 1 to 50 of 120"));
        assert_eq!(links(&first), [String::new(), String::new(), href(50)]);
        let second = page(120, Some(50));
        assert_eq!((second.rows.clone(), links(&second)), (50..100, [String::new(), href(0), href(100)]));
        let last = page(120, Some(100));
        assert_eq!(
            (last.rows.clone(), last.pager.position.as_str()),
            (100..120, "commits 101 to 120 of 120")
        );
        assert_eq!(links(&last), [href(0), href(50), String::new()]);
        // A link to a commit that new ones have moved.
        assert_eq!(links(&page(120, Some(3))), [String::new(), href(0), href(53)]);
    }

    #[test]
    fn a_commit_of_another_branch_is_an_error() {
        let other = "f".repeat(40).parse().unwrap();
        assert!(CommitPages::new([].iter(), Some(&other), "/b").is_err());
    }
}
