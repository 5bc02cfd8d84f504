//! Clients that stall: the server continues to serve other clients, and disconnects the ones that stall.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ci_dashboard::{Actions, Limits, Proxies, Site};
use common::{Farm, commits, small};
use results::Reader;

/// A running dashboard with a large log. Dropping it stops it.
struct Dashboard {
    address: SocketAddr,
    log: String,
    runtime: tokio::runtime::Runtime,
    _farm: Farm,
}

impl Dashboard {
    fn start(limits: Limits, proxies: Proxies) -> Self {
        let farm = small();
        let log = format!("/c/{}/fs.ext4.basic.punch/log.br", commits()[3].0);
        std::fs::write(farm.path().join(&log[3..]), vec![b'x'; 3_000_000]).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()));
        let site = Site::new(Reader::open(farm.path()).unwrap(), std::iter::empty().collect());
        let stop = std::future::pending();
        let limits = limits.within_open_files(http_server::raise_open_files());
        runtime.spawn(ci_dashboard::serve(site, Actions::default(), listener, (limits, proxies), stop));
        Self { address, log, runtime, _farm: farm }
    }

    /// The status of a request from the address `source`, and the time that it took.
    fn ask(&self, source: Ipv4Addr, headers: &str) -> std::io::Result<(u16, Duration)> {
        let began = Instant::now();
        let connect = async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            socket.connect(self.address).await?.into_std()
        };
        let mut stream = self.runtime.block_on(connect)?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: ci\r\nConnection: close\r\n{headers}\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.split(' ').nth(1).unwrap_or("0").parse().unwrap_or(0);
        Ok((status, began.elapsed()))
    }

    /// Asserts that the server answers requests from `source` within 100 ms. A busy machine may delay some of them.
    fn answers(&self, source: Ipv4Addr) {
        let mut answers: Vec<_> = (0..9).map(|_| self.ask(source, "").unwrap()).collect();
        answers.sort_by_key(|(_, time)| *time);
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        assert!(answers[0].1 < Duration::from_millis(100), "{answers:?}");
    }

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

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a request as HPACK literals.
fn http2_head(path: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":authority", "ci"), (":path", path)] {
        head.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.as_bytes());
        }
    }
    head
}

/// The bytes of a client that allows a window of `window` bytes per stream.
fn http2_requests(path: &str, streams: u32, window: u32) -> Vec<u8> {
    let head = http2_head(path);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE.
    bytes.extend(frame(4, 0, 0, &[[0, 4].as_slice(), &window.to_be_bytes()].concat()));
    for stream in 0..streams {
        bytes.extend(frame(1, 5, 1 + 2 * stream, &head));
    }
    bytes
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
