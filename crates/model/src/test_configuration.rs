//! The configurations in which a test runs: the part of a result key between the test file and the subtest, which names a kernel of
//! the store and an environment (docs/formats.md). One parser for all of its readers. Any key is accepted, and its parts make up
//! the key again.

use std::borrow::Cow;
use std::fmt;

use crate::names::IMAGE_VARIABLE;

/// The variables that select a kernel.
pub(crate) const ARCH: &str = "ktest_arch";
pub(crate) const FLAVOR: &str = "ktest_flavor";

/// A result key in its parts. Their texts in this order are the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The test file, dotted. Without a configuration also the subtest: only the test files of the farm say where it begins.
    pub head: &'a str,
    /// The configuration.
    pub configuration: TestConfiguration<'a>,
    /// A dot and the subtest, or nothing.
    pub tail: &'a str,
}

impl<'a> KeyParts<'a> {
    /// The parts of a key.
    #[must_use]
    pub fn of(key: &'a str) -> Self {
        let (head, rest) = key.split_at(key.find('@').unwrap_or(key.len()));
        let (configuration, tail) = rest.split_at(configuration_end(rest));
        Self { head, configuration: TestConfiguration(configuration), tail }
    }

    /// The key of the same test in the default configuration.
    #[must_use]
    pub fn test(&self) -> Cow<'a, str> {
        if self.configuration.is_default() && self.tail.is_empty() {
            self.head.into()
        } else {
            format!("{}{}", self.head, self.tail).into()
        }
    }
}

impl KeyParts<'_> {
    /// Whether both are the same test, in any configuration.
    #[must_use]
    pub fn is_same_test(&self, other: KeyParts<'_>) -> bool {
        let text = |parts: KeyParts<'_>| parts.head.len() + parts.tail.len();
        text(*self) == text(other)
            && self.head.bytes().chain(self.tail.bytes()).eq(other.head.bytes().chain(other.tail.bytes()))
    }
}

/// Where the configuration at the start of this text ends. A value can contain dots, as can the subtest after it: a dot between
/// digits is part of a value, any other one ends the last value.
fn configuration_end(text: &str) -> usize {
    if text.is_empty() {
        return 0;
    }
    // Variables are sorted by name, and their values have no `=`. The subtest may have `@`, `,` and `=`.
    let (mut last, mut above) = (1, variable(&text[1..]).unwrap_or_default());
    for (at, separator) in text.match_indices(['@', ',']).skip(1) {
        let is_next = if above.is_empty() { separator == "@" } else { separator == "," };
        if text[last..at].matches('=').nth(1).is_some() {
            break;
        }
        if let Some(name) = variable(&text[at + 1..]).filter(|name| is_next && *name > above) {
            (last, above) = (at + 1, name);
        }
    }
    let value = &text[last..];
    let is_digit =
        |at: Option<usize>| at.and_then(|at| value.as_bytes().get(at)).is_some_and(u8::is_ascii_digit);
    let is_end = |at: &usize| !(is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)));
    let mut dots = value.match_indices('.').map(|(at, _)| at);
    let end = dots.find(is_end).or_else(|| value.rfind('.'));
    end.map_or(text.len(), |end| last + end)
}

/// The name of the variable that a text begins with, if it begins with an assignment.
fn variable(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('=')?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    is_name.then_some(name)
}

/// A configuration: its text in a result key, empty for the default one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TestConfiguration<'a>(&'a str);

impl<'a> TestConfiguration<'a> {
    /// The configuration of the test with this result key.
    #[must_use]
    pub fn of_key(key: &'a str) -> Self {
        KeyParts::of(key).configuration
    }

    /// Its text in a result key.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether a result key says nothing about it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// The kernel of the store, with `_` for `/`; `None` if the kernel is built.
    #[must_use]
    pub fn kernel(&self) -> Option<&'a str> {
        let text = self.0.strip_prefix('@')?;
        if variable(text).is_some() {
            return None;
        }
        Some(&text[..self.env_start().map_or(text.len(), |start| start - 2)])
    }

    /// The variables of the environment with their values as in the key, in the order of the key.
    pub fn variables(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.env_start().map(|start| &self.0[start..]);
        std::iter::from_fn(move || {
            let text = rest?;
            let (name, value) = text.split_once('=')?;
            // A comma that does not begin a variable is part of the value.
            let next = |(at, _): &(usize, &str)| variable(&value[at + 1..]).is_some();
            let end = value.match_indices(',').find(next).map(|(at, _)| at);
            rest = end.map(|at| &value[at + 1..]);
            Some((name, &value[..end.unwrap_or(value.len())]))
        })
    }

    /// The index of the first variable.
    fn env_start(&self) -> Option<usize> {
        let starts = self.0.match_indices('@').map(|(at, _)| at + 1);
        let mut starts = starts.filter(|start| variable(&self.0[*start..]).is_some());
        starts.next()
    }

    fn variable(&self, wanted: impl Fn(&str) -> bool) -> Option<&'a str> {
        self.variables().find(|(name, _)| wanted(name)).map(|(_, value)| value)
    }

    /// The architecture.
    #[must_use]
    pub fn arch(&self) -> Option<&'a str> {
        self.variable(|name| name == ARCH)
    }

    /// The flavor of the kernel.
    #[must_use]
    pub fn flavor(&self) -> Option<&'a str> {
        self.variable(|name| name == FLAVOR)
    }

    /// The root image. It is in old keys only.
    #[must_use]
    pub fn image(&self) -> Option<&'a str> {
        self.variable(|name| name == IMAGE_VARIABLE)
    }

    /// The variant of a suite: `1k` of `ktest_xfstests_variant=1k`.
    #[must_use]
    pub fn variant(&self) -> Option<&'a str> {
        self.variable(is_variant)
    }

    /// The other variables.
    pub fn others(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.variables()
            .filter(|(name, _)| ![ARCH, FLAVOR, IMAGE_VARIABLE].contains(name) && !is_variant(name))
    }

    /// Whether both are the same but for the variant.
    #[must_use]
    pub fn differs_in_variant_only(&self, other: TestConfiguration<'_>) -> bool {
        let rest = |pairs: &mut dyn Iterator<Item = (&'_ str, &'_ str)>| {
            pairs
                .filter(|(name, _)| !is_variant(name))
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        self.variant() != other.variant()
            && self.kernel() == other.kernel()
            && rest(&mut self.variables()) == rest(&mut other.variables())
    }

    /// Whether it has this value: `arch`, `flavor`, `kernel`, `image`, `variant` or the name of a variable. An empty value is
    /// that of a configuration without one.
    fn has(&self, name: &str, value: &str) -> bool {
        let found = match name {
            "arch" => self.arch(),
            "flavor" => self.flavor(),
            "kernel" => self.kernel(),
            "image" => self.image(),
            "variant" => self.variant(),
            name => self.variable(|other| other == name),
        };
        decoded(found.unwrap_or("")) == value || found == Some(value)
    }
}

fn is_variant(name: &str) -> bool {
    name.strip_prefix("ktest_").is_some_and(|rest| rest.ends_with("_variant"))
}

fn decoded(value: &str) -> Cow<'_, str> {
    if value.contains('%') { value.replace("%2F", "/").replace("%25", "%").into() } else { value.into() }
}

/// `aarch64, kasan`, `debian_trixie, variant 1k`, `default`.
impl fmt::Display for TestConfiguration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_default() {
            return f.write_str("default");
        }
        let mut separator = "";
        let mut part = |label: &str, value: &str| {
            let written = write!(f, "{separator}{label}{}", decoded(value));
            separator = ", ";
            written
        };
        let named = [
            ("", self.arch()),
            ("", self.flavor()),
            ("", self.kernel()),
            ("image ", self.image()),
            ("variant ", self.variant()),
        ];
        for (label, value) in named {
            if let Some(value) = value {
                part(label, value)?;
            }
        }
        for (name, value) in self.others() {
            part(&format!("{name}="), value)?;
        }
        Ok(())
    }
}

/// Those of the configurations that a text selects: the one with this name (`aarch64, kasan`), or else those with all of these
/// values (`arch=aarch64,flavor=kasan`).
#[must_use]
pub fn select_configurations<'a>(
    wanted: &str,
    present: &[TestConfiguration<'a>],
) -> Vec<TestConfiguration<'a>> {
    let named = present.iter().filter(|configuration| configuration.to_string() == wanted);
    let named: Vec<_> = named.copied().collect();
    if !named.is_empty() {
        return named;
    }
    let conditions = wanted.split(',').map(|condition| condition.trim().split_once('='));
    let Some(conditions) = conditions.collect::<Option<Vec<_>>>() else { return Vec::new() };
    let has_all = |configuration: &&TestConfiguration<'_>| {
        conditions.iter().all(|(name, value)| configuration.has(name, value))
    };
    present.iter().filter(has_all).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Env, ResultKey};

    fn parts(key: &str) -> (&str, String, &str) {
        let KeyParts { head, configuration, tail } = KeyParts::of(key);
        (head, configuration.to_string(), tail)
    }

    #[test]
    fn keys_have_a_configuration() {
        for (key, expected) in [
            ("boot.boots", ("boot.boots", "default", "")),
            ("fs.a@ktest_arch=aarch64.punch", ("fs.a", "aarch64", ".punch")),
            (
                "fs.a@ktest_arch=aarch64,ktest_flavor=kasan.generic.001",
                ("fs.a", "aarch64, kasan", ".generic.001"),
            ),
            ("fs.a@debian_trixie.punch", ("fs.a", "debian_trixie", ".punch")),
            ("fs.a@v6.1.2.punch", ("fs.a", "v6.1.2", ".punch")),
            ("fs.a@v6.1.001", ("fs.a", "v6.1", ".001")),
            ("fs.a@v6.1@A=1,ktest_xfstests_variant=1k.x", ("fs.a", "v6.1, variant 1k, A=1", ".x")),
            ("fs.a@A=x.y,ktest_flavor=kasan.x", ("fs.a", "kasan, A=x.y", ".x")),
            ("fs.a@A=fs%2Fext4%2525.x", ("fs.a", "A=fs/ext4%25", ".x")),
            ("fs.a@ktest_image=full.x", ("fs.a", "image full", ".x")),
            ("kunit@Z=1.case.param=1,b=2", ("kunit", "Z=1", ".case.param=1,b=2")),
            ("fs.a@v6.1.x=1", ("fs.a", "v6.1", ".x=1")),
            ("@ktest_arch=", ("", "", "")),
            ("fs.a@.x", ("fs.a", "", ".x")),
        ] {
            let (head, name, tail) = parts(key);
            assert_eq!((head, name.as_str(), tail), expected, "{key}");
        }
        assert_eq!(KeyParts::of("fs.a@A=1.punch").test(), "fs.a.punch");
    }

    #[test]
    fn configurations_are_selected() {
        let keys = [
            "a.x",
            "a@ktest_arch=aarch64.x",
            "a@ktest_arch=aarch64,ktest_flavor=kasan.x",
            "a@debian_trixie.x",
            "a@P=fs%2Fext4.x",
        ];
        let present: Vec<_> = keys.iter().map(|key| TestConfiguration::of_key(key)).collect();
        let names = |wanted: &str| {
            let found = select_configurations(wanted, &present);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(names("default"), "default");
        assert_eq!(names("aarch64"), "aarch64");
        assert_eq!(names("arch=aarch64"), "aarch64; aarch64, kasan");
        assert_eq!(names("arch=aarch64,flavor="), "aarch64");
        assert_eq!(names("arch=aarch64, ktest_flavor=kasan"), "aarch64, kasan");
        assert_eq!(names("kernel=debian_trixie"), "debian_trixie");
        assert_eq!(names("P=fs/ext4"), "P=fs/ext4");
        for nothing in ["", "arch", "aarch64,kasan", "arch=x", ","] {
            assert_eq!(names(nothing), "", "{nothing}");
        }
    }

    #[test]
    fn variants_differ() {
        let of = |key: &'static str| TestConfiguration::of_key(key);
        let one = of("a@v6.1@A=1,ktest_xfstests_variant=1k.x");
        assert!(one.differs_in_variant_only(of("a@v6.1@A=1.x")));
        assert!(one.differs_in_variant_only(of("a@v6.1@A=1,ktest_xfstests_variant=4k.x")));
        assert!(!one.differs_in_variant_only(one));
        assert!(!one.differs_in_variant_only(of("a@v6.1@A=2.x")));
        assert!(!one.differs_in_variant_only(of("a@A=1.x")));
    }

    proptest::proptest! {
        #[test]
        fn parts_are_the_key(key in "[a-zA-Z0-9@=,._%é]{0,60}") {
            let KeyParts { head, configuration, tail } = KeyParts::of(&key);
            assert_eq!(format!("{head}{}{tail}", configuration.as_str()), key);
            assert!(tail.is_empty() || tail.starts_with('.'));
            let _ = (configuration.to_string(), configuration.kernel(), configuration.variant());
            let _ = select_configurations(&key, &[configuration]);
        }

        #[test]
        fn what_is_written_is_read(
            kernel in proptest::option::of("[a-z][a-z0-9]{0,5}(_[a-z]{1,5})?([0-9]\\.[0-9]{1,2})?"),
            env in proptest::collection::btree_map("[A-Za-z_]{1,9}", "[a-z0-9]{1,4}([0-9]\\.[0-9])?(/[a-z%]{1,3})?", 0..4),
            subtest in "[a-z]{1,6}(/[a-z0-9]{1,4})?",
        ) {
            let store = kernel.as_ref().map(|name| name.parse().unwrap());
            let env = Env::try_from(env).unwrap();
            let subtest: crate::SubtestName = subtest.parse().unwrap();
            let key = ResultKey::new(&"fs/a".parse().unwrap(), store.as_ref(), &env, &subtest).unwrap();
            let parts = KeyParts::of(key.as_str());
            assert_eq!(parts.test(), format!("fs.a.{}", subtest.dotted()), "{key}");
            assert_eq!(parts.configuration.kernel(), kernel.as_deref(), "{key}");
            for (name, value) in env.iter().filter(|(name, _)| *name != IMAGE_VARIABLE) {
                let found = parts.configuration.variable(|other| other == name);
                assert_eq!(found.map(|value| decoded(value).into_owned()).as_deref(), Some(value), "{key}");
            }
        }
    }
}
