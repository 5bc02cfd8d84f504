//! Kernels: configuration from requirements, flavors, incremental sandboxed builds, the kernel store.
//!
//! The id of a kernel is a hash of its inputs; the store contains each kernel once. A kernel that does not build is a
//! verdict about its source ([`BuildError::DoesNotBuild`]); a failure of this host is never reported as one.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod blocking;
mod boot_image;
pub mod build;
pub mod cache;
pub mod check;
pub mod closure;
mod code;
mod compile;
mod configured;
mod copy;
pub mod diagnose;
pub mod dotconfig;
mod error;
pub mod fetch;
pub mod flavor;
pub mod folder;
pub mod gc;
pub mod headers;
#[cfg(test)]
mod hostile_tests;
mod id;
pub mod in_place;
pub mod kconfig;
pub mod make;
pub mod option;
mod pack;
pub mod plan;
mod predict;
pub mod progress;
mod request;
pub mod requirements;
mod state;
pub mod store;
pub mod toolchain;
mod transfer;
pub mod tree;
mod verify;

pub use build::{build, missing_kernel};
pub use cache::{Cache, host_report};
pub use check::UnmetOption;
pub use error::{BuildError, InfrastructureError, SourceError};
pub use flavor::{Flavor, merge};
pub use model::{Arch, DistroKernel, KernelId, NamedKernel};
pub use option::{KOption, KOptionError, KValue};
pub use progress::Progress;
pub use request::{BuildRequest, CHECK_PREDICTED, KernelSource};
pub use requirements::{KconfigBase, Requirements, kernel_version};
pub use store::{Kernel, Store};
