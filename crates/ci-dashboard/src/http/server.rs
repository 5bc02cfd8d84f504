//! The HTTP server: runs a [`Handler`] on blocking threads and sends its responses.
//!
//! A request holds a permit while its handler runs, but not while its response is sent. The limits are in
//! `http_server`.

use std::convert::Infallible;
use std::io::{self, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body as AxumBody, Bytes};
use axum::extract::{Extension, Request as AxumRequest, State};
use axum::response::Response as AxumResponse;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use http_server::{Client, Limits, Proxies};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::io::ReaderStream;

use super::events::{EventSource, PREAMBLE, Step};
use super::{Body, PublicAddress, Request, Response};

/// The maximum number of open event streams; further clients get the existing events and reconnect.
const STREAMS_MAX: usize = 200;
/// The interval at which an event source is polled.
const POLL: Duration = Duration::from_millis(300);
/// After this number of polls without an event, a comment is sent to keep the connection alive.
const QUIET_POLLS_MAX: u32 = 50;
/// The size of the chunks in which a file is sent, in bytes.
const PIECE: usize = 64 << 10;

/// What a server serves.
pub trait Handler: Send + Sync + 'static {
    /// The address at which clients find the site.
    fn public_address(&self) -> &PublicAddress;

    /// The maximum size of the body for this request, in bytes; 0 if it is not read.
    fn body_max(&self, request: &Request) -> usize;

    /// Answers a request. May block.
    fn handle(&self, request: &Request, body: &[u8]) -> Response;
}

struct Server<H> {
    handler: H,
    streams: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves until `stop` completes, then lets running requests finish.
pub async fn serve<H: Handler>(
    handler: H,
    listener: TcpListener,
    (limits, proxies): (Limits, Proxies),
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!("listening on http://{address}/ci");
    // Event streams would keep a stopping server alive as long as their sources exist.
    let (stopping, stopped) = watch::channel(false);
    let streams = Arc::new(Semaphore::new(STREAMS_MAX));
    let server = Arc::new(Server { handler, streams, stopping: stopped });
    let router = Router::new().fallback(answer::<H>).with_state(server);
    http_server::serve(listener, router, (limits, proxies), stopping, stop).await;
    Ok(())
}

async fn answer<H: Handler>(
    State(server): State<Arc<Server<H>>>,
    Extension(client): Extension<Client>,
    request: AxumRequest,
) -> AxumResponse {
    let (parts, body) = request.into_parts();
    let request = Request {
        method: parts.method,
        path: parts.uri.path().into(),
        query: parts.uri.query().unwrap_or("").into(),
        headers: parts.headers,
        client: Some(client.address()),
        refreshes: true,
        ..Request::default()
    };
    let request = server.handler.public_address().locate(request, client.is_behind_proxy());
    let body = match server.handler.body_max(&request) {
        0 => Bytes::new(),
        limit => match Limited::new(body, limit).collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(_) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large\n"),
        },
    };
    let permit = client.permit().await;
    let handling = Arc::clone(&server);
    let handle = move || {
        let response = handling.handler.handle(&request, &body);
        drop(permit);
        if response.needs_refresh {
            let again = Request { refreshes: false, ..request };
            tokio::task::spawn_blocking(move || drop(handling.handler.handle(&again, &[])));
        }
        response
    };
    match tokio::task::spawn_blocking(handle).await {
        Ok(response) => server.respond(response),
        Err(error) => {
            tracing::error!("a request handler panicked: {error}");
            failure()
        }
    }
}

fn failure() -> AxumResponse {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error; try again\n")
}

fn plain(status: StatusCode, text: &'static str) -> AxumResponse {
    let mut response = AxumResponse::new(AxumBody::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

impl<H> Server<H> {
    fn respond(&self, response: Response) -> AxumResponse {
        let body = match response.body {
            Body::Empty => AxumBody::empty(),
            Body::Bytes(bytes) => AxumBody::from(bytes),
            Body::Rendered(rendered) => AxumBody::from(rendered.plain().clone()),
            Body::File { mut file, start, length } => {
                if let Err(error) = file.seek(SeekFrom::Start(start)) {
                    tracing::error!("a file cannot be sent: {error}");
                    return failure();
                }
                // Content-Length is set: if the file shrinks during the transfer, the connection is closed.
                let part = tokio::fs::File::from_std(file).take(length);
                AxumBody::from_stream(ReaderStream::with_capacity(part, PIECE))
            }
            Body::Events(source) => match Arc::clone(&self.streams).try_acquire_owned() {
                Ok(permit) => {
                    let events = Events::new(source, permit, self.stopping.clone()).into_stream();
                    AxumBody::from_stream(events.map(Ok::<_, Infallible>))
                }
                Err(_) => {
                    let mut bytes = Vec::new();
                    // Writing to memory cannot fail.
                    Body::Events(source).write_to(&mut bytes).ok();
                    AxumBody::from(bytes)
                }
            },
        };
        let mut answer = AxumResponse::new(body);
        *answer.status_mut() = response.status;
        *answer.headers_mut() = response.headers;
        answer
    }
}

/// An event source that is polled until it ends, the client closes the connection or the server stops.
struct Events {
    /// `None` after the last event.
    source: Option<Box<dyn EventSource>>,
    quiet_polls: u32,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Events {
    fn new(
        source: Box<dyn EventSource>,
        permit: OwnedSemaphorePermit,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { source: Some(source), quiet_polls: 0, stopping, _permit: permit }
    }

    fn into_stream(self) -> impl Stream<Item = Bytes> {
        stream::once(std::future::ready(Bytes::from_static(PREAMBLE.as_bytes())))
            .chain(stream::unfold(self, Self::next))
    }

    /// The next bytes to send.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            let mut source = self.source.take()?;
            let polled = tokio::task::spawn_blocking(move || {
                let step = source.poll();
                (source, step)
            });
            let (source, step) = polled.await.ok()?;
            match step {
                Step::Event(event) => {
                    (self.source, self.quiet_polls) = (Some(source), 0);
                    return Some((event.into(), self));
                }
                Step::End(event) => return Some((event.into(), self)),
                Step::Broken => return None,
                Step::Wait => self.source = Some(source),
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
            self.quiet_polls += 1;
            if self.quiet_polls.is_multiple_of(QUIET_POLLS_MAX) {
                return Some((Bytes::from_static(b":\n\n"), self));
            }
        }
    }
}
