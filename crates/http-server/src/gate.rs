//! What happens to each request before and after the router: limits per client, and progress tracking.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body as AxumBody;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use crate::activity::Activity;
use crate::body::TrackedBody;
use crate::clients::Clients;
use crate::proxies::{self, Proxies};
use crate::streams;

/// The text of a refusal.
pub(crate) const REFUSAL: &str = "too many requests; try again later\n";

/// The router, with the state that all connections share.
pub(crate) struct Gate {
    pub(crate) router: Router,
    pub(crate) clients: Arc<Clients>,
    pub(crate) proxies: Proxies,
    /// Whether the hint about an untrusted proxy has been logged.
    hinted: AtomicBool,
}

impl Gate {
    pub(crate) fn new(router: Router, clients: Arc<Clients>, proxies: Proxies) -> Arc<Self> {
        Arc::new(Self { router, clients, proxies, hinted: AtomicBool::new(false) })
    }

    /// Answers a request from `peer`, which arrived over the connection with this activity.
    pub(crate) async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: IpAddr,
        connection: Arc<Activity>,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let stream = streams::current();
        let handling = (connection.handling(), stream.as_ref().map(Activity::handling));
        let own = Arc::clone(stream.as_ref().unwrap_or(&connection));
        let activities: Vec<_> = [Some(connection), stream].into_iter().flatten().collect();
        self.hint(peer, &request);
        let address = self.proxies.client(peer, request.headers());
        let Some((open, mut client)) = self.clients.request(address, &own) else {
            return Ok(refusal().map(|body| TrackedBody::new(body, activities, None)));
        };
        client.is_behind_proxy = self.proxies.contain(peer) || peer.to_canonical().is_loopback();
        request.extensions_mut().insert(client);
        let response = self.router.clone().oneshot(request.map(AxumBody::new)).await?;
        drop(handling);
        Ok(response.map(|body| TrackedBody::new(body, activities, Some(open))))
    }

    /// Logs once that requests arrive through a proxy that is not trusted, so that its clients share one address.
    fn hint(&self, peer: IpAddr, request: &Request<Incoming>) {
        let untrusted = proxies::is_forwarded(request.headers()) && !self.proxies.contain(peer);
        if untrusted && peer.to_canonical().is_loopback() && !self.hinted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "requests from {peer} have X-Forwarded-For; if a proxy runs there, give --trusted-proxy {peer}, \
                 otherwise all its clients share the limits of one address"
            );
        }
    }
}

fn refusal() -> Response<AxumBody> {
    let mut response = Response::new(AxumBody::from(REFUSAL));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
