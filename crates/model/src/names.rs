//! Newtypes of names. Only this module decides what is valid.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}: {reason}")]
pub struct NameError {
    /// The kind of name with its article: "a commit id".
    pub kind: &'static str,
    /// The text, cut to 100 characters.
    pub text: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

pub(crate) fn bad(kind: &'static str, text: &str, reason: &'static str) -> NameError {
    NameError { kind, text: text.chars().take(100).collect(), reason }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().into()
            }
        }
        impl From<&$name> for String {
            fn from(name: &$name) -> String {
                name.as_str().into()
            }
        }
    };
}
pub(crate) use name;

/// The conversions with which serde reads and writes a type as its text.
macro_rules! as_text {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = $crate::names::NameError;
            fn try_from(text: String) -> Result<Self, $crate::names::NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use as_text;

name! {
    /// A full git commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
    CommitId
}

impl FromStr for CommitId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a full commit id";
        if text.len() != 40 && text.len() != 64 {
            return Err(bad(kind, text, "it must have 40 or 64 digits"));
        }
        // Without an early exit, several digits are compared at once.
        if !text.bytes().fold(true, |valid, b| valid & (b.is_ascii_digit() | (b'a'..=b'f').contains(&b))) {
            return Err(bad(kind, text, "its digits must be 0-9 or a-f"));
        }
        Ok(Self(text.into()))
    }
}

impl CommitId {
    /// The first 12 digits, as kernel developers quote commits.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

name! {
    /// A test file, named by its path below `tests/` without the `.ktest` ending: `fs/ext4/basic`.
    TestPath
}

impl FromStr for TestPath {
    type Err = NameError;
    /// The `.ktest` extension is optional.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a test file";
        let path = text.strip_suffix(".ktest").unwrap_or(text);
        if path.is_empty() || path.len() > 200 {
            return Err(bad(kind, text, "it must have 1 to 200 characters"));
        }
        if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(bad(
                kind,
                text,
                "it must be relative to tests/, and no part of it may be empty or begin with a dot",
            ));
        }
        if !path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)) {
            return Err(bad(kind, text, "use letters, digits and / . _ - +"));
        }
        Ok(Self(path.into()))
    }
}

impl TestPath {
    /// The form in directory names: `fs.ext4.basic`.
    #[must_use]
    pub fn dotted(&self) -> String {
        self.0.replace('/', ".")
    }

    /// The file below `tests/`: `fs/ext4/basic.ktest`.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.ktest", self.0)
    }
}

name! {
    /// A subtest of a test file, as printed by `list-tests`. May contain `/` (`generic/001`) but no white space.
    SubtestName
}

impl FromStr for SubtestName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a subtest";
        if text.is_empty() || text.len() > 150 {
            return Err(bad(kind, text, "it must have 1 to 150 bytes"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad(kind, text, "it must not contain white space or control characters"));
        }
        if text.starts_with(['-', '.', '/']) || text.split('/').any(|part| part == "..") {
            return Err(bad(kind, text, "it must not begin with -, . or / or have a part .."));
        }
        Ok(Self(text.into()))
    }
}

impl SubtestName {
    /// The form in directory names, with `.` for `/`: `generic.001`.
    #[must_use]
    pub fn dotted(&self) -> String {
        self.0.replace('/', ".")
    }
}

name! {
    /// A file that a run leaves with the result of a subtest: `crash`, `full`, `out.bad`.
    ArtifactName
}

/// The files of a result that are not artifacts.
const RESULT_FILES: [&str; 4] = ["log", "full_log", "status", "duration"];
/// The artifacts that the runner makes.
const OF_RUNNER: [&str; 5] = ["crash", "vmcore", "kernel.config", "build.log", "coverage.info"];

impl FromStr for ArtifactName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "the name of an artifact";
        if text.is_empty() || text.len() > 100 || text.starts_with(['-', '.']) {
            return Err(bad(kind, text, "it must have 1 to 100 characters and must not begin with - or ."));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c)) {
            return Err(bad(kind, text, "use letters, digits and . _ - +"));
        }
        if RESULT_FILES.contains(&text) {
            return Err(bad(kind, text, "it is a file of the result"));
        }
        Ok(Self(text.into()))
    }
}

impl ArtifactName {
    /// The directory of the artifacts that a test leaves: below the directory that it writes to, and below that of the result
    /// of a subtest.
    pub const DIR: &str = "artifacts";

    /// Whether a test may leave an artifact with this name: it is none of those that the runner makes.
    #[must_use]
    pub fn is_of_test(&self) -> bool {
        !OF_RUNNER.contains(&self.as_str())
    }
}

name! {
    /// A host of the farm: a DNS name, or the key of its `[host.NAME]` section.
    HostName
}

impl FromStr for HostName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a host name";
        if text.is_empty() || text.len() > 253 || text.starts_with(['-', '.']) {
            return Err(bad(kind, text, "it must have 1 to 253 characters and must not begin with - or ."));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(bad(kind, text, "use letters, digits and . _ -"));
        }
        Ok(Self(text.into()))
    }
}

name! {
    /// A kernel in the kernel store: the SHA-256 of all inputs of its build, in hexadecimal.
    KernelId
}

impl FromStr for KernelId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        sha256("a kernel id", text).map(Self)
    }
}

/// A SHA-256 in hexadecimal, as the text of a name.
pub(crate) fn sha256(kind: &'static str, text: &str) -> Result<std::sync::Arc<str>, NameError> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        Ok(text.into())
    } else {
        Err(bad(kind, text, "it must be 64 lower-case hexadecimal digits"))
    }
}

impl KernelId {
    /// The first 12 digits.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

name! {
    /// A prebuilt kernel of the store, by name: `debian/trixie`, `debian/trixie/arm64`.
    StoreKernel
}

impl FromStr for StoreKernel {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = !text.is_empty()
            && text.len() <= 100
            && text.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
            });
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(bad("a store kernel", text, "use parts of letters, digits and . _ - +, separated by /"))
        }
    }
}

impl StoreKernel {
    /// The first part: the distribution, or the kernel source.
    #[must_use]
    pub fn source(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

name! {
    /// A Debian package of a root image: `fio`, `g++-12`.
    PackageName
}

impl FromStr for PackageName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 100
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c));
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(bad(
                "a package",
                text,
                "use letters, digits and + - . :; it must begin with a letter or digit",
            ))
        }
    }
}

/// The environment that a test group sets for its runs, sorted by key. A value may contain `/`, but must not be an
/// absolute path or have a component `..`: a group must not refer to files of the hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Env(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Env {
    type Error = NameError;
    fn try_from(map: BTreeMap<String, String>) -> Result<Self, NameError> {
        for (key, value) in &map {
            for text in [key, value] {
                if text.chars().any(|c| c.is_whitespace() || c.is_control() || "=,@".contains(c)) {
                    return Err(bad(
                        "an env key or value",
                        text,
                        "it must not contain white space, control characters, = , or @",
                    ));
                }
            }
            if value.contains('/') && value.split('/').any(|part| ["", ".", ".."].contains(&part)) {
                return Err(bad(
                    "an env value",
                    value,
                    "a path in it must be relative and must not have a part . or ..",
                ));
            }
            let shell_name = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && key.bytes().next().is_some_and(|b| !b.is_ascii_digit());
            if !shell_name {
                return Err(bad(
                    "an env key",
                    key,
                    "use letters, digits and _; it must not begin with a digit",
                ));
            }
        }
        Ok(Self(map))
    }
}

impl From<Env> for BTreeMap<String, String> {
    fn from(env: Env) -> Self {
        env.0
    }
}

impl Env {
    /// True if it sets no variables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs that are part of the names of results, in key order: those that do more than select tests and an image.
    fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(name, _)| !only_selects(name))
    }

    /// The pairs in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The variable with the name of a group's root image.
pub const IMAGE_VARIABLE: &str = "ktest_image";

/// The variables with which xfstests runs longer or with more load.
const XFSTESTS_FACTORS: [&str; 3] = ["LOAD_FACTOR", "SOAK_DURATION", "TIME_FACTOR"];

/// Whether a variable only selects: the root image, or which cases of a suite run and for how long. A case has the same
/// name however it was selected.
fn only_selects(name: &str) -> bool {
    let of_suite = ["ktest_xfstests_", "ktest_blktests_"].iter().find_map(|suite| name.strip_prefix(suite));
    let selects = of_suite.is_some_and(|what| ["groups", "exclude", "seconds"].contains(&what));
    selects || name == IMAGE_VARIABLE || XFSTESTS_FACTORS.contains(&name)
}

name! {
    /// The directory of a subtest's result in the directory of its commit (`<key>` in docs/formats.md):
    /// `fs.bcachefs.single_device@debian_trixie@K=V.punch`.
    ResultKey
}

impl FromStr for ResultKey {
    type Err = NameError;
    /// Accepts any directory name: older results have keys of forms that are no longer created.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a result key";
        if text.is_empty() || text.len() > 255 {
            return Err(bad(kind, text, "it must have 1 to 255 bytes"));
        }
        if text.starts_with('.') || text.chars().any(|c| c == '/' || c.is_control() || c.is_whitespace()) {
            return Err(bad(
                kind,
                text,
                "it must not begin with a dot or contain /, white space or control characters",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl ResultKey {
    /// The key of a subtest's result. It is an error only if the key is too long for a directory name.
    pub fn new(
        test: &TestPath,
        kernel: Option<&StoreKernel>,
        env: &Env,
        subtest: &SubtestName,
    ) -> Result<Self, NameError> {
        format!("{}.{}", Self::file_prefix(test, kernel, env), subtest.dotted()).parse()
    }

    /// The part before the subtest: the test file, kernel and environment.
    #[must_use]
    pub fn file_prefix(test: &TestPath, kernel: Option<&StoreKernel>, env: &Env) -> String {
        let mut key = test.dotted();
        if let Some(kernel) = kernel {
            key.push('@');
            key.push_str(&kernel.as_str().replace('/', "_"));
        }
        let mut separator = '@';
        for (name, value) in env.named() {
            key.push(separator);
            key.push_str(name);
            key.push('=');
            // Escaped, so that different values give different keys.
            key.push_str(&value.replace('%', "%25").replace('/', "%2F"));
            separator = ',';
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_the_format_document() {
        let key = ResultKey::new(
            &"fs/bcachefs/single_device.ktest".parse().unwrap(),
            Some(&"debian/trixie".parse().unwrap()),
            &Env::default(),
            &"punch".parse().unwrap(),
        );
        assert_eq!(key.unwrap().as_str(), "fs.bcachefs.single_device@debian_trixie.punch");
    }

    #[test]
    fn env_is_sorted_and_subtest_slashes_become_dots() {
        let env =
            Env::try_from(BTreeMap::from([("Z".into(), "1".into()), ("A".into(), "x".into())])).unwrap();
        let key =
            ResultKey::new(&"fs/xfs/fstests".parse().unwrap(), None, &env, &"generic/001".parse().unwrap());
        assert_eq!(key.unwrap().as_str(), "fs.xfs.fstests@A=x,Z=1.generic.001");
    }

    #[test]
    fn what_only_selects_is_not_in_a_key() {
        let pairs = [
            ("ktest_blktests_seconds", "20"),
            ("ktest_image", "full"),
            ("SOAK_DURATION", "60"),
            ("ktest_xfstests_exclude", "soak"),
            ("ktest_xfstests_groups", "quick+log"),
            ("ktest_xfstests_variant", "1k"),
            ("my_groups", "a"),
        ];
        let env =
            Env::try_from(BTreeMap::from(pairs.map(|(name, value)| (name.into(), value.into())))).unwrap();
        let file = "fs/ext4/fstests".parse().unwrap();
        let key = ResultKey::new(&file, None, &env, &"generic/001".parse().unwrap()).unwrap();
        assert_eq!(key.as_str(), "fs.ext4.fstests@ktest_xfstests_variant=1k,my_groups=a.generic.001");
        assert_eq!(env.iter().count(), pairs.len());
    }

    #[test]
    fn bad_names_are_refused() {
        for text in ["", "../etc/passwd", "/abs", "a//b", "a b", "a/../b", ".hidden"] {
            assert!(text.parse::<TestPath>().is_err(), "{text:?}");
        }
        for text in ["", "-x", "a b", "a/../b", "/a", "a\u{7}"] {
            assert!(text.parse::<SubtestName>().is_err(), "{text:?}");
        }
        for text in ["", "abc", "ABCDEF0123456789ABCDEF0123456789ABCDEF01"] {
            assert!(text.parse::<CommitId>().is_err(), "{text:?}");
        }
        for (key, value) in [("a b", "x"), ("A", "x=y"), ("A", "x,y"), ("1A", "x"), ("", "x"), ("A/B", "x")] {
            assert!(Env::try_from(BTreeMap::from([(key.into(), value.into())])).is_err(), "{key} {value}");
        }
    }

    fn env(value: &str) -> Result<Env, NameError> {
        BTreeMap::from([("A".to_owned(), value.to_owned())]).try_into()
    }

    #[test]
    fn an_env_value_may_be_a_relative_path() {
        for value in ["/etc", "..", "../x", "a/../b", "a/..", "./a", "a//b", "a/", "/"] {
            assert_eq!(env(value).is_err(), value.contains('/'), "{value}");
        }
        let key = |value: &str| {
            let env = env(value).unwrap();
            ResultKey::new(&"boot".parse().unwrap(), None, &env, &"x".parse().unwrap()).unwrap().to_string()
        };
        assert_eq!(key("fs/ext4"), "boot@A=fs%2Fext4.x");
        assert_eq!(key("fs%2Fext4"), "boot@A=fs%252Fext4.x");
        assert_eq!(key("x"), "boot@A=x.x");
        // A list is words separated by blanks; in the lists of the test files, + is the separator.
        assert_eq!(key("fs/ext4+mm"), "boot@A=fs%2Fext4+mm.x");
    }

    proptest::proptest! {
        #[test]
        fn names_round_trip_through_display_and_json(text in "\\PC{0,60}") {
            if let Ok(name) = text.parse::<SubtestName>() {
                let json = serde_json::to_string(&name).unwrap();
                assert_eq!(serde_json::from_str::<SubtestName>(&json).unwrap(), name);
                assert_eq!(name.to_string(), text);
            }
        }
    }
}
