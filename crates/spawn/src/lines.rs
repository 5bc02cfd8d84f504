//! The lines of a process's output. Their length is limited, so that output without newlines needs little memory.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

/// The maximum length of a line in bytes; longer lines are cut.
const LINE: u64 = 1 << 20;

/// Sends the lines of `stream` until it ends or the receiver is dropped. Invalid UTF-8 is replaced.
pub async fn send(stream: impl AsyncRead + Unpin, to: mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    let mut skipping = false;
    loop {
        bytes.clear();
        match (&mut reader).take(LINE).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let complete = bytes.last() == Some(&b'\n');
        if !skipping {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            if to.send(line).await.is_err() {
                return;
            }
        }
        skipping = !complete && bytes.len() as u64 == LINE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_are_cut_and_the_next_line_is_complete() {
        let mut text = vec![b'x'; 3 * LINE as usize + 7];
        text.extend_from_slice(b"\nnext\r\n\xff\n\nlast");
        let (sender, mut receiver) = mpsc::channel(10);
        send(&text[..], sender).await;
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        assert_eq!(lines[0].len(), LINE as usize);
        assert_eq!(lines[1..], ["next", "\u{fffd}", "", "last"]);
    }
}
