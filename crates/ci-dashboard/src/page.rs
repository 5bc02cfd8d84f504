//! The frame of every page, and the formats of statuses, counts, times and durations.
//!
//! A status is never indicated by color alone: it also has a symbol and a label.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use model::{Counts, KeyParts, Status};

use crate::assets;
use crate::route::Links;

/// The frame of a page.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// The title of the window.
    pub title: String,
    /// The state in one line, for previews of a link.
    pub description: String,
    /// The links of the site.
    pub links: Links<'a>,
    /// The breadcrumbs; the last one is this page.
    pub crumbs: Vec<Crumb>,
    /// The interval at which the script refreshes the page, in seconds; 0 if it does not.
    pub live: u32,
    /// The address of the JSON view.
    pub json: Option<String>,
    /// The address of the feed.
    pub feed: Option<String>,
}

/// A breadcrumb.
#[derive(Debug, Clone)]
pub struct Crumb {
    /// Its text.
    pub label: String,
    /// Its address; `None` for the page itself.
    pub href: Option<String>,
}

impl Crumb {
    /// A breadcrumb with a link.
    #[must_use]
    pub fn link(label: impl Into<String>, href: String) -> Self {
        Self { label: label.into(), href: Some(href) }
    }

    /// The breadcrumb of the page itself.
    #[must_use]
    pub fn here(label: impl Into<String>) -> Self {
        Self { label: label.into(), href: None }
    }
}

impl<'a> Page<'a> {
    /// A page that is not refreshed.
    #[must_use]
    pub fn new(title: impl Into<String>, links: Links<'a>, crumbs: Vec<Crumb>) -> Self {
        Self {
            title: format!("{} · ktest-ci", title.into()),
            description: "Test results of Linux kernel branches".into(),
            links,
            crumbs,
            live: 0,
            json: None,
            feed: None,
        }
    }

    /// The address of an asset.
    #[must_use]
    pub fn asset(&self, name: &str) -> String {
        format!("{}/ci/{}", self.links.mount, assets::hashed(name))
    }

    /// The address of the list of users.
    #[must_use]
    pub fn home(&self) -> String {
        self.links.home()
    }

    /// The address of the live status.
    #[must_use]
    pub fn status(&self) -> String {
        self.links.status()
    }

    /// The version of this program.
    #[must_use]
    pub fn version(&self) -> &'static str {
        model::build::version()
    }
}

/// The symbol of a status, for readers who cannot distinguish the colors.
pub trait Symbol {
    /// One character.
    fn symbol(&self) -> &'static str;
}

impl Symbol for Status {
    fn symbol(&self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Failed => "✗",
            Self::NotRun => "–",
            Self::FailedToRun => "!",
            Self::InProgress => "▸",
            Self::Unknown => "?",
            Self::Flaky => "≈",
        }
    }
}

/// The position of a status in the order of urgency.
#[must_use]
pub fn urgency(status: Status) -> usize {
    Status::BY_URGENCY.iter().position(|other| *other == status).unwrap_or(Status::BY_URGENCY.len())
}

/// The number of tests with one status.
#[derive(Debug, Clone)]
pub struct CountItem {
    /// The status.
    pub status: Status,
    /// Its symbol.
    pub symbol: &'static str,
    /// The number; 0 if the label says all.
    pub count: u32,
    /// Its label: `failed`.
    pub label: String,
}

/// The counts that are not zero, most urgent first.
#[must_use]
pub fn count_items(counts: &Counts) -> Vec<CountItem> {
    counts
        .by_urgency()
        .map(|(status, count)| CountItem {
            status,
            symbol: status.symbol(),
            count,
            label: status.label().to_lowercase(),
        })
        .collect()
}

/// A duration.
#[derive(Debug, Clone, Copy)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.as_millis());
        match seconds {
            _ if millis == 0 => Ok(()),
            0 if millis < 100 => write!(f, "{millis} ms"),
            0..10 if !millis.is_multiple_of(1000) => write!(f, "{}.{} s", seconds, (millis % 1000) / 100),
            0..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            _ => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
        }
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_000 => write!(f, "{bytes} B"),
            bytes @ 10_000..10_240_000 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

/// A time, printed in full; the script replaces it with an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(Timestamp);

impl When {
    /// A time in Unix seconds; `None` if it is out of range.
    #[must_use]
    pub fn unix(seconds: i64) -> Option<Self> {
        if seconds <= 0 {
            return None;
        }
        Timestamp::from_second(seconds).ok().map(Self)
    }

    /// The value of the attribute `datetime`.
    #[must_use]
    pub fn iso(&self) -> impl fmt::Display {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ")
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%d %H:%M"))
    }
}

/// The text, truncated to about `limit` bytes, with an ellipsis if it was longer.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A subject for a list: one line, truncated, never empty.
#[must_use]
pub fn subject(message: &str, limit: usize) -> String {
    // A message can be a megabyte long; only its start is needed.
    let mut head_end = message.len().min(limit * 4 + 256);
    while !message.is_char_boundary(head_end) {
        head_end -= 1;
    }
    let line = message[..head_end].trim_start().lines().next().unwrap_or("").trim_end();
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.is_empty() { "(no message)".into() } else { cut(&line, limit) }
}

/// The reason without a leading crash title.
#[must_use]
pub fn beyond_crash<'a>(reason: Option<&'a str>, crash: Option<&str>) -> &'a str {
    let reason = reason.unwrap_or("");
    let rest = crash.and_then(|crash| reason.strip_prefix(crash));
    rest.map_or(reason, |rest| rest.trim_start_matches([':', ' ']))
}

/// A test with its configuration, for readers: `fs.ext4.basic.punch (aarch64, kasan)`.
#[must_use]
pub fn test_label(key: &str) -> String {
    let parts = KeyParts::of(key);
    let test = cut(&parts.test(), 160);
    if parts.configuration.is_default() {
        test
    } else {
        format!("{test} ({})", cut(&parts.configuration.to_string(), 100))
    }
}

/// Splits a result key after the last dot.
#[must_use]
pub fn split_key(key: &str) -> (&str, &str) {
    match key.rfind('.') {
        Some(dot) if dot + 1 < key.len() => key.split_at(dot + 1),
        _ => ("", key),
    }
}

/// Formats a number with its noun.
pub trait Plural {
    /// `1 commit`, `2 commits`.
    fn plural<'a>(&self, noun: &'a str) -> Number<'a>;
}

impl Plural for usize {
    fn plural<'a>(&self, noun: &'a str) -> Number<'a> {
        Number(*self, noun)
    }
}

/// See [`Plural`].
#[derive(Debug, Clone, Copy)]
pub struct Number<'a>(usize, &'a str);

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded() {
        let took = |ms| Took(Duration::from_millis(ms)).to_string();
        assert_eq!(took(0), "");
        assert_eq!(took(62), "62 ms");
        assert_eq!(took(430), "0.4 s");
        assert_eq!(took(9_940), "9.9 s");
        assert_eq!(took(12_000), "12 s");
        assert_eq!(took(3_599_000), "59 min");
        assert_eq!(took(8_000_000), "2 h 13 min");
    }

    #[test]
    fn text_is_truncated_at_characters() {
        assert_eq!(subject("\n ext4: fix\u{1b}[31m it\nbody", 60), "ext4: fix [31m it");
        assert_eq!(subject("", 60), "(no message)");
        assert_eq!(subject(&"é".repeat(1_000_000), 5), "éé…");
        assert_eq!(split_key("fs.xfs.fstests.generic.001"), ("fs.xfs.fstests.generic.", "001"));
        assert_eq!(beyond_crash(Some("BUG in x: BUG: null"), Some("BUG in x")), "BUG: null");
        assert_eq!(beyond_crash(Some("x"), Some("x")), "");
        assert_eq!(beyond_crash(Some("x"), None), "x");
        assert_eq!(split_key("boot"), ("", "boot"));
        assert_eq!(test_label("fs.a@ktest_arch=aarch64.x"), "fs.a.x (aarch64)");
        assert_eq!(test_label("fs.a.x"), "fs.a.x");
        assert_eq!(split_key("boot."), ("", "boot."));
    }
}
