//! Clients that send more than a browser does: the server answers the others, and uses little memory.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "common/server.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use ci_dashboard::{Limits, Proxies};
use server::{Dashboard, frame, http2_head, http2_requests};

/// Each test measures the memory of this process, so they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// The bytes that this process occupies; the server runs in it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Sends `start` and then `piece` up to `times` times. Returns the number of bytes sent until the server closed the
/// connection, and its reply.
fn flood(server: &Dashboard, start: &[u8], piece: &[u8], times: usize) -> (usize, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let replies = std::thread::spawn(move || {
        let (mut reply, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = reader.read(&mut piece) {
            reply.extend(&piece[..length]);
        }
        reply
    });
    let mut sent = start.len();
    stream.write_all(start).unwrap();
    while sent < start.len() + times * piece.len() && stream.write_all(piece).is_ok() {
        sent += piece.len();
    }
    if times > 0 {
        stream.shutdown(std::net::Shutdown::Write).ok();
    }
    (sent, replies.join().unwrap())
}

#[test]
fn the_head_of_a_request_is_limited() {
    let _alone = ALONE.lock();
    let server = Dashboard::start(Limits::default(), Proxies::default());
    let other = Ipv4Addr::new(127, 0, 0, 2);
    let before = resident();
    let pieces = 20_000;
    for (start, piece) in [
        ("GET /", "x".repeat(5000)),
        ("GET / HTTP/1.1\r\nHost: ci\r\nX: ", "x".repeat(5000)),
        ("GET / HTTP/1.1\r\nHost: ci\r\n", format!("X: {}\r\n", "x".repeat(4000))),
        ("GET / HTTP/1.1\r\nHost: ci\r\n", "A: b\r\n".repeat(1000)),
        ("GET / HTTP/1.1\r\nHost: ci\r\n Folded", "\r\n x".repeat(1000)),
    ] {
        let (sent, reply) = flood(&server, start.as_bytes(), piece.as_bytes(), pieces);
        let text = String::from_utf8_lossy(&reply[..reply.len().min(20)]);
        assert!(sent < pieces * piece.len() / 2, "{start:?}: {sent} bytes were accepted");
        assert!(reply.is_empty() || text.starts_with("HTTP/1.1 4"), "{start:?}: {text}");
        server.answers(other);
    }
    assert!(resident().saturating_sub(before) < 100 << 20);
}

#[test]
fn floods_over_http2_end_the_connection() {
    let _alone = ALONE.lock();
    let server = Dashboard::start(Limits::default(), Proxies::default());
    let other = Ipv4Addr::new(127, 0, 0, 2);
    let before = resident();
    let start = http2_requests("/", 0, 1 << 16);
    let head = http2_head("/healthz");
    // CVE-2023-44487: each stream is reset at once.
    let resets: Vec<u8> = (0..20_000)
        .flat_map(|id| [frame(1, 5, 1 + 2 * id, &head), frame(3, 0, 1 + 2 * id, &[0, 0, 0, 8])].concat())
        .collect();
    let (_, reply) = flood(&server, &[start.clone(), resets].concat(), b"", 0);
    assert!(frames(&reply).any(|kind| kind == 7), "no GOAWAY");
    server.answers(other);
    // A head that never ends: HEADERS without END_HEADERS, then CONTINUATION.
    let begin = [start.clone(), frame(1, 0, 1, &head)].concat();
    let (sent, _) = flood(&server, &begin, &frame(9, 0, 1, &[0; 16_384]), 5_000);
    assert!(sent < 40 << 20, "{sent} bytes of a head were accepted");
    server.answers(other);
    // Empty continuations, settings, pings and priorities, each with a reply or with none.
    for (name, begin, piece) in [
        ("CONTINUATION", begin, frame(9, 0, 1, &[])),
        ("SETTINGS", start.clone(), frame(4, 0, 0, &[0, 4, 0, 0, 0, 1])),
        ("PING", start.clone(), frame(6, 0, 0, &[0; 8])),
        ("PRIORITY", start, frame(2, 0, 3, &[0, 0, 0, 0, 1])),
    ] {
        flood(&server, &begin, &piece.repeat(1000), 300);
        server.answers(other);
        assert!(resident().saturating_sub(before) < 100 << 20, "{name}");
    }
}

/// The types of the frames from a server.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes([0, *bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]);
        let kind = *bytes.get(3)?;
        bytes = bytes.get(9 + usize::try_from(length).ok()?..).unwrap_or_default();
        Some(kind)
    })
}

#[test]
fn requests_of_a_pipeline_are_answered_in_turn() {
    let _alone = ALONE.lock();
    let server = Dashboard::start(Limits::default(), Proxies::default());
    let request = b"GET /healthz HTTP/1.1\r\nHost: ci\r\n\r\n";
    let last = b"GET /healthz HTTP/1.1\r\nHost: ci\r\nConnection: close\r\n\r\n";
    let (_, reply) = flood(&server, &[request.repeat(2_000), last.to_vec()].concat(), b"", 0);
    let answers = String::from_utf8_lossy(&reply).matches("HTTP/1.1 200").count();
    assert_eq!(answers, 2_001);
    // A client that reads no reply occupies one connection and little memory.
    let before = resident();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    while stream.write_all(&request.repeat(1000)).is_ok() {}
    server.answers(Ipv4Addr::new(127, 0, 0, 2));
    assert!(resident().saturating_sub(before) < 50 << 20);
}

#[test]
fn ranges_do_not_multiply_a_response() {
    let _alone = ALONE.lock();
    let server = Dashboard::start(Limits::default(), Proxies::default());
    for ranges in
        ["0-,".repeat(5_000), "0-2999999,".repeat(1_000), "2999999-0,".repeat(1_000), "0-0,".repeat(5_000)]
    {
        let ranges = ranges.trim_end_matches(',');
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: ci\r\nConnection: close\r\nRange: bytes={ranges}\r\n\r\n",
            server.log
        );
        let (_, reply) = flood(&server, request.as_bytes(), b"", 0);
        assert!(reply.len() < 3_100_000, "{} bytes for {}", reply.len(), &ranges[..10]);
    }
}
