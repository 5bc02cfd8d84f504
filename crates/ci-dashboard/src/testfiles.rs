//! Splits a result key into test file and subtest.
//!
//! A key alone is ambiguous, because `/` and `.` are both `.` in it, so the test files in the configuration decide.
//! Without a configuration, the part before the last dot is treated as the test file, and no command is shown.

use std::collections::BTreeMap;

use model::{CommitId, EnvVar, SubtestName, TestOrder, TestPath};

use crate::page::split_key;

/// The test files in the configuration, by their dotted names.
#[derive(Debug, Clone, Default)]
pub struct TestFiles {
    by_dotted: BTreeMap<String, TestPath>,
}

impl FromIterator<TestPath> for TestFiles {
    fn from_iter<I: IntoIterator<Item = TestPath>>(tests: I) -> Self {
        Self { by_dotted: tests.into_iter().map(|test| (test.dotted(), test)).collect() }
    }
}

impl TestFiles {
    /// The part with the test file, including the trailing dot, and the part with the subtest.
    #[must_use]
    pub fn split<'a>(&self, key: &'a str) -> (&'a str, &'a str) {
        match self.find(key) {
            Some((_, end)) => key.split_at(end + 1),
            None => split_key(key),
        }
    }

    /// The command that reproduces a result; `None` if the test file is unknown or ran on a kernel from the store.
    #[must_use]
    pub fn command(&self, commit: &CommitId, key: &str) -> Option<String> {
        let (test, end) = self.find(key)?;
        let extra = &key[test.dotted().len()..end];
        let subtest = &key[end + 1..];
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+:=/".contains(c));
        // docs/formats.md describes the encoding of keys.
        let env = extra.strip_prefix('@').map(|env| env.replace("%2F", "/").replace("%25", "%"));
        let pairs = env.iter().flat_map(|env| env.split(','));
        let env =
            pairs.map(|pair| pair.parse().ok().filter(|_| plain(pair))).collect::<Option<Vec<EnvVar>>>()?;
        let subtest: SubtestName = subtest.parse().ok().filter(|_| plain(subtest))?;
        let order = TestOrder {
            kernel: "~/linux".into(),
            commit: Some(commit.to_string()),
            env,
            ..TestOrder::of(test.file().as_ref(), [&subtest])
        };
        let words: Vec<_> =
            order.to_argv().into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Some(format!("ktest run {}", words.join(" ")))
    }

    /// The longest test file name that is a prefix of the key, and the index of the dot before the subtest.
    fn find(&self, key: &str) -> Option<(&TestPath, usize)> {
        let mut best = None;
        for (at, _) in key.match_indices(['.', '@']) {
            if let Some(test) = self.by_dotted.get(&key[..at]) {
                best = Some((test, at));
            }
        }
        let (test, at) = best?;
        // The name of the file is followed by `@kernel`, `@env` or both, then a dot. A value in the environment can
        // contain dots, so the last dot is used.
        let dot = if key[at..].starts_with('@') { at + key[at..].rfind('.')? } else { at };
        (dot + 1 < key.len()).then_some((test, dot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_test_file_is_chosen() {
        let files: TestFiles =
            ["fs/xfs/fstests", "fs/xfs", "boot"].iter().map(|test| test.parse().unwrap()).collect();
        assert_eq!(files.split("fs.xfs.fstests.generic.001"), ("fs.xfs.fstests.", "generic.001"));
        assert_eq!(files.split("fs.xfs.fstests@A=x.quick"), ("fs.xfs.fstests@A=x.", "quick"));
        assert_eq!(files.split("other.thing.one"), ("other.thing.", "one"));
        assert_eq!(files.split("boot."), ("", "boot."));
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        assert_eq!(
            files.command(&commit, "fs.xfs.fstests@A=x,B=2.quick").unwrap(),
            format!("ktest run -k ~/linux --commit {commit} --env A=x --env B=2 fs/xfs/fstests.ktest quick")
        );
        assert_eq!(
            files.command(&commit, "boot@A=fs%2Fext4.boots").unwrap(),
            format!("ktest run -k ~/linux --commit {commit} --env A=fs/ext4 boot.ktest boots")
        );
        assert_eq!(files.command(&commit, "boot@A=fs%252Fext4.boots"), None);
        assert_eq!(files.command(&commit, "boot@debian_trixie.boots"), None);
        assert_eq!(files.command(&commit, "boot.$(reboot)"), None);
    }
}
