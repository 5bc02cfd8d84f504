//! Kernels of distributions, from repositories that the tests make: real apt, dpkg and bsdtar, and no other network than a
//! loopback port.

#![expect(clippy::print_stderr, reason = "a test reports what it skips")]
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod debian;
mod repos;
mod support;
