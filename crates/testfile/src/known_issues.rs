//! Known failures: the files `known-issues.toml` next to test files, and in the directories above them up to `tests`.
//!
//! An entry names a test that is expected to fail, so that its failures are not reported as new ones. Everything but
//! [`KnownIssues::load`] and [`KnownIssues::load_all`] is pure: the date is an argument.

use std::path::{Path, PathBuf};

use fsx::own;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use model::known_failure::is_web_address;
use model::{KnownFailure, SubtestName, Verdict, matches_wildcard};
use serde::Deserialize;

use crate::TestFile;

/// The name of the files.
const FILE: &str = "known-issues.toml";
/// The maximum size of a file, in bytes.
const BYTES_MAX: u64 = 1 << 20;
/// The maximum depth of directories below `tests`.
const DEPTH_MAX: usize = 20;
/// The name of the variant of a test without one.
const DEFAULT_VARIANT: &str = "default";

/// Why a file of known failures cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownIssuesError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] fsx::Error),
    /// An entry is not valid.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// When an entry has no effect any longer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    /// From this kernel version on.
    Kernel(Vec<u32>),
    /// After this day.
    Day(Date),
}

impl std::str::FromStr for Until {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "until is a kernel version (6.14) or the last day (2027-01-31)";
        // The parser also accepts other forms of a date, and a time after it.
        if text.len() == "2027-01-31".len() && text.contains('-') {
            return text.parse().map(Self::Day).map_err(|_| EXPECTED);
        }
        let version =
            version(text).filter(|_| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
        version.map(Self::Kernel).ok_or(EXPECTED)
    }
}

/// The numbers at the start of a kernel version: of `6.12.0-rc1-x` those of 6.12.0.
fn version(text: &str) -> Option<Vec<u32>> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let numbers: Option<Vec<u32>> = text[..end].split('.').map(|part| part.parse().ok()).collect();
    // 6.12 and 6.12.0 are equal.
    let mut numbers = numbers?;
    while numbers.len() > 1 && numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

/// The version of a kernel source, from its Makefile.
#[must_use]
pub fn version_of_source(makefile: &str) -> Option<String> {
    kernel::kernel_version(makefile)
}

/// The oldest of kernel versions.
#[must_use]
pub fn oldest(versions: Vec<String>) -> Option<String> {
    versions.into_iter().min_by_key(|text| version(text))
}

/// The day of a time in Unix seconds, in UTC.
fn day_of(unix_seconds: i64) -> Until {
    let time = Timestamp::from_second(unix_seconds).unwrap_or_default();
    Until::Day(TimeZone::UTC.to_datetime(time).date())
}

/// The circumstances of a run.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The version of the kernel; empty if it is not known, which is older than any version.
    pub kernel_version: &'a str,
    /// The time, in Unix seconds.
    pub now: i64,
}

/// A verdict of a farm, which entries may be about.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The name of the test without its environment, as in results.
    pub test: &'a str,
    /// The variant of the test.
    pub variant: &'a str,
    /// The kernel and the environment, as in results: `@debian_trixie@ktest_arch=arm64`. Empty for the default.
    pub configuration: &'a str,
    /// All branches that have the commit, as `user/branch`.
    pub branches: &'a [&'a str],
    /// The crash title, if the kernel crashed.
    pub crash: Option<&'a str>,
    /// The version of the kernel; `None` if it is not known.
    pub kernel_version: Option<&'a str>,
    /// The time, in Unix seconds.
    pub now: i64,
}

/// One known failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownIssue {
    /// The name of the test without its environment, as in results: `fs.xfs.fstests.generic.475`. `*` matches any text.
    pub test: String,
    /// The variant of the test that fails; `None` for all.
    pub variant: Option<String>,
    /// Part of the kernel and the environment in results; `None` for all. Only for the verdicts of a farm.
    pub configuration: Option<String>,
    /// The branches, as `user/branch`; `None` for all. Only for the verdicts of a farm.
    pub branch: Option<String>,
    /// Part of the reason or of the crash title of the failure; `None` for any failure.
    pub failure: Option<String>,
    /// Why it fails, in one line.
    pub reason: String,
    /// The report of the failure.
    pub link: Option<String>,
    until: Option<(Until, String)>,
    /// The file and the line of the entry.
    pub place: String,
}

/// An entry as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIssue {
    test: String,
    variant: Option<String>,
    configuration: Option<String>,
    branch: Option<String>,
    failure: Option<String>,
    reason: String,
    link: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    issue: Vec<toml::Spanned<RawIssue>>,
}

impl KnownIssue {
    /// Why the entry has no effect, if so.
    #[must_use]
    pub fn expired(&self, at: Circumstances<'_>) -> Option<String> {
        let (until, text) = self.until.as_ref()?;
        let over = match until {
            Until::Day(..) => day_of(at.now) > *until,
            Until::Kernel(until) => version(at.kernel_version).is_some_and(|version| version >= *until),
        };
        over.then(|| format!("until = {text:?} is over"))
    }

    /// As the reason of a verdict contains it.
    #[must_use]
    pub fn known_failure(&self) -> KnownFailure {
        let until = self.until.as_ref().map(|(_, text)| text.clone());
        KnownFailure { reason: self.reason.clone(), link: self.link.clone(), until }
    }

    /// Whether it is about a test, given by its name without the environment, in a variant.
    #[must_use]
    pub fn is_about(&self, test: &str, variant: &str) -> bool {
        self.variant.as_ref().is_none_or(|wanted| wanted == variant) && matches_wildcard(&self.test, test)
    }

    /// Whether it is about a failure with this reason and crash title.
    #[must_use]
    pub fn is_failure(&self, reason: &str, crash: Option<&str>) -> bool {
        let wanted = self.failure.as_ref();
        wanted.is_none_or(|part| contains(part, reason) || crash.is_some_and(|title| contains(part, title)))
    }

    /// Whether it is about a failure of a test of a farm with this reason, if it has an effect at all. A commit of several
    /// branches is known to fail only if the entry is about all of them.
    #[must_use]
    pub fn is_about_verdict(&self, of: &Judged<'_>, reason: &str) -> bool {
        let on = |pattern: &String| of.branches.iter().all(|branch| matches_wildcard(pattern, branch));
        self.is_about(of.test, of.variant)
            && self.configuration.as_ref().is_none_or(|part| contains(part, of.configuration))
            && self.branch.as_ref().is_none_or(on)
            && self.is_failure(reason, of.crash)
    }

    /// Whether it is for runs outside of a farm as well.
    fn is_for_all_runs(&self) -> bool {
        self.branch.is_none() && self.configuration.is_none()
    }

    /// Whether the end of the entry depends on the version of the kernel.
    fn needs_version(&self) -> bool {
        matches!(self.until, Some((Until::Kernel(_), _)))
    }

    /// Whether the entry is of a file.
    fn is_of(&self, path: &Path) -> bool {
        let line = self.place.strip_prefix(&*path.to_string_lossy()).and_then(|rest| rest.strip_prefix(':'));
        line.is_some_and(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// Whether a text contains a pattern in which `*` stands for any text.
fn contains(pattern: &str, text: &str) -> bool {
    matches_wildcard(&format!("*{pattern}*"), text)
}

/// The variant that an environment selects: the value of a variable such as `ktest_xfstests_variant`.
#[must_use]
pub fn variant_of<'a>(env: impl IntoIterator<Item = (&'a str, &'a str)>) -> &'a str {
    let is_variant = |name: &str| name.starts_with("ktest_") && name.ends_with("_variant");
    let mut variants = env.into_iter().filter(|(name, value)| is_variant(name) && !value.is_empty());
    variants.next().map_or(DEFAULT_VARIANT, |(_, value)| value)
}

/// The known failures of some test files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownIssues(Vec<KnownIssue>);

impl KnownIssues {
    /// Those for a test file: in its directory and in those above it. Reads the disk.
    pub fn load(file: &TestFile) -> Result<Self, KnownIssuesError> {
        let tests = file.ktest_dir.join("tests");
        let dirs = file.path.ancestors().skip(1).take(DEPTH_MAX).take_while(|dir| dir.starts_with(&tests));
        let mut issues = Vec::new();
        for dir in dirs {
            issues.extend(read(&dir.join(FILE))?);
        }
        Ok(Self(issues))
    }

    /// All below a tree of test files, and the errors of the files that cannot be used. The entries of such a file are those
    /// in `last`. Reads the disk.
    #[must_use]
    pub fn load_all(ktest_dir: &Path, last: &Self) -> (Self, Vec<KnownIssuesError>) {
        let (mut issues, mut errors) = (Vec::new(), Vec::new());
        let mut dirs = vec![(ktest_dir.join("tests"), 0)];
        while let Some((dir, depth)) = dirs.pop() {
            let path = dir.join(FILE);
            match read(&path) {
                Ok(found) => issues.extend(found),
                Err(error) => {
                    issues.extend(last.iter().filter(|issue| issue.is_of(&path)).cloned());
                    errors.push(error);
                }
            }
            let entries = own::list(&dir).unwrap_or_default();
            let below = entries.into_iter().filter(|entry| entry.is_dir && depth < DEPTH_MAX);
            dirs.extend(below.map(|entry| (entry.path, depth + 1)));
        }
        issues.sort_by(|a: &KnownIssue, b| a.place.cmp(&b.place));
        (Self(issues), errors)
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &KnownIssue> {
        self.0.iter()
    }

    /// The entries that are in effect for a subtest of a file in a run outside of a farm.
    pub fn find(
        &self,
        file: &TestFile,
        subtest: &SubtestName,
        variant: &str,
        at: Circumstances<'_>,
    ) -> impl Iterator<Item = &KnownIssue> {
        let name = format!("{}.{}", file.test.dotted(), subtest.dotted());
        let is_about = move |issue: &&KnownIssue| issue.is_about(&name, variant);
        self.iter()
            .filter(|issue| issue.is_for_all_runs())
            .filter(is_about)
            .filter(move |issue| issue.expired(at).is_none())
    }

    /// The verdict that a verdict becomes: a failure becomes known, or a known failure is none any longer. `None` if it stays.
    #[must_use]
    pub fn judge(&self, of: &Judged<'_>, verdict: &Verdict) -> Option<Verdict> {
        let found = match verdict {
            Verdict::Failed { reason } => reason.as_str(),
            Verdict::NotRun { reason } => KnownFailure::found_in(reason)?,
            Verdict::Passed | Verdict::FailedToRun { .. } => return None,
        };
        for issue in self.iter().filter(|issue| issue.is_about_verdict(of, found)) {
            let kernel_version = match of.kernel_version {
                Some(version) => version,
                // It cannot be decided here; the run has decided.
                None if issue.needs_version() => return None,
                None => "",
            };
            if issue.expired(Circumstances { kernel_version, now: of.now }).is_none() {
                let known = Verdict::NotRun { reason: issue.known_failure().verdict_reason(found) };
                return (known != *verdict).then_some(known);
            }
        }
        let failed = Verdict::Failed { reason: found.into() };
        (failed != *verdict).then_some(failed)
    }

    /// Whether a verdict of an entry may depend on the version of the kernel.
    #[must_use]
    pub fn need_version(&self, test: &str) -> bool {
        self.iter().any(|issue| issue.needs_version() && matches_wildcard(&issue.test, test))
    }

    /// The entries with a last day that is over.
    pub fn over(&self, now: i64) -> impl Iterator<Item = String> {
        let at = Circumstances { kernel_version: "", now };
        self.iter()
            .filter_map(move |issue| Some(format!("{}: {}: {}", issue.place, issue.test, issue.expired(at)?)))
    }
}

/// The entries of a file; none if it does not exist.
fn read(path: &Path) -> Result<Vec<KnownIssue>, KnownIssuesError> {
    match own::read_to_string(path, BYTES_MAX) {
        Ok(text) => parse(path, &text),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<KnownIssue>, KnownIssuesError> {
    let line_at = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let invalid = |at: usize, message: &str| KnownIssuesError::Invalid {
        path: path.into(),
        line: line_at(at),
        message: message.into(),
    };
    let raw: RawFile = toml::from_str(text)
        .map_err(|error| invalid(error.span().map_or(0, |span| span.start), error.message()))?;
    let issue = |raw: toml::Spanned<RawIssue>| {
        let at = raw.span().start;
        let RawIssue { test, variant, configuration, branch, failure, reason, link, until } =
            raw.into_inner();
        let until = match until {
            Some(text) => Some((text.parse().map_err(|error| invalid(at, error))?, text)),
            None => None,
        };
        if test.is_empty() || reason.trim().is_empty() {
            return Err(invalid(at, "test and reason must not be empty"));
        }
        let empty = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if [&configuration, &branch, &failure].into_iter().any(empty) {
            return Err(invalid(at, "configuration, branch and failure must not be empty"));
        }
        if [Some(&reason), link.as_ref()].into_iter().flatten().any(|text| text.contains(['\n', '\r'])) {
            return Err(invalid(at, "reason and link are one line each"));
        }
        if link.as_deref().is_some_and(|link| !is_web_address(link)) {
            return Err(invalid(at, "link begins with https:// or http://, and has no spaces"));
        }
        let place = format!("{}:{}", path.display(), line_at(at));
        // As in results: `generic/475` is `generic.475`.
        let test = test.replace('/', ".");
        Ok(KnownIssue { test, variant, configuration, branch, failure, reason, link, until, place })
    };
    raw.issue.into_iter().map(issue).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const NOW: i64 = 1_796_000_000; // 2026-11-30
    const TEXT: &str = r#"
[[issue]]
test = "fs.xfs.fstests.generic/475"
variant = "1k"
reason = "the log is too small"
link = "https://bugs.example.org/7"
until = "6.14"

[[issue]]
test = "fs.xfs.fstests.xfs.*"
reason = "no realtime device"
until = "2026-11-30"
"#;

    fn at(kernel_version: &str, now: i64) -> Circumstances<'_> {
        Circumstances { kernel_version, now }
    }

    fn file(dir: &Path) -> TestFile {
        let (path, test) = (dir.join("tests/fs/xfs/fstests.ktest"), "fs/xfs/fstests".parse().unwrap());
        TestFile { path, ktest_dir: dir.into(), test }
    }

    #[test]
    fn an_entry_is_about_a_test_in_a_variant_until_it_expires() {
        let issues = KnownIssues(parse("k.toml".as_ref(), TEXT).unwrap());
        let file = file("/t".as_ref());
        let found = |subtest: &str, variant, at| {
            let found = issues.find(&file, &subtest.parse().unwrap(), variant, at).next();
            found.map(|issue| format!("{} at {}", issue.known_failure(), issue.place))
        };
        let log =
            Some("the log is too small (https://bugs.example.org/7, until 6.14) at k.toml:2".to_owned());
        assert_eq!(found("generic/475", "1k", at("6.12.9", NOW)), log);
        assert_eq!(found("generic/475", "1k", at("", NOW)), log, "an unknown version");
        assert_eq!(found("generic/475", "1k", at("6.13.99-rc1", NOW)), log);
        assert_eq!(found("generic/475", "default", at("6.12", NOW)), None);
        for later in ["6.14", "6.14.0-rc1", "6.14.1", "7.0"] {
            assert_eq!(found("generic/475", "1k", at(later, NOW)), None, "{later}");
        }
        let device = Some("no realtime device (until 2026-11-30) at k.toml:9".to_owned());
        assert_eq!(found("xfs/013", "quota", at("6.12", NOW)), device, "on the last day");
        assert_eq!(found("xfs/013", "quota", at("6.12", NOW + 86_400)), None);
        assert_eq!(found("generic/001", "quota", at("6.12", NOW)), None);
    }

    #[test]
    fn days_and_variants() {
        let days = [0, 951_782_399, 951_782_400, NOW, 4_107_542_399].map(day_of);
        let expected = [(1970, 1, 1), (2000, 2, 28), (2000, 2, 29), (2026, 11, 30), (2100, 2, 28)];
        assert_eq!(days, expected.map(|(year, month, day)| Until::Day(date(year, month, day))));
        assert_eq!(variant_of([("ktest_xfstests_groups", "quick")]), "default");
        assert_eq!(variant_of([("A", "b"), ("ktest_xfstests_variant", "1k")]), "1k");
    }

    #[test]
    fn invalid_entries_are_errors_with_their_line() {
        let error = |text: &str| parse("k.toml".as_ref(), text).unwrap_err().to_string();
        assert_eq!(error("\n[[issue]]\ntest = \"a\"\n"), "k.toml:2: missing field `reason`");
        let until = error("[[issue]]\ntest = \"a\"\nreason = \"b\"\nuntil = \"soon\"\n");
        assert_eq!(until, "k.toml:1: until is a kernel version (6.14) or the last day (2027-01-31)");
        for bad in
            ["2026-13-01", "2026-02-30", "2026-1-1", "2026-01-1T", "6.x", "", "v6.14", "6.14-rc1", "6..1"]
        {
            assert!(bad.parse::<Until>().is_err(), "{bad}");
        }
        assert!(error("[[issue]]\ntest = \"a\"\nreason = \"b\\nc\"\n").ends_with("are one line each"));
        assert!(error("[[issue]]\ntest = \"a\"\nreason = \" \"\n").ends_with("must not be empty"));
        for link in ["javascript:alert(1)", "bugs.example.org/7", "https://a b"] {
            let text = format!("[[issue]]\ntest = \"a\"\nreason = \"b\"\nlink = {link:?}\n");
            assert!(error(&text).ends_with("link begins with https:// or http://, and has no spaces"));
        }
        assert!(error("[[issues]]\n").contains("unknown field"));
    }

    #[test]
    fn the_files_of_a_directory_and_those_above_apply() {
        let temp = tempfile::tempdir().unwrap();
        let file = file(temp.path());
        let write = |below: &str, test: &str| {
            let path = temp.path().join(below);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("[[issue]]\ntest = {test:?}\nreason = \"x\"\n")).unwrap();
        };
        let names = |issues: &KnownIssues| issues.iter().map(|issue| issue.test.clone()).collect::<Vec<_>>();
        assert_eq!(KnownIssues::load(&file).unwrap(), KnownIssues::default());
        write("known-issues.toml", "above");
        write("tests/known-issues.toml", "all");
        write("tests/fs/xfs/known-issues.toml", "xfs");
        write("tests/fs/ext4/known-issues.toml", "ext4");
        assert_eq!(names(&KnownIssues::load(&file).unwrap()), ["xfs", "all"]);
        let (all, errors) = KnownIssues::load_all(temp.path(), &KnownIssues::default());
        assert_eq!((names(&all), errors.len()), (vec!["ext4".into(), "xfs".into(), "all".into()], 0));
        write("tests/fs/known-issues.toml", "fs");
        let (good, _) = KnownIssues::load_all(temp.path(), &all);
        std::fs::write(temp.path().join("tests/fs/known-issues.toml"), "issue = 1").unwrap();
        assert!(KnownIssues::load(&file).unwrap_err().to_string().contains("known-issues.toml:1: "));
        let (kept, errors) = KnownIssues::load_all(temp.path(), &good);
        assert_eq!((&kept, errors.len(), kept.iter().count()), (&good, 1, 4), "the last good entries stay");
        assert_eq!(KnownIssues::load_all(temp.path(), &all).0, all);
        std::fs::remove_file(temp.path().join("tests/fs/known-issues.toml")).unwrap();
        assert_eq!(KnownIssues::load_all(temp.path(), &kept).0, all);
    }

    const JUDGED: &str = r#"
[[issue]]
test = "fs.a.*"
branch = "me/next*"
configuration = "flavor=kasan"
failure = "use-after-free in *_write"
reason = "a bug"
link = "https://bugs.example.org/7"

[[issue]]
test = "fs.b.x"
reason = "over"
until = "2026-01-01"

[[issue]]
test = "fs.b.x"
reason = "old"
until = "6.12"
"#;

    fn failed(reason: &str) -> Verdict {
        Verdict::Failed { reason: reason.into() }
    }

    fn judged<'a>(test: &'a str, branches: &'a [&'a str]) -> Judged<'a> {
        Judged {
            test,
            variant: "default",
            configuration: "@ktest_flavor=kasan",
            branches,
            crash: None,
            kernel_version: Some("6.11"),
            now: NOW,
        }
    }

    #[test]
    fn a_failure_is_known_if_each_condition_is_met() {
        let issues = KnownIssues(parse("k.toml".as_ref(), JUDGED).unwrap());
        let of = judged("fs.a.x", &["me/next"]);
        let found = "KASAN: use-after-free in ext4_write";
        let known = issues.judge(&of, &failed(found)).unwrap();
        let reason = format!("known failure: a bug (https://bugs.example.org/7); it failed: {found}");
        assert_eq!(known, Verdict::NotRun { reason });
        assert_eq!(issues.judge(&of, &known), None, "it stays known");
        let crash = Judged { crash: Some("use-after-free in xfs_write"), ..of };
        assert!(issues.judge(&crash, &failed("the kernel crashed")).is_some());
        for (why, of, found) in [
            ("another failure", of, "1 != 2"),
            ("another configuration", Judged { configuration: "", ..of }, found),
            ("another branch", Judged { branches: &["me/main"], ..of }, found),
            ("a commit of another branch as well", Judged { branches: &["me/next", "me/main"], ..of }, found),
            ("another test", Judged { test: "fs.b.y", ..of }, found),
        ] {
            assert_eq!(issues.judge(&of, &failed(found)), None, "{why}");
            let was =
                Verdict::NotRun { reason: KnownFailure::verdict_reason(&issues.0[0].known_failure(), found) };
            assert_eq!(issues.judge(&of, &was), Some(failed(found)), "{why}: no longer known");
        }
        for other in [Verdict::Passed, Verdict::NotRun { reason: "no disk".into() }] {
            assert_eq!(issues.judge(&of, &other), None);
        }
    }

    #[test]
    fn an_entry_that_is_over_is_skipped_and_an_unknown_version_decides_nothing() {
        let issues = KnownIssues(parse("k.toml".as_ref(), JUDGED).unwrap());
        let at = |version| Judged { kernel_version: version, ..judged("fs.b.x", &["me/next"]) };
        let reason =
            |verdict: Option<Verdict>| verdict.and_then(|verdict| verdict.reason().map(str::to_owned));
        let old = reason(issues.judge(&at(Some("6.11")), &failed("1"))).unwrap();
        assert_eq!(old, "known failure: old (until 6.12); it failed: 1");
        let known = Verdict::NotRun { reason: old };
        assert_eq!(issues.judge(&at(Some("6.12")), &known), Some(failed("1")));
        assert_eq!(issues.judge(&at(Some("6.12")), &failed("1")), None);
        for verdict in [&known, &failed("1")] {
            assert_eq!(issues.judge(&at(None), verdict), None);
        }
        assert!(issues.need_version("fs.b.x") && !issues.need_version("fs.a.x"));
        assert_eq!(
            issues.over(NOW).collect::<Vec<_>>(),
            ["k.toml:10: fs.b.x: until = \"2026-01-01\" is over"]
        );
        for part in ["branch", "failure", "configuration"] {
            let text = format!("[[issue]]\ntest = \"a\"\nreason = \"b\"\n{part} = \" \"\n");
            let error = parse("k.toml".as_ref(), &text).unwrap_err().to_string();
            assert_eq!(error, "k.toml:1: configuration, branch and failure must not be empty");
        }
    }
}
