//! The content of a log: a file on this machine or fetched bytes, with the same interface.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use results::Log;

use crate::problem::Problem;

/// A log that exists.
#[derive(Clone)]
pub struct LogContent {
    live: bool,
    bytes: Bytes,
}

#[derive(Clone)]
enum Bytes {
    File(Log),
    /// As sent by the dashboard.
    Fetched {
        body: Arc<[u8]>,
        brotli: bool,
        url: String,
    },
}

impl fmt::Debug for LogContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = match &self.bytes {
            Bytes::File(log) => log.path().display().to_string(),
            Bytes::Fetched { url, .. } => url.clone(),
        };
        f.debug_struct("LogContent").field("live", &self.live).field("location", &location).finish()
    }
}

impl From<Log> for LogContent {
    fn from(log: Log) -> Self {
        Self { live: log.is_live(), bytes: Bytes::File(log) }
    }
}

impl LogContent {
    /// A log fetched from `url`, compressed with brotli or plain.
    pub fn fetched(body: Arc<[u8]>, brotli: bool, live: bool, url: String) -> Self {
        Self { live, bytes: Bytes::Fetched { body, brotli, url } }
    }

    /// Whether the test is still running and the log grows.
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

    /// At most `limit` bytes of the plain text, and whether that is the complete log.
    pub fn read(&self, limit: u64) -> Result<(Vec<u8>, bool), Problem> {
        if let Bytes::File(log) = &self.bytes {
            return Ok(log.read(limit)?);
        }
        let mut bytes = Vec::new();
        let read = self.open()?.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| self.damaged(&error))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_whole = bytes.len() <= limit;
        bytes.truncate(limit);
        Ok((bytes, is_whole))
    }

    fn damaged(&self, error: &io::Error) -> Problem {
        match &self.bytes {
            Bytes::File(_) => Problem::Output(io::Error::new(error.kind(), error.to_string())),
            Bytes::Fetched { url, .. } => {
                Problem::Remote { url: url.clone(), reason: "damaged: not a whole brotli stream".into() }
            }
        }
    }
}
