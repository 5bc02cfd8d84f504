//! Kernel crashes by name: from console lines to the title, the cause and the report of a crash.
//!
//! Text in, data out: nothing here reads a file or knows about VMs. [`line`] splits and classifies one console line,
//! [`trouble()`] recognises the lines that begin a report while a log grows, and [`reports`] names the crashes of a
//! whole log.

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
mod title;
mod trouble;

pub use decode::SourceLine;
pub use frame::{Frame, FrameKind};
pub use report::{Report, reports};
pub use trouble::{Trouble, TroubleKind, trouble};
