//! Host files: locks, atomic publication, digests, the wall clock, random numbers, and access to directories that
//! untrusted code writes. This crate uses no other crate of the workspace.
//!
//! To choose a module, ask: can anyone but this program write to the directory? A branch's Makefile, a guest, a test
//! file, a worker host and a user of the farm are untrusted. They write to the object directory of a build, to an
//! output directory and to `users_dir`.
//!
//! | task | function |
//! |---|---|
//! | read a file that only we write | [`own::read`], [`own::read_to_string`], [`own::open`] |
//! | read a file that may be missing | the same, and [`Error::is_not_found`] |
//! | write a file in a directory that only we write and no other process reads yet | [`own::write`], [`own::create`] |
//! | replace a file that others read | [`publish::file`]; for large contents [`publish::NewFile`] |
//! | replace a directory that others read | [`publish::dir`] |
//! | create, list, copy or remove in a directory that only we write | the module [`own`] |
//! | do any of this in a directory that untrusted code writes | [`untrusted::Dir`] |
//! | read a file of an untrusted directory | [`untrusted::Dir::read`], [`untrusted::Dir::read_start`], [`untrusted::Dir::open_file`] |
//! | serve a file of the results | [`untrusted::Dir::open_published`] |
//! | read a token that only its owner may read | [`secret::read`] |
//! | write a file into an untrusted directory | [`untrusted::Dir::write`]; for large contents [`untrusted::Dir::new_file`] |
//! | copy a tree out of an untrusted directory | [`untrusted::Dir::copy_tree`] |
//! | remove what untrusted code left | [`untrusted::Dir::remove_tree`] |
//! | let one process at a time do something | [`lock::Lock`] |
//! | name something by its content | [`digest::sha256_hex`], [`digest::Hasher`], [`digest::file`] |
//! | get an unpredictable number | [`random::bits`] |
//! | measure the load, the memory and the free space of this host | [`machine::load_percent`], [`machine::memory`], [`own::space`] |
//! | get the time of day | [`clock::unix_seconds`], [`clock::unix_ms`] |

pub mod clock;
pub mod digest;
mod error;
pub mod lock;
pub mod machine;
pub mod own;
pub mod publish;
pub mod random;
pub mod secret;
pub mod stop;
pub mod untrusted;

pub use error::Error;
