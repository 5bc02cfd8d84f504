//! Kernel crashes by name: from console lines to the crash's title, cause and report.
//!
//! Sans-IO: text in, data out; nothing here reads a file or knows of a VM. [`trouble`] looks at one line at a time
//! while a log grows; [`reports`] names what is in a whole log.

mod decode;
mod frame;
mod log;
mod noise;
mod prefix;
mod report;
mod rules;
mod stall;
mod title;
mod trouble;

pub use decode::Source;
pub use frame::{Frame, Place};
pub use prefix::{Caller, Stripped, strip};
pub use report::{Report, reports};
pub use trouble::{Kind, Trouble, trouble};
