//! The terminal: a live view that is redrawn in place, and the pager for long output.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use crossterm::{cursor, execute, queue, terminal};
use spawn::{Cmd, Stream};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

/// The alternate screen of a live view. Dropping it restores the normal screen.
#[derive(Debug)]
pub struct Screen {
    out: io::Stdout,
}

/// The input of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserInput {
    /// None.
    None,
    /// The window was resized.
    Resized,
    /// Quit.
    Quit,
}

impl Screen {
    /// Switches to the alternate screen. The normal screen is also restored if a signal ends the program.
    pub fn open() -> io::Result<Self> {
        let mut this = Self { out: io::stdout() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut end, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        std::thread::spawn(move || {
            let code = runtime.block_on(async {
                tokio::select! {
                    _ = end.recv() => 128 + SignalKind::terminate().as_raw_value(),
                    _ = interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
                }
            });
            release(&mut io::stdout());
            std::process::exit(code);
        });
        terminal::enable_raw_mode()?;
        execute!(this.out, terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(this)
    }

    /// Draws the lines, cut to the size of the terminal.
    pub fn draw(&mut self, text: &str) -> io::Result<()> {
        let (columns, rows) = terminal::size()?;
        queue!(self.out, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for (row, line) in text.lines().take(rows.into()).enumerate() {
            if row > 0 {
                self.out.write_all(b"\r\n")?;
            }
            write!(self.out, "{}", fit(line, columns.into()))?;
            queue!(self.out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
        }
        queue!(
            self.out,
            terminal::Clear(terminal::ClearType::FromCursorDown),
            terminal::EndSynchronizedUpdate
        )?;
        self.out.flush()
    }

    /// Waits for `time` or until there is user input.
    pub fn pause(&mut self, time: Duration) -> io::Result<UserInput> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !event::poll(left)? {
                return Ok(UserInput::None);
            }
            match event::read()? {
                Event::Resize(..) => return Ok(UserInput::Resized),
                Event::Key(key) => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(UserInput::Quit),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        return Ok(UserInput::Quit);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        release(&mut self.out);
    }
}

/// Restores the normal screen.
fn release(out: &mut io::Stdout) {
    let _ = execute!(out, cursor::Show, terminal::LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

/// The width of the terminal; without one, lines have any length.
pub fn columns() -> usize {
    if !io::stdout().is_terminal() {
        return usize::MAX;
    }
    terminal::size().map_or(80, |(columns, _)| columns.into())
}

/// The first `columns` visible characters of a line. Colors are reset if the line is cut.
pub fn fit(line: &str, columns: usize) -> String {
    let (mut out, mut used, mut cut) = (String::new(), 0, false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            out.push(c);
            for c in rest.by_ref() {
                out.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if used < columns {
            out.push(c);
            used += 1;
        } else {
            cut = true;
            break;
        }
    }
    if cut {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Whether a text has more lines than the terminal.
pub fn is_long(text: &[u8]) -> bool {
    let lines = text.split(|byte| *byte == b'\n').count();
    terminal::size().is_ok_and(|(_, rows)| lines > usize::from(rows))
}

/// Shows a text in a pager (`command` is a program and its arguments). Returns false if the pager cannot be started.
pub fn page(command: &str, text: &[u8]) -> io::Result<bool> {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return Ok(false) };
    let less = if std::env::var_os("LESS").is_some() { None } else { Some("-RX") };
    let mut cmd = Cmd::new(program).args(words).foreground();
    if let Some(less) = less {
        // Keep colors, and leave the text on the screen.
        cmd = cmd.env("LESS", less);
    }
    let cmd = cmd.streams(Stream::Pipe, Stream::Inherit, Stream::Inherit);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The pager handles Ctrl-C.
        let _interrupts = signal(SignalKind::interrupt())?;
        let Ok(mut child) = cmd.start() else { return Ok(false) };
        if let Some(mut stdin) = child.take_stdin() {
            // A write error means that the user has quit the pager.
            let _ = stdin.write_all(text).await;
        }
        child.wait().await.map_err(io::Error::other)?;
        Ok(true)
    })
}

/// Runs a program on the terminal until it ends. Returns whether it succeeded.
pub fn run(command: &[String]) -> io::Result<bool> {
    let Some((program, arguments)) = command.split_first() else { return Ok(false) };
    let cmd = Cmd::new(program).args(arguments).foreground();
    let cmd = cmd.streams(Stream::Inherit, Stream::Inherit, Stream::Inherit);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The program handles Ctrl-C.
        let _interrupts = signal(SignalKind::interrupt())?;
        let Ok(mut child) = cmd.start() else { return Ok(false) };
        Ok(child.wait().await.map_err(io::Error::other)?.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_by_visible_characters() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "abc\u{1b}[0m");
        assert_eq!(fit("\u{1b}[31mab\u{1b}[0m", 2), "\u{1b}[31mab\u{1b}[0m");
        assert_eq!(fit("\u{1b}[31mab\u{1b}[0m", 1), "\u{1b}[31ma\u{1b}[0m");
        assert_eq!(fit("", 0), "");
    }
}
