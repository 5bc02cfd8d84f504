//! Virtual machines: what QEMU is told, whether it can use KVM, what the guest is given, and what its console means.
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
