//! The commands, one module each: arguments in, an [`Answer`] out.

pub mod artifacts;
pub mod branches;
pub mod compare;
pub mod follow;
pub mod history;
pub mod log;
pub mod logs;
pub mod rerun;
pub mod show;
pub mod wait;
pub mod watch;
pub mod workers;

use std::io::{self, Write};

use model::Status;
use serde::Serialize;

/// What a command found out.
pub trait Answer {
    /// What `--json` prints: the shapes of the dashboard's `&format=json` where it has one.
    fn json(&self) -> serde_json::Result<String>;

    /// Prints it for people, in colours.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;

    /// The exit code that says it to scripts.
    fn exit_code(&self) -> u8 {
        0
    }
}

fn to_json(view: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(view)
}

/// Whether somebody has to look at it.
fn is_failure(status: Status) -> bool {
    matches!(status, Status::Failed | Status::FailedToRun)
}
