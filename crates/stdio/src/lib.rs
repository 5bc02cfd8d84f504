//! Standard output and standard error of a command. No function here panics. The macros `println!` and `eprintln!` panic
//! when the reader has closed the pipe or the disk is full, and `git bisect run` takes their exit code, 101, as "bad".
//!
//! A closed pipe ends the output, not the command: its exit code stays the one of its work. Any other failed write is an
//! error. The lints `print_stdout` and `print_stderr` are denied in the workspace, so that each command uses this crate.

pub mod terminal;
pub mod xml;

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

/// Prints a text. Its colors are removed unless standard output is a terminal; other characters that a terminal
/// interprets are replaced ([`terminal::text`]).
///
/// # Errors
///
/// The text is not written, for another reason than a closed pipe.
pub fn print(text: impl Display) -> Result<(), OutputError> {
    write(&terminal::text(&text.to_string()))
}

fn write(text: &str) -> Result<(), OutputError> {
    let mut out = anstream::stdout().lock();
    // In one write, because a part of a line could be all that another reader of the pipe sees.
    OutputError::unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a text and the end of its line.
///
/// # Errors
///
/// As of [`print`].
pub fn line(text: impl Display) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// Prints JSON, with a final newline. Characters that a terminal interprets are written as escapes ([`terminal::json`]).
///
/// # Errors
///
/// As of [`print`], and [`io::ErrorKind::InvalidData`] if the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| OutputError(error.into()))?;
    write(&format!("{}\n", terminal::json(&text)))
}

/// Prints `PROGRAM: TEXT` to standard error, the program's name in red. A failure has no further place to be reported.
pub fn error(program: &str, text: impl Display) {
    let style = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Red.into())).bold();
    message(format_args!("{style}{program}:{style:#} {text}"));
}

/// Prints a line to standard error. A failure has no further place to be reported.
pub fn message(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{}", terminal::text(&text.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error() {
        let fail = |kind: io::ErrorKind| OutputError::unless_closed(Err(kind.into()));
        assert!(fail(io::ErrorKind::BrokenPipe).is_ok());
        let full = fail(io::ErrorKind::StorageFull).unwrap_err().to_string();
        assert_eq!(full, "cannot write to standard output: no storage space; the output is incomplete");
    }
}
