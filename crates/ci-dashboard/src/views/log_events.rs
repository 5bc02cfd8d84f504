//! A growing log as server-sent events: complete lines with their numbers and style classes, and `end` after the
//! verdict.
//!
//! The id of each event is the position after it (`BYTES:LINES`), so a client that reconnects misses nothing.

use http::{HeaderName, StatusCode};
use model::{CommitId, ResultKey, Status};
use results::{LogKind, Reader};

use crate::http::events::{EventSource, Step};
use crate::http::{Body, Request, Response, content_type};
use crate::logtext::LogText;
use crate::problem::Problem;

/// The maximum number of bytes of the log in one event.
const PIECE: u64 = 256 << 10;
/// The maximum length of a line, in bytes; a longer one is sent in parts.
const LINE_MAX: usize = 64 << 10;

/// A position in a growing log.
#[derive(Debug)]
struct LogEvents {
    reader: Reader,
    sha: CommitId,
    key: ResultKey,
    kind: LogKind,
    bytes: u64,
    lines: usize,
    /// Whether the file existed at the last poll; if it is missing afterwards, the log has ended.
    existed: bool,
}

/// The lines after the position `from` (`BYTES:LINES`). The id of the client's last event takes precedence.
pub fn view(
    reader: &Reader,
    sha: &CommitId,
    key: &ResultKey,
    full: bool,
    from: Option<&str>,
    request: &Request,
) -> Result<Response, Problem> {
    let missing = || Problem::NotFound("no result of this test at this commit".into());
    reader.entry(sha, key)?.ok_or_else(missing)?;
    let from = request.header(HeaderName::from_static("last-event-id")).or(from);
    let (bytes, lines) = match from {
        None => (0, 0),
        Some(from) => from
            .split_once(':')
            .and_then(|(bytes, lines)| Some((bytes.parse().ok()?, lines.parse().ok()?)))
            .ok_or_else(|| {
                let text =
                    "invalid value of the parameter \"from\"; expected BYTES:LINES, the id of an event";
                Problem::BadRequest(text.into())
            })?,
    };
    let kind = if full { LogKind::Full } else { LogKind::Subtest };
    let source = LogEvents {
        reader: reader.clone(),
        sha: sha.clone(),
        key: key.clone(),
        kind,
        bytes,
        lines,
        existed: false,
    };
    let mut response = Response::new(StatusCode::OK, content_type::EVENTS, Vec::new());
    response.headers.remove(http::header::VARY);
    response.body = Body::Events(Box::new(source));
    // Otherwise nginx would buffer the events.
    Ok(response.with(HeaderName::from_static("x-accel-buffering"), "no"))
}

impl EventSource for LogEvents {
    fn poll(&mut self) -> Step {
        self.step().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Step::Broken
        })
    }
}

impl LogEvents {
    fn step(&mut self) -> results::Result<Step> {
        let log = self.reader.log(&self.sha, &self.key, self.kind)?;
        let Some(log) = log.filter(results::Log::is_live) else {
            let running = self
                .reader
                .entry(&self.sha, &self.key)?
                .is_some_and(|entry| entry.decisive.status == Status::InProgress);
            // Between the claim of a test and its first line, the file does not exist.
            return Ok(if running && !self.existed {
                Step::Wait
            } else {
                Step::End("event: end\ndata: {}\n\n".into())
            });
        };
        self.existed = true;
        // The file may be removed between the two calls; the next poll determines the reason.
        let Ok(bytes) = log.read_live(self.bytes, PIECE) else { return Ok(Step::Wait) };
        Ok(self.event(&bytes).map_or(Step::Wait, Step::Event))
    }

    /// The complete lines of `bytes` as an event. Advances the position.
    fn event(&mut self, bytes: &[u8]) -> Option<String> {
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if bytes.len() >= LINE_MAX => bytes.len(),
            None => return None,
        };
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let log = LogText::new(&text);
        let shown = log.all();
        let lines: Vec<_> = shown
            .iter()
            .map(|line| (self.lines + line.number, line.class, line.stamp, line.text.as_str()))
            .collect();
        self.bytes += whole as u64;
        self.lines += log.total();
        let data = serde_json::to_string(&lines).unwrap_or_default();
        Some(format!("id: {}:{}\ndata: {data}\n\n", self.bytes, self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_are_sent_and_the_position_is_exact() {
        let dir = std::env::temp_dir();
        let mut events = LogEvents {
            reader: Reader::open(&dir).unwrap(),
            sha: "a".repeat(40).parse().unwrap(),
            key: "a.b".parse().unwrap(),
            kind: LogKind::Subtest,
            bytes: 7,
            lines: 2,
            existed: false,
        };
        assert_eq!(events.event(b"half"), None);
        let event = events.event(b"00001 one\r\n00002 BUG: two\nhalf").unwrap();
        assert_eq!(
            event,
            "id: 33:4\ndata: [[3,\"\",\"00001 \",\"one\"],[4,\"k\",\"00002 \",\"BUG: two\"]]\n\n"
        );
        assert_eq!((events.bytes, events.lines), (33, 4));
        assert!(events.event(&vec![b'x'; LINE_MAX]).is_some(), "a line without end is sent in parts");
    }
}
