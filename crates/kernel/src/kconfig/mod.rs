//! A reader of the Kconfig language that explains why an option does not have its required value.
//!
//! Kconfig itself produces every configuration. This reader only explains the result.

mod expr;
mod parse;

pub use expr::{Expr, Tri};
pub use parse::{Definition, KconfigTree, OptionType};
