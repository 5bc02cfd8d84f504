//! The user's terminal as the guest's console: keys go through raw, Ctrl-A begins a word to the runner.
//!
//! Whatever happens, the terminal is put back as it was.

use std::io::{IsTerminal, Read, stdin, stdout};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::mpsc::UnboundedSender;
use vm::session::SessionInput;

/// What is told before the guest has the keyboard.
pub(super) const HELP: &str =
    "Ctrl-A x ends the VM, Ctrl-A s KEY sends a magic sysrq key, Ctrl-A Ctrl-A a Ctrl-A";

/// Rows and columns of the terminal, if there is one.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// The terminal in raw mode; as it was when this is dropped.
#[derive(Debug)]
pub(super) struct Raw(Option<Termios>);

impl Raw {
    /// Begins raw mode, if standard input is a terminal.
    pub(super) fn begin() -> Self {
        if !stdin().is_terminal() {
            return Self(None);
        }
        let Ok(before) = tcgetattr(stdin()) else { return Self(None) };
        let mut raw = before.clone();
        // Output stays as it is: what the runner itself says ends its lines in the ordinary way.
        raw.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        raw.input_modes &= !(InputModes::IXON | InputModes::ICRNL | InputModes::INLCR | InputModes::ISTRIP);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let _ = tcsetattr(stdin(), OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Reads standard input in a thread of its own until it ends or the VM does.
pub(super) fn forward(input: UnboundedSender<SessionInput>) {
    let mut keys = stdin().is_terminal().then(Keys::default);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = stdin().lock().read(&mut buffer) {
            let inputs = match &mut keys {
                Some(keys) => keys.feed(&buffer[..got]),
                None => vec![SessionInput::Console(buffer[..got].to_vec())],
            };
            if inputs.into_iter().any(|part| input.send(part).is_err()) {
                return;
            }
        }
    });
}

/// Finds the words to the runner among the keys.
#[derive(Debug, Default)]
struct Keys {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    Word,
    Sysrq,
}

const CTRL_A: u8 = 1;

impl Keys {
    fn feed(&mut self, bytes: &[u8]) -> Vec<SessionInput> {
        let mut inputs = Vec::new();
        let mut plain = Vec::new();
        for &byte in bytes {
            let word = match (self.state, byte) {
                (State::Plain, CTRL_A) => {
                    self.state = State::Word;
                    continue;
                }
                (State::Plain, byte) => {
                    plain.push(byte);
                    continue;
                }
                (State::Word, CTRL_A | b'a') => {
                    plain.push(CTRL_A);
                    None
                }
                (State::Word, b'x') => Some(SessionInput::Kill),
                (State::Word, b's') => {
                    self.state = State::Sysrq;
                    continue;
                }
                (State::Word, _) => None,
                (State::Sysrq, key) if key.is_ascii_alphanumeric() => Some(SessionInput::Sysrq(key.into())),
                (State::Sysrq, _) => None,
            };
            self.state = State::Plain;
            if let Some(word) = word {
                if !plain.is_empty() {
                    inputs.push(SessionInput::Console(std::mem::take(&mut plain)));
                }
                inputs.push(word);
            }
        }
        if !plain.is_empty() {
            inputs.push(SessionInput::Console(plain));
        }
        inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let bytes = |text: &str| SessionInput::Console(text.into());
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"ls\r"), [bytes("ls\r")]);
        assert_eq!(keys.feed(b"a\x01"), [bytes("a")]);
        assert_eq!(keys.feed(b"\x01b"), [bytes("\x01b")]);
        assert_eq!(
            keys.feed(b"q\x01sw\x01xr"),
            [bytes("q"), SessionInput::Sysrq('w'), SessionInput::Kill, bytes("r")]
        );
        assert_eq!(keys.feed(b"\x01s\x1b\x01?"), []);
        assert_eq!(keys.feed(b"\x03"), [bytes("\x03")]);
    }
}
