//! What the attempts of a test prove: flaky, fixed, and the first bad commit.
//!
//! Pure functions and plain data: no clock, no I/O, no random numbers. A farm, `ktest` and the dashboard ask the same questions
//! here, and present the same answers.
//!
//! - [`FlakyTest`]: one experiment with both outcomes, and the rate of failures.
//! - [`FixClaim`]: how many passes in a row prove that a failure is gone.
//! - [`Bisection`]: the first bad commit, also of a test that fails only sometimes.
//! - [`Signature`]: which failures are the same failure.
//!
//! # Example
//!
//! ```
//! use belief::{Confidence, Evidence, FixClaim, FixState};
//! use std::time::Duration;
//!
//! // The test failed in 3 of 25 attempts, at the earliest after 10 seconds.
//! let evidence: Evidence = "3/25".parse()?;
//! let mut claim = FixClaim::new(evidence, Confidence::USUAL, Some(Duration::from_secs(10)));
//! for _ in 0..14 {
//!     claim.passed(Duration::from_secs(12));
//! }
//! assert_eq!(claim.to_string(), "fixed? 14 of 33 runs");
//! // A pass that ended before the test used to fail does not count.
//! assert!(!claim.passed(Duration::from_secs(3)));
//! for _ in 14..33 {
//!     claim.passed(Duration::from_secs(12));
//! }
//! assert_eq!(claim.state(), FixState::Fixed);
//! # Ok::<(), belief::EvidenceError>(())
//! ```

pub mod bisect;
mod claim;
mod fixed;
mod flaky;
mod named;
mod observation;
mod signature;
pub mod stats;

pub use bisect::Bisection;
pub use claim::{AtCommit, newest_failure};
pub use fixed::{Confidence, ConfidenceError, Evidence, EvidenceError, FixClaim, FixState, MOST_ATTEMPTS};
pub use flaky::{ByLoad, COMMITS, CONFIRMATION_ATTEMPTS, Confirmation, FlakyTest, confirmation};
pub use named::{Calibration, NamedCommits};
pub use observation::{Experiment, HostClass, Observation, Outcome};
pub use signature::Signature;
pub use stats::{FailureRate, Tally, fisher};
