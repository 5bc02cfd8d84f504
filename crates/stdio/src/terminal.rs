//! Replaces characters that a terminal interprets, or that change the order or visibility of the text around them.
//! Results, test files, guests and remote dashboards are untrusted.
//!
//! | output | function |
//! |---|---|
//! | a single line, such as a name or a reason | [`line`] |
//! | a text of several lines, possibly with colors | [`text`] |
//! | bytes that arrive in pieces | [`Filter`] |
//! | JSON | [`json`] |

use std::borrow::Cow;
use std::io::{self, Write};

/// The replacement for an unsafe character.
const REPLACEMENT: char = '\u{fffd}';
/// The maximum length of a sequence that selects colors, in bytes. A longer one is replaced.
const COLORS_MAX: usize = 32;

/// Whether a terminal may interpret this character, or it is invisible and affects its neighbors: control characters
/// (C0, DEL, C1), line and paragraph separators, bidirectional and other formatting characters (Unicode category Cf
/// without the joiners, which several scripts need), tags and interlinear annotations.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'
        | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text as a single line: unsafe characters and line feeds are replaced.
#[must_use]
pub fn line(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { REPLACEMENT } else { c }).collect()
}

/// The text with its lines, tabs and colors (`ESC [ ... m`). Other unsafe characters are replaced.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut filter = Filter::with_colors(&mut out);
    // Writing to memory cannot fail.
    filter.write_all(text.as_bytes()).ok();
    filter.finish().ok();
    String::from_utf8_lossy(&out).into_owned()
}

/// Equivalent JSON in which unsafe characters inside strings are written as `\u` escapes. Apart from white space, JSON
/// has such characters only inside strings.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| is_unsafe(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A writer that replaces unsafe characters and invalid UTF-8, also if a character is split between two writes. Line
/// feeds and tabs are kept, and carriage returns are removed.
#[derive(Debug)]
pub struct Filter<W: Write> {
    inner: W,
    colors: bool,
    /// The end of the last write: an incomplete character or color sequence.
    rest: Vec<u8>,
}

impl<W: Write> Filter<W> {
    /// A filter for text without colors, such as a log.
    pub fn new(inner: W) -> Self {
        Self { inner, colors: false, rest: Vec::new() }
    }

    /// A filter that keeps color sequences, for the output of our own programs.
    pub fn with_colors(inner: W) -> Self {
        Self { inner, colors: true, rest: Vec::new() }
    }

    /// Writes the incomplete sequence that is left at the end.
    pub fn finish(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        let out = self.filtered(&rest, true);
        self.inner.write_all(out.as_bytes())
    }

    /// The filtered text of `bytes`. Unless this is the `last` call, an incomplete sequence at the end is stored in
    /// `rest`.
    fn filtered(&mut self, bytes: &[u8], last: bool) -> String {
        let mut out = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            let is_end = chunks.peek().is_none();
            let kept =
                self.characters(chunk.valid(), is_end && chunk.invalid().is_empty() && !last, &mut out);
            if let Some(kept) = kept {
                self.rest = kept.as_bytes().to_vec();
                return out;
            }
            if !chunk.invalid().is_empty() {
                if is_end && !last && is_incomplete(chunk.invalid()) {
                    self.rest = chunk.invalid().to_vec();
                } else {
                    out.push(REPLACEMENT);
                }
            }
        }
        out
    }

    /// Appends the filtered characters. If the text `continues`, returns an incomplete color sequence at its end.
    fn characters<'a>(&self, text: &'a str, continues: bool, out: &mut String) -> Option<&'a str> {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '\u{1b}' && self.colors {
                match colors(rest) {
                    Sequence::Colors(length) => {
                        out.push_str(&rest[..length]);
                        rest = &rest[length..];
                        continue;
                    }
                    Sequence::Incomplete if continues => return Some(rest),
                    Sequence::Incomplete | Sequence::Other => {}
                }
            }
            match c {
                '\n' | '\t' => out.push(c),
                '\r' => {}
                c if is_unsafe(c) => out.push(REPLACEMENT),
                c => out.push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
        None
    }
}

impl<W: Write> Write for Filter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let out = if self.rest.is_empty() {
            self.filtered(bytes, false)
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            self.filtered(&all, false)
        };
        self.inner.write_all(out.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether these bytes, which are no UTF-8, may be the beginning of a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

enum Sequence {
    /// It selects colors and has this length.
    Colors(usize),
    Incomplete,
    Other,
}

/// What the sequence at the start of `text`, which begins with ESC, does (ECMA-48, SGR).
fn colors(text: &str) -> Sequence {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate().skip(1).take(COLORS_MAX) {
        match (at, byte) {
            (1, b'[') => {}
            (2.., b'0'..=b'9' | b';' | b':') => {}
            (2.., b'm') => return Sequence::Colors(at + 1),
            _ => return Sequence::Other,
        }
    }
    if bytes.len() > COLORS_MAX { Sequence::Other } else { Sequence::Incomplete }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each kind, as a terminal or a reader would be deceived by it.
    const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}2J\u{202e}evil\u{2066}\u{200b}\u{feff}\u{e0041}\u{2028}\u{7f}\u{85}\u{ad}";

    fn filter(pieces: &[&[u8]], colors: bool) -> String {
        let mut out = Vec::new();
        let mut filter = if colors { Filter::with_colors(&mut out) } else { Filter::new(&mut out) };
        for piece in pieces {
            filter.write_all(piece).unwrap();
        }
        filter.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn is_safe(text: &str) -> bool {
        !text.chars().any(|c| is_unsafe(c) && !matches!(c, '\n' | '\t'))
    }

    #[test]
    fn nothing_unsafe_passes() {
        assert_eq!(line("ext4: fix\n\u{202e}x"), "ext4: fix\u{fffd}\u{fffd}x");
        assert!(is_safe(&line(HOSTILE)) && is_safe(&text(HOSTILE)) && is_safe(&json(HOSTILE)));
        assert!(is_safe(&filter(&[HOSTILE.as_bytes(), b"\x9b2J\x1b"], false)));
        let harmless = "Grüße, ναι, 日本, نص, क्‍ष 👩‍💻\n\ttab";
        assert_eq!(text(harmless), harmless);
        assert_eq!(filter(&[harmless.as_bytes()], false), harmless);
    }

    #[test]
    fn only_our_own_colors_are_kept() {
        let red = "\u{1b}[1;38;5;9mFailed\u{1b}[0m\r\n";
        assert_eq!(text(red), "\u{1b}[1;38;5;9mFailed\u{1b}[0m\n");
        assert_eq!(filter(&[red.as_bytes()], false), "\u{fffd}[1;38;5;9mFailed\u{fffd}[0m\n");
        for other in [
            "\u{1b}[2J",
            "\u{1b}[",
            "\u{1b}",
            "\u{1b}[?1m",
            "\u{1b}m",
            &format!("\u{1b}[{}m", "1;".repeat(20)),
        ] {
            assert_eq!(text(other), other.replace('\u{1b}', "\u{fffd}"), "{other:?}");
        }
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "reason": HOSTILE, "list": ["\n\u{202e}"] });
        for printed in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let safe = json(&printed);
            assert!(is_safe(&safe));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
        assert!(matches!(json("{\"a\":\"ü\"}"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes: Vec<u8>, text in "(\u{1b}\\[[0-9;]{0,3}m?|[a\u{9b}ü\u{202e}\n]){0,20}", cut in 0..60usize, colors: bool) {
            let mut all = text.into_bytes();
            all.extend(bytes);
            let (head, tail) = all.split_at(cut.min(all.len()));
            let whole = filter(&[&all], colors);
            prop_assert_eq!(&filter(&[head, tail], colors), &whole);
            let bytewise: Vec<&[u8]> = all.chunks(1).collect();
            prop_assert_eq!(&filter(&bytewise, colors), &whole);
            prop_assert!(colors || is_safe(&whole));
        }
    }
}
