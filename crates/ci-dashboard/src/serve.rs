//! As an HTTP server: accepts, limits, and hands each request to [`crate::handle`] on a blocking thread.

use std::convert::Infallible;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body as AxumBody, Bytes, HttpBody};
use axum::extract::{Request as AxumRequest, State};
use axum::response::Response as AxumResponse;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower::ServiceBuilder;
use tower_http::timeout::TimeoutLayer;

use crate::follow::{Follow, PREAMBLE, Step};
use crate::hook::Hook;
use crate::request::Request;
use crate::response::{Body, Response};
use crate::site::{Site, handle};

/// How many requests are worked on at a time; others wait.
const AT_ONCE: usize = 64;
/// The longest a request may take until its response begins.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many connections are open at a time; others wait to be taken.
const CONNECTIONS: usize = 1000;
/// How long a connection may take for a request's head, or rest between two requests.
const IDLE: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 32 << 10;
/// How long running requests may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(10);
/// How many growing logs are followed at a time; whoever comes after is told what is there and comes back.
const FOLLOWERS: usize = 200;
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How many looks without news until a word is sent that only keeps the connection alive.
const QUIET_LOOKS: u32 = 50;
/// The size of the pieces in which a file is sent, in bytes.
const PIECE: usize = 64 << 10;

struct Server {
    site: Site,
    hook: Option<Hook>,
    permits: Semaphore,
    followers: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves until `stop` is ready, then lets running requests finish. With a hook, a `POST` to `/hook` is heard.
pub async fn serve(
    site: Site,
    hook: Option<Hook>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address: SocketAddr = listener.local_addr()?;
    tracing::info!("listening on http://{address}/ci");
    // Followers would keep a stopping server alive for as long as their tests run.
    let (stopping, stopped) = watch::channel(false);
    let server = Arc::new(Server {
        site,
        hook,
        permits: Semaphore::new(AT_ONCE),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        stopping: stopped,
    });
    let router = Router::new().fallback(answer).with_state(server).layer(
        ServiceBuilder::new()
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, PATIENCE)),
    );
    let graceful = GracefulShutdown::new();
    accept(&listener, &router, &graceful, stop).await;
    drop(listener);
    stopping.send_replace(true);
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    Ok(())
}

/// Takes connections, so many at a time, each with a limit to how long it may think about its next request.
async fn accept(
    listener: &TcpListener,
    router: &Router,
    graceful: &GracefulShutdown,
    stop: impl Future<Output = ()> + Send,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD_MAX);
    tokio::pin!(stop);
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
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
        stream.set_nodelay(true).ok();
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
}

async fn answer(State(server): State<Arc<Server>>, request: AxumRequest) -> AxumResponse {
    let (parts, _) = request.into_parts();
    if let Some(hook) = &server.hook
        && parts.method == Method::POST
        && parts.uri.path() == "/hook"
    {
        return into_axum(hook.answer(&parts.headers, server.site.reader(), now()), &server);
    }
    let request = Request {
        method: parts.method,
        path: parts.uri.path().into(),
        query: parts.uri.query().unwrap_or("").into(),
        headers: parts.headers,
        mount: String::new(),
    };
    let Ok(_permit) = server.permits.acquire().await else { return unavailable() };
    let site = Arc::clone(&server);
    let answered = tokio::task::spawn_blocking(move || handle(&site.site, &request, now())).await;
    match answered {
        Ok(response) => into_axum(response, &server),
        Err(error) => {
            tracing::error!("a request handler stopped: {error}");
            unavailable()
        }
    }
}

fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn unavailable() -> AxumResponse {
    let mut response = AxumResponse::new(AxumBody::from("the server could not answer; try again\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn into_axum(response: Response, server: &Server) -> AxumResponse {
    let body = match response.body {
        Body::Empty => AxumBody::empty(),
        Body::Bytes(bytes) => AxumBody::from(bytes),
        Body::Static(bytes) => AxumBody::from(bytes),
        Body::File { file, start, length } => {
            let (sender, receiver) = mpsc::channel(2);
            tokio::task::spawn_blocking(move || send_file(file, start, length, &sender));
            AxumBody::new(Pieces { receiver, left: Some(length) }.map_err(|never| match never {}))
        }
        Body::Follow(follow) => match Arc::clone(&server.followers).try_acquire_owned() {
            Ok(permit) => {
                let (sender, receiver) = mpsc::channel(2);
                tokio::spawn(send_lines(*follow, sender, permit, server.stopping.clone()));
                AxumBody::new(Pieces { receiver, left: None }.map_err(|never| match never {}))
            }
            Err(_) => {
                let mut bytes = Vec::new();
                // Writing to memory cannot fail.
                Body::Follow(follow).write_to(&mut bytes).ok();
                AxumBody::from(bytes)
            }
        },
    };
    let mut answer = AxumResponse::new(body);
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    answer
}

/// Reads a part of a file and sends it in pieces; stops when nobody listens any more.
fn send_file(mut file: std::fs::File, start: u64, length: u64, sender: &mpsc::Sender<Bytes>) {
    let sent = (|| -> io::Result<()> {
        file.seek(SeekFrom::Start(start))?;
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; want];
            let got = file.read(&mut piece)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            piece.truncate(got);
            left -= got as u64;
            if sender.blocking_send(piece.into()).is_err() {
                return Ok(());
            }
        }
        Ok(())
    })();
    if let Err(error) = sent {
        tracing::warn!("a file could not be sent whole: {error}");
    }
}

/// Sends the lines of a growing log as they come, until the test ends, the client goes or the server stops.
async fn send_lines(
    mut follow: Follow,
    sender: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
    mut stopping: watch::Receiver<bool>,
) {
    let mut event = PREAMBLE.to_owned();
    let mut quiet = 0;
    loop {
        if !event.is_empty() && sender.send(event.into()).await.is_err() {
            return;
        }
        let looked = tokio::task::spawn_blocking(move || {
            let step = follow.step();
            (follow, step)
        });
        let step;
        (follow, step) = match looked.await {
            Ok((follow, Ok(step))) => (follow, step),
            Ok((_, Err(_))) | Err(_) => return,
        };
        match step {
            Step::Event(lines) => {
                event = lines;
                quiet = 0;
                continue;
            }
            Step::End(last) => {
                sender.send(last.into()).await.ok();
                return;
            }
            Step::Wait => quiet += 1,
        }
        event = if quiet % QUIET_LOOKS == 0 { ":\n\n".into() } else { String::new() };
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// The pieces of a body, and how many bytes are left where that is known.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    left: Option<u64>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.receiver.poll_recv(context).map(|piece| {
            let piece = piece?;
            self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
            Some(Ok(http_body::Frame::data(piece)))
        })
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
