//! As an HTTP server: limits requests and hands each request to [`crate::handle`] on a blocking thread.

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
use http_body_util::{BodyExt as _, Limited};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower::ServiceBuilder;
use tower_http::timeout::TimeoutLayer;

use crate::connections;
use crate::follow::{Follow, PREAMBLE, Step};
use crate::hook::Hook;
use crate::request::Request;
use crate::rerun::{BODY_MAX, Rerun};
use crate::response::{Body, Response};
use crate::site::{Site, handle};

/// How many requests are worked on at a time; others wait.
const AT_ONCE: usize = 64;
/// The longest a request may take until its response begins.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many growing logs are followed at a time; whoever comes after is told what is there and comes back.
const FOLLOWERS: usize = 200;
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How many looks without news until a word is sent that only keeps the connection alive.
const QUIET_LOOKS: u32 = 50;
/// The size of the pieces in which a file is sent, in bytes.
const PIECE: usize = 64 << 10;

/// What may be asked for beyond reading; nothing unless it is given here.
#[derive(Default)]
pub struct Writes {
    /// `POST /hook`
    pub hook: Option<Hook>,
    /// `POST /c/<sha>/<key>/rerun`
    pub rerun: Option<Rerun>,
}

struct Server {
    site: Site,
    writes: Writes,
    permits: Semaphore,
    followers: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves until `stop` is ready, then lets running requests finish.
pub async fn serve(
    site: Site,
    writes: Writes,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address: SocketAddr = listener.local_addr()?;
    tracing::info!("listening on http://{address}/ci");
    // Followers would keep a stopping server alive for as long as their tests run.
    let (stopping, stopped) = watch::channel(false);
    let site = if writes.rerun.is_some() { site.offering_reruns() } else { site };
    let server = Arc::new(Server {
        site,
        writes,
        permits: Semaphore::new(AT_ONCE),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        stopping: stopped,
    });
    let router = Router::new().fallback(answer).with_state(server).layer(
        ServiceBuilder::new()
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, PATIENCE)),
    );
    connections::serve(listener, router, stopping, stop).await;
    Ok(())
}

impl Server {
    fn answer(&self, request: &Request, form: &[u8]) -> Response {
        let asked = match &self.writes.rerun {
            Some(rerun) if request.method == Method::POST => rerun.answer(self.site.reader(), request, form),
            _ => None,
        };
        asked.unwrap_or_else(|| handle(&self.site, request, now()))
    }
}

async fn answer(State(server): State<Arc<Server>>, request: AxumRequest) -> AxumResponse {
    let (parts, body) = request.into_parts();
    if let Some(hook) = &server.writes.hook
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
    let mut form = Bytes::new();
    if server.writes.rerun.is_some() && request.method == Method::POST {
        match Limited::new(body, BODY_MAX).collect().await {
            Ok(whole) => form = whole.to_bytes(),
            Err(_) => return refused(StatusCode::PAYLOAD_TOO_LARGE, "this is too much to read\n"),
        }
    }
    let Ok(_permit) = server.permits.acquire().await else { return unavailable() };
    let site = Arc::clone(&server);
    let answered = tokio::task::spawn_blocking(move || site.answer(&request, &form)).await;
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
    refused(StatusCode::INTERNAL_SERVER_ERROR, "the server could not answer; try again\n")
}

fn refused(status: StatusCode, why: &'static str) -> AxumResponse {
    let mut response = AxumResponse::new(AxumBody::from(why));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn into_axum(response: Response, server: &Server) -> AxumResponse {
    let body = match response.body {
        Body::Empty => AxumBody::empty(),
        Body::Bytes(bytes) => AxumBody::from(bytes),
        Body::Rendered(rendered) => AxumBody::from(rendered.plain().clone()),
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
