//! The kernel's Kconfig language, as far as it takes to say why an option did not take its value.
//!
//! Kconfig itself makes every configuration; this reader only explains the result and never decides it.

mod expr;
mod parse;

pub use expr::{Expr, Tri};
pub use parse::{Definition, Kind, Tree};
