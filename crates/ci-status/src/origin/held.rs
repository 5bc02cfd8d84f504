//! A log in hand: a file on this machine or bytes that were fetched, read the same way.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use results::Log;

use crate::problem::Problem;

/// A log that is there.
#[derive(Clone)]
pub struct Held {
    live: bool,
    bytes: Bytes,
}

#[derive(Clone)]
enum Bytes {
    File(Log),
    /// As they came, and from where.
    Fetched {
        body: Arc<[u8]>,
        brotli: bool,
        url: String,
    },
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.bytes {
            Bytes::File(log) => log.path().display().to_string(),
            Bytes::Fetched { url, .. } => url.clone(),
        };
        f.debug_struct("Held").field("live", &self.live).field("place", &place).finish()
    }
}

impl From<Log> for Held {
    fn from(log: Log) -> Self {
        Self { live: log.is_live(), bytes: Bytes::File(log) }
    }
}

impl Held {
    /// A log that was fetched from `url`, as brotli or plain.
    pub fn fetched(body: Arc<[u8]>, brotli: bool, live: bool, url: String) -> Self {
        Self { live, bytes: Bytes::Fetched { body, brotli, url } }
    }

    /// Whether the test still runs and the log grows.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The plain text as a stream.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, Problem> {
        Ok(match &self.bytes {
            Bytes::File(log) => log.open()?,
            Bytes::Fetched { body, brotli: false, .. } => Box::new(Cursor::new(Arc::clone(body))),
            Bytes::Fetched { body, brotli: true, .. } => {
                Box::new(brotli::Decompressor::new(Cursor::new(Arc::clone(body)), 64 << 10))
            }
        })
    }

    /// The plain text, at most `limit` bytes of it, and whether that is all.
    pub fn read(&self, limit: u64) -> Result<(Vec<u8>, bool), Problem> {
        if let Bytes::File(log) = &self.bytes {
            return Ok(log.read(limit)?);
        }
        let mut bytes = Vec::new();
        let read = self.open()?.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| self.damaged(&error))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let all = bytes.len() <= limit;
        bytes.truncate(limit);
        Ok((bytes, all))
    }

    fn damaged(&self, error: &io::Error) -> Problem {
        match &self.bytes {
            Bytes::File(_) => Problem::Output(io::Error::new(error.kind(), error.to_string())),
            Bytes::Fetched { url, .. } => {
                Problem::Remote { url: url.clone(), why: "damaged: not a whole brotli stream".into() }
            }
        }
    }
}
