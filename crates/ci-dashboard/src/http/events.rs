//! Server-sent events (HTML standard, section 9.2): a source that is polled until it ends.
//!
//! The server polls a source at intervals and keeps the connection open. A CGI process sends the events that exist when
//! it starts; the client reconnects by itself.

use std::fmt::Debug;

/// The first bytes of every stream: how long a client waits before it reconnects, in ms.
pub const PREAMBLE: &str = "retry: 1000\n\n";

/// Where events come from.
pub trait EventSource: Debug + Send + Sync {
    /// The next event, without waiting for one.
    fn poll(&mut self) -> Step;
}

/// The result of one poll.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// An event, complete with its empty line.
    Event(String),
    /// Nothing new.
    Wait,
    /// The last event.
    End(String),
    /// The source failed; the client may reconnect.
    Broken,
}
