//! The mechanics of HTTP: requests and responses as data, conditions, ranges, encodings, a cache of rendered pages, and
//! two front ends, a server and CGI.
//!
//! This module does not depend on results or pages: it uses no other module of this crate.

pub mod cgi;
pub mod conditional;
pub mod events;
pub mod files;
pub mod page_cache;
pub mod public;
pub mod rendered;
pub mod request;
pub mod response;
pub mod server;

pub use public::{MountError, PublicAddress};
pub use rendered::Rendered;
pub use request::{Encoded, Request};
pub use response::{Body, Response, content_type};
