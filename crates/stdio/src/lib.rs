//! Standard output and standard error of a command. No function here panics. The macros `println!` and `eprintln!`
//! panic if the reader has closed the pipe or the disk is full, and `git bisect run` treats their exit code, 101, as
//! "bad".
//!
//! A closed pipe ends the output, not the command, and does not change its exit code. Any other failed write is an
//! error. The lints `print_stdout` and `print_stderr` are denied in the workspace, so that all commands use this crate.

pub mod terminal;
pub mod xml;

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use serde::Serialize;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}; the output is incomplete")]
pub struct OutputError(pub io::Error);

impl OutputError {
    /// Returns `Ok` if the reader has closed the pipe, as `head` does.
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

/// Prints a text. Colors are removed unless standard output is a terminal. Other characters that a terminal interprets
/// are replaced ([`terminal::text`]).
///
/// # Errors
///
/// The text could not be written, for a reason other than a closed pipe.
pub fn print(text: impl Display) -> Result<(), OutputError> {
    write(&terminal::text(&text.to_string()))
}

fn write(text: &str) -> Result<(), OutputError> {
    let mut out = anstream::stdout().lock();
    // In a single write, so that a reader of the pipe never sees a part of a line.
    OutputError::unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a text and a newline.
///
/// # Errors
///
/// Those of [`print`].
pub fn line(text: impl Display) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// Prints JSON, with a final newline. Characters that a terminal interprets are written as escapes ([`terminal::json`]).
///
/// # Errors
///
/// Those of [`print`], and [`io::ErrorKind::InvalidData`] if the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| OutputError(error.into()))?;
    write(&format!("{}\n", terminal::json(&text)))
}

/// Prints `PROGRAM: TEXT` to standard error, with the program's name in red. Ignores failures, which cannot be
/// reported.
pub fn error(program: &str, text: impl Display) {
    let style = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Red.into())).bold();
    message(format_args!("{style}{program}:{style:#} {text}"));
}

/// An error with its causes, on one line. A cause that the preceding text already contains is left out.
#[derive(Debug)]
pub struct WithCauses<'a>(pub &'a (dyn Error + 'static));

impl Display for WithCauses<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

/// Prints a line to standard error. Ignores failures, which cannot be reported.
pub fn message(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{}", terminal::text(&text.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn a_cause_is_printed_once() {
        let shown = |text| WithCauses(&Outer { text, source: io::Error::other("disk full") }).to_string();
        assert_eq!(shown("cannot write x"), "cannot write x: disk full");
        assert_eq!(shown("cannot write x: disk full"), "cannot write x: disk full");
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        let fail = |kind: io::ErrorKind| OutputError::unless_closed(Err(kind.into()));
        assert!(fail(io::ErrorKind::BrokenPipe).is_ok());
        let full = fail(io::ErrorKind::StorageFull).unwrap_err().to_string();
        assert_eq!(full, "cannot write to standard output: no storage space; the output is incomplete");
    }
}
