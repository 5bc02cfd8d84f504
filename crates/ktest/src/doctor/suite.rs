//! Checks the requirements of a test suite: its source and what it is built with on the host, the programs of the root
//! image, and the options of a kernel.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use fsx::own;
use fsx::untrusted::Scratch;
use kernel::Cache;
use kernel::dotconfig::DotConfig;
use model::Arch;
use spawn::{Cmd, Limits};
use testfile::{HostEnv, TestFile};

use super::{Finding, Health, Need, check};
use crate::run::suites;

/// The directories of a root image that have its programs.
const PROGRAM_DIRS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
/// The maximum size of a kernel configuration, in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// A test suite that is not part of ktest-ci.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// xfstests.
    Xfstests,
    /// blktests.
    Blktests,
}

/// The name is not that of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the suites are xfstests and blktests")]
pub struct SuiteError;

impl FromStr for Suite {
    type Err = SuiteError;

    fn from_str(text: &str) -> Result<Self, SuiteError> {
        [Self::Xfstests, Self::Blktests].into_iter().find(|suite| suite.name() == text).ok_or(SuiteError)
    }
}

/// A program of the root image: its name, its package, and what does not work without it (`None`: nothing does).
type ImageProgram = (&'static str, &'static str, Option<&'static str>);

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Xfstests => "xfstests",
            Self::Blktests => "blktests",
        }
    }

    fn repository(self) -> &'static str {
        match self {
            Self::Xfstests => "https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git",
            Self::Blktests => "https://github.com/linux-blktests/blktests.git",
        }
    }

    /// What the suite is built with.
    fn build_needs(self) -> &'static [Need] {
        const XFSTESTS: &[Need] = &[
            Need::of(&["make", "--version"], "make"),
            Need::of(&["gcc", "--version"], "gcc"),
            Need::of(&["autoconf", "--version"], "autoconf"),
            Need::of(&["automake", "--version"], "automake"),
            Need::of(&["libtoolize", "--version"], "libtool"),
            Need::of(&["pkg-config", "--version"], "pkg-config"),
            Need::of(&["msgfmt", "--version"], "gettext"),
            Need::of(&["/usr/include/xfs/xfs.h"], "xfslibs-dev"),
            Need::of(&["/usr/include/uuid/uuid.h"], "uuid-dev"),
            Need::of(&["/usr/include/sys/acl.h"], "libacl1-dev"),
            Need::of(&["/usr/include/attr/attributes.h"], "libattr1-dev"),
            Need::or(&["/usr/include/libaio.h"], "libaio-dev", "cases with asynchronous I/O are not run"),
            Need::or(&["/usr/include/liburing.h"], "liburing-dev", "cases with io_uring are not run"),
            Need::or(&["/usr/include/gdbm.h"], "libgdbm-dev", "cases with dbtest are not run"),
            Need::or(&["/usr/include/sys/capability.h"], "libcap-dev", "cases with capabilities are not run"),
            Need::or(&["/usr/include/openssl/ssl.h"], "libssl-dev", "cases with fs-verity are not run"),
        ];
        const BLKTESTS: &[Need] = &[
            Need::of(&["make", "--version"], "make"),
            Need::of(&["gcc", "--version"], "gcc"),
            Need::of(&["g++", "--version"], "g++"),
            Need::or(&["/usr/include/liburing.h"], "liburing-dev", "cases with ublk are not run"),
        ];
        match self {
            Self::Xfstests => XFSTESTS,
            Self::Blktests => BLKTESTS,
        }
    }

    /// The programs that its cases start.
    fn image_programs(self) -> &'static [ImageProgram] {
        match self {
            Self::Xfstests => &[
                ("perl", "perl", None),
                ("bc", "bc", None),
                ("gawk", "gawk", None),
                ("xfs_io", "xfsprogs", None),
                ("udevadm", "udev", None),
                ("uuidgen", "uuid-runtime", Some("cases with UUIDs are not run")),
                ("setfattr", "attr", Some("cases with extended attributes are not run")),
                ("getfacl", "acl", Some("cases with ACLs are not run")),
                ("quota", "quota", Some("cases with quotas are not run")),
                ("lvm", "lvm2", Some("cases with LVM are not run")),
                ("fio", "fio", Some("cases with fio are not run")),
                ("dbench", "dbench", Some("cases with dbench are not run")),
                ("xfsdump", "xfsdump", Some("cases with xfsdump are not run")),
            ],
            Self::Blktests => &[
                ("gawk", "gawk", None),
                ("fio", "fio", None),
                ("udevadm", "udev", None),
                ("sfdisk", "fdisk", None),
                ("hexdump", "bsdextrautils", Some("cases that print bytes are not run")),
                ("parted", "parted", Some("cases with partitions are not run")),
                ("blktrace", "blktrace", Some("cases with blktrace are not run")),
            ],
        }
    }

    /// Its test files below a tree.
    fn test_files(self, tests_dir: &Path) -> Vec<PathBuf> {
        let tests = tests_dir.join("tests");
        let mut files: Vec<PathBuf> = match self {
            Self::Xfstests => {
                let dirs = own::list(&tests.join("fs")).unwrap_or_default();
                dirs.into_iter().map(|dir| dir.path.join("fstests.ktest")).collect()
            }
            Self::Blktests => vec![tests.join("block/blktests.ktest")],
        };
        files.retain(|file| file.is_file());
        files.sort();
        files
    }
}

/// What is checked in addition to the host.
#[derive(Debug, Clone)]
pub struct SuiteCheck {
    /// The suite.
    pub suite: Suite,
    /// The architecture of the guests.
    pub arch: Arch,
    /// The root image; `None` for the standard one.
    pub image: Option<PathBuf>,
    /// The configuration of a kernel.
    pub kernel_config: Option<PathBuf>,
    /// The tree with the test files in `tests/`.
    pub tests_dir: PathBuf,
}

/// Checks everything that a suite needs.
pub async fn examine(what: &SuiteCheck, cache: &Path) -> Vec<Finding> {
    let mut findings = vec![source(what.suite, cache)];
    for need in what.suite.build_needs() {
        findings.push(check(need).await);
    }
    findings.extend(image(what, cache).await);
    if let Some(config) = &what.kernel_config {
        findings.extend(options(what, config).await);
    }
    findings
}

fn ok(what: String, found: String) -> Finding {
    Finding { what, health: Health::Ok, found, remedy: String::new() }
}

fn missing(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), health: Health::Missing, found: found.into(), remedy: remedy.into() }
}

fn source(suite: Suite, cache: &Path) -> Finding {
    let name = suite.name();
    let deps_dir = Cache { dir: cache.into() }.clones(None);
    let dir = suites::source(name, &HostEnv { deps_dir, ..HostEnv::default() });
    let what = format!("source of {name}");
    if dir.join("check").is_file() && dir.join("tests").is_dir() {
        return ok(what, dir.display().to_string());
    }
    let remedy = format!("git clone {} {}", suite.repository(), dir.display());
    missing(what, format!("{}: no {name} in this directory", dir.display()), remedy)
}

async fn image(what: &SuiteCheck, cache: &Path) -> Vec<Finding> {
    let path = match &what.image {
        Some(path) => path.clone(),
        None => match vm::image::find(&vm::image::ImageSpec::standard(what.arch), cache).await {
            Some(image) => image.path,
            None => {
                let found = "it does not exist yet";
                return vec![missing(
                    "root image",
                    found,
                    "ktest image create, or name one with --image FILE",
                )];
            }
        },
    };
    match programs(&path).await {
        Ok(programs) => image_findings(what.suite, &programs),
        Err(reason) => vec![missing("root image", format!("{}: {reason}", path.display()), "")],
    }
}

/// The names of the programs of an ext4 image.
async fn programs(image: &Path) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for dir in PROGRAM_DIRS {
        let cmd = Cmd::new("debugfs").args(["-R", &format!("ls -p {dir}")]).arg(image);
        let cmd = cmd.env("PATH", debian::programs::search_path());
        let limits = Limits { time: Duration::from_secs(60), bytes: 16 << 20 };
        let output = cmd.output(limits).await.map_err(|error| error.to_string())?;
        names.extend(names_of(&output.text()));
    }
    if names.is_empty() { Err("no programs found; is it an ext4 image?".into()) } else { Ok(names) }
}

/// The names in the output of `ls -p`: `/INODE/MODE/UID/GID/NAME/SIZE/`.
fn names_of(listing: &str) -> impl Iterator<Item = String> {
    listing.lines().filter_map(|line| line.split('/').nth(5)).map(str::to_owned)
}

fn image_findings(suite: Suite, programs: &BTreeSet<String>) -> Vec<Finding> {
    let finding = |(program, package, lost): &ImageProgram| {
        let what = format!("{program} in the image");
        if programs.contains(*program) {
            return ok(what, "installed".into());
        }
        let (health, found) = match lost {
            Some(lost) => (Health::Weak, format!("not installed: {lost}")),
            None => (Health::Missing, "not installed".to_owned()),
        };
        Finding {
            what,
            health,
            found,
            remedy: format!("ktest image create -p {package}, or ktest run --package {package}"),
        }
    };
    suite.image_programs().iter().map(finding).collect()
}

/// Which options that the test files of the suite declare a kernel does not have.
async fn options(what: &SuiteCheck, config: &Path) -> Vec<Finding> {
    let text = match own::read_to_string(config, CONFIG_MAX) {
        Ok(text) => text,
        Err(error) => return vec![missing("kernel configuration", error.to_string(), "")],
    };
    let files = what.suite.test_files(&what.tests_dir);
    if files.is_empty() {
        let found = format!("{}: no test files of {}", what.tests_dir.display(), what.suite.name());
        return vec![missing("kernel options", found, "pass --tests-dir DIR, the tree of ktest-ci")];
    }
    let (config, mut findings) = (DotConfig::parse(&text), Vec::new());
    for file in files {
        let name = file.strip_prefix(&what.tests_dir).unwrap_or(&file).display().to_string();
        match declared(what, &file).await {
            Ok(asked) => findings.extend(option_findings(&name, &asked, &config)),
            Err(reason) => findings.push(missing(name, reason, "")),
        }
    }
    findings
}

/// The declarations of a test file. They depend on whether there is a source, so the file gets a stand-in, which is not built.
async fn declared(what: &SuiteCheck, file: &Path) -> Result<kernel::Requirements, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let scratch = Scratch::temporary().map_err(|error| text(&error))?;
    let source = scratch.path().join("source");
    for program in ["check", "ltp/fsstress", "src/feature", "src/loblksize", "tests/none"] {
        let path = source.join(program);
        own::create_dir_all(path.parent().unwrap_or(&source)).map_err(|error| text(&error))?;
        own::write(&path, "").map_err(|error| text(&error))?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|error| text(&error))?;
    }
    let variable = (format!("ktest_{}", what.suite.name()), source.display().to_string());
    let env = HostEnv {
        arch: Some(what.arch),
        out: scratch.path().join("out"),
        deps_dir: scratch.path().join("deps"),
        env: vec![variable],
        ..HostEnv::default()
    };
    let file = TestFile::find(file, Some(&what.tests_dir)).map_err(|error| text(&error))?;
    file.deps(&[], &env).await.map(|declared| declared.kernel.canonical()).map_err(|error| text(&error))
}

fn option_findings(name: &str, asked: &kernel::Requirements, config: &DotConfig) -> Vec<Finding> {
    let hard = kernel::check::missing_options(&asked.require, config);
    let soft = kernel::check::missing_options(&asked.require_soft, config);
    let what = format!("options of {name}");
    let remedy = "set them in the configuration of the kernel; a kernel that ktest builds has them";
    let mut findings = Vec::new();
    if !hard.is_empty() {
        findings.push(missing(what.clone(), format!("required: {}", hard.join(" ")), remedy));
    }
    if !soft.is_empty() {
        let found = format!("optional, cases may not be run: {}", soft.join(" "));
        findings.push(Finding { what: what.clone(), health: Health::Weak, found, remedy: remedy.into() });
    }
    if findings.is_empty() {
        findings.push(ok(what, "all".into()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
    }

    #[test]
    fn names() {
        assert_eq!(
            ["xfstests", "blktests"].map(|name| name.parse::<Suite>().unwrap().name()),
            ["xfstests", "blktests"]
        );
        assert_eq!("fstests".parse::<Suite>(), Err(SuiteError));
        let listing = "debugfs 1.47\n/12/040755/0/0/.//\n/99/100755/0/0/gawk/716/\n\n";
        assert_eq!(names_of(listing).collect::<Vec<_>>(), [".", "gawk"]);
    }

    #[test]
    fn a_missing_program_of_the_image_names_its_package() {
        let has = BTreeSet::from(["perl", "bc", "xfs_io", "fio"].map(str::to_owned));
        let findings = image_findings(Suite::Xfstests, &has);
        let of = |program: &str| {
            let what = format!("{program} in the image");
            let finding = findings.iter().find(|finding| finding.what == what).unwrap();
            (finding.health, finding.remedy.as_str())
        };
        assert_eq!(of("perl"), (Health::Ok, ""));
        assert_eq!(of("gawk"), (Health::Missing, "ktest image create -p gawk, or ktest run --package gawk"));
        assert_eq!(of("lvm").0, Health::Weak);
    }

    #[tokio::test]
    async fn the_programs_of_an_image_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("root/usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("gawk"), "").unwrap();
        let image = dir.path().join("image");
        let (size, root) = ("2M", dir.path().join("root"));
        let mke2fs = Cmd::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).args([&root, &image]).arg(size);
        let mke2fs = mke2fs.env("PATH", debian::programs::search_path());
        let made = mke2fs.output(Limits { time: Duration::from_secs(60), bytes: 1 << 20 }).await.unwrap();
        assert!(made.exit.success(), "{}", made.error_line());
        assert!(programs(&image).await.unwrap().contains("gawk"));
        assert!(programs(&dir.path().join("none")).await.is_err());
    }

    #[tokio::test]
    async fn the_options_that_test_files_declare_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        std::fs::write(&config, "CONFIG_MD=y\nCONFIG_BLK_DEV_LOOP=m\n").unwrap();
        let what = |suite, tests_dir: &Path| SuiteCheck {
            suite,
            arch: Arch::native().unwrap(),
            image: None,
            kernel_config: Some(config.clone()),
            tests_dir: tests_dir.into(),
        };
        for (suite, name) in
            [(Suite::Xfstests, "tests/fs/xfs/fstests.ktest"), (Suite::Blktests, "tests/block/blktests.ktest")]
        {
            let findings = options(&what(suite, &tree()), &config).await;
            let of_file: Vec<&Finding> =
                findings.iter().filter(|finding| finding.what == format!("options of {name}")).collect();
            assert_eq!(
                of_file.iter().map(|finding| finding.health).collect::<Vec<_>>(),
                [Health::Missing, Health::Weak],
                "{findings:?}"
            );
            assert!(
                !of_file
                    .iter()
                    .any(|finding| finding.found.contains(" MD=") || finding.found.contains("BLK_DEV_LOOP=")),
                "{of_file:?}"
            );
        }
        let none = options(&what(Suite::Xfstests, dir.path()), &config).await;
        assert!(none[0].remedy.contains("--tests-dir"), "{none:?}");
    }

    #[test]
    fn a_missing_source_names_the_clone() {
        let cache = tempfile::tempdir().unwrap();
        let finding = source(Suite::Blktests, cache.path());
        let deps = cache.path().join("deps/blktests");
        assert_eq!(
            finding.remedy,
            format!("git clone https://github.com/linux-blktests/blktests.git {}", deps.display())
        );
        std::fs::create_dir_all(deps.join("tests")).unwrap();
        std::fs::write(deps.join("check"), "").unwrap();
        assert_eq!(source(Suite::Blktests, cache.path()).health, Health::Ok);
    }
}
