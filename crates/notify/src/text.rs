//! Text of mails.

/// The width of prose.
pub(crate) const WIDTH: usize = 76;

/// Prose with lines of at most [`WIDTH`] characters. A longer word has a line of its own.
pub(crate) fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// One line of text from anywhere: without control characters and characters that change the direction of text, at most `most`
/// characters.
pub(crate) fn line(text: &str, most: usize) -> String {
    let clean = |c: char| match c {
        c if c.is_control() => ' ',
        c if is_hidden(c) => '\u{fffd}',
        c => c,
    };
    let text: String = text.trim().chars().map(clean).collect();
    cut(text.trim(), most)
}

/// A line of a log: tabs stay, colors and control characters go.
pub(crate) fn log_line(text: &str, most: usize) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            // A sequence of a terminal, up to its letter.
            '\u{1b}' => {
                if rest.clone().next() == Some('[') {
                    rest.by_ref().find(char::is_ascii_alphabetic);
                }
            }
            '\t' => plain.push('\t'),
            c if c.is_control() => {}
            c if is_hidden(c) => plain.push('\u{fffd}'),
            c => plain.push(c),
        }
    }
    cut(plain.trim_end(), most)
}

fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    // Plain ASCII text needs no encoding in a mail.
    let mut short: String = text.chars().take(most.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_and_text_is_one_plain_line() {
        let text = "word ".repeat(40);
        assert!(wrapped(&text).lines().all(|line| line.len() <= WIDTH));
        assert_eq!(wrapped(""), "");
        assert_eq!(line(" a\r\nBcc: b\u{202e} ", 50), "a  Bcc: b\u{fffd}");
        assert_eq!(line("abcdefgh", 6), "abc...");
        assert_eq!(log_line("\u{1b}[31mred\u{1b}[0m\tx\u{7}\r", 50), "red\tx");
        assert_eq!(log_line("\u{1b}", 50), "");
    }
}
