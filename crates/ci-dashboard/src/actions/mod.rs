//! The requests that change something: a fetch ([`Webhook`]), a rerun ([`Rerun`]), what operators stop ([`Control`]), and what programs request ([`Requests`]). Each is disabled unless the server gets a
//! token for it; a CGI program never has one.

mod control;
mod hook;
mod request;
mod rerun;
mod submit;
mod token;

pub use self::control::Control;
pub use self::hook::Webhook;
pub use self::request::Requests;
pub use self::rerun::{BODY_MAX, Rerun};
pub use self::token::Token;

/// The actions that a server offers.
#[derive(Debug, Default)]
pub struct Actions {
    /// `POST /hook`
    pub hook: Option<Webhook>,
    /// `POST /c/<sha>/<key>/rerun`
    pub rerun: Option<Rerun>,
    /// `POST /ci/control`
    pub control: Option<Control>,
    /// `POST /requests`
    pub requests: Option<Requests>,
}
