//! The web pages and JSON views over the results, as an HTTP server or a CGI program.
//!
//! [`handle`] is the whole of it: a request as data in, a response as data out, nothing written anywhere. The server
//! and CGI are shells around it; what the server can be asked for beyond reading is in [`hook`] and [`rerun`].

pub mod assets;
pub mod cgi;
pub mod cli;
pub mod conditional;
mod connections;
pub mod files;
pub mod filter;
pub mod follow;
pub mod hook;
pub mod kept;
pub mod logtext;
pub mod page;
pub mod problem;
pub mod rendered;
pub mod request;
pub mod rerun;
pub mod response;
pub mod route;
pub mod serve;
pub mod site;
pub mod store;
pub mod testfiles;
pub mod token;
pub mod views;

pub use request::Request;
pub use response::{Body, Response};
pub use site::{Site, handle};
