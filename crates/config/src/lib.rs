//! The farm's configuration: read from TOML or JSON5 and validated. Errors contain the file, the line and the nearest
//! valid name.
//!
//! [`find`] returns the path of the file, and [`load`] reads it together with the users' files. Every name that a
//! [`Config`] refers to exists.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod branch;
mod commit_url;
mod config;
mod error;
mod fault;
mod find;
mod group;
mod hook;
mod host;
mod image;
mod json5;
mod kernel_source;
mod load;
mod nearest;
mod node;
mod notify;
mod paths;
mod read;
mod repo;
mod suite;
mod top;
mod users;

pub use branch::{Branch, BranchError};
pub use commit_url::{CommitUrl, CommitUrlError};
pub use config::Config;
pub use error::ConfigError;
pub use fault::Problem;
pub use find::find;
pub use group::{ARCH_VARIABLE, GroupError, IMAGE_VARIABLE, TestGroup, arch_of, image_of};
pub use hook::{Hook, HookError};
pub use host::{Host, HostError, HostKind};
pub use image::{ImageError, ImageRecipe, Images, recipe};
pub use load::{load, load_lenient};
pub use nearest::{Choices, Hint, nearest};
pub use notify::{
    ForgeKind, ForgeSettings, MailSettings, MailTls, MailTransport, NotifyError, Secret, Sender, SenderKind,
};
pub use repo::{RepoError, Repository};
pub use suite::{Suite, SuiteError, Suites};
pub use top::{TimeError, Top, TopError, parse_time};
pub use users::{RemoteHost, RemotePattern, UserLimitError, UserLimits, host_and_port, is_public};
