//! The limits of a server, as plain numbers.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The maximum number of open files that [`raise_open_files`] requests.
const OPEN_FILES: u64 = 8192;

/// The limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at the same time, in total.
    pub connections: usize,
    /// Connections open at the same time, per address.
    pub connections_per_address: usize,
    /// Requests open at the same time, in total. A request is open until its response has been sent.
    pub requests: usize,
    /// Requests open at the same time, per address.
    pub requests_per_address: usize,
    /// Handlers that run at the same time, in total; further requests wait.
    pub handlers: usize,
    /// Handlers that run at the same time, per address.
    pub handlers_per_address: usize,
    /// Open requests per HTTP/2 connection.
    pub streams: u32,
    /// Maximum size of a request head, in bytes.
    pub head_bytes: u32,
    /// Maximum time for receiving the head of a request, and between two requests of a connection.
    pub head: Duration,
    /// Maximum time from the head of a request to the start of its response.
    pub response: Duration,
    /// Maximum time for which a response may make no progress, or a connection may have no request.
    pub stall: Duration,
    /// Maximum time for which an HTTP/2 connection accepts requests; after that, its client opens another one.
    pub lifetime: Duration,
    /// The time for open requests to finish when the server stops.
    pub stop: Duration,
}

impl Default for Limits {
    /// Defaults for a server on the internet.
    fn default() -> Self {
        Self {
            connections: 1000,
            connections_per_address: 64,
            requests: 2000,
            requests_per_address: 256,
            handlers: 64,
            handlers_per_address: 32,
            streams: 100,
            head_bytes: 32 << 10,
            head: Duration::from_secs(30),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            lifetime: Duration::from_secs(600),
            stop: Duration::from_secs(8),
        }
    }
}

impl Limits {
    /// The same limits, lowered so that a process that may open `files` files never runs out of them. A connection
    /// needs one file, and so does an open request.
    #[must_use]
    pub fn within_open_files(self, files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let connections = self.connections.min(files / 4).max(1);
        let requests = self.requests.min(files / 2).max(1);
        Self {
            connections,
            connections_per_address: self.connections_per_address.min(connections),
            requests,
            requests_per_address: self.requests_per_address.min(requests),
            ..self
        }
    }
}

/// Raises the limit of open files of this process as far as it is allowed, and returns the new limit.
#[must_use]
pub fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(u64::MAX);
    let wanted = OPEN_FILES.min(maximum.unwrap_or(u64::MAX));
    if wanted <= current {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_the_number_of_open_files() {
        let small = Limits::default().within_open_files(256);
        assert_eq!((small.connections, small.connections_per_address), (64, 64));
        assert_eq!((small.requests, small.requests_per_address), (128, 128));
        assert!(small.connections + small.requests < 256);
        assert_eq!(Limits::default().within_open_files(8192), Limits::default());
        assert_eq!(Limits::default().within_open_files(0).connections, 1);
    }
}
