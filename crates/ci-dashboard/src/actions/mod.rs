//! The requests that change something: a fetch ([`Webhook`]) and a rerun ([`Rerun`]). Each is disabled unless the server gets a
//! token for it; a CGI program never has one.

mod hook;
mod rerun;
mod token;

pub use self::hook::Webhook;
pub use self::rerun::{BODY_MAX as RERUN_BODY_MAX, Rerun};
pub use self::token::Token;

/// The actions that a server offers.
#[derive(Debug, Default)]
pub struct Actions {
    /// `POST /hook`
    pub hook: Option<Webhook>,
    /// `POST /c/<sha>/<key>/rerun`
    pub rerun: Option<Rerun>,
}
