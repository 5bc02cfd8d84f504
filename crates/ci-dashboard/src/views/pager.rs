//! The links between the pages of a long list.

use std::ops::Range;

use crate::route::with_parameter;

/// The links of one page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pager {
    /// The first page, unless it is this one or the one before.
    pub(super) first: Option<String>,
    /// The page before this one, unless it is the first.
    pub(super) newer: Option<String>,
    /// The page after this one.
    pub(super) older: Option<String>,
    /// Which of how many; empty if all is on this page.
    pub(super) position: String,
}

impl Pager {
    /// The links of a page, with the number of the page, which is the last one if `page` is after it. `address` is that of the
    /// first page.
    pub(super) fn new(pages: usize, page: usize, address: &str) -> (usize, Self) {
        let pages = pages.max(1);
        let page = page.min(pages - 1);
        let href = |page: usize| match page {
            0 => address.to_owned(),
            page => with_parameter(address, "page", &page.to_string()),
        };
        let pager = Self {
            first: (page > 1).then(|| href(0)),
            newer: (page > 0).then(|| href(page - 1)),
            older: (page + 1 < pages).then(|| href(page + 1)),
            position: if pages > 1 { format!("page {} of {pages}", page + 1) } else { String::new() },
        };
        (page, pager)
    }

    /// The rows of a page of a list of `total` rows with `per_page` rows on each page, and the links.
    pub(super) fn of_rows(total: usize, per_page: usize, page: usize, address: &str) -> (Range<usize>, Self) {
        let (page, pager) = Self::new(total.div_ceil(per_page), page, address);
        (page * per_page..total.min((page + 1) * per_page), pager)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_on_one_page() {
        let links = |pager: &Pager| {
            [&pager.first, &pager.newer, &pager.older].map(|link| link.clone().unwrap_or_default())
        };
        assert_eq!(Pager::of_rows(0, 40, 0, "/ci"), (0..0, Pager::default()));
        assert_eq!(Pager::of_rows(40, 40, 3, "/ci"), (0..40, Pager::default()));
        let (rows, first) = Pager::of_rows(100, 40, 0, "/ci");
        assert_eq!((rows, first.position.as_str()), (0..40, "page 1 of 3"));
        assert_eq!(links(&first), ["", "", "/ci?page=1"]);
        let (rows, second) = Pager::of_rows(100, 40, 1, "/ci?x");
        assert_eq!((rows, links(&second)), (40..80, [String::new(), "/ci?x".into(), "/ci?x&page=2".into()]));
        let (rows, last) = Pager::of_rows(100, 40, usize::MAX, "/ci");
        assert_eq!((rows, last.position.as_str()), (80..100, "page 3 of 3"));
        assert_eq!(links(&last), ["/ci", "/ci?page=1", ""]);
    }
}
