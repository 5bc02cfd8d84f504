//! The test suites that a run uses (xfstests, blktests), with the commits of their sources.

use std::path::{Path, PathBuf};

use model::{SuiteName, SuiteOrder, SuiteVersion};
use testfile::suites::{SuiteError, SuiteSource, checkout};
use testfile::{HostEnv, Trust};

/// Checks out the suites of an order.
pub(crate) async fn of_order(orders: &[SuiteOrder], cache: &Path) -> Result<Vec<SuiteSource>, SuiteError> {
    let cache = std::path::absolute(cache).map_err(fsx::Error::of("find", cache))?;
    let mut sources = Vec::new();
    for order in orders {
        sources.push(checkout(&cache, order).await?);
    }
    Ok(sources)
}

/// The version of the suite with one of these disks, if its source is a commit. Reads the disk.
pub(super) fn used(disks: &[PathBuf], env: &HostEnv) -> Option<SuiteVersion> {
    let name: SuiteName = disks.iter().find_map(|disk| suite_of(disk)?.parse().ok())?;
    match fetched(&name, env) {
        Some(source) => source.found.as_ref().map(|(_, version)| version.clone()),
        None => {
            let head = gitio::Repo::open(&source(name.as_str(), env)).and_then(|repo| repo.head()).ok()?;
            Some(SuiteVersion { name, commit: head.commit })
        }
    }
}

/// The source that the farm fetched, unless the test group selects another one.
pub(super) fn fetched<'a>(name: &SuiteName, env: &'a HostEnv) -> Option<&'a SuiteSource> {
    let variable = format!("ktest_{name}");
    let is_chosen = env.env.iter().any(|(name, value)| *name == variable && !value.is_empty());
    env.suites.iter().find(|source| source.name == *name && !is_chosen)
}

/// The suite of a disk, which lib/suite.sh names `SUITE-NUMBER-HASH.img`.
pub(super) fn suite_of(image: &Path) -> Option<&str> {
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
        let version = |commit: &model::CommitId| SuiteVersion {
            name: "xfstests".parse().unwrap(),
            commit: commit.clone(),
        };
        let disk = |name: &str| [deps.path().join("built").join(name)];
        let env = |trust, variable: &str| HostEnv {
            deps_dir: deps.path().into(),
            env: vec![(variable.to_owned(), repo.path().display().to_string())],
            trust,
            ..HostEnv::default()
        };
        let (xfstests, line) = (disk("xfstests-3-0123456789ab.img"), Some(version(&commit)));
        assert_eq!(used(&xfstests, &env(Trust::Own, "ktest_xfstests")), line);
        let none = None::<SuiteVersion>;
        assert_eq!(
            used(&xfstests, &env(Trust::Sandboxed, "ktest_xfstests")),
            none,
            "a directory of the host"
        );
        assert_eq!(used(&disk("data.img"), &env(Trust::Own, "ktest_xfstests")), none);
        std::os::unix::fs::symlink(repo.path(), deps.path().join("xfstests")).unwrap();
        assert_eq!(used(&xfstests, &env(Trust::Sandboxed, "x")), line);
        // What the farm fetched comes before what the operator placed, unless the group selects another source.
        let newer: model::CommitId = "1".repeat(40).parse().unwrap();
        let found = Some((deps.path().join("other"), version(&newer)));
        let suites = vec![SuiteSource { name: "xfstests".parse().unwrap(), found }];
        let farm = |variable: &str| HostEnv { suites: suites.clone(), ..env(Trust::Sandboxed, variable) };
        assert_eq!(used(&xfstests, &farm("x")), Some(version(&newer)));
        assert_eq!(used(&xfstests, &farm("ktest_xfstests")), line);
    }
}
