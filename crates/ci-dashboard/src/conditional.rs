//! Conditional and range requests (RFC 9110, sections 13 and 14) as functions over headers.
//!
//! A list of several ranges is answered with the whole, which the RFC allows and every client copes with.

use std::ops::RangeInclusive;

use http::header::{self, HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use sha2::Digest;

/// What a representation is compared by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, with its quotes.
    pub etag: Option<String>,
    /// When it last changed, to the second.
    pub modified: Option<Timestamp>,
}

impl Validators {
    /// The tag of a body in memory: 96 bits of its SHA-256. Compressed and plain share it, so it is weak.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let digest = sha2::Sha256::digest(bytes);
        let mut etag = String::from("W/\"");
        for byte in &digest[..12] {
            etag.push_str(&format!("{byte:02x}"));
        }
        etag.push('"');
        Self { etag: Some(etag), modified: None }
    }

    /// The tag of a stored file: its length, time of change and inode.
    #[must_use]
    pub fn of_file(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let etag = format!(
            "\"{:x}-{:x}{:08x}-{:x}\"",
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ino()
        );
        Self { etag: Some(etag), modified: Timestamp::from_second(metadata.mtime()).ok() }
    }

    /// Writes `ETag` and `Last-Modified`.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.etag.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::ETAG, value);
        }
        let printed =
            self.modified.and_then(|at| DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok());
        if let Some(value) = printed.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::LAST_MODIFIED, value);
        }
    }
}

/// What a request's conditions and range come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send all of it.
    Full,
    /// The client has it already.
    NotModified,
    /// Send these bytes, both ends included.
    Partial(RangeInclusive<u64>),
    /// None of the bytes that were asked for is there.
    Unsatisfiable,
}

/// Weighs the conditions of a `GET` or `HEAD` against a representation of `length` bytes.
#[must_use]
pub fn evaluate(request: &HeaderMap, validators: &Validators, length: u64) -> Outcome {
    if not_modified(request, validators) {
        return Outcome::NotModified;
    }
    let text = |name| text(request, name);
    let Some(range) = text(header::RANGE) else { return Outcome::Full };
    if let Some(condition) = text(header::IF_RANGE)
        && !if_range_holds(condition, validators)
    {
        return Outcome::Full;
    }
    match parse_range(range, length) {
        None => Outcome::Full,
        Some(None) => Outcome::Unsatisfiable,
        Some(Some(range)) => Outcome::Partial(range),
    }
}

fn text(request: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    request.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
}

/// Whether the client has it already.
#[must_use]
pub fn not_modified(request: &HeaderMap, validators: &Validators) -> bool {
    if let Some(tags) = text(request, header::IF_NONE_MATCH) {
        return validators.etag.as_deref().is_some_and(|etag| matches_weakly(tags, etag));
    }
    let since = text(request, header::IF_MODIFIED_SINCE).and_then(parse_date);
    since.zip(validators.modified).is_some_and(|(since, modified)| modified.as_second() <= since.as_second())
}

fn matches_weakly(tags: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags.trim() == "*" || tags.split(',').any(|tag| bare(tag) == bare(etag))
}

fn if_range_holds(condition: &str, validators: &Validators) -> bool {
    let condition = condition.trim();
    if condition.starts_with('"') {
        return validators.etag.as_deref() == Some(condition);
    }
    match (parse_date(condition), validators.modified) {
        (Some(date), Some(modified)) => date.as_second() == modified.as_second(),
        _ => false,
    }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// `None`: not a range we read, send all; `Some(None)`: nothing of it is there.
fn parse_range(text: &str, length: u64) -> Option<Option<RangeInclusive<u64>>> {
    let spec = text.trim().strip_prefix("bytes=")?.trim();
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if first.is_empty() {
        if !digits(last) {
            return None;
        }
        let count = last.parse::<u64>().unwrap_or(u64::MAX).min(length);
        return Some((count > 0).then(|| length - count..=length - 1));
    }
    if !digits(first) || !(last.is_empty() || digits(last)) {
        return None;
    }
    let first = first.parse::<u64>().unwrap_or(u64::MAX);
    let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().unwrap_or(u64::MAX) };
    if end < first {
        return None;
    }
    Some((first < length).then(|| first..=end.min(length - 1)))
}

/// Whether an `Accept-Encoding` takes this coding.
#[must_use]
pub fn accepts(header: &str, coding: &str) -> bool {
    let mut any = None;
    for item in header.split(',') {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let refused = parameters
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
        let name = name.trim();
        if name.eq_ignore_ascii_case(coding) {
            return !refused;
        }
        if name == "*" {
            any = Some(!refused);
        }
    }
    any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn validators() -> Validators {
        Validators { etag: Some("\"abc\"".into()), modified: Timestamp::from_second(784_111_777).ok() }
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-9", Outcome::Partial(0..=9)),
            ("bytes=90-", Outcome::Partial(90..=99)),
            ("bytes=-10", Outcome::Partial(90..=99)),
            ("bytes=-1000", Outcome::Partial(0..=99)),
            ("bytes=50-1000", Outcome::Partial(50..=99)),
            ("bytes=100-", Outcome::Unsatisfiable),
            ("bytes=99999999999999999999999-", Outcome::Unsatisfiable),
            ("bytes=-0", Outcome::Unsatisfiable),
            ("bytes=9-0", Outcome::Full),
            ("bytes=0-1,5-6", Outcome::Full),
            ("bytes=a-b", Outcome::Full),
            ("bytes=+1-2", Outcome::Full),
            ("lines=0-1", Outcome::Full),
        ] {
            let outcome = evaluate(&headers(&[(header::RANGE, range)]), &validators(), 100);
            assert_eq!(outcome, expected, "{range}");
        }
        assert_eq!(
            evaluate(&headers(&[(header::RANGE, "bytes=0-")]), &validators(), 0),
            Outcome::Unsatisfiable
        );
    }

    #[test]
    fn conditions() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:49:38 GMT";
        let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (pairs, expected) in [
            (vec![(header::IF_NONE_MATCH, "\"x\", W/\"abc\"")], Outcome::NotModified),
            (vec![(header::IF_NONE_MATCH, "*")], Outcome::NotModified),
            (vec![(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, later)], Outcome::Full),
            (vec![(header::IF_MODIFIED_SINCE, date)], Outcome::NotModified),
            (vec![(header::IF_MODIFIED_SINCE, earlier)], Outcome::Full),
            (vec![(header::IF_MODIFIED_SINCE, "yesterday")], Outcome::Full),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, "\"abc\"")], Outcome::Partial(1..=2)),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, "W/\"abc\"")], Outcome::Full),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, date)], Outcome::Partial(1..=2)),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, later)], Outcome::Full),
        ] {
            assert_eq!(evaluate(&headers(&pairs), &validators(), 100), expected, "{pairs:?}");
        }
    }

    #[test]
    fn encodings() {
        assert!(accepts("gzip, br", "br"));
        assert!(accepts("br;q=0.5", "br"));
        assert!(!accepts("br;q=0, *", "br"));
        assert!(accepts("*", "gzip"));
        assert!(!accepts("", "gzip"));
    }

    proptest::proptest! {
        #[test]
        fn a_partial_answer_lies_inside(range in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0u64..3000) {
            let mut map = HeaderMap::new();
            map.insert(header::RANGE, HeaderValue::from_str(&range).unwrap());
            if let Outcome::Partial(range) = evaluate(&map, &Validators::default(), length) {
                proptest::prop_assert!(range.start() <= range.end() && *range.end() < length);
            }
        }
    }
}
