//! The types that all crates share.
//!
//! A name that crosses a boundary (a configuration file, a URL, a directory, a message of a worker) is parsed once,
//! here, into a type that cannot hold an invalid one. No other crate splits or joins these strings.

pub mod arch;
pub mod bisect_start;
pub mod branch;
pub mod build;
pub mod bus;
pub mod conditions;
pub mod control;
pub mod distro;
pub mod event;
pub mod finding;
pub mod git;
pub mod help;
pub mod host_report;
pub mod image;
pub mod kernel_build;
pub mod kernel_name;
pub mod known_failure;
pub mod marker;
pub mod names;
pub mod owner;
pub mod package_repo;
pub mod patch_mail;
pub mod run_order;
pub mod share;
pub mod size;
pub mod snapshot;
pub mod suite;
pub mod test_configuration;
pub mod trust_domain;
pub mod upstream;
pub mod verdict;
pub mod wildcard;

pub use arch::Arch;
pub use bisect_start::BisectStart;
pub use branch::{BranchName, BranchRef, GroupName, ImageName, RepoName, UserName};
pub use bus::StorageBus;
pub use conditions::{Conditions, ExperimentKey};
pub use control::{Drained, HostOrSlot, Paused, Stopped};
pub use distro::DistroKernel;
pub use event::{CACHED_BUILD_DIFFERS, EVENT_VERSION, Event, HEARTBEAT, KERNEL_NOT_FOUND, Stamped};
pub use finding::{FINDING_TESTS_MAX, Finding, FindingKind, FindingRate};
pub use git::{RefName, Remote};
pub use host_report::HostReport;
pub use image::{RootImage, ShippedImage};
pub use kernel_build::{BuiltKernel, build_error, build_failed_reason};
pub use kernel_name::NamedKernel;
pub use known_failure::{KNOWN_FAILURE, KnownFailure};
pub use names::{
    ArtifactName, CommitId, Env, HostName, KernelId, NameError, PackageName, ResultKey, StoreKernel,
    SubtestName, TestPath,
};
pub use owner::{Owner, OwnerError};
pub use package_repo::{PackageRepo, RepoFormat, RepoKernel};
pub use patch_mail::{is_message_id, patch_message_id};
pub use run_order::{AccelChoice, EnvVar, RunOrder, TestOrder};
pub use share::Share;
pub use size::ByteSize;
pub use snapshot::StatusSnapshot;
pub use suite::{SuiteName, SuiteOrder, SuiteVersion};
pub use test_configuration::{KeyParts, TestConfiguration, select_configurations};
pub use trust_domain::{TrustDomain, TrustScope};
pub use upstream::UpstreamKernel;
pub use verdict::{Counts, Status, Verdict, count_words, has_host_error};
pub use wildcard::matches_wildcard;
