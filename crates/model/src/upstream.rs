//! Kernels that a farm builds from a tag of its kernel repository: `upstream/stable-6.17-kasan`. Pure.

use crate::names::{NameError, StoreKernel, bad};

/// The first part of their names.
const PREFIX: &str = "upstream/";
/// The variant without a flavor.
const DEFAULT: &str = "default";

/// A kernel of upstream: the release and the flavor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamKernel {
    release: String,
    flavor: Option<String>,
}

impl UpstreamKernel {
    /// Parses `upstream/RELEASE-VARIANT`. `None` if the name is that of another kernel.
    #[must_use]
    pub fn parse(name: &StoreKernel) -> Option<Result<Self, NameError>> {
        let rest = name.as_str().strip_prefix(PREFIX)?;
        let wrong = || {
            bad(
                "a kernel of upstream",
                name.as_str(),
                "use upstream/RELEASE-VARIANT, as in upstream/v6.17-kasan",
            )
        };
        let parsed = rest.rsplit_once('-').filter(|(release, variant)| {
            !release.is_empty()
                && !release.contains('/')
                && variant.bytes().all(|byte| byte.is_ascii_lowercase())
        });
        let parsed = parsed.filter(|(_, variant)| !variant.is_empty());
        Some(parsed.ok_or_else(wrong).map(|(release, variant)| Self {
            release: release.into(),
            flavor: Some(variant).filter(|variant| *variant != DEFAULT).map(String::from),
        }))
    }

    /// The release: `stable`, `stable-6.17`, `rc`, or a tag.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The flavor; `None` for the variant `default`.
    #[must_use]
    pub fn flavor(&self) -> Option<&str> {
        self.flavor.as_deref()
    }

    /// The tag of the release: for `stable` the newest release, for `rc` the newest release or release candidate, for
    /// `stable-X.Y` the newest one of that line, or else the tag with that name, with or without `v`.
    pub fn tag<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let line = self.release.strip_prefix("stable-").map(version);
        let newest = |accept: &dyn Fn(&Version) -> bool, tags: &mut dyn Iterator<Item = &'a str>| {
            let known = tags.filter_map(|tag| Some((version(tag.strip_prefix('v')?)?, tag)));
            known.filter(|(version, _)| accept(version)).max().map(|(_, tag)| tag)
        };
        let mut tags = tags.into_iter();
        match (self.release.as_str(), line) {
            ("stable", _) => newest(&|version| version.3 == RELEASED, &mut tags),
            ("rc", _) => newest(&|_| true, &mut tags),
            (_, Some(Some(line))) => newest(
                &|version| version.3 == RELEASED && (version.0, version.1) == (line.0, line.1),
                &mut tags,
            ),
            (name, _) => tags.find(|tag| *tag == name || tag.strip_prefix('v') == Some(name)),
        }
    }
}

/// Major, minor and patch number, and the number of the release candidate.
type Version = (u32, u32, u32, u32);
/// Instead of the number of a release candidate: newer than all of them.
const RELEASED: u32 = u32::MAX;

/// Parses `6.17`, `6.17.3` or `6.18-rc2`.
fn version(text: &str) -> Option<Version> {
    let (numbers, candidate) = match text.split_once("-rc") {
        Some((numbers, candidate)) => (numbers, candidate.parse().ok()?),
        None => (text, RELEASED),
    };
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    let patch = parts.next().map_or(Some(0), |patch| patch)?;
    parts.next().is_none().then_some((major, minor, patch, candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Result<UpstreamKernel, NameError>> {
        UpstreamKernel::parse(&text.parse().unwrap())
    }

    #[test]
    fn releases_and_variants() {
        let kernel = |text: &str| parse(text).unwrap().unwrap();
        let parts = |text: &str| (kernel(text).release().to_owned(), kernel(text).flavor().map(String::from));
        assert_eq!(parts("upstream/stable-default"), ("stable".into(), None));
        assert_eq!(parts("upstream/stable-6.17-kasan"), ("stable-6.17".into(), Some("kasan".into())));
        assert_eq!(parts("upstream/v6.18-rc2-ubsan"), ("v6.18-rc2".into(), Some("ubsan".into())));
        for wrong in ["upstream/stable", "upstream/a/b-kasan", "upstream/v6.17", "upstream/v6-"] {
            assert!(parse(wrong).unwrap().is_err(), "{wrong}");
        }
        assert!(parse("debian/sid").is_none());
    }

    #[test]
    fn the_tag_of_a_release() {
        let tags = ["v6.17", "v6.17.9", "v6.17.10", "v6.18-rc2", "v6.18-rc10", "next-20250101", "v6.9", "x"];
        let tag = |release: &str| {
            parse(&format!("upstream/{release}-default")).unwrap().unwrap().tag(tags).map(String::from)
        };
        for (release, expected) in [
            ("stable", Some("v6.17.10")),
            ("rc", Some("v6.18-rc10")),
            ("stable-6.17", Some("v6.17.10")),
            ("stable-6.9", Some("v6.9")),
            ("stable-6.18", None),
            ("v6.17", Some("v6.17")),
            ("6.17.9", Some("v6.17.9")),
            ("next-20250101", Some("next-20250101")),
            ("v5.0", None),
        ] {
            assert_eq!(tag(release).as_deref(), expected, "{release}");
        }
        // A release is newer than its candidates.
        assert_eq!(parse("upstream/rc-default").unwrap().unwrap().tag(["v7.0-rc9", "v7.0"]), Some("v7.0"));
    }
}
