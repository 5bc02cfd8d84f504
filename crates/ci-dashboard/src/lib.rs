//! The web pages and JSON views of the results, as an HTTP server or a CGI program.
//!
//! [`handle`] is the core: it takes a request as data, returns a response as data, and writes nothing. The server and
//! CGI are shells around it; only the requests in `actions` change something.

mod actions;
mod assets;
mod build_log;
pub mod cli;
mod export;
mod filter;
mod http;
mod logtext;
mod page;
mod problem;
mod repos;
mod route;
mod serve;
mod site;
mod store;
mod testfiles;
mod views;

pub use crate::actions::{Actions, Control, Requests, Rerun, Token, Webhook};
pub use crate::export::{Export, ExportError, Exported, export};
pub use crate::http::cgi::is_cgi;
pub use crate::http::{Body, Encoded, MountError, PublicAddress, Request, Response};
pub use crate::repos::Repos;
pub use crate::serve::serve;
pub use crate::site::{Site, handle};
pub use crate::testfiles::TestFiles;
pub use http_server::{Limits, Proxies, Proxy};
