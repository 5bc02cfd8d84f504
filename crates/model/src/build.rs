//! The identity of this build: the version of the package and the commit it was built from.
//!
//! The commit is known to the build script of the root package alone, and each command passes it to [`set_commit`].
//! No library contains it, so a new commit rebuilds none of them.

use std::sync::OnceLock;

static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Records the commit of this build. A command calls it first; later calls have no effect.
pub fn set_commit(commit: Option<&'static str>) {
    if let Some(commit) = commit {
        let _ = COMMIT.set(commit);
    }
}

/// `0.1.0 (0123456789ab)`; without the commit where it is not known: in a library's tests, and in a build from
/// sources that have neither a git repository nor the name of their commit.
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
    fn a_version_has_the_beginning_of_the_commit() {
        let package = env!("CARGO_PKG_VERSION");
        assert_eq!(text(Some("0123456789abcdef")), format!("{package} (0123456789ab)"));
        assert_eq!(text(None), package);
        assert_eq!(text(Some("")), package);
    }
}
