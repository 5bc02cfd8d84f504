//! The connections of the server: accepted, served until they end, and closed when they stall or the server stops.
//!
//! The first bytes of a connection select HTTP/1.1 or HTTP/2: a client with prior knowledge of HTTP/2 sends its preface
//! (RFC 9113, section 3.4). The automatic detection of `hyper_util` has no time limit for these bytes.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_http::timeout::TimeoutLayer;

use crate::Limits;
use crate::activity::Activity;
use crate::clients::{Clients, OpenConnection};
use crate::gate::{Gate, REFUSAL};
use crate::proxies::Proxies;
use crate::streams::StreamExecutor;

/// The part of the HTTP/2 preface that cannot be the start of an HTTP/1.1 request.
const PREFACE: &[u8] = b"PRI * HTTP/2";
/// The maximum number of bytes that the kernel buffers for a client. The kernel reports progress in steps of a third of
/// it, so it also determines the slowest client that does not stall: about 3 KB/s.
const SEND_BUFFER: usize = 128 << 10;

/// Serves `router` until `stop` completes, then sets `stopping` and waits for open requests.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    (limits, proxies): (Limits, Proxies),
    stopping: watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send,
) {
    let router =
        router.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, limits.response));
    let gate = Gate::new(router, Clients::new(limits), proxies);
    // Each connection has a receiver of this channel, so the channel is closed when all connections have ended.
    let (open, all_ended) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, from)) => {
                let (gate, stopping, running) = (Arc::clone(&gate), stopping.subscribe(), all_ended.clone());
                start(gate, stream, from.ip(), stopping, running);
            }
            Err(error) => {
                // The client has already closed it, or no file descriptors are left. Both are temporary.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop((listener, all_ended));
    stopping.send_replace(true);
    if tokio::time::timeout(limits.stop, open.closed()).await.is_err() {
        tracing::warn!("some requests did not finish in time and were aborted");
    }
}

/// Serves a new connection in its own task, or closes it.
fn start(
    gate: Arc<Gate>,
    stream: TcpStream,
    peer: IpAddr,
    stopping: watch::Receiver<bool>,
    running: watch::Receiver<()>,
) {
    let Some(open) = gate.clients.connect(peer, gate.proxies.contain(peer)) else {
        let length = REFUSAL.len();
        let refusal = format!(
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Retry-After: 5\r\nConnection: close\r\n\r\n{REFUSAL}"
        );
        // The send buffer of a new connection is empty, so this does not block.
        stream.try_write(refusal.as_bytes()).ok();
        return;
    };
    tokio::spawn(async move {
        if let Err(error) = serve_connection(gate, stream, peer, &open, stopping).await {
            tracing::debug!("a connection ended: {error}");
        }
        drop((open, running));
    });
}

async fn serve_connection(
    gate: Arc<Gate>,
    stream: TcpStream,
    peer: IpAddr,
    open: &OpenConnection,
    mut stopping: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let limits = *gate.clients.limits();
    stream.set_nodelay(true).ok();
    set_socket_send_buffer_size(&stream, SEND_BUFFER).ok();
    let version = tokio::select! {
        version = tokio::time::timeout(limits.head, version(&stream)) => version,
        () = open.activity.over(limits.stall) => return Ok(()),
        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
    };
    let activity = &open.activity;
    let service = {
        let activity = Arc::clone(activity);
        service_fn(move |request| Arc::clone(&gate).answer(request, peer, Arc::clone(&activity)))
    };
    match version {
        Ok(Ok(Version::Http1)) => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
            builder.max_buf_size(limits.head_bytes as usize);
            let stream = Observed { stream, activity: Arc::clone(activity) };
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            drive(connection, activity, limits.stall, None, stopping).await
        }
        Ok(Ok(Version::Http2)) => {
            let mut builder = http2::Builder::new(StreamExecutor { stall: limits.stall });
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(limits.stall)
                .keep_alive_timeout(limits.stall)
                .max_concurrent_streams(limits.streams)
                .max_header_list_size(limits.head_bytes);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            drive(connection, activity, limits.stall, Some(limits.lifetime), stopping).await
        }
        // No bytes before the time limit, or the client closed the connection.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Detects the version from the first bytes, which remain in the socket's buffer.
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
        // A part of the preface: peek returns immediately until more arrives.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Serves a connection until it ends. It is shut down when the server stops or its lifetime is over, and closed when it
/// makes no progress.
async fn drive<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    stall: Duration,
    lifetime: Option<Duration>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let mut over = pin!(activity.over(stall));
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
        () = &mut over => return Ok(()),
        () = shutdown => {}
    }
    Pin::as_mut(&mut connection).graceful_shutdown();
    tokio::select! {
        ended = connection => ended,
        () = over => Ok(()),
    }
}

/// The stream of an HTTP/1.1 connection. Bytes that the client accepts are progress. (With HTTP/2, they may be the
/// answer to a ping.)
struct Observed {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.activity.touch();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.activity.touch();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
