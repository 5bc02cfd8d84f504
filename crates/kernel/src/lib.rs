//! Kernels: configuration from requirements, flavors, incremental sandboxed builds, the kernel store.
//!
//! A kernel is named by what went into it; the store holds each one once. A kernel that does not build is a verdict
//! about its source (`BuildError::DoesNotBuild`); what is broken on this host is never reported as one.

pub mod check;
pub mod dotconfig;
pub mod flavor;
pub mod kconfig;
pub mod option;
pub mod requirements;

pub use flavor::{Flavor, merge};
pub use model::{Arch, KernelId};
pub use option::{KOption, KOptionError, KValue};
pub use requirements::{KconfigBase, Requirements};
