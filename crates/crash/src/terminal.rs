//! What a terminal makes of console output: control sequences (ECMA-48), carriage returns, backspaces.
//!
//! The console's lines, the log pages and the search for the kernel's message share these functions, so that they agree
//! about what is text.

/// The length in bytes of the control sequence at the start of a text; 0 if there is none. A sequence with an invalid
/// character ends before it, so that damaged output hides no text.
pub(crate) fn sequence(text: &str) -> usize {
    let mut chars = text.chars();
    let kind = match chars.next() {
        Some('\u{1b}') => match chars.clone().next() {
            Some(kind @ '\u{20}'..='\u{7e}') => {
                chars.next();
                kind
            }
            _ => return 1,
        },
        // The 8-bit form of ESC and a character 0x40 lower.
        Some(c @ ('\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}'..='\u{9f}')) => {
            char::from_u32(c as u32 - 0x40).unwrap_or('[')
        }
        _ => return 0,
    };
    let rest = chars.as_str();
    text.len() - rest.len() + rest_of_sequence(kind, rest)
}

/// The length of a control sequence after its introducer, which is ESC with the next character, or a C1 character.
fn rest_of_sequence(kind: char, rest: &str) -> usize {
    let count = |from: usize, range: std::ops::RangeInclusive<u8>| {
        rest.as_bytes()[from..].iter().take_while(|byte| range.contains(byte)).count()
    };
    let last = |from: usize, range: std::ops::RangeInclusive<u8>| {
        usize::from(rest.as_bytes().get(from).is_some_and(|byte| range.contains(byte)))
    };
    match kind {
        // CSI: parameters and intermediates, then the final character.
        '[' => {
            let parameters = count(0, 0x20..=0x3f);
            parameters + last(parameters, 0x40..=0x7e)
        }
        // OSC, DCS, SOS, PM, APC: a string that BEL or ST ends.
        ']' | 'P' | 'X' | '^' | '_' => {
            match rest.char_indices().find(|(_, c)| matches!(c, '\u{7}' | '\u{9c}' | '\u{1b}' | '\r')) {
                None => rest.len(),
                Some((at, c @ ('\u{7}' | '\u{9c}'))) => at + c.len_utf8(),
                Some((at, _)) => at + if rest[at..].starts_with("\u{1b}\\") { 2 } else { 0 },
            }
        }
        // Intermediates, as in the selection of a character set, then the final character.
        '\u{20}'..='\u{2f}' => {
            let intermediates = count(0, 0x20..=0x2f);
            intermediates + last(intermediates, 0x30..=0x7e)
        }
        _ => 0,
    }
}

/// The characters of a line without control sequences and without control characters except tab, carriage return and
/// backspace.
pub fn visible(line: &str) -> impl Iterator<Item = char> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            while let length @ 1.. = sequence(rest) {
                rest = &rest[length..];
            }
            let c = rest.chars().next()?;
            rest = &rest[c.len_utf8()..];
            if !c.is_control() || matches!(c, '\t' | '\r' | '\u{8}') {
                return Some(c);
            }
        }
    })
}

/// The text that is left of a line after carriage returns and backspaces. Other than on a terminal, nothing of the
/// overwritten text stays behind the new one: a progress bar overwrites its line as a whole, and the rest of it must not
/// become part of a kernel message.
#[must_use]
pub fn shown(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    // How many bytes of `text` are in front of the cursor.
    let mut cursor = 0;
    for c in visible(line) {
        match c {
            '\r' => cursor = 0,
            '\u{8}' => cursor -= text[..cursor].chars().next_back().map_or(0, char::len_utf8),
            c => {
                text.truncate(cursor);
                text.push(c);
                cursor = text.len();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCES: [&str; 21] = [
        "\x1b[38;5;196m",
        "\x1b[?25l",
        "\x1b[2K",
        "\x1b[ q",
        "\x1b]0;title\x07",
        "\x1b]0;a \u{e4} title\x07",
        "\x1b]8;;https://x\x1b\\",
        "\x1bPq#0;2;0\x1b\\",
        "\x1b^pm\x1b\\",
        "\x1b_apc\x1b\\",
        "\x1bXsos\x1b\\",
        "\x1b(B",
        "\x1b#8",
        "\x1b%G",
        "\x1bM",
        "\x1b7",
        "\x1b=",
        "\u{9b}1;31m",
        "\u{9d}0;title\u{9c}",
        "\u{9d}0;title\x07",
        "\u{90}q\u{9c}",
    ];

    #[test]
    fn sequences_are_no_text() {
        for sequence in SEQUENCES {
            assert_eq!(super::sequence(&format!("{sequence}b")), sequence.len(), "{sequence:?}");
            assert_eq!(shown(&format!("a{sequence}b")), "ab", "{sequence:?}");
            assert_eq!(shown(sequence), "", "{sequence:?}");
            assert_eq!(shown(&format!("a{sequence}{sequence}\x1b[0mb")), "ab", "{sequence:?}");
        }
        for control in ["\x0e", "\x7f", "\u{85}", "\0", "\x07"] {
            assert_eq!(shown(&format!("a{control}b")), "ab", "{control:?}");
        }
    }

    #[test]
    fn what_is_no_sequence_hides_nothing() {
        for (line, text) in [
            ("\x1b\u{e4}", "\u{e4}"),
            ("\x1b[1\u{e4}", "\u{e4}"),
            ("\x1b", ""),
            ("\x1b\x1b[0mx", "x"),
            ("\x1b]0;x\x1b[0my", "y"),
            ("\x1b]0;x\r[    1.0] BUG: y", "[    1.0] BUG: y"),
            ("\x1b[1;\x1b[0mx", "x"),
        ] {
            assert_eq!(shown(line), text, "{line:?}");
        }
    }

    #[test]
    fn returns_and_backspaces_overwrite() {
        for (line, text) in [
            ("10%\r20%\r\r", "20%"),
            ("10%\r20%", "20%"),
            ("\rx", "x"),
            ("100%\r[    1.000000] BUG: x", "[    1.000000] BUG: x"),
            ("a long line of progress\rBUG: x", "BUG: x"),
            ("|\x08/\x08-\x08", "-"),
            ("|\x08/\x08-\x08BUG: x", "BUG: x"),
            ("40%\x08\x08\x0841%\x08\x08\x08", "41%"),
            ("a\u{e4}\x08b", "ab"),
            ("\x08\x08a", "a"),
            ("ab\x08\x08\x08\x08c", "c"),
            ("N\x08NA\x08A", "NA"),
            ("ab\r\x08c", "c"),
            ("40%\x1b[1G\x08", "40%"),
            ("", ""),
        ] {
            assert_eq!(shown(line), text, "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_becomes_plain_text(line in "[a\u{e4}\\[\\]P;0m\\\\\u{1b}\u{9b}\u{9d}\u{9c}\u{7}\r\u{8}\t]{0,40}") {
            let text = shown(&line);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() && c != '\t'), "{:?}", text);
            proptest::prop_assert!(text.len() <= line.len());
            proptest::prop_assert_eq!(shown(&text), text);
        }

        /// What was shown before a carriage return is as good as the output itself.
        #[test]
        fn a_line_can_be_shown_in_parts(head in "[ab\u{1b}\\[\\]0\u{8}\r]{0,20}", tail in "[ab\u{1b}\\[\\]0\u{8}\r]{0,20}") {
            let parts = shown(&format!("{}\r{tail}", shown(&head)));
            proptest::prop_assert_eq!(parts, shown(&format!("{head}\r{tail}")));
        }
    }
}
