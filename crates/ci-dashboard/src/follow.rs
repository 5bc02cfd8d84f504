//! A growing log as server-sent events: whole lines, numbered and classed, as they come; `end` once the test has its
//! verdict. Each event's id says where it ends (`BYTES:LINES`), so a client that comes back misses nothing.
//!
//! [`Follow::step`] is one look at the file. The server looks again and again; a CGI process looks once, and the client
//! comes back by itself.

use model::{CommitId, ResultKey, Status};
use results::{LogKind, Reader};

use crate::logtext::LogText;

/// How much one event carries, in bytes of the log.
const PIECE: u64 = 256 << 10;
/// A line that is longer is sent in parts.
const LINE_MAX: usize = 64 << 10;

/// A place in a growing log.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    sha: CommitId,
    key: ResultKey,
    kind: LogKind,
    bytes: u64,
    lines: usize,
    /// Whether the file was there before, so that its absence means the end.
    seen: bool,
}

/// What one look found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// New lines, as an event.
    Event(String),
    /// Nothing new.
    Wait,
    /// The test has its verdict; the last event.
    End(String),
}

impl Follow {
    /// Of a log, from a place in it: so many bytes and lines are known.
    #[must_use]
    pub fn new(
        reader: Reader,
        sha: CommitId,
        key: ResultKey,
        kind: LogKind,
        (bytes, lines): (u64, usize),
    ) -> Self {
        Self { reader, sha, key, kind, bytes, lines, seen: false }
    }

    /// One look.
    pub fn step(&mut self) -> results::Result<Step> {
        let log = self.reader.log(&self.sha, &self.key, self.kind)?;
        let Some(log) = log.filter(results::Log::is_live) else {
            let running = self
                .reader
                .entry(&self.sha, &self.key)?
                .is_some_and(|entry| entry.status == Status::InProgress);
            // Between claim and first line there is no file yet.
            return Ok(if running && !self.seen {
                Step::Wait
            } else {
                Step::End("event: end\ndata: {}\n\n".into())
            });
        };
        self.seen = true;
        // The file may go between the two calls; the next look says what became of it.
        let Ok(bytes) = log.read_live(self.bytes, PIECE) else { return Ok(Step::Wait) };
        Ok(self.event(&bytes).map_or(Step::Wait, Step::Event))
    }

    /// The whole lines of new bytes as an event, and the place after them.
    fn event(&mut self, bytes: &[u8]) -> Option<String> {
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if bytes.len() >= LINE_MAX => bytes.len(),
            None => return None,
        };
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let looked = LogText::new(&text);
        let shown = looked.all();
        let lines: Vec<_> = shown
            .iter()
            .map(|line| (self.lines + line.number, line.class, line.stamp, line.text.as_str()))
            .collect();
        self.bytes += whole as u64;
        self.lines += looked.total();
        let data = serde_json::to_string(&lines).unwrap_or_default();
        Some(format!("id: {}:{}\ndata: {data}\n\n", self.bytes, self.lines))
    }
}

/// What every stream begins with: how long a client waits before it comes back, in ms.
pub const PREAMBLE: &str = "retry: 1000\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_sent_and_the_place_is_exact() {
        let dir = std::env::temp_dir();
        let mut follow = Follow {
            reader: Reader::open(&dir).unwrap(),
            sha: "a".repeat(40).parse().unwrap(),
            key: "a.b".parse().unwrap(),
            kind: LogKind::Subtest,
            bytes: 7,
            lines: 2,
            seen: false,
        };
        assert_eq!(follow.event(b"half"), None);
        let event = follow.event(b"00001 one\r\n00002 BUG: two\nhalf").unwrap();
        assert_eq!(
            event,
            "id: 33:4\ndata: [[3,\"\",\"00001 \",\"one\"],[4,\"k\",\"00002 \",\"BUG: two\"]]\n\n"
        );
        assert_eq!((follow.bytes, follow.lines), (33, 4));
        assert!(follow.event(&vec![b'x'; LINE_MAX]).is_some(), "an endless line is not kept back for ever");
    }
}
