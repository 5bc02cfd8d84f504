//! Which part of a result key is the test file. A key alone does not say (`/` and `.` are both `.` in it), the
//! configuration does; without it the part before the last dot is shown as one, and no command is offered.

use std::collections::BTreeMap;

use model::{CommitId, EnvVar, SubtestName, TestOrder, TestPath};

use crate::page::split_key;

/// The test files that are known, by their dotted names.
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
    /// The test file's part of a key, with the dot behind it, and the subtest's.
    #[must_use]
    pub fn split<'a>(&self, key: &'a str) -> (&'a str, &'a str) {
        match self.find(key) {
            Some((_, end)) => key.split_at(end + 1),
            None => split_key(key),
        }
    }

    /// The command that runs a test again; `None` where the test file is not known or ran on a store kernel.
    #[must_use]
    pub fn command(&self, commit: &CommitId, key: &str) -> Option<String> {
        let (test, end) = self.find(key)?;
        let extra = &key[test.dotted().len()..end];
        let subtest = &key[end + 1..];
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+:=/".contains(c));
        // The encoding of keys is in docs/formats.md.
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

    /// The longest known test file that the key begins with, and where the dot before the subtest is.
    fn find(&self, key: &str) -> Option<(&TestPath, usize)> {
        let mut best = None;
        for (at, _) in key.match_indices(['.', '@']) {
            if let Some(test) = self.by_dotted.get(&key[..at]) {
                best = Some((test, at));
            }
        }
        let (test, at) = best?;
        // Behind the file stands `@kernel`, `@env` or both, then the dot; dots in an env value are the last doubt.
        let dot = if key[at..].starts_with('@') { at + key[at..].rfind('.')? } else { at };
        (dot + 1 < key.len()).then_some((test, dot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_known_file_wins() {
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
