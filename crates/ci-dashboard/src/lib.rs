//! The web pages and JSON views over the results, as an HTTP server or a CGI program.
//!
//! [`handle`] is the core: a request as data in, a response as data out, nothing written. The server and CGI are shells
//! around it; the only requests that change something are in `actions`.

mod actions;
mod assets;
pub mod cli;
mod filter;
mod http;
mod logtext;
mod page;
mod problem;
mod route;
mod serve;
mod site;
mod store;
mod testfiles;
mod views;

pub use crate::actions::{Actions, Hook, Rerun, Token};
pub use crate::http::cgi::is_cgi;
pub use crate::http::{Body, Encoded, MountError, PublicAddress, Request, Response};
pub use crate::serve::serve;
pub use crate::site::{Site, handle};
pub use crate::testfiles::TestFiles;
pub use http_server::{Limits, Proxies, Proxy};
