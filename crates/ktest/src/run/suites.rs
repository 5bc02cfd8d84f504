//! The test suites that a run uses (xfstests, blktests), with the commits of their sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use testfile::{HostEnv, Trust};

/// A line for each suite with one of these disks and with a checkout as its source: `xfstests COMMIT`. Reads the disk.
pub(super) fn used(disks: &[PathBuf], env: &HostEnv) -> Vec<String> {
    let names: BTreeSet<&str> = disks.iter().filter_map(|disk| suite_of(disk)).collect();
    let line = |name: &str| {
        let head = gitio::Repo::open(&source(name, env)).and_then(|repo| repo.head()).ok()?;
        Some(format!("{name} {}", head.commit))
    };
    names.into_iter().filter_map(line).collect()
}

/// The suite of a disk, which lib/suite.sh names `SUITE-NUMBER-HASH.img`.
fn suite_of(image: &Path) -> Option<&str> {
    let name = image.file_name()?.to_str()?.strip_suffix(".img")?;
    let (name, hash) = name.rsplit_once('-')?;
    let (suite, number) = name.rsplit_once('-')?;
    let is_hash = hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hash && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(suite)
}

/// The directory of the source. A farm uses only what the operator placed and the clones.
pub(crate) fn source(name: &str, env: &HostEnv) -> PathBuf {
    let variable = format!("ktest_{name}");
    let of_run = env.env.iter().find(|(name, _)| *name == variable).map(|(_, value)| value.into());
    let chosen = of_run.or_else(|| std::env::var_os(&variable).map(PathBuf::from));
    let chosen = chosen.filter(|dir| env.trust == Trust::Own && dir.is_absolute());
    chosen.unwrap_or_else(|| env.deps_dir.join(name))
}

#[cfg(test)]
mod tests {
    use testkit::ScratchRepo;

    use super::*;

    #[test]
    fn the_commit_of_a_suite() {
        let (deps, repo) = (tempfile::tempdir().unwrap(), ScratchRepo::new());
        let commit = repo.commit("a case", &[("tests/generic/001", "")]);
        let disk = |name: &str| [deps.path().join("built").join(name)];
        let env = |trust, variable: &str| HostEnv {
            deps_dir: deps.path().into(),
            env: vec![(variable.to_owned(), repo.path().display().to_string())],
            trust,
            ..HostEnv::default()
        };
        let (xfstests, line) = (disk("xfstests-3-0123456789ab.img"), vec![format!("xfstests {commit}")]);
        assert_eq!(used(&xfstests, &env(Trust::Own, "ktest_xfstests")), line);
        let none = Vec::<String>::new();
        assert_eq!(
            used(&xfstests, &env(Trust::Sandboxed, "ktest_xfstests")),
            none,
            "a directory of the host"
        );
        assert_eq!(used(&disk("data.img"), &env(Trust::Own, "ktest_xfstests")), none);
        std::os::unix::fs::symlink(repo.path(), deps.path().join("xfstests")).unwrap();
        assert_eq!(used(&xfstests, &env(Trust::Sandboxed, "x")), line);
    }
}
