//! Virtual machines: the QEMU command line, the KVM probe, the guest's files, the console, the root image.
//!
//! `machine`, `console` and `supervise` are pure; `accel`, `qemu_sandbox`, `image` and `session` start processes.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod accel;
pub mod console;
pub mod core_dump;
pub mod guest;
pub mod image;
pub mod machine;
pub mod monitor;
pub mod qemu_sandbox;
pub mod session;
pub mod supervise;
