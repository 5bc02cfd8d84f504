//! Controls of a failure: the same test at the commit before it, and on other file systems and in other variants with the same
//! kernel. They tell a failure of this commit, file system and variant from one that is everywhere, also if the test has never
//! run before.

use model::{CommitId, KeyParts};
use results::json::ControlRow;
use results::{CommitResults, TestEntry};

/// What a failure is compared with.
#[must_use]
pub fn controls(
    results: &CommitResults,
    before: Option<&CommitResults>,
    entry: &TestEntry,
) -> Vec<ControlRow> {
    if !entry.status().has_failure() {
        return Vec::new();
    }
    let older = before.and_then(|older| Some((&older.commit, older.get(&entry.key)?)));
    let older = older.map(|(commit, found)| row("before", commit, found));
    let others = results.entries.iter().filter_map(|other| {
        let (test, key) = (entry.key.as_str(), other.key.as_str());
        let name = other_file_system(test, key).map(str::to_owned).or_else(|| other_variant(test, key))?;
        has_kernel_of(entry, other).then(|| row(&name, &results.commit, other))
    });
    older.into_iter().chain(others).filter(|control| control.status.is_judged()).collect()
}

fn row(control: &str, commit: &CommitId, entry: &TestEntry) -> ControlRow {
    let (name, status) = (entry.key.to_string(), entry.status());
    ControlRow { control: control.into(), commit: commit.clone(), name, status }
}

/// A kernel that was not recorded may be any.
fn has_kernel_of(entry: &TestEntry, other: &TestEntry) -> bool {
    match (&entry.decisive.kernel, &other.decisive.kernel) {
        (Some(kernel), Some(other)) => kernel == other,
        _ => true,
    }
}

/// The file system of a test that is the same test as another one on another file system: of `fs.xfs.basic.punch` for
/// `fs.ext4.basic.punch`.
fn other_file_system<'a>(test: &str, other: &'a str) -> Option<&'a str> {
    let (here, rest) = test.strip_prefix("fs.")?.split_once('.')?;
    let (name, same) = other.strip_prefix("fs.")?.split_once('.')?;
    (name != here && same == rest).then_some(name)
}

/// The variant of a test that is the same test as another one in another variant.
fn other_variant(test: &str, other: &str) -> Option<String> {
    let (here, other) = (KeyParts::of(test), KeyParts::of(other));
    (here.is_same_test(other) && here.configuration.differs_in_variant_only(other.configuration))
        .then(|| format!("variant {}", other.configuration.variant().unwrap_or("default")))
}

#[cfg(test)]
mod tests {
    use model::{Conditions, KernelId, Status};
    use results::Attempt;

    use super::*;

    fn commit(digit: char) -> CommitId {
        String::from(digit).repeat(40).parse().unwrap()
    }

    fn entry(key: &str, status: Status, kernel: Option<char>) -> TestEntry {
        let kernel = kernel.map(|digit| -> KernelId { String::from(digit).repeat(64).parse().unwrap() });
        let decisive = Attempt {
            number: 1,
            status,
            duration: std::time::Duration::from_secs(1),
            started: None,
            reason: None,
            crash: None,
            host: None,
            slot: None,
            kernel,
            image_hash: None,
            log_bytes: 0,
            full_log_bytes: 0,
            conditions: Conditions::default(),
            ran_at: None,
        };
        TestEntry { key: key.parse().unwrap(), decisive, others: Vec::new() }
    }

    fn results(digit: char, entries: Vec<TestEntry>) -> CommitResults {
        CommitResults { commit: commit(digit), message: String::new(), entries }
    }

    #[test]
    fn the_same_test_on_another_file_system() {
        let of = |other| other_file_system("fs.ext4.fstests@v=1k.generic.001", other);
        assert_eq!(of("fs.xfs.fstests@v=1k.generic.001"), Some("xfs"));
        for other in [
            "fs.ext4.fstests@v=1k.generic.001",
            "fs.xfs.fstests.generic.001",
            "fs.xfs.fstests@v=1k.generic.002",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(other_file_system("block.md.raid1", "fs.xfs.raid1"), None);
        assert_eq!(other_file_system("fs.xfs", "fs.ext4"), None);
    }

    #[test]
    fn the_same_test_in_another_variant() {
        let key = |env: &str| format!("fs.ext4.fstests{env}.generic.001");
        let variant = |name: &str| key(&format!("@ktest_xfstests_variant={name}"));
        assert_eq!(other_variant(&key(""), &variant("1k")), Some("variant 1k".into()));
        assert_eq!(other_variant(&variant("1k"), &key("")), Some("variant default".into()));
        assert_eq!(
            other_variant(&variant("1k"), &variant("bigalloc_1k")),
            Some("variant bigalloc_1k".into())
        );
        let among = key("@debian_trixie@A=1,ktest_xfstests_variant=1k,z=2");
        assert_eq!(other_variant(&key("@debian_trixie@A=1,z=2"), &among), Some("variant 1k".into()));
        let last = key("@A=1,ktest_xfstests_variant=1k");
        assert_eq!(other_variant(&key("@A=1"), &last), Some("variant 1k".into()));
        for other in [
            variant("1k"),
            among,
            last,
            variant("4k").replace("001", "002"),
            key("@xktest_xfstests_variant=4k"),
            variant("4k").replace("ext4", "xfs"),
            "@ktest_xfstests_variant=".into(),
            "ktest_xfstests_variant=4k".into(),
            String::new(),
        ] {
            assert_eq!(other_variant(&variant("1k"), &other), None, "{other}");
        }
    }

    #[test]
    fn a_failure_has_controls() {
        use Status::{Failed, NotRun, Passed};
        let here = results(
            'b',
            vec![
                entry("fs.btrfs.basic.punch", NotRun, Some('1')),
                entry("fs.ext4.basic.punch", Failed, Some('1')),
                entry("fs.ext4.basic.sync", Passed, Some('1')),
                entry("fs.ext4.basic@ktest_xfstests_variant=1k.punch", Passed, Some('1')),
                entry("fs.ext4.basic@ktest_xfstests_variant=4k.punch", Passed, Some('2')),
                entry("fs.f2fs.basic.punch", Passed, Some('2')),
                entry("fs.xfs.basic.punch", Failed, Some('1')),
            ],
        );
        let before = results('a', vec![entry("fs.ext4.basic.punch", Passed, Some('3'))]);
        let of = |key: &str, before: Option<&CommitResults>| {
            let found = controls(&here, before, here.get(&key.parse().unwrap()).unwrap());
            found.into_iter().map(|row| (row.control, row.commit, row.status)).collect::<Vec<_>>()
        };
        let xfs = ("xfs".to_string(), commit('b'), Failed);
        let small = ("variant 1k".to_string(), commit('b'), Passed);
        assert_eq!(
            of("fs.ext4.basic.punch", Some(&before)),
            [("before".to_string(), commit('a'), Passed), small.clone(), xfs.clone()]
        );
        assert_eq!(of("fs.ext4.basic.punch", None), [small, xfs]);
        assert_eq!(of("fs.ext4.basic.sync", Some(&before)), []);
    }
}
