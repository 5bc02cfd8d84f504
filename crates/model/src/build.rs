//! The identity of this build: the version of the package and the commit that it was built from.
//!
//! Only the build script of the root package reads the commit, and each command passes it to [`set_commit`]. No library
//! contains it, so a new commit does not rebuild the libraries.

use std::sync::OnceLock;

static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Records the commit of this build. Commands call it at their start; later calls have no effect.
pub fn set_commit(commit: Option<&'static str>) {
    if let Some(commit) = commit {
        let _ = COMMIT.set(commit);
    }
}

/// `0.1.0 (0123456789ab)`. The commit is left out if it is not known: in the tests of a library, and in a build from
/// sources without a git repository and without the name of their commit.
#[must_use]
pub fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| text(COMMIT.get().copied()))
}

fn text(commit: Option<&str>) -> String {
    let package = env!("CARGO_PKG_VERSION");
    match commit.and_then(|commit| commit.get(..12)) {
        Some(commit) => format!("{package} ({commit})"),
        None => package.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_the_abbreviated_commit() {
        let package = env!("CARGO_PKG_VERSION");
        assert_eq!(text(Some("0123456789abcdef")), format!("{package} (0123456789ab)"));
        assert_eq!(text(None), package);
        assert_eq!(text(Some("")), package);
    }
}
