//! Debian and Ubuntu packages: the mirror that the host uses, the packages of a suite, and their download.
//!
//! The mirror comes from the host's apt sources, so that no host name is hard-coded. Downloads use a separate apt root:
//! the host's apt state never changes, and apt checks every package against its signed index.

mod apt;
mod error;
mod host;
mod package;
pub mod programs;
mod sources;
mod stanza;

pub use apt::AptRoot;
pub use error::DebianError;
pub use host::HostApt;
pub use package::{Package, installed_packages, unpack};
pub use sources::{AptSource, DEFAULT_COMPONENTS, Mirror};
