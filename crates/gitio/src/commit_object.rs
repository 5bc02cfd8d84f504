//! Parses the content of a commit object as tolerantly as `git log`. Only the tree and the parents must be well-formed:
//! git lists commits without an author, without a date or with an unknown encoding, so such a commit must not hide its
//! branch.

use encoding_rs::{Encoding, REPLACEMENT};
use gix::ObjectId;

/// A commit object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommitObject {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    /// The committer date as git compares dates: 0 if it cannot be parsed, and larger than all others if it is
    /// negative.
    pub(crate) date: u64,
    /// Name and address of the author, in UTF-8; empty if it is missing.
    pub(crate) author: String,
    /// In UTF-8, from its first non-empty line to the first NUL.
    pub(crate) message: String,
}

/// Parses a commit object; `None` if the tree or a parent is malformed, for which `git log` fails, too.
pub(crate) fn parse(data: &[u8]) -> Option<CommitObject> {
    let (head, message) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..=at], &data[at + 2..]),
        None => (data, &data[data.len()..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n').peekable();
    let tree = object_id(lines.next()?.strip_prefix(b"tree ")?)?;
    let mut parents = Vec::new();
    while let Some(parent) = lines.peek().and_then(|line| line.strip_prefix(b"parent ")) {
        parents.push(object_id(parent)?);
        lines.next();
    }
    let author_line = lines.next().filter(|line| line.starts_with(b"author "));
    let committer = author_line.zip(lines.next()).and_then(|(_, line)| line.strip_prefix(b"committer "));
    let encoding = head.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"encoding "));
    Some(CommitObject {
        tree,
        parents,
        date: committer.map_or(0, date_of),
        author: author_line
            .map_or_else(String::new, |line| text(name_of(&line[b"author ".len()..]), encoding)),
        message: text(message, encoding),
    })
}

/// A date for display and for JSON, in Unix seconds: 0 if it cannot be parsed or is out of range.
pub(crate) fn unix_seconds(date: u64) -> i64 {
    // The last second of the year 9999: formats and clients have no later date.
    i64::try_from(date).ok().filter(|seconds| *seconds <= 253_402_300_799).unwrap_or(0)
}

fn object_id(hex: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(hex).ok()
}

/// The part of an author line before the date: name and address.
fn name_of(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte == b'>').map_or(line.len(), |at| at + 1);
    &line[..end]
}

/// The number after the last `>`, parsed like `strtoumax` (`parse_commit_date` in git's commit.c).
fn date_of(line: &[u8]) -> u64 {
    let Some(end) = line.iter().rposition(|byte| *byte == b'>') else { return 0 };
    let text = line[end + 1..].trim_ascii_start();
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number =
        digits.try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    match number {
        None => u64::MAX,
        Some(number) if negative => number.wrapping_neg(),
        Some(number) => number,
    }
}

/// The message in UTF-8. With an unknown encoding, the bytes are unchanged, as in git.
fn text(message: &[u8], encoding: Option<&[u8]>) -> String {
    let message = message.split(|byte| *byte == 0).next().unwrap_or_default();
    let known = encoding.and_then(|label| match label.trim_ascii().to_ascii_lowercase().as_slice() {
        b"latin-1" => Encoding::for_label(b"iso-8859-1"),
        label => Encoding::for_label(label),
    });
    let text = match known.filter(|known| *known != REPLACEMENT) {
        Some(known) => known.decode_without_bom_handling(message).0.into_owned(),
        None => String::from_utf8_lossy(message).into_owned(),
    };
    let mut rest = text.as_str();
    while let Some((line, more)) = rest.split_once('\n').filter(|(line, _)| line.trim().is_empty()) {
        debug_assert!(line.len() < rest.len());
        rest = more;
    }
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_what_git_reads() {
        for (line, date) in [
            ("A <a@b> 1700000000 +0000", 1_700_000_000),
            ("A <a@b> 1700000000", 1_700_000_000),
            ("A <a@b>1700000000 +9999", 1_700_000_000),
            ("A <a@b>  7 nonsense", 7),
            ("A <a> b> 5 +0000", 5),
            ("A <a@b>", 0),
            ("A <a@b> ", 0),
            ("A <a@b> yesterday", 0),
            ("A <a@b> +5", 0),
            ("A a@b 1700000000 +0000", 0),
            ("A <a@b> -1 +0000", u64::MAX),
            ("A <a@b> 99999999999999999999999 +0000", u64::MAX),
        ] {
            assert_eq!(date_of(line.as_bytes()), date, "{line}");
        }
        assert_eq!([unix_seconds(7), unix_seconds(u64::MAX), unix_seconds(253_402_300_800)], [7, 0, 0]);
    }

    #[test]
    fn malformed_trees_and_parents_are_refused() {
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        assert!(parse(format!("tree {tree}\n\nsubject").as_bytes()).is_some());
        assert!(parse(format!("tree {tree}").as_bytes()).is_some());
        for data in ["", "\n\n", "author A\n\nx", "tree 12\n\nx", &format!("tree {tree}\nparent x\n\ny")] {
            assert_eq!(parse(data.as_bytes()), None, "{data:?}");
        }
    }
}
