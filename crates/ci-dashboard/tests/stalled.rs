//! Clients that stall: the server answers the others, and disconnects the ones that stall.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "common/server.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use ci_dashboard::{Actions, Limits, Proxies, Rerun, Token};
use common::commits;
use server::{Dashboard, frame, http2_head, http2_requests};

impl Dashboard {
    /// A client that requests the log and reads nothing.
    fn stalled_http1(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {} HTTP/1.1\r\nHost: ci\r\n\r\n", self.log).ok();
        stream
    }

    /// A client that requests the log many times without a flow-control window.
    fn stalled_http2(&self, streams: u32) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(&http2_requests(&self.log, streams, 0)).ok();
        stream
    }
}

/// Whether the peer closes the connection within `limit`.
fn is_closed(stream: &mut TcpStream, limit: Duration) -> bool {
    let began = Instant::now();
    let mut piece = [0; 1];
    stream.set_nonblocking(true).unwrap();
    while began.elapsed() < limit {
        // Reading a full buffer would be progress, so only a write error counts.
        match stream.write(b" ") {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return true,
            _ => {}
        }
        if matches!(stream.peek(&mut piece), Ok(0)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn stalled_connections_of_one_address_do_not_block_others() {
    let server = Dashboard::start(Limits::default(), Proxies::default());
    let (same, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let pause = || std::thread::sleep(Duration::from_millis(1500));
    let mut held: Vec<TcpStream> = (0..500).map(|_| server.stalled_http1()).collect();
    server.answers(other);
    pause();
    server.answers(same);
    held.extend((0..500).map(|_| server.stalled_http2(4)));
    server.answers(other);
    pause();
    server.answers(same);
    // Clients that only connect, and incomplete requests.
    held.extend((0..500).map(|number| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(&b"GET / HTTP/1.1\r\nHost: ci\r\n"[..number % 25]).ok();
        stream
    }));
    server.answers(other);
    pause();
    server.answers(same);
    // Many concurrent requests: those of the same address wait.
    held.extend((0..500).map(|_| server.stalled_http2(100)));
    server.answers(other);
    drop(held);
}

#[test]
fn a_client_that_stalls_is_disconnected() {
    let limits = Limits { stall: Duration::from_secs(2), head: Duration::from_secs(2), ..Limits::default() };
    let server = Dashboard::start(limits, Proxies::default());
    for (what, mut stream) in [
        ("HTTP/1.1", server.stalled_http1()),
        ("HTTP/2", server.stalled_http2(3)),
        ("half a request", {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(b"GET /healthz HTTP").unwrap();
            stream
        }),
        ("no request", TcpStream::connect(server.address).unwrap()),
    ] {
        assert!(is_closed(&mut stream, Duration::from_secs(15)), "{what}");
    }
}

/// A client with a valid token sends its request for a rerun a byte at a time: each byte is progress, but the whole
/// request has a time limit.
#[test]
fn a_slow_body_ends_at_the_time_limit() {
    let limits = Limits { response: Duration::from_secs(2), ..Limits::default() };
    let rerun = Some(Rerun::new(Token::new("secret-of-the-reruns")));
    let server = Dashboard::with(Actions { rerun, ..Actions::default() }, limits, Proxies::default());
    let mut stream = TcpStream::connect(server.address).unwrap();
    let path = format!("/c/{}/fs.ext4.basic.punch/rerun", commits()[3].0);
    let head = "Host: ci\r\nAuthorization: Bearer secret-of-the-reruns\r\nContent-Length: 4000\r\n\r\n";
    write!(stream, "POST {path} HTTP/1.1\r\n{head}").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut reply, began) = ([0; 100], Instant::now());
    while stream.read(&mut reply).is_err() {
        assert!(began.elapsed() < Duration::from_secs(15), "it waits for the body");
        stream.write_all(b"x").ok();
    }
    assert!(reply.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&reply));
    assert!(began.elapsed() >= Duration::from_secs(1));
    server.answers(Ipv4Addr::LOCALHOST);
}

#[test]
fn a_slow_client_gets_the_complete_file() {
    let limits = Limits { stall: Duration::from_secs(2), ..Limits::default() };
    let server = Dashboard::start(limits, Proxies::default());
    let mut stream = server.stalled_http1();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut received, mut piece) = (0, vec![0; 150_000]);
    // 3 MB in more than twice the time after which a client is considered stalled.
    while received < 3_000_000 {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{received} bytes");
        received += count;
        std::thread::sleep(Duration::from_millis(u64::try_from(count).unwrap() * 5 / 3_000));
    }
}

#[test]
fn a_stalled_stream_is_reset_and_its_connection_continues() {
    let limits = Limits { stall: Duration::from_secs(2), ..Limits::default() };
    let server = Dashboard::start(limits, Proxies::default());
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&http2_requests(&server.log, 1, 0)).unwrap();
    // Further requests keep the connection active.
    let mut further = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let head = http2_head("/healthz");
        for id in 1..60 {
            std::thread::sleep(Duration::from_millis(200));
            if further.write_all(&frame(1, 5, 1 + 2 * id, &head)).is_err() {
                return;
            }
        }
    });
    // The first frames from the server, up to RST_STREAM.
    let mut head = [0; 9];
    loop {
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::copy(&mut (&mut stream).take(u64::from(length)), &mut std::io::sink()).unwrap();
        if head[3] == 3 {
            break;
        }
        assert_ne!(head[3], 7, "the connection ends");
    }
    assert_eq!(head[5..], [0, 0, 0, 1]);
}

#[test]
fn a_trusted_proxy_reports_the_clients() {
    let limits = Limits { connections_per_address: 4, requests_per_address: 4, ..Limits::default() };
    let server = Dashboard::start(limits, ["127.0.0.1".parse().unwrap()].into_iter().collect());
    // More connections than one address may have, each with a request of one client that does not stall.
    let follow = format!("/c/{}/fs.ext4.basic.rename/follow", commits()[1].0);
    let request = |client: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "GET {follow} HTTP/1.1\r\nHost: ci\r\nX-Forwarded-For: {client}\r\n\r\n").unwrap();
        stream
    };
    let (mut held, began) = (Vec::new(), Instant::now());
    // On a busy machine, a stream may seem to stall and be replaced.
    loop {
        held.extend((0..8).map(|_| request("192.0.2.1")));
        if server.ask(Ipv4Addr::LOCALHOST, "X-Forwarded-For: 192.0.2.1\r\n").unwrap().0 == 429 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no limit for the client behind the proxy");
    }
    assert_eq!(server.ask(Ipv4Addr::LOCALHOST, "X-Forwarded-For: 192.0.2.2\r\n").unwrap().0, 200);
    drop(held);
}
