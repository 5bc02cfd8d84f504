//! A dashboard in this process for tests of its limits, and the frames of HTTP/2.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ci_dashboard::{Actions, Limits, Proxies, Site};
use results::Reader;

use crate::common::{Farm, commits, small};

/// A running dashboard with a large log. Dropping it stops it.
pub struct Dashboard {
    pub address: SocketAddr,
    pub log: String,
    runtime: tokio::runtime::Runtime,
    _farm: Farm,
}

impl Dashboard {
    pub fn start(limits: Limits, proxies: Proxies) -> Self {
        Self::with(Actions::default(), limits, proxies)
    }

    pub fn with(actions: Actions, limits: Limits, proxies: Proxies) -> Self {
        let farm = small();
        let log = format!("/c/{}/fs.ext4.basic.punch/large.br", commits()[3].0);
        std::fs::write(farm.path().join(&log[3..]), vec![b'x'; 3_000_000]).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()));
        let site = Site::new(Reader::open(farm.path()).unwrap(), std::iter::empty().collect());
        let stop = std::future::pending();
        let limits = limits.within_open_files(http_server::raise_open_files());
        runtime.spawn(ci_dashboard::serve(site, actions, listener, (limits, proxies), stop));
        Self { address, log, runtime, _farm: farm }
    }

    /// The status of a request from the address `source`, and the time that it took.
    pub fn ask(&self, source: Ipv4Addr, headers: &str) -> std::io::Result<(u16, Duration)> {
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
    pub fn answers(&self, source: Ipv4Addr) {
        let mut answers: Vec<_> = (0..9).map(|_| self.ask(source, "").unwrap()).collect();
        answers.sort_by_key(|(_, time)| *time);
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        assert!(answers[0].1 < Duration::from_millis(100), "{answers:?}");
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a request as HPACK literals.
pub fn http2_head(path: &str) -> Vec<u8> {
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
pub fn http2_requests(path: &str, streams: u32, window: u32) -> Vec<u8> {
    let head = http2_head(path);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE.
    bytes.extend(frame(4, 0, 0, &[[0, 4].as_slice(), &window.to_be_bytes()].concat()));
    for stream in 0..streams {
        bytes.extend(frame(1, 5, 1 + 2 * stream, &head));
    }
    bytes
}
