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
use model::{KnownFailure, SubtestName, matches_wildcard};
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

/// One known failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownIssue {
    /// The name of the test without its environment, as in results: `fs.xfs.fstests.generic.475`. `*` matches any text.
    pub test: String,
    /// The variant of the test that fails; `None` for all.
    pub variant: Option<String>,
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

    /// All below a tree of test files, and the errors of the files that cannot be used. Reads the disk.
    #[must_use]
    pub fn load_all(ktest_dir: &Path) -> (Self, Vec<KnownIssuesError>) {
        let (mut issues, mut errors) = (Vec::new(), Vec::new());
        let mut dirs = vec![(ktest_dir.join("tests"), 0)];
        while let Some((dir, depth)) = dirs.pop() {
            match read(&dir.join(FILE)) {
                Ok(found) => issues.extend(found),
                Err(error) => errors.push(error),
            }
            let entries = own::list(&dir).unwrap_or_default();
            let below = entries.into_iter().filter(|entry| entry.is_dir && depth < DEPTH_MAX);
            dirs.extend(below.map(|entry| (entry.path, depth + 1)));
        }
        issues.sort_by(|a: &KnownIssue, b| a.place.cmp(&b.place));
        (Self(issues), errors)
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &KnownIssue> {
        self.0.iter()
    }

    /// The entry that is in effect for a subtest of a file.
    #[must_use]
    pub fn find(
        &self,
        file: &TestFile,
        subtest: &SubtestName,
        variant: &str,
        at: Circumstances<'_>,
    ) -> Option<&KnownIssue> {
        let name = format!("{}.{}", file.test.dotted(), subtest.dotted());
        self.iter().find(|issue| issue.is_about(&name, variant) && issue.expired(at).is_none())
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
        let RawIssue { test, variant, reason, link, until } = raw.into_inner();
        let until = match until {
            Some(text) => Some((text.parse().map_err(|error| invalid(at, error))?, text)),
            None => None,
        };
        if test.is_empty() || reason.trim().is_empty() {
            return Err(invalid(at, "test and reason must not be empty"));
        }
        if [Some(&reason), link.as_ref()].into_iter().flatten().any(|text| text.contains(['\n', '\r'])) {
            return Err(invalid(at, "reason and link are one line each"));
        }
        if link.as_deref().is_some_and(|link| !is_web_address(link)) {
            return Err(invalid(at, "link begins with https:// or http://, and has no spaces"));
        }
        let place = format!("{}:{}", path.display(), line_at(at));
        // As in results: `generic/475` is `generic.475`.
        Ok(KnownIssue { test: test.replace('/', "."), variant, reason, link, until, place })
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
            let found = issues.find(&file, &subtest.parse().unwrap(), variant, at);
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
        let (all, errors) = KnownIssues::load_all(temp.path());
        assert_eq!((names(&all), errors.len()), (vec!["ext4".into(), "xfs".into(), "all".into()], 0));
        std::fs::write(temp.path().join("tests/fs/known-issues.toml"), "issue = 1").unwrap();
        assert!(KnownIssues::load(&file).unwrap_err().to_string().contains("known-issues.toml:1: "));
        assert_eq!(KnownIssues::load_all(temp.path()).1.len(), 1);
    }
}
