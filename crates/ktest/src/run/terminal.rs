//! The user's terminal as the guest's console: keys are passed on raw, and Ctrl-A starts a command to the runner.
//!
//! The terminal is always restored at the end of the run.

use std::io::{IsTerminal, Read, stdin, stdout};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::mpsc::UnboundedSender;
use vm::session::SessionInput;

/// Printed before the keyboard is connected to the guest.
pub(super) const HELP: &str = "Ctrl-A x ends the VM, Ctrl-A s KEY sends a SysRq key, Ctrl-A Ctrl-A a Ctrl-A";

/// Rows and columns of the terminal, if there is one.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// The terminal in raw mode; restored when dropped.
#[derive(Debug)]
pub(super) struct Raw(Option<Termios>);

impl Raw {
    /// Enters raw mode if standard input is a terminal.
    pub(super) fn begin() -> Self {
        if !stdin().is_terminal() {
            return Self(None);
        }
        let Ok(before) = tcgetattr(stdin()) else { return Self(None) };
        let mut raw = before.clone();
        // Output processing stays enabled for the lines that the runner prints.
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

/// Forwards standard input from a thread, until the input or the VM ends.
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

/// Finds commands to the runner among the keys.
#[derive(Debug, Default)]
struct Keys {
    state: KeyState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum KeyState {
    #[default]
    Plain,
    Command,
    Sysrq,
}

const CTRL_A: u8 = 1;

impl Keys {
    fn feed(&mut self, bytes: &[u8]) -> Vec<SessionInput> {
        let mut inputs = Vec::new();
        let mut plain = Vec::new();
        for &byte in bytes {
            let command = match (self.state, byte) {
                (KeyState::Plain, CTRL_A) => {
                    self.state = KeyState::Command;
                    continue;
                }
                (KeyState::Plain, byte) => {
                    plain.push(byte);
                    continue;
                }
                (KeyState::Command, CTRL_A | b'a') => {
                    plain.push(CTRL_A);
                    None
                }
                (KeyState::Command, b'x') => Some(SessionInput::Kill),
                (KeyState::Command, b's') => {
                    self.state = KeyState::Sysrq;
                    continue;
                }
                (KeyState::Command, _) => None,
                (KeyState::Sysrq, key) if key.is_ascii_alphanumeric() => {
                    Some(SessionInput::Sysrq(key.into()))
                }
                (KeyState::Sysrq, _) => None,
            };
            self.state = KeyState::Plain;
            if let Some(command) = command {
                if !plain.is_empty() {
                    inputs.push(SessionInput::Console(std::mem::take(&mut plain)));
                }
                inputs.push(command);
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
