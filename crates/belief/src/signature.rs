//! Signatures: which failures are the same failure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest signature in bytes.
const LONGEST: usize = 300;
/// What replaces a number, an address or an id.
const NUMBER: &str = "N";
/// What replaces the name of a temporary file.
const TEMPORARY: &str = "TMP";
/// Names of devices that are numbered in the order of their creation.
const NUMBERED: [&str; 7] = ["loop", "ram", "zram", "nbd", "nullb", "md", "scsi_debug"];

/// The name of a failure: the crash title, else the reason without numbers, addresses and names of temporary files. Two failures
/// with equal signatures are taken for the same failure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature(String);

impl Signature {
    /// The signature of a failure. A crash title is not changed: it has no numbers that vary.
    #[must_use]
    pub fn new(crash_title: Option<&str>, reason: &str) -> Self {
        match crash_title.map(str::trim) {
            Some(title) if !title.is_empty() => Self(cut(title)),
            _ => Self(cut(&normalized(reason))),
        }
    }

    /// The signature as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn cut(text: &str) -> String {
    let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].trim_end().to_owned()
}

/// The reason with one space between words, and without what differs between two runs.
fn normalized(reason: &str) -> String {
    let words: Vec<String> = reason.split_whitespace().map(word).collect();
    words.join(" ")
}

/// A word without names of temporary files, numbers, addresses and ids.
fn word(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        if let Some(uuid) = rest.get(..UUID).filter(|text| is_uuid(text)) {
            out.push_str(NUMBER);
            rest = &rest[uuid.len()..];
            continue;
        }
        let token = rest.find(|c| !is_of_token(c)).unwrap_or(rest.len());
        if token == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let in_tmp = out.ends_with("/tmp/");
        token_into(&rest[..token], in_tmp, &mut out);
        rest = &rest[token..];
    }
    out
}

/// The length of a UUID.
const UUID: usize = 36;

fn is_uuid(text: &str) -> bool {
    let hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    text.len() == UUID
        && text.bytes().enumerate().all(|(at, b)| if hyphen(at) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Characters of names. A hyphen separates, so that `dm-2` is `dm` and a number; a dot belongs to the name of mktemp.
fn is_of_token(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

fn token_into(token: &str, in_tmp: bool, out: &mut String) {
    // The name of a file directly below /tmp, and the names that mktemp makes anywhere.
    if in_tmp || is_mktemp(token) {
        out.push_str(TEMPORARY);
        return;
    }
    let mut parts = token.split('.');
    part_into(parts.next().unwrap_or_default(), out);
    for part in parts {
        // 12.5 is one number.
        let fraction = out.ends_with(NUMBER) && part.starts_with(|c: char| c.is_ascii_digit());
        if fraction {
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        } else {
            out.push('.');
            part_into(part, out);
        }
    }
}

/// Whether it is a name of `mktemp`: `tmp.` or any word, a dot, and six or more letters and digits, which are mixed as in no word.
fn is_mktemp(token: &str) -> bool {
    let Some((stem, suffix)) = token.rsplit_once('.') else { return false };
    let long = suffix.len() >= 6 && suffix.chars().all(|c| c.is_ascii_alphanumeric());
    let inside = suffix.get(1..).unwrap_or_default();
    let upper = inside.chars().any(|c| c.is_ascii_uppercase());
    let lower = suffix.chars().any(|c| c.is_ascii_lowercase());
    let digit = suffix.chars().any(|c| c.is_ascii_digit());
    long && !stem.is_empty() && (stem == "tmp" || upper && (lower || digit))
}

fn part_into(part: &str, out: &mut String) {
    let digits = part.trim_start_matches(|c: char| c.is_ascii_digit());
    let hexadecimal = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")).unwrap_or(part);
    let all_hexadecimal = hexadecimal.chars().all(|c| c.is_ascii_hexdigit());
    let has_digit = part.chars().any(|c| c.is_ascii_digit());
    let prefixed = hexadecimal.len() < part.len() && !hexadecimal.is_empty();
    if all_hexadecimal && (prefixed || part.len() >= 8 && has_digit) {
        out.push_str(NUMBER);
    } else if digits.len() < part.len() {
        // `5s` and `10s` are durations: the unit stays.
        out.push_str(NUMBER);
        out.push_str(digits);
    } else {
        let stem = part.trim_end_matches(|c: char| c.is_ascii_digit());
        out.push_str(if NUMBERED.contains(&stem) { stem } else { part });
        if NUMBERED.contains(&stem) && stem.len() < part.len() {
            out.push_str(NUMBER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reason: &str) -> String {
        Signature::new(None, reason).to_string()
    }

    #[test]
    fn what_differs_between_runs_is_removed() {
        for (kind, one, other, expected) in [
            ("counts", "expected 3, got 17", "expected 4,  got 5", "expected N, got N"),
            ("durations", "timed out after 60.5s", "timed out after 120s", "timed out after Ns"),
            ("addresses", "bad pointer 0xffff8881", "bad pointer 0x0000dead", "bad pointer N"),
            ("bare addresses", "at ffff888100a2", "at ffff888100b3", "at N"),
            ("process ids", "task[1234] killed", "task[7] killed", "task[N] killed"),
            ("mktemp", "cp: /mnt/tmp.aB3dE9xQ1z: EIO", "cp: /mnt/tmp.Zz12aQ90vv: EIO", "cp: /mnt/TMP: EIO"),
            ("templates", "rm x.AbC1d2", "rm x.qWe9Rt", "rm TMP"),
            ("files in /tmp", "no /tmp/out-7/log", "no /tmp/out-9/log", "no /tmp/TMP-N/log"),
            ("devices", "loop3: I/O error", "loop12: I/O error", "loopN: I/O error"),
            ("mapped devices", "dm-2: I/O error", "dm-14: I/O error", "dm-N: I/O error"),
            (
                "uuids",
                "id 6fa459ea-ee8a-3ca4-894e-db77e160355e",
                "id 16fd2706-8baf-433b-82eb-8c7fada847da",
                "id N",
            ),
        ] {
            assert_eq!(of(one), expected, "{kind}");
            assert_eq!(of(other), expected, "{kind}");
        }
    }

    #[test]
    fn names_stay() {
        for reason in [
            "ext4 is not mounted",
            "mkfs.xfs failed",
            "sha256sum differs",
            "main.c: cannot punch",
            "vdb: gone",
        ] {
            assert_eq!(of(reason), reason);
        }
        assert_ne!(of("ext4: corrupt"), of("ext3: corrupt"));
    }

    #[test]
    fn a_crash_title_is_the_signature() {
        let crash = Signature::new(Some("WARNING in btrfs_put_block_group"), "exit code 3");
        assert_eq!(crash.as_str(), "WARNING in btrfs_put_block_group");
        assert_eq!(Signature::new(Some(" "), "exit code 3").as_str(), "exit code N");
    }

    proptest::proptest! {
        /// A signature that was stored and is read as a reason stays the same.
        #[test]
        fn normalizing_twice_changes_nothing(reason in "[a-zA-Z0-9 ./_:x-]{0,60}") {
            let once = of(&reason);
            proptest::prop_assert_eq!(of(&once), once);
        }

        #[test]
        fn any_text_has_a_short_signature(reason in "\\PC{0,400}") {
            proptest::prop_assert!(of(&reason).len() <= LONGEST);
        }
    }
}
