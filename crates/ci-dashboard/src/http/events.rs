//! Server-sent events (HTML standard, section 9.2): a source that is polled until it ends.
//!
//! The server polls a source at intervals and keeps the connection open. A CGI process sends the events that exist when
//! it starts, and the client reconnects.

use std::fmt::Debug;

/// The start of every stream: the time in ms that a client waits before it reconnects.
pub const PREAMBLE: &str = "retry: 1000\n\n";

/// A source of events.
pub trait EventSource: Debug + Send + Sync {
    /// The next event. Does not wait for one.
    fn poll(&mut self) -> Step;
}

/// The result of one poll.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// An event, including its terminating empty line.
    Event(String),
    /// Nothing new.
    Wait,
    /// The last event.
    End(String),
    /// The source failed; the client may reconnect.
    Broken,
}
