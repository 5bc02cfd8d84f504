//! KTAP, the format of the kernel's own tests: parses lines into a tree of cases, and merges several trees into results
//! by name.
//!
//! Sans-IO. Reads the output of KUnit and kselftest in all versions and styles of nesting, mixed with other console
//! lines. Any text gives a document; parsing never panics.

mod document;
mod line;
mod parser;
mod results;

pub use document::{Case, CaseResult, Document, Flat, Problem};
pub use parser::{Parser, parse};
pub use results::{Answer, Results};
