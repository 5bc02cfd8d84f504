//! The connections of the server: a bounded number, each with time limits, closed when the server stops.
//!
//! The first bytes of a connection decide between HTTP/1.1 and HTTP/2: a proxy with prior knowledge of HTTP/2 sends its
//! preface (RFC 9113, section 3.4). `hyper_util`'s automatic choice has no time limit for these bytes.

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

/// Connections open at the same time; others wait to be accepted.
const CONNECTIONS_MAX: u32 = 1000;
/// Open requests of one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// The longest time for the head of a request, and between two requests.
const IDLE: Duration = Duration::from_secs(30);
/// The longest time that an HTTP/2 connection accepts requests; then its client opens another.
const LIFETIME: Duration = Duration::from_secs(600);
/// The longest request head, in bytes.
const HEAD_MAX: u32 = 32 << 10;
/// The time that running requests have to finish when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of the HTTP/2 preface that no HTTP/1.1 request begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// Accepts connections until `stop` is ready, sets `stopping`, and waits for running requests.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stopping: watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    accept(&listener, &router, &connections, &stopping, stop).await;
    drop(listener);
    stopping.send_replace(true);
    if tokio::time::timeout(STOP_TIMEOUT, connections.acquire_many(CONNECTIONS_MAX)).await.is_err() {
        tracing::warn!("some requests did not finish in time and were aborted");
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
                // The client closed it already, or no descriptors are left: both pass.
                tracing::warn!("a connection was not accepted: {error}");
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
                Ok(Ok(Version::Http1)) => serve_http1(stream, router, stopping).await,
                Ok(Ok(Version::Http2)) => serve_http2(stream, router, stopping).await,
                // No bytes in time, or closed.
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
    Http1,
    Http2,
}

/// Reads the version from the first bytes, which stay in the socket's buffer.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut head = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut head).await?;
        if length == 0 || head[..length] != PREFACE[..length] {
            return Ok(Version::Http1);
        }
        if length == PREFACE.len() {
            return Ok(Version::Http2);
        }
        // A part of the preface: peek returns it until more arrives.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve_http1(
    stream: TcpStream,
    router: Router,
    stopping: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD_MAX as usize);
    let service = TowerToHyperService::new(router);
    drive(builder.serve_connection(TokioIo::new(stream), service), None, stopping).await
}

async fn serve_http2(
    stream: TcpStream,
    router: Router,
    stopping: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE)
        .keep_alive_timeout(IDLE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX);
    let service = TowerToHyperService::new(router);
    drive(builder.serve_connection(TokioIo::new(stream), service), Some(LIFETIME), stopping).await
}

/// Drives a connection to its end; shuts it down when the server stops or its lifetime is over.
async fn drive<C: GracefulConnection>(
    connection: C,
    lifetime: Option<Duration>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let shutdown = async {
        let expired = async {
            match lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = expired => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown => {}
    }
    Pin::as_mut(&mut connection).graceful_shutdown();
    connection.await
}
