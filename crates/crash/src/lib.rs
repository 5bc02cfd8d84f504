//! Kernel crashes by name: from console lines to the crash's title, cause and report.
//!
//! Sans-IO: text in, data out; nothing here reads a file or knows of a VM.

mod prefix;
mod trouble;

pub use prefix::{Caller, Stripped, strip};
pub use trouble::{Kind, Trouble, trouble};
