//! `[hook]`: the daemon's listener for push notifications. Disabled by default; on loopback addresses only.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section};
use crate::paths::Paths;

/// The minimum length of a token.
const TOKEN_MIN: usize = 16;

/// The address of the listener, and the token that it requires.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// A loopback address and a port.
    pub listen: SocketAddr,
    /// The token, which a request sends as `Authorization: Bearer TOKEN`.
    pub token: String,
}

impl std::fmt::Debug for Hook {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// An invalid `[hook]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// Not an address with a port.
    #[error("listen: {0:?} is not an address; write \"127.0.0.1:8081\"")]
    Listen(String),
    /// Not a loopback address.
    #[error(
        "listen: {0} can be reached from other machines; use 127.0.0.1, and forward requests from the web server"
    )]
    NotLoopback(IpAddr),
    /// It is too short, or not valid in a header.
    #[error(
        "the token must have {TOKEN_MIN} to 200 letters, digits or punctuation characters and no white space; create one: openssl rand -hex 24"
    )]
    Token,
    /// Its file cannot be read.
    #[error("token_file: {0}")]
    TokenFile(String),
    /// No token.
    #[error("[hook] needs a token; add token_file = \"FILE\" (or token = \"...\")")]
    NoToken,
}

impl crate::fault::SectionError for HookError {}

pub(crate) fn read(node: &Node, paths: &Paths) -> Result<Hook, Fault> {
    let section = Section::new(node, "[hook]", &["listen", "token", "token_file"])?;
    let fault = |node: &Node, error: HookError| node.fault(Problem::from(error));
    let at = section.need("listen")?;
    let text = at.str("listen")?;
    let listen: SocketAddr = text.parse().map_err(|_| fault(at, HookError::Listen(text.into())))?;
    if !listen.ip().is_loopback() {
        return Err(fault(at, HookError::NotLoopback(listen.ip())));
    }
    let (at, token) = match section.get_any(&["token", "token_file"])? {
        Some(("token", node)) => (node, node.str("token")?.to_owned()),
        Some((_, node)) => {
            let path = paths.resolve("token_file", node)?;
            (node, token_of(&path).map_err(|error| fault(node, error))?)
        }
        None => return Err(fault(node, HookError::NoToken)),
    };
    let good = (TOKEN_MIN..=200).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if !good {
        return Err(fault(at, HookError::Token));
    }
    Ok(Hook { listen, token })
}

fn token_of(path: &Path) -> Result<String, HookError> {
    fsx::secret::read(path).map_err(|error| HookError::TokenFile(error.to_string()))
}
