//! The builds of kernels in results: the kernel that a test requires, from its result key, and the error of a build that failed, from
//! the reason of a verdict. One format is printed and parsed here, so that results need no field of their own for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::Env;
use crate::test_configuration::{ARCH, FLAVOR, TestConfiguration};

/// The start of the reason of a test without a kernel: its verdict is Failed to run.
pub const BUILD_FAILED: &str = "kernel does not build: ";

/// The reason of the verdict of a test if the kernel does not build because of `error`.
#[must_use]
pub fn build_failed_reason(error: &str) -> String {
    format!("{BUILD_FAILED}{error}")
}

/// The first error of the build in the reason of a verdict, if the kernel does not build.
#[must_use]
pub fn build_error(reason: &str) -> Option<&str> {
    reason.strip_prefix(BUILD_FAILED)
}

/// A kernel that is built from a commit: its architecture and its flavor, each empty if the tests do not select one. Test files with
/// contradicting requirements can have different kernels of one flavor; results do not name these.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuiltKernel {
    /// The architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// The flavor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flavor: String,
}

impl BuiltKernel {
    /// The kernel that the test with this result key requires; `None` if it runs on a kernel of the store.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        let configuration = TestConfiguration::of_key(key);
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let built = || Self { arch: text(configuration.arch()), flavor: text(configuration.flavor()) };
        configuration.kernel().is_none().then(built)
    }

    /// The kernel of runs with this environment.
    #[must_use]
    pub fn of_env(env: &Env) -> Self {
        let value = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        Self { arch: value(ARCH), flavor: value(FLAVOR) }
    }

    /// Whether the tests select neither an architecture nor a flavor.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.arch.is_empty() && self.flavor.is_empty()
    }
}

/// `aarch64 kasan`; empty for the default kernel.
impl fmt::Display for BuiltKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.arch.is_empty() || self.flavor.is_empty() { "" } else { " " };
        write!(f, "{}{space}{}", self.arch, self.flavor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_a_test() {
        let of = |key: &str| BuiltKernel::of_key(key).map(|kernel| kernel.to_string());
        assert_eq!(of("fs.ext4.basic.punch"), Some(String::new()));
        assert_eq!(of("fs.a@ktest_flavor=kasan.generic.001"), Some("kasan".into()));
        assert_eq!(of("fs.a@A=x.y,ktest_arch=aarch64,ktest_flavor=kasan.x"), Some("aarch64 kasan".into()));
        assert_eq!(of("fs.a@ktest_xfstests_variant=1k.x"), Some(String::new()));
        assert_eq!(of("fs.a@debian_trixie.punch"), None, "it is not built");
        assert_eq!(of("fs.a@v6.1@ktest_arch=aarch64.punch"), None);
        assert_eq!(of("fs.a@v6.1.x=1"), None);
        assert!(BuiltKernel::of_key("boot.boots").unwrap().is_default());
    }

    #[test]
    fn the_error_of_a_build() {
        let reason = build_failed_reason("fs/a.c:1: error: no");
        assert_eq!(build_error(&reason), Some("fs/a.c:1: error: no"));
        assert_eq!(build_error("no disk"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_key_panics(key in "[a-z@=,._]{0,40}") {
            let _ = BuiltKernel::of_key(&key);
        }
    }
}
