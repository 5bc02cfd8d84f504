//! Virtual machines: the QEMU command line, the KVM probe, the guest's files, the console, the root image.
//!
//! `machine`, `console` and `supervise` are pure; `accel`, `image` and `session` start processes.

pub mod accel;
pub mod console;
pub mod guest;
pub mod image;
pub mod machine;
pub mod monitor;
pub mod session;
pub mod supervise;
