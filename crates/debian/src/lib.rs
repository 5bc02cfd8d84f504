//! Debian and Ubuntu packages: which mirror the host uses, which packages a suite has, and their download.
//!
//! The mirror comes from the host's own apt sources, so that no host name is built in. Downloads use an apt root of
//! their own: the host's apt state never changes, and apt checks every package against its signed index.

mod apt;
mod arch;
mod error;
mod host;
mod package;
pub mod programs;
mod sources;
mod stanza;

pub use apt::AptRoot;
pub use arch::{arch_name, parse_arch};
pub use error::DebianError;
pub use host::HostApt;
pub use package::{Package, installed_packages, unpack};
pub use sources::{AptSource, DEFAULT_COMPONENTS, Mirror};
