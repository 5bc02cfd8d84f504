//! Passes the commit of the sources to the four commands as `KTEST_CI_COMMIT`.
//!
//! The sources are, in this order: `KTEST_CI_COMMIT` in the environment (packages), a git repository (a clone, a
//! worktree, `cargo install --git`), an archive made by `git archive`. Without any of them the commit is unknown.
//! Git is not needed. The script runs again when HEAD changes.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=KTEST_CI_COMMIT");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let commit =
        std::env::var("KTEST_CI_COMMIT").ok().or_else(|| of_repository(&root)).or_else(|| of_archive(&root));
    if let Some(commit) = commit.filter(|commit| is_commit(commit)) {
        println!("cargo:rustc-env=KTEST_CI_COMMIT={commit}");
    }
}

fn is_commit(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The commit of HEAD. `.git` is a directory, or in a worktree a file that names one.
fn of_repository(root: &Path) -> Option<String> {
    let dot_git = root.join(".git");
    let git_dir = match std::fs::read_to_string(&dot_git) {
        Ok(text) => root.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let common = match std::fs::read_to_string(git_dir.join("commondir")) {
        Ok(text) => git_dir.join(text.trim()),
        Err(_) => git_dir.clone(),
    };
    let head = read(&git_dir.join("HEAD"))?;
    // Each commit, reset and checkout appends to it, also when the ref is only in packed-refs.
    let _ = read(&git_dir.join("logs/HEAD"));
    let Some(name) = head.strip_prefix("ref:").map(str::trim) else { return Some(head.trim().into()) };
    let loose = read(&common.join(name)).map(|text| text.trim().to_owned());
    loose.or_else(|| {
        let packed = read(&common.join("packed-refs"))?;
        let line =
            packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, other)| other == name))?;
        Some(line.split_once(' ')?.0.into())
    })
}

/// `git archive` replaces the placeholder in this file by the commit (`export-subst` in .gitattributes).
fn of_archive(root: &Path) -> Option<String> {
    read(&root.join("packaging/commit")).map(|text| text.trim().to_owned())
}

/// The text of a file; the script runs again when it changes. Cargo takes a missing file for a changed one, so only
/// existing files are named.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}
