//! The server's connections: so many at a time, HTTP/1.1 or HTTP/2 by their first bytes (a proxy that knows it speaks to
//! HTTP/2 begins with its preface), each with a limit to how long it may think, and let go when the server stops.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// How many connections are open at a time; others wait to be taken.
const CONNECTIONS: u32 = 1000;
/// How many requests an HTTP/2 connection may have open at a time.
const STREAMS: u32 = 100;
/// How long a connection may take for a request's head, or rest between two requests.
const IDLE: Duration = Duration::from_secs(30);
/// How long an HTTP/2 connection takes new requests; then its client opens another.
const LIFE: Duration = Duration::from_secs(600);
/// The longest head of a request, in bytes.
const HEAD_MAX: u32 = 32 << 10;
/// How long running requests may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(10);
/// How HTTP/2 begins, as far as it must be seen: no HTTP/1.1 request does.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// Takes connections until `stop` is ready, tells all who watch `stopping` so, and waits for what still runs.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stopping: watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS as usize));
    accept(&listener, &router, &connections, &stopping, stop).await;
    drop(listener);
    stopping.send_replace(true);
    if tokio::time::timeout(FAREWELL, connections.acquire_many(CONNECTIONS)).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    connections: &Arc<Semaphore>,
    stopping: &watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send,
) {
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let permit = Arc::clone(connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (Ok(permit), accepted) = (tokio::select! {
            next = next => next,
            () = &mut stop => return,
        }) else {
            return;
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that went already, or no descriptors left: neither is the end.
                tracing::warn!("a connection was not taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, mut stopping) = (router.clone(), stopping.subscribe());
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let version = tokio::select! {
                version = tokio::time::timeout(IDLE, version(&stream)) => version,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let ended = match version {
                Ok(Ok(Version::One)) => one(stream, router, stopping).await,
                Ok(Ok(Version::Two)) => two(stream, router, stopping).await,
                // It said nothing, or is gone.
                Ok(Err(_)) | Err(_) => return,
            };
            if let Err(error) = ended {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What the first bytes say; they stay where they are.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut head = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut head).await?;
        if seen == 0 || head[..seen] != PREFACE[..seen] {
            return Ok(Version::One);
        }
        if seen == PREFACE.len() {
            return Ok(Version::Two);
        }
        // A part of the preface, which a peek gives again and again until more is there.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn one(stream: TcpStream, router: Router, stopping: watch::Receiver<bool>) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD_MAX as usize);
    let service = TowerToHyperService::new(router);
    guide(builder.serve_connection(TokioIo::new(stream), service), None, stopping).await
}

async fn two(stream: TcpStream, router: Router, stopping: watch::Receiver<bool>) -> hyper::Result<()> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE)
        .keep_alive_timeout(IDLE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_MAX);
    let service = TowerToHyperService::new(router);
    guide(builder.serve_connection(TokioIo::new(stream), service), Some(LIFE), stopping).await
}

/// Drives a connection to its end, which it is asked for when the server stops or its life is over.
async fn guide<C: GracefulConnection>(
    connection: C,
    life: Option<Duration>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let enough = async {
        let over = async {
            match life {
                Some(life) => tokio::time::sleep(life).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = enough => {}
    }
    Pin::as_mut(&mut connection).graceful_shutdown();
    connection.await
}
