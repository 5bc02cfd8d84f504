//! Kernel crashes: from console lines to the title, the cause and the report of a crash.
//!
//! Sans-IO: nothing here reads a file or depends on VMs. [`line`] splits and classifies one console line, [`trouble()`]
//! recognizes the lines that start a report while a log grows, and [`reports`] finds and names the crashes in a whole
//! log.

mod decode;
mod families;
mod frame;
#[cfg(test)]
mod leave_one_out;
pub mod line;
mod log;
mod names;
mod noise;
mod report;
mod rules;
mod source;
mod stall;
mod stamp;
pub mod terminal;
mod title;
mod trouble;

pub use decode::SourceLine;
pub use frame::{Frame, FrameKind};
pub use report::{Report, reports};
pub use trouble::{Trouble, TroubleKind, trouble};
