//! Text for XML 1.0 documents, which cannot hold every character, not even as a reference.

use std::borrow::Cow;

/// The text with U+FFFD in place of each character that XML 1.0 cannot hold: control characters other than tab, line feed and
/// carriage return, U+FFFE and U+FFFF (section 2.2 of the specification). Markup is not escaped.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_allowed) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_allowed(c) { c } else { '\u{fffd}' }).collect())
}

fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_xml_cannot_hold_are_replaced() {
        assert_eq!(
            text("a\u{fffe}b\u{ffff}c\0d\u{b}\u{1b}[0m"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}[0m"
        );
        for whole in ["", "a\tb\r\nc", "\u{7f}\u{85}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{1fffe}\u{10ffff}"] {
            assert!(matches!(text(whole), Cow::Borrowed(same) if same == whole), "{whole:?}");
        }
    }
}
