//! Which packages of an index are the newest kernel. Pure.

use model::{PackageRepo, RepoFormat, RepoKernel};
use rpm_version::rpm_evr_compare;

use crate::RepoPackage;
use crate::error::RepoError;

/// The packages of a kernel: the first has the boot image, the others belong to it.
const RPM: [&[&str]; 2] = [
    &["kernel-core", "kernel-modules-core", "kernel-modules", "kernel-modules-extra", "kernel-devel"],
    &["kernel-default", "kernel-default-devel", "kernel-devel"],
];
const PACMAN: [&[&str]; 1] = [&["linux", "linux-headers"]];

/// The names of all packages that may be selected.
pub(crate) fn names(repo: &PackageRepo) -> Vec<String> {
    let own = repo.packages().iter().map(ToString::to_string);
    let known = RPM.iter().chain(&PACMAN).flat_map(|set| set.iter().map(ToString::to_string));
    if repo.packages().is_empty() { known.collect() } else { own.collect() }
}

/// Selects the newest kernel of the indices.
pub(crate) fn packages(kernel: &RepoKernel, found: &[RepoPackage]) -> Result<Vec<RepoPackage>, RepoError> {
    let own: Vec<&str> = kernel.repo().packages().iter().map(model::PackageName::as_str).collect();
    let sets: &[&[&str]] = match kernel.repo().format() {
        _ if !own.is_empty() => &[&own],
        RepoFormat::Pacman => &PACMAN,
        RepoFormat::RpmMd | RepoFormat::Apt => &RPM,
    };
    let missing = |package: String| RepoError::NoPackage { repo: kernel.repo().name().into(), package };
    let arch = kernel.arch().as_str();
    let image = sets.iter().find_map(|set| Some((*set, newest(found, set.first()?, arch, |_| true)?)));
    let Some((set, image)) = image else {
        let firsts: Vec<&str> = sets.iter().filter_map(|set| set.first().copied()).collect();
        return Err(missing(firsts.join(" or ")));
    };
    let mut selected = vec![image.clone()];
    for name in &set[1..] {
        let exact = newest(found, name, arch, |package| package.version == image.version);
        // A package that is built on its own has another number at the end.
        let same = || newest(found, name, arch, |package| version(package) == version(image));
        match exact.or_else(same) {
            Some(package) => selected.push(package.clone()),
            // A distribution need not have all packages of the default set, an operator's list is complete.
            None if own.is_empty() => {}
            None => return Err(missing(format!("{name} {}", image.version))),
        }
    }
    Ok(selected)
}

fn newest<'a>(
    found: &'a [RepoPackage],
    name: &str,
    arch: &str,
    accept: impl Fn(&RepoPackage) -> bool,
) -> Option<&'a RepoPackage> {
    let mine = |package: &&RepoPackage| {
        package.name == name && [arch, "noarch", "any"].contains(&package.arch.as_str()) && accept(package)
    };
    found.iter().filter(mine).max_by(|a, b| rpm_evr_compare(&a.version, &b.version))
}

/// The version without the release of the package.
fn version(package: &RepoPackage) -> &str {
    package.version.rsplit_once('-').map_or(&package.version, |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checksum;
    use model::Arch;

    fn index(packages: &[(&str, &str, &str)]) -> Vec<RepoPackage> {
        let package = |(name, version, arch): &(&str, &str, &str)| RepoPackage {
            name: (*name).into(),
            version: (*version).into(),
            size: 1,
            arch: (*arch).into(),
            url: "https://x/y".into(),
            checksum: Checksum::Sha256("a".repeat(64)),
        };
        packages.iter().map(package).collect()
    }

    fn select(repo: &str, packages: &[(&str, &str, &str)]) -> Result<Vec<String>, String> {
        let kernel =
            RepoKernel::parse(&"x".parse().unwrap(), &repo.parse().unwrap(), Arch::X86_64).unwrap().unwrap();
        let found = super::packages(&kernel, &index(packages)).map_err(|error| error.to_string())?;
        Ok(found.iter().map(|package| format!("{} {}", package.name, package.version)).collect())
    }

    const RPM_MD: &str = "x,format=rpm-md,url=https://x";

    #[test]
    fn the_newest_kernel_with_its_parts() {
        let fedora = [
            ("kernel-core", "0:6.14.9-300.fc42", "x86_64"),
            ("kernel-core", "0:6.14.10-300.fc42", "x86_64"),
            ("kernel-core", "0:6.15.1-300.fc42", "aarch64"),
            ("kernel-modules", "0:6.14.9-300.fc42", "x86_64"),
            ("kernel-modules", "0:6.14.10-300.fc42", "x86_64"),
            ("kernel-devel", "0:6.14.10-300.fc42", "x86_64"),
        ];
        assert_eq!(
            select(RPM_MD, &fedora).unwrap(),
            [
                "kernel-core 0:6.14.10-300.fc42",
                "kernel-modules 0:6.14.10-300.fc42",
                "kernel-devel 0:6.14.10-300.fc42"
            ]
        );
        // The headers of openSUSE are built apart.
        let suse = [
            ("kernel-default", "0:6.15.1-1.1", "x86_64"),
            ("kernel-default-devel", "0:6.15.1-1.1", "x86_64"),
            ("kernel-devel", "0:6.15.1-1.2", "noarch"),
            ("kernel-devel", "0:6.15.0-1.9", "noarch"),
        ];
        assert_eq!(select(RPM_MD, &suse).unwrap().last().unwrap(), "kernel-devel 0:6.15.1-1.2");
    }

    #[test]
    fn missing_packages_are_named() {
        let error = select(RPM_MD, &[("bash", "0:5-1", "x86_64")]).unwrap_err();
        assert_eq!(error, "x has no package kernel-core or kernel-default; set package in the kernel source");
        let own = format!("{RPM_MD},package=kernel-rt,package=kernel-rt-devel");
        let error = select(&own, &[("kernel-rt", "0:6-1", "x86_64")]).unwrap_err();
        assert_eq!(error, "x has no package kernel-rt-devel 0:6-1; set package in the kernel source");
    }
}
