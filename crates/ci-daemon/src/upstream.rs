//! Kernels of upstream: `upstream/RELEASE-VARIANT` in the `kernels` of a test group. The release is a tag of `linux_repo`,
//! the variant a flavor. Hosts build them like the kernels of commits, once for the farm.

use std::collections::BTreeMap;
use std::path::Path;

use config::Config;
use model::{CommitId, StoreKernel, TestPath, UpstreamKernel};

/// What a host builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamBuild {
    /// The commit of the tag.
    pub commit: CommitId,
    /// The flavor; `None` for the default one.
    pub flavor: Option<String>,
}

/// The kernels of upstream that groups name, each with what to build or why it cannot be built.
#[must_use]
pub fn resolve(config: &Config) -> BTreeMap<StoreKernel, Result<UpstreamBuild, String>> {
    let named = config.all_groups().flat_map(|group| &group.kernels);
    let kernels: BTreeMap<&StoreKernel, UpstreamKernel> =
        named.filter_map(|name| Some((name, UpstreamKernel::parse(name)?.ok()?))).collect();
    if kernels.is_empty() {
        return BTreeMap::new();
    }
    let path = &config.top.linux_repo;
    let read = gitio::Repo::open(path).and_then(|repo| Ok((repo.tags()?, repo)));
    let (tags, repo) = match read {
        Ok(read) => read,
        Err(error) => {
            return kernels.into_keys().map(|name| (name.clone(), Err(error.to_string()))).collect();
        }
    };
    let build = |kernel: &UpstreamKernel| -> Result<UpstreamBuild, String> {
        if let Some(flavor) = kernel.flavor() {
            known_flavor(&config.top.ktest_dir, flavor)?;
        }
        let tag = kernel.tag(tags.iter().map(String::as_str)).ok_or_else(|| {
            let (release, path) = (kernel.release(), path.display());
            format!("no tag of release {release}; fetch it: git -C {path} fetch REMOTE --tags")
        })?;
        let commit = repo.resolve(&format!("refs/tags/{tag}")).map_err(|error| error.to_string())?;
        Ok(UpstreamBuild { commit, flavor: kernel.flavor().map(String::from) })
    };
    kernels.into_iter().map(|(name, kernel)| (name.clone(), build(&kernel))).collect()
}

fn known_flavor(ktest_dir: &Path, flavor: &str) -> Result<(), String> {
    let dir = ktest_dir.join("lib/flavors");
    let files = fsx::own::list(&dir).unwrap_or_default();
    let mut names: Vec<String> =
        files.iter().filter_map(|file| Some(file.name.to_str()?.strip_suffix(".sh")?.to_owned())).collect();
    if names.iter().any(|name| name == flavor) {
        return Ok(());
    }
    names.sort();
    Err(format!("no flavor {flavor:?}; {} has: default {}", dir.display(), names.join(" ")))
}

/// The test files that run on kernels of upstream, so that they share flavors.
#[must_use]
pub fn tests(config: &Config) -> Vec<TestPath> {
    let groups = config.all_branches().flat_map(|branch| config.groups_of(branch));
    let groups =
        groups.filter(|group| group.kernels.iter().any(|name| UpstreamKernel::parse(name).is_some()));
    let mut tests: Vec<TestPath> = groups.flat_map(|group| group.tests.iter().cloned()).collect();
    tests.sort();
    tests.dedup();
    tests
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::ScratchRepo;

    #[test]
    fn a_kernel_is_a_tag_and_a_flavor() {
        let (linux, dir) = (ScratchRepo::new(), tempfile::tempdir().unwrap());
        linux.commit("release", &[("Makefile", "x")]);
        linux.git(["tag", "-a", "-m", "v6.17", "v6.17"]);
        let tip = linux.git(["rev-parse", "HEAD"]);
        std::fs::create_dir_all(dir.path().join("kt/lib/flavors")).unwrap();
        std::fs::write(dir.path().join("kt/lib/flavors/kasan.sh"), "").unwrap();
        let file = dir.path().join("ci.toml");
        let text = format!(
            "linux_repo = \"{}\"\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"op\"\n[test_group.a]\ntests = [\"a\"]\n\
             kernels = [\"upstream/stable-default\", \"upstream/v6.17-kasan\", \"upstream/v9.9-kasan\",\
             \"upstream/stable-kxsan\", \"debian/sid\"]\n",
            linux.url()
        );
        std::fs::write(&file, text).unwrap();
        let resolved = resolve(&config::load(&file).unwrap());
        let shown: Vec<String> = resolved
            .into_iter()
            .map(|(name, build)| match build {
                Ok(build) => {
                    assert_eq!(build.commit.to_string(), tip.trim());
                    format!("{name}: {:?}", build.flavor)
                }
                Err(error) => format!("{name}: {}", error.split(';').next().unwrap_or_default()),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "upstream/stable-default: None",
                "upstream/stable-kxsan: no flavor \"kxsan\"",
                "upstream/v6.17-kasan: Some(\"kasan\")",
                "upstream/v9.9-kasan: no tag of release v9.9",
            ]
        );
    }
}
