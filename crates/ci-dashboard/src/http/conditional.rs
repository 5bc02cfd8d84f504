//! Conditional and range requests (RFC 9110, sections 13 and 14) as functions over headers.
//!
//! A request for several ranges gets the complete representation, as the RFC allows.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use headers::{ETag, Header as _, HeaderMapExt as _, IfModifiedSince, IfNoneMatch, IfRange, LastModified};
use http::header::{self, HeaderMap};

/// The validators of a representation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// Its entity tag.
    pub etag: Option<ETag>,
    /// The time of its last change, in seconds.
    pub modified: Option<LastModified>,
}

impl Validators {
    /// The validators of a body in memory. The tag is weak, because the compressed and the plain body have the same
    /// tag.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { etag: format!("W/\"{}\"", short_digest(bytes)).parse().ok(), modified: None }
    }

    /// The validators of a stored file, derived from its length, mtime and inode.
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
        Self { etag: etag.parse().ok(), modified: metadata.modified().ok().map(LastModified::from) }
    }

    /// Of a stored file with a tag of its own, which changes with its content.
    #[must_use]
    pub fn of_tag(tag: &str, modified: Option<SystemTime>) -> Self {
        Self { etag: format!("\"{tag}\"").parse().ok(), modified: modified.map(LastModified::from) }
    }

    /// Writes `ETag` and `Last-Modified`.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(etag) = &self.etag {
            headers.typed_insert(etag.clone());
        }
        if let Some(modified) = self.modified {
            headers.typed_insert(modified);
        }
    }
}

/// 96 bits of the SHA-256 of `bytes`, as hexadecimal digits.
#[must_use]
pub fn short_digest(bytes: &[u8]) -> String {
    fsx::digest::hex(&fsx::digest::sha256(bytes)[..12])
}

/// The response to a conditional or range request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The complete representation.
    Full,
    /// No body, because the client has it.
    NotModified,
    /// These bytes, both ends included.
    Partial(RangeInclusive<u64>),
    /// An error: the range is outside the representation.
    Unsatisfiable,
}

/// Evaluates the conditions of a `GET` or `HEAD` against a representation of `length` bytes.
#[must_use]
pub fn evaluate(request: &HeaderMap, validators: &Validators, length: u64) -> Selection {
    if not_modified(request, validators) {
        return Selection::NotModified;
    }
    let Some(range) = request.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Selection::Full;
    };
    if request.contains_key(header::IF_RANGE) && !if_range_holds(request, validators) {
        return Selection::Full;
    }
    match parse_range(range, length) {
        None => Selection::Full,
        Some(None) => Selection::Unsatisfiable,
        Some(Some(range)) => Selection::Partial(range),
    }
}

/// Whether the client has the current representation.
#[must_use]
pub fn not_modified(request: &HeaderMap, validators: &Validators) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let tags = request.typed_get::<IfNoneMatch>();
        let both = tags.zip(validators.etag.as_ref());
        return both.is_some_and(|(tags, etag)| !tags.precondition_passes(etag));
    }
    let since = request.typed_get::<IfModifiedSince>();
    let both = since.zip(validators.modified);
    both.is_some_and(|(since, modified)| !since.is_modified(SystemTime::from(modified)))
}

/// The date must be equal (RFC 9110, section 13.1.5), but the `headers` crate accepts a later one too.
fn if_range_holds(request: &HeaderMap, validators: &Validators) -> bool {
    let date = LastModified::decode(&mut request.get_all(header::IF_RANGE).iter()).ok();
    if date.is_some() {
        return date == validators.modified;
    }
    let tag = request.typed_get::<IfRange>();
    tag.is_some_and(|tag| !tag.is_modified(validators.etag.as_ref(), None))
}

/// Returns `None` if it is not a single valid range, so that it is ignored, and `Some(None)` if the range is outside
/// the representation.
///
/// `headers::Range` refuses a suffix that is longer than the representation, and cannot distinguish an invalid range
/// from an unsatisfiable one.
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

/// Whether an `Accept-Encoding` header accepts this coding.
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
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn validators() -> Validators {
        let modified = UNIX_EPOCH + Duration::from_secs(784_111_777);
        Validators { etag: "\"abc\"".parse().ok(), modified: Some(modified.into()) }
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-9", Selection::Partial(0..=9)),
            ("bytes=90-", Selection::Partial(90..=99)),
            ("bytes=-10", Selection::Partial(90..=99)),
            ("bytes=-1000", Selection::Partial(0..=99)),
            ("bytes=50-1000", Selection::Partial(50..=99)),
            ("bytes=100-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=9-0", Selection::Full),
            ("bytes=0-1,5-6", Selection::Full),
            ("bytes=a-b", Selection::Full),
            ("bytes=+1-2", Selection::Full),
            ("lines=0-1", Selection::Full),
        ] {
            let selection = evaluate(&headers(&[(header::RANGE, range)]), &validators(), 100);
            assert_eq!(selection, expected, "{range}");
        }
        assert_eq!(
            evaluate(&headers(&[(header::RANGE, "bytes=0-")]), &validators(), 0),
            Selection::Unsatisfiable
        );
    }

    #[test]
    fn conditions() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:49:38 GMT";
        let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (pairs, expected) in [
            (vec![(header::IF_NONE_MATCH, "\"x\", W/\"abc\"")], Selection::NotModified),
            (vec![(header::IF_NONE_MATCH, "*")], Selection::NotModified),
            (vec![(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, later)], Selection::Full),
            (vec![(header::IF_MODIFIED_SINCE, date)], Selection::NotModified),
            (vec![(header::IF_MODIFIED_SINCE, earlier)], Selection::Full),
            (vec![(header::IF_MODIFIED_SINCE, "yesterday")], Selection::Full),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, "\"abc\"")], Selection::Partial(1..=2)),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, "W/\"abc\"")], Selection::Full),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, date)], Selection::Partial(1..=2)),
            (vec![(header::RANGE, "bytes=1-2"), (header::IF_RANGE, later)], Selection::Full),
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
        fn a_partial_response_is_within_the_representation(range in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0u64..3000) {
            let mut map = HeaderMap::new();
            map.insert(header::RANGE, HeaderValue::from_str(&range).unwrap());
            if let Selection::Partial(range) = evaluate(&map, &Validators::default(), length) {
                proptest::prop_assert!(range.start() <= range.end() && *range.end() < length);
            }
        }
    }
}
