//! KTAP, the format of the kernel's own tests: from lines to a tree of cases, and from several trees to results by name.
//!
//! Text in, data out. Reads the output of KUnit and kselftest in all versions and ways of nesting, with a console's
//! other lines between. Any text gives a document; parsing never panics.

mod document;
mod line;
mod parser;
mod results;

pub use document::{Case, CaseResult, Document, Flat, Problem};
pub use parser::{Parser, parse};
pub use results::{Answer, Results};
