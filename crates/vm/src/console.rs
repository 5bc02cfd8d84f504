//! Splits console bytes into lines. No I/O.
//!
//! For any input, a line is plain text of bounded length: without control sequences and overwritten text, with invalid
//! UTF-8 replaced. Memory use is bounded.

use crash::terminal::shown;

/// The maximum length of a line, in bytes; longer lines are split.
const LINE_MAX: usize = 8192;
/// The maximum length of a message of the kernel or of the protocol, in bytes. It is never split, regardless of the
/// length of the unfinished program output before it.
const MESSAGE_MAX: usize = 2048;

/// Splits a byte stream into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    /// Adds bytes and calls `each` for every line that is now complete, without its line ending.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&str)) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(at);
            bytes = &rest[1..];
            self.push(line, &mut each);
            self.flush(&mut each);
        }
        self.push(bytes, &mut each);
    }

    /// Ends the stream: calls `each` for an incomplete last line.
    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.flush(&mut each);
        }
    }

    fn push(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&str)) {
        while self.partial.len() + bytes.len() > LINE_MAX {
            let (head, rest) = bytes.split_at(LINE_MAX - self.partial.len());
            self.partial.extend_from_slice(head);
            bytes = rest;
            if self.overwrite() {
                continue;
            }
            let end = self.partial.split_off(LINE_MAX - MESSAGE_MAX);
            self.flush(each);
            self.partial = end;
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Removes from a full line what a progress bar has overwritten. False if too little was.
    fn overwrite(&mut self) -> bool {
        let Some(at) = self.partial.iter().rposition(|byte| *byte == b'\r') else { return false };
        let mut line = text(&self.partial[..at]).into_bytes();
        line.extend_from_slice(&self.partial[at..]);
        if line.len() > LINE_MAX / 2 {
            return false;
        }
        self.partial = line;
        true
    }

    fn flush(&mut self, each: &mut impl FnMut(&str)) {
        let text = text(&self.partial);
        self.partial.clear();
        each(&text);
    }
}

fn text(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes))
}

/// A log of limited size. If it exceeds the limit, the first and the last lines are kept.
#[derive(Debug)]
pub struct CappedLog {
    head: Vec<u8>,
    tail: std::collections::VecDeque<Box<[u8]>>,
    tail_bytes: usize,
    dropped: u64,
    head_max: usize,
    tail_max: usize,
}

impl CappedLog {
    /// Keeps about `bytes`: half from the start, half from the end.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { head_max: bytes / 2, ..Self::tail(bytes / 2) }
    }

    /// Keeps about the last `bytes`.
    #[must_use]
    pub fn tail(bytes: usize) -> Self {
        let tail = std::collections::VecDeque::new();
        Self { head: Vec::new(), tail, tail_bytes: 0, dropped: 0, head_max: 0, tail_max: bytes }
    }

    /// Adds a line without its line ending.
    pub fn line(&mut self, line: &str) {
        if self.tail.is_empty() && self.head.len() + line.len() < self.head_max {
            self.head.extend_from_slice(line.as_bytes());
            self.head.push(b'\n');
            return;
        }
        self.tail_bytes += line.len() + 1;
        self.tail.push_back(line.as_bytes().into());
        while self.tail_bytes > self.tail_max {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.len() + 1;
            self.dropped += 1;
        }
    }

    /// The log so far. A line in the gap gives the number of dropped lines.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.head.len() + self.tail_bytes + 80);
        bytes.extend_from_slice(&self.head);
        if self.dropped > 0 {
            bytes.extend_from_slice(format!("ktest: [{} lines omitted]\n", self.dropped).as_bytes());
        }
        for line in &self.tail {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        bytes
    }

    /// The lines from the last to the first, without their leading time.
    pub(crate) fn lines_reversed(&self) -> impl Iterator<Item = String> {
        let tail = self.tail.iter().rev().map(|line| &**line);
        let head = self.head.rsplit(|b| *b == b'\n').filter(|line| !line.is_empty());
        tail.chain(head).map(|line| {
            let text = String::from_utf8_lossy(line);
            text.split_once(' ').map_or(String::new(), |(_, text)| text.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (LineSplitter::default(), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, |line| out.push(line.to_string()));
        }
        lines.finish(|line| out.push(line.to_string()));
        out
    }

    #[test]
    fn partial_lines_and_invalid_bytes() {
        assert_eq!(lines(&[b"a", b"b\r\n", b"\n", b"c"]), ["ab", "", "c"]);
        assert_eq!(lines(&[b"\x1b[1;31mred\x1b[0m \x00x\xff\n"]), ["red x\u{fffd}"]);
        assert_eq!(lines(&[b"\x1b]0;ti", b"tle\x07text\n"]), ["text"]);
        assert_eq!(lines(&[b"10%\r20%\r\r\n"]), ["20%"]);
        assert_eq!(
            lines(&[b"10%\x08\x08\x0820%\r", b"[    1.000000] BUG: x\r\n"]),
            ["[    1.000000] BUG: x"]
        );
        assert_eq!(
            lines(&["\u{e4}".as_bytes().split_at(1).0, "\u{e4}".as_bytes().split_at(1).1]),
            ["\u{e4}"]
        );
    }

    #[test]
    fn long_lines_are_split() {
        let long = vec![b'x'; 3 * LINE_MAX + 1];
        let out = lines(&[&long]);
        let cut = LINE_MAX - MESSAGE_MAX;
        assert_eq!(out.iter().map(String::len).collect::<Vec<_>>(), [cut, cut, cut, cut + 1]);
    }

    #[test]
    fn a_message_after_unfinished_text_of_any_length_is_not_split() {
        let message = "[   81.050000] INFO: task worker:123 blocked for more than 30 seconds.";
        for dots in LINE_MAX - MESSAGE_MAX - 100..LINE_MAX + 100 {
            let text = format!("{}{message}\n", ".".repeat(dots));
            let out = lines(&[text.as_bytes()]);
            assert!(out.iter().any(|line| line.ends_with(message)), "{dots} dots");
        }
    }

    #[test]
    fn a_progress_bar_is_one_line() {
        for back in ["\r", "\x08\x08\x08\x08"] {
            let mut bytes = Vec::new();
            for at in 0..100_000 {
                bytes.extend_from_slice(format!("{:3}%{back}", at / 1000).as_bytes());
            }
            bytes.extend_from_slice(b"[   81.050000] BUG: x\r\n");
            let out = lines(&[&bytes]);
            assert_eq!(out.last().map(String::as_str), Some("[   81.050000] BUG: x"), "{back:?}");
            assert!(back != "\r" || out.len() == 1, "{} lines", out.len());
            let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
            assert_eq!(lines(&pieces), out, "{back:?}");
        }
    }

    #[test]
    fn a_line_of_the_maximum_length_is_whole() {
        for bytes in [LINE_MAX - 1, LINE_MAX] {
            assert_eq!(lines(&[&vec![b'x'; bytes], b"\n"]), ["x".repeat(bytes)]);
        }
    }

    #[test]
    fn a_long_line_is_split_unless_half_of_it_was_overwritten() {
        let text = |parts: &[(&str, usize)]| parts.iter().map(|(c, n)| c.repeat(*n)).collect::<String>();
        // Half of the line remains.
        let half = text(&[("p", 4095), ("\r", 1), ("q", 4000), ("\r", 1), ("r", 95), ("s", 10)]);
        assert_eq!(lines(&[half.as_bytes()]), [text(&[("r", 95), ("s", 10)])]);
        // One more byte remains.
        let more = text(&[("p", 4094), ("\r", 1), ("q", 4001), ("\r", 1), ("r", 95), ("s", 10)]);
        let cut = LINE_MAX - MESSAGE_MAX - 4095;
        assert_eq!(lines(&[more.as_bytes()]), [text(&[("q", cut)]), text(&[("r", 95), ("s", 10)])]);
        let nothing = text(&[("x", 6000), ("\r", 1), ("y", 5000)]);
        assert_eq!(lines(&[nothing.as_bytes()]).concat(), "y".repeat(5000));
    }

    #[test]
    fn the_halves_of_a_log_have_limits() {
        let log = |lines: &[&str]| {
            let mut log = CappedLog::new(20);
            lines.iter().for_each(|line| log.line(line));
            String::from_utf8(log.bytes()).unwrap()
        };
        assert_eq!(log(&["aaaa", "bbbb", "cccc", "dddd"]), "aaaa\nbbbb\ncccc\ndddd\n");
        assert_eq!(log(&["aaaa", "bbbbb", "cccc"]), "aaaa\nktest: [1 lines omitted]\ncccc\n");
    }

    #[test]
    fn head_and_tail_are_kept() {
        let mut log = CappedLog::new(100);
        for at in 0..1000 {
            log.line(&format!("line {at}"));
        }
        let text = String::from_utf8(log.bytes()).unwrap();
        assert!(text.starts_with("line 0\nline 1\n"), "{text}");
        assert!(text.ends_with("line 998\nline 999\n"), "{text}");
        assert!(text.contains("lines omitted]"), "{text}");
        assert!(text.len() < 200);
    }

    proptest::proptest! {
        #[test]
        fn chunking_does_not_matter(bytes in proptest::collection::vec(0u8..=255, 0..300), cut in 0usize..300) {
            let cut = cut.min(bytes.len());
            proptest::prop_assert_eq!(lines(&[&bytes]), lines(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
