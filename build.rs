//! Passes the commit of the sources to the four commands as `KTEST_CI_COMMIT`.
//!
//! The commit is taken from the first of these: `KTEST_CI_COMMIT` in the environment (packages), a git repository (a
//! clone, a worktree, `cargo install --git`), an archive created by `git archive`. Otherwise it is unknown. Git does
//! not need to be installed. The script is rerun when HEAD changes.

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

/// The commit of HEAD. `.git` is a directory, or in a worktree a file with the path of one.
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
    // Every commit, reset and checkout appends to this file, even if the ref is only in packed-refs.
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

/// `git archive` replaces the placeholder in this file with the commit (`export-subst` in .gitattributes).
fn of_archive(root: &Path) -> Option<String> {
    read(&root.join("packaging/commit")).map(|text| text.trim().to_owned())
}

/// The text of a file. The script is rerun when the file changes. Cargo treats a missing file as changed, so only
/// existing files are declared.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}
