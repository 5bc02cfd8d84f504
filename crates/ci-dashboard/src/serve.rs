//! The server for a site: pages for `GET` and `HEAD`, and the enabled actions.

use std::io;

use fsx::clock::unix_seconds;
use http::Method;
use http_server::{Limits, Proxies};
use tokio::net::TcpListener;

use crate::actions::{self, Actions};
use crate::http::server::{self, Handler};
use crate::http::{PublicAddress, Request, Response};
use crate::route::{self, Route};
use crate::site::{Site, handle};

struct Service {
    site: Site,
    actions: Actions,
}

impl Handler for Service {
    fn public_address(&self) -> &PublicAddress {
        self.site.public_address()
    }

    fn body_max(&self, request: &Request) -> usize {
        let has_body = request.method == Method::POST
            && match route::parse(request).1 {
                Ok(Route::Rerun { .. }) => self.actions.rerun.is_some(),
                Ok(Route::Control(_)) => self.actions.control.is_some(),
                Ok(Route::Requests) => self.actions.requests.is_some(),
                _ => false,
            };
        if has_body { actions::BODY_MAX } else { 0 }
    }

    fn handle(&self, request: &Request, body: &[u8]) -> Response {
        let reader = self.site.reader();
        if request.method == Method::POST {
            match (route::parse(request).1, &self.actions) {
                (Ok(Route::Hook), Actions { hook: Some(hook), .. }) => {
                    return hook.answer(&request.headers, reader, unix_seconds());
                }
                (Ok(Route::Rerun { sha, key }), Actions { rerun: Some(rerun), .. }) => {
                    return rerun.answer(reader, request, body, (&sha, &key));
                }
                (Ok(Route::Control(_)), Actions { control: Some(control), .. }) => {
                    return control.answer(reader, request, body);
                }
                (Ok(Route::Requests), Actions { requests: Some(requests), .. }) => {
                    return requests.answer(reader, request, body);
                }
                _ => {}
            }
        }
        handle(&self.site, request, unix_seconds())
    }
}

/// Serves the site until `stop` completes, then lets running requests finish.
pub async fn serve(
    site: Site,
    actions: Actions,
    listener: TcpListener,
    limits: (Limits, Proxies),
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let site = if actions.rerun.is_some() { site.offering_reruns() } else { site };
    server::serve(Service { site, actions }, listener, limits, stop).await
}
