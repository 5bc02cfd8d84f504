//! KTAP, the format of the kernel's own tests: from lines to a tree of cases, each with one outcome.
//!
//! Sans-IO: text in, data out. Reads what KUnit and kselftest print, versions old and new, nested in any of their
//! ways, with a console's other lines between. Whatever the text is, parsing ends with a document, never a panic.

mod document;
mod line;
mod parser;

pub use document::{Case, Document, Flat, Outcome, Problem};
pub use parser::{Parser, parse};
