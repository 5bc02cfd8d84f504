//! The commands, one module each: convert arguments to an [`Answer`].

pub mod artifacts;
pub mod believe;
pub mod bisect;
pub mod branches;
pub mod check_b4;
pub mod compare;
pub mod control;
pub mod crashes;
pub mod findings;
pub mod flaky;
pub mod follow;
pub mod history;
pub mod log;
pub mod logs;
pub mod notify;
pub mod open;
pub mod range_diff;
pub mod rerun;
pub mod show;
mod since;
mod suspicious;
pub mod wait;
pub mod watch;
pub mod workers;

use std::io::{self, Write};

use model::Status;
use serde::Serialize;

/// The output of a command.
pub trait Answer {
    /// The output with `--json`: the JSON of the dashboard's view, if it has one.
    fn json(&self) -> serde_json::Result<String>;

    /// Writes the text output, with colors.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;

    /// The exit code.
    fn exit_code(&self) -> u8 {
        0
    }
}

fn to_json(view: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(view)
}

/// Whether the test failed or failed to run.
fn is_failure(status: Status) -> bool {
    matches!(status, Status::Failed | Status::FailedToRun)
}
