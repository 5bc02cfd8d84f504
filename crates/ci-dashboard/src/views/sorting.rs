//! The order of a table, which the heads of its columns select: `&sort=NAME`, or `&sort=-NAME` for the reverse.

use std::cmp::Ordering;

use config::Hint;

use crate::problem::Problem;

/// A column of a table.
pub(super) struct Column<R> {
    /// The name in the address; empty for a column without an order.
    name: &'static str,
    label: &'static str,
    class: &'static str,
    /// The order of the rows after the first click.
    order: fn(&R, &R) -> Ordering,
    /// Whether this order has the largest values first.
    descending: bool,
}

impl<R> Column<R> {
    /// A column with the smallest values first. `name` and `label` are for the address and for readers.
    pub(super) const fn up(
        (name, label): (&'static str, &'static str),
        class: &'static str,
        order: fn(&R, &R) -> Ordering,
    ) -> Self {
        Self { name, label, class, order, descending: false }
    }

    /// A column with the largest values first.
    pub(super) const fn down(
        names: (&'static str, &'static str),
        class: &'static str,
        order: fn(&R, &R) -> Ordering,
    ) -> Self {
        Self { descending: true, ..Self::up(names, class, order) }
    }

    /// A column without an order.
    pub(super) const fn plain(label: &'static str) -> Self {
        Self::plain_in(label, "")
    }

    /// The same with a class.
    pub(super) const fn plain_in(label: &'static str, class: &'static str) -> Self {
        Self::up(("", label), class, |_, _| Ordering::Equal)
    }
}

/// The head of a column.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) label: &'static str,
    pub(super) class: &'static str,
    /// The address of the table in the order of this column, or in the reverse; empty for a column without an order.
    pub(super) href: String,
    /// `ascending` or `descending`; empty if the table has another order.
    pub(super) order: &'static str,
    pub(super) mark: &'static str,
}

/// Sorts the rows of a table by the column of this name. Without one they stay as they are. `address` is that of the table.
pub(super) fn sort<R>(
    rows: &mut [R],
    columns: &[Column<R>],
    by: Option<&str>,
    address: &str,
) -> Result<Vec<Head>, Problem> {
    let by = by.map(|by| by.strip_prefix('-').map_or((by, false), |name| (name, true)));
    if let Some((name, reversed)) = by {
        let mut named = columns.iter().filter(|column: &&Column<R>| !column.name.is_empty());
        let Some(column) = named.find(|column| column.name == name) else {
            return Err(unknown(name, columns));
        };
        rows.sort_by(|a, b| if reversed { (column.order)(b, a) } else { (column.order)(a, b) });
    }
    let head = |column: &Column<R>| {
        let reversed = by.filter(|(name, _)| *name == column.name).map(|(_, reversed)| reversed);
        let next = if reversed == Some(false) { "-" } else { "" };
        let (order, mark) = match reversed.map(|reversed| reversed == column.descending) {
            _ if column.name.is_empty() => ("", ""),
            Some(true) => ("ascending", "▲"),
            Some(false) => ("descending", "▼"),
            None => ("", ""),
        };
        let href = format!("{address}&sort={next}{}", column.name);
        let href = if column.name.is_empty() { String::new() } else { href };
        Head { label: column.label, class: column.class, href, order, mark }
    };
    Ok(columns.iter().map(head).collect())
}

/// The names of the columns with an order.
pub(super) fn names<R>(columns: &[Column<R>]) -> impl Iterator<Item = &'static str> {
    columns.iter().map(|column| column.name).filter(|name| !name.is_empty())
}

fn unknown<R>(name: &str, columns: &[Column<R>]) -> Problem {
    no_column(name, names(columns))
}

fn no_column(name: &str, names: impl Iterator<Item = &'static str>) -> Problem {
    let hint = Hint::new("columns", name, names);
    Problem::BadRequest(format!("this table has no column {name:?}{hint}"))
}

/// The order of a page with several tables: one of them has the column, the others stay as they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageOrder<'a> {
    by: Option<&'a str>,
    /// The address of the page.
    pub(super) address: &'a str,
}

impl<'a> PageOrder<'a> {
    /// The order `by`, which is a column with one of these names.
    pub(super) fn new(
        by: Option<&'a str>,
        address: &'a str,
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Self, Problem> {
        let (name, names) = (by.map(|by| by.strip_prefix('-').unwrap_or(by)), names.collect::<Vec<_>>());
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            return Err(no_column(name, names.into_iter()));
        }
        Ok(Self { by, address })
    }

    /// The order, if the table with these columns has it.
    pub(super) fn of<R>(&self, columns: &[Column<R>]) -> Option<&'a str> {
        self.by.filter(|by| names(columns).any(|name| name == by.strip_prefix('-').unwrap_or(by)))
    }

    /// Sorts the rows of a table of the page. Returns its heads.
    pub(super) fn sort<R>(&self, rows: &mut [R], columns: &[Column<R>]) -> Result<Vec<Head>, Problem> {
        sort(rows, columns, self.of(columns), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column<(u32, &str)>; 3] = [
        Column::up(("name", "Name"), "", |a, b| a.1.cmp(b.1)),
        Column::down(("count", "Count"), "num", |a, b| b.0.cmp(&a.0)),
        Column::plain("Other"),
    ];

    fn sorted(by: Option<&str>) -> (Vec<u32>, Vec<String>) {
        let mut rows = [(2, "b"), (1, "c"), (3, "a"), (2, "d")];
        let heads = sort(&mut rows, &COLUMNS, by, "/ci?x").unwrap();
        let heads = heads.iter().map(|head| format!("{} {} {}", head.label, head.order, head.href)).collect();
        (rows.map(|(count, _)| count).to_vec(), heads)
    }

    #[test]
    fn heads_select_an_order_and_its_reverse() {
        let (rows, heads) = sorted(None);
        assert_eq!(rows, [2, 1, 3, 2]);
        assert_eq!(heads, ["Name  /ci?x&sort=name", "Count  /ci?x&sort=count", "Other  "]);
        assert_eq!(sorted(Some("name")).0, [3, 2, 1, 2]);
        let (rows, heads) = sorted(Some("count"));
        assert_eq!((rows, heads[1].as_str()), (vec![3, 2, 2, 1], "Count descending /ci?x&sort=-count"));
        let (rows, heads) = sorted(Some("-count"));
        assert_eq!((rows, heads[1].as_str()), (vec![1, 2, 2, 3], "Count ascending /ci?x&sort=count"));
    }

    #[test]
    fn one_table_of_a_page_is_sorted() {
        const OTHERS: [Column<u32>; 1] = [Column::up(("id", "Id"), "", u32::cmp)];
        let all = || names(&COLUMNS).chain(names(&OTHERS));
        let order = PageOrder::new(Some("-id"), "/ci?x", all()).unwrap();
        let (mut rows, mut ids) = ([(2, "b"), (1, "c")], [1, 3, 2]);
        assert!(order.sort(&mut rows, &COLUMNS).unwrap().iter().all(|head| head.order.is_empty()));
        assert_eq!(order.sort(&mut ids, &OTHERS).unwrap()[0].order, "descending");
        assert_eq!((rows, ids), ([(2, "b"), (1, "c")], [3, 2, 1]));
        assert!(PageOrder::new(Some("ids"), "/ci?x", all()).unwrap_err().to_string().contains("\"id\""));
    }

    #[test]
    fn an_unknown_column_has_the_nearest_name() {
        for by in ["cont", "-cont", ""] {
            let problem = sort(&mut [(1, "a")], &COLUMNS, Some(by), "/").unwrap_err().to_string();
            assert!(
                problem.starts_with(&format!("this table has no column {:?}", by.trim_start_matches('-'))),
                "{problem}"
            );
        }
        let problem = sort(&mut [(1, "a")], &COLUMNS, Some("cont"), "/").unwrap_err().to_string();
        assert!(problem.contains("\"count\""), "{problem}");
    }
}
