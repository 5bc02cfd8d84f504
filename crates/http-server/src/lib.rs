//! The HTTP server of the daemons: HTTP/1.1 and HTTP/2 over TCP, with limits per client and in total.
//!
//! A client is an IP address. A client can use up only its own share of the connections, requests and handlers, and is
//! disconnected after [`Limits::stall`] if it stops reading or sending. Responses come from an [`axum::Router`], which
//! finds the [`Client`] in the extensions of a request.

mod activity;
mod body;
mod clients;
mod connections;
mod gate;
mod limits;
mod proxies;
mod streams;

pub use clients::{Client, HandlerPermit};
pub use connections::serve;
pub use limits::{Limits, raise_open_files};
pub use proxies::{Proxies, Proxy, ProxyError};
