//! Standard output and standard error of a command. No function here panics. The macros `println!` and `eprintln!` panic
//! when the reader has closed the pipe or the disk is full, and `git bisect run` takes their exit code, 101, as "bad".
//!
//! A closed pipe ends the output, not the command: its exit code stays the one of its work. Any other failed write is an
//! error. The lints `print_stdout` and `print_stderr` are denied in the workspace, so that each command uses this crate.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}; the output is incomplete")]
pub struct OutputError(pub io::Error);

impl OutputError {
    /// `Ok` if the reader has closed the pipe, as `head` does.
    ///
    /// # Errors
    ///
    /// Any other error.
    pub fn unless_closed(result: io::Result<()>) -> Result<(), Self> {
        match result {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Self(error)),
            _ => Ok(()),
        }
    }
}

/// Prints a text. Its colors are removed unless standard output is a terminal.
///
/// # Errors
///
/// The text is not written, for another reason than a closed pipe.
pub fn print(text: impl Display) -> Result<(), OutputError> {
    let mut out = anstream::stdout().lock();
    // In one write, because a part of a line could be all that another reader of the pipe sees.
    OutputError::unless_closed(out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush()))
}

/// Prints a text and the end of its line.
///
/// # Errors
///
/// As of [`print`].
pub fn line(text: impl Display) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// Prints JSON, with a final newline.
///
/// # Errors
///
/// As of [`print`], and [`io::ErrorKind::InvalidData`] if the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| OutputError(error.into()))?;
    line(escape_json(&text))
}

/// A JSON text in which the characters that a terminal obeys are escaped. JSON permits C1 control characters and the
/// bidirectional formatting characters in strings.
#[must_use]
pub fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of strings, JSON has no such character except the line feeds between its tokens.
        if is_terminal_control(c) && c != '\n' {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Prints `PROGRAM: TEXT` to standard error, the program's name in red. A failure has no further place to be reported.
pub fn error(program: &str, text: impl Display) {
    let style = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Red.into())).bold();
    message(format_args!("{style}{program}:{style:#} {text}"));
}

/// Prints a line to standard error. A failure has no further place to be reported.
pub fn message(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Whether a terminal may obey the character: C0 and C1 controls, and the bidirectional formatting characters.
#[must_use]
pub fn is_terminal_control(c: char) -> bool {
    let bidi =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || bidi
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_character_that_a_terminal_obeys() {
        let value = serde_json::json!({ "reason": "a\u{9b}31m\u{202e}b\x1b[1m\u{7f} \u{f6}", "list": [1, {}], "none": [] });
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains(r"a\u009b31m\u202eb\u001b[1m\u007f ö"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let fail = |kind: io::ErrorKind| OutputError::unless_closed(Err(kind.into()));
        assert!(fail(io::ErrorKind::BrokenPipe).is_ok());
        let full = fail(io::ErrorKind::StorageFull).unwrap_err().to_string();
        assert_eq!(full, "cannot write to standard output: no storage space; the output is incomplete");
    }
}
