//! Messages about findings: mails, webhooks, commit statuses, KCIDB; and the commands that people answer with.
//!
//! The caller reads everything that a message says from the results; this crate has no access to them.

pub mod command;
pub mod forge;
pub mod http;
pub mod kcidb;
pub mod mail;
pub mod mail_in;
mod report;
pub mod rules;
#[cfg(test)]
mod sample;
mod smtp;
mod text;
pub mod webhook;

pub use report::{CommitInfo, Report};
