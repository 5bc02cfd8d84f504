//! The names of distribution kernels.

use crate::arch::Arch;
use crate::names::{NameError, StoreKernel};

/// A kernel of Debian, by suite and architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistroKernel {
    suite: String,
    arch: Arch,
}

impl DistroKernel {
    /// Parses `debian/SUITE` or `debian/SUITE/ARCH`. The architecture is given as in Debian or as in the kernel.
    pub fn parse(name: &StoreKernel, default: Arch) -> Result<Self, NameError> {
        let bad =
            |reason| Err(NameError { kind: "a distribution kernel", text: name.as_str().into(), reason });
        let parts: Vec<&str> = name.as_str().split('/').collect();
        let (suite, arch) = match parts.as_slice() {
            ["debian", suite] => (*suite, default),
            ["debian", suite, arch] => match arch.parse() {
                Ok(arch) => (*suite, arch),
                Err(_) => return bad("the architectures are amd64 and arm64"),
            },
            _ => return bad("use debian/SUITE or debian/SUITE/ARCH, as in debian/trixie"),
        };
        let plain = suite.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || suite.starts_with('-') {
            return bad("a suite has a name like trixie or trixie-backports");
        }
        Ok(Self { suite: suite.into(), arch })
    }

    /// The suite.
    #[must_use]
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// The release that has its compiler and libraries: `trixie` for `trixie-backports`.
    #[must_use]
    pub fn release(&self) -> &str {
        match self.suite.split_once('-') {
            Some((release, _)) => release,
            None if self.suite == "experimental" => "sid",
            None => &self.suite,
        }
    }

    /// The architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The complete name.
    #[must_use]
    pub fn name(&self) -> StoreKernel {
        format!("debian/{}/{}", self.suite, self.arch.debian_name()).parse().expect("its parts were checked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let parse = |text: &str| {
            DistroKernel::parse(&text.parse().unwrap(), Arch::X86_64)
                .map(|kernel| kernel.name().to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(parse("debian/trixie").unwrap(), "debian/trixie/amd64");
        assert_eq!(parse("debian/trixie-backports/aarch64").unwrap(), "debian/trixie-backports/arm64");
        let release = |text: &str| {
            DistroKernel::parse(&text.parse().unwrap(), Arch::X86_64).unwrap().release().to_owned()
        };
        let suites = ["debian/trixie-backports", "debian/forky", "debian/experimental"];
        assert_eq!(suites.map(release), ["trixie", "forky", "sid"]);
        for bad in
            ["debian/trixie/sparc", "trixie", "ubuntu/devel", "debian/-x", "debian/Sid", "debian/a/b/c"]
        {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(bad) && error.lines().count() == 1, "{error}");
        }
    }
}
