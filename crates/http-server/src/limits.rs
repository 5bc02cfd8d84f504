//! The limits of a server as plain numbers.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most open files that [`raise_open_files`] asks for.
const OPEN_FILES: u64 = 8192;

/// The limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at the same time.
    pub connections: usize,
    /// The same of one address.
    pub connections_per_address: usize,
    /// Requests open at the same time; a request is open until its response has been sent.
    pub requests: usize,
    /// The same of one address.
    pub requests_per_address: usize,
    /// Handlers that run at the same time; further requests wait.
    pub slots: usize,
    /// The same for the requests of one address.
    pub slots_per_address: usize,
    /// Open requests of one HTTP/2 connection.
    pub streams: u32,
    /// The longest request head, in bytes.
    pub head_bytes: u32,
    /// The longest time for the head of a request, and between two requests of a connection.
    pub head: Duration,
    /// The longest time from the head of a request until its response begins.
    pub response: Duration,
    /// The longest time in which a response makes no progress, or a connection has no request.
    pub stall: Duration,
    /// The longest time that an HTTP/2 connection accepts requests; then its client opens another.
    pub lifetime: Duration,
    /// The time that open requests have to finish when the server stops.
    pub stop: Duration,
}

impl Default for Limits {
    /// For a server on the internet.
    fn default() -> Self {
        Self {
            connections: 1000,
            connections_per_address: 64,
            requests: 2000,
            requests_per_address: 256,
            slots: 64,
            slots_per_address: 32,
            streams: 100,
            head_bytes: 32 << 10,
            head: Duration::from_secs(30),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            lifetime: Duration::from_secs(600),
            stop: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The same, lowered so that a process that may open `files` files never runs out of them: a connection takes one,
    /// and so does an open request.
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

/// Raises the number of files that this process may open as far as it is allowed to, and returns it.
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
