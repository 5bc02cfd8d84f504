//! The command line of `ktest run`, as one type that both parses and prints it.
//!
//! Invariant: parsing the output of `to_argv` gives an equal value. No other code spells these options.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::image::RootImage;
use crate::names::{Env, NameError, PackageName, SubtestName};
use crate::{Arch, ByteSize, PackageRepo, SuiteOrder, TrustDomain};

/// The beginning of the note in the log of a subtest with the command that repeats it: `to run it again: COMMAND`.
pub const AGAIN: &str = "to run it again";
/// The output directory if `--out` is not given.
pub const DEFAULT_OUT: &str = "ktest-out";
/// The kernel if `-k` is not given: the current directory.
pub const DEFAULT_KERNEL: &str = ".";
/// The size limit of the devices of a failed subtest that are saved if `--keep-devices` is not given.
pub const DEFAULT_KEEP_DEVICES: ByteSize = ByteSize(512 << 20);
/// The size limit of the core of a guest that crashed if `--keep-core` is not given.
pub const DEFAULT_KEEP_CORE: ByteSize = ByteSize(256 << 20);
/// The limit on what a guest may write into its output directory if `--max-output` is not given.
pub const DEFAULT_MAX_OUTPUT: ByteSize = ByteSize(4 << 30);

/// The declaration that the guest can reach other networks. In the environment, it is the default of the test file.
pub const NETWORK_VARIABLE: &str = "ktest_network";

/// How the guest is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccelChoice {
    /// KVM if guests run under it on this host, else TCG.
    #[default]
    Auto,
    /// KVM only.
    Kvm,
    /// TCG only.
    Tcg,
}

/// (choice, its name).
const ACCELERATORS: [(AccelChoice, &str); 3] =
    [(AccelChoice::Auto, "auto"), (AccelChoice::Kvm, "kvm"), (AccelChoice::Tcg, "tcg")];

impl fmt::Display for AccelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ACCELERATORS[*self as usize].1)
    }
}

impl FromStr for AccelChoice {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = ACCELERATORS.iter().find(|(_, name)| *name == text);
        found
            .map(|(choice, _)| *choice)
            .ok_or_else(|| crate::names::bad("an accelerator", text, "use auto, kvm or tcg"))
    }
}

/// A variable of the test file's environment, with the restrictions of [`Env`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    name: String,
    value: String,
}

impl EnvVar {
    /// The name and the value.
    #[must_use]
    pub fn into_pair(self) -> (String, String) {
        (self.name, self.value)
    }
}

impl fmt::Display for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl FromStr for EnvVar {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(crate::names::bad("a variable", text, "write NAME=VALUE"));
        };
        let (name, value) = (name.to_owned(), value.to_owned());
        Env::try_from(BTreeMap::from([(name.clone(), value.clone())]))?;
        Ok(Self { name, value })
    }
}

impl Env {
    /// The variables, in the order of their names.
    #[must_use]
    pub fn vars(&self) -> Vec<EnvVar> {
        self.iter().map(|(name, value)| EnvVar { name: name.into(), value: value.into() }).collect()
    }
}

/// What to test: the arguments that `ktest run`, `ktest host run` and `ktest host slurm` have in common.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TestOrder {
    /// A test file, followed by the subtests to run [default: all]. More files can follow in the same way; each name
    /// must end in .ktest.
    #[arg(value_name = "FILE.ktest [SUBTEST]", required = true)]
    pub tests: Vec<String>,
    /// The kernel: a source tree, or a repository with --commit, or a directory with vmlinuz, or a kernel of the store by
    /// name (debian/trixie: fetched if it is missing) or id.
    #[arg(
        short = 'k',
        long,
        visible_alias = "kernel-source",
        value_name = "DIR|NAME|ID",
        default_value = DEFAULT_KERNEL
    )]
    pub kernel: String,
    /// Fetch the kernels NAME/SUITE from this package repository (docs/kernels.md; repeatable).
    #[arg(long = "kernel-repo", value_name = "NAME,format=FORMAT,url=URL")]
    pub kernel_repos: Vec<PackageRepo>,
    /// Build this commit instead of the work tree.
    #[arg(long, value_name = "COMMIT")]
    pub commit: Option<String>,
    /// Root of the test tree [default: found from the file's path].
    #[arg(long, value_name = "DIR")]
    pub tests_dir: Option<PathBuf>,
    /// Directory for logs and verdicts.
    #[arg(short, long, value_name = "DIR", default_value = DEFAULT_OUT)]
    pub out: PathBuf,
    /// Continue even if this kernel option cannot get its required value (repeatable).
    #[arg(long, value_name = "OPTION")]
    pub tolerate: Vec<String>,
    /// Share one kernel with this test file if their requirements do not contradict each other (repeatable).
    #[arg(long, value_name = "FILE.ktest")]
    pub merge: Vec<PathBuf>,
    /// The guest's architecture if the test file does not declare one [default: the host's].
    #[arg(short, long)]
    pub arch: Option<Arch>,
    /// Root image: standard, full (with compilers, Rust and DKMS), or a file [default: standard]. The first two are built
    /// if they are missing.
    #[arg(long, value_name = "NAME|FILE")]
    pub image: Option<RootImage>,
    /// Install this package in the root image, in addition to its own (repeatable).
    #[arg(long = "package", value_name = "NAME")]
    pub packages: Vec<PackageName>,
    /// Set a variable in the test file's environment (repeatable).
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<EnvVar>,
    /// Use this commit of a local repository as the source of a test suite (repeatable).
    #[arg(long = "suite", value_name = "NAME=COMMIT@REPO")]
    pub suites: Vec<SuiteOrder>,
    /// Let the guest reach the networks of this host [default: only if the test file declares it].
    #[arg(long)]
    pub network: bool,
    /// Share objects, the compiler cache and kernels only with runs of this trust domain.
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// Rebuild one kernel in N from scratch and compare the images; 0: none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub verify_builds: u32,
}

impl TestOrder {
    /// The order for one test file with default options.
    #[must_use]
    pub fn new(file: impl Into<String>) -> Self {
        Self {
            tests: vec![file.into()],
            kernel: DEFAULT_KERNEL.into(),
            kernel_repos: Vec::new(),
            commit: None,
            tests_dir: None,
            out: DEFAULT_OUT.into(),
            tolerate: Vec::new(),
            merge: Vec::new(),
            arch: None,
            image: None,
            packages: Vec::new(),
            env: Vec::new(),
            suites: Vec::new(),
            network: false,
            trust_domain: None,
            verify_builds: 0,
        }
    }

    /// The order for these subtests of a file.
    #[must_use]
    pub fn of<'a>(file: &Path, subtests: impl IntoIterator<Item = &'a SubtestName>) -> Self {
        let mut order = Self::new(file.to_string_lossy());
        order.tests.extend(subtests.into_iter().map(ToString::to_string));
        order
    }

    /// The arguments, without program and subcommand. Options with their default value are left out.
    #[must_use]
    pub fn to_argv(&self) -> Vec<OsString> {
        let mut argv = Argv::default();
        self.options(&mut argv);
        argv.positional(&self.tests);
        argv.0
    }

    /// The variables of the test file's environment: those that the user or the test group sets, and those that other
    /// options stand for.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let network = self.network.then(|| (NETWORK_VARIABLE.to_owned(), "true".to_owned()));
        self.env.iter().cloned().map(EnvVar::into_pair).chain(network)
    }

    /// The same variables as an environment.
    #[must_use]
    pub fn environment(&self) -> Env {
        Env::try_from(self.variables().collect::<BTreeMap<_, _>>()).expect("each variable was validated")
    }

    fn options(&self, argv: &mut Argv) {
        if self.kernel != DEFAULT_KERNEL {
            argv.value("-k", "--kernel", &self.kernel);
        }
        argv.displayed("--kernel-repo", &self.kernel_repos);
        argv.values("--commit", &self.commit);
        argv.values("--tests-dir", &self.tests_dir);
        if self.out != Path::new(DEFAULT_OUT) {
            argv.value("--out", "--out", &self.out);
        }
        argv.values("--tolerate", &self.tolerate);
        argv.values("--merge", &self.merge);
        argv.displayed("--arch", self.arch);
        argv.values("--image", self.image.as_ref().map(RootImage::as_os_str));
        argv.displayed("--package", &self.packages);
        argv.displayed("--env", &self.env);
        argv.displayed("--suite", &self.suites);
        if self.network {
            argv.flag("--network");
        }
        argv.displayed("--trust-domain", &self.trust_domain);
        argv.displayed("--verify-builds", Some(self.verify_builds).filter(|every| *every > 0));
    }
}

/// The arguments of `ktest run`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunOrder {
    /// What to test.
    #[command(flatten)]
    pub test: TestOrder,
    /// Directory for `require-git` clones [default: deps in the cache directory].
    #[arg(long, value_name = "DIR")]
    pub deps_dir: Option<PathBuf>,
    /// Execute the guest with: auto (KVM if it works on this host), kvm or tcg.
    #[arg(long, default_value_t)]
    pub accel: AccelChoice,
    /// Compile with N jobs [default: one per processor].
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Stop after the first failure.
    #[arg(short = 'F', long)]
    pub failfast: bool,
    /// Interactive: no timeouts, console on this terminal, guest shell after the tests. After a panic the VM stays
    /// up for `ktest gdb`.
    #[arg(short = 'I', long, conflicts_with_all = ["events", "rounds"])]
    pub interactive: bool,
    /// With -I: end the VM if everything passed.
    #[arg(short = 'S', long, requires = "interactive")]
    pub exit_on_success: bool,
    /// Repeat the subtests until one fails, at most N times; each round boots a new VM.
    #[arg(short = 'L', long = "loop", value_name = "N", num_args = 0..=1, require_equals = true,
        default_missing_value = "0", conflicts_with = "events")]
    pub rounds: Option<u32>,
    /// Save the devices of a failed subtest if they hold at most SIZE (512M, 2G; 0 saves none). With --events, none are saved.
    #[arg(long, value_name = "SIZE", default_value_t = DEFAULT_KEEP_DEVICES)]
    pub keep_devices: ByteSize,
    /// Save the memory of a guest that panics or hangs as a core of at most SIZE (256M, 1G; 0 saves none); `ktest core`
    /// opens it.
    #[arg(long, value_name = "SIZE", default_value_t = DEFAULT_KEEP_CORE)]
    pub keep_core: ByteSize,
    /// End a guest that writes more than SIZE into the output directory (512M, 2G).
    #[arg(long, value_name = "SIZE", default_value_t = DEFAULT_MAX_OUTPUT)]
    pub max_output: ByteSize,
    /// Add this argument to the make of the kernel (repeatable).
    #[arg(short = 'M', long, value_name = "ARG", allow_hyphen_values = true)]
    pub make_arg: Vec<String>,
    /// Set ktest_priority: how long tests with a configurable duration run; a higher number is longer [default: 0].
    #[arg(short, long, value_name = "N")]
    pub priority: Option<u32>,
    /// Let the test file's library print more (ktest_verbose).
    #[arg(short, long)]
    pub verbose: bool,
    /// Build without bubblewrap. The source's Makefile can then use the network and read your files.
    #[arg(long)]
    pub no_sandbox: bool,
    /// Print events as JSON lines on standard output (docs/events.md).
    #[arg(long)]
    pub events: bool,
    /// Print the result as one JSON document on standard output at the end (docs/reports.md).
    #[arg(long, conflicts_with = "events")]
    pub json: bool,
    /// Write a JUnit XML report to FILE.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// With --events: include console lines.
    #[arg(long, requires = "events")]
    pub log_events: bool,
    /// With --events: before building a kernel, print its name and wait for a line on standard input.
    #[arg(long, requires = "events")]
    pub ask_kernel: bool,
    /// Print the QEMU command instead of running it. The kernel is still built.
    #[arg(long)]
    pub dry_run: bool,
}

impl From<TestOrder> for RunOrder {
    /// All other options have their defaults.
    fn from(test: TestOrder) -> Self {
        Self {
            test,
            deps_dir: None,
            accel: AccelChoice::Auto,
            jobs: None,
            failfast: false,
            interactive: false,
            exit_on_success: false,
            rounds: None,
            keep_devices: DEFAULT_KEEP_DEVICES,
            keep_core: DEFAULT_KEEP_CORE,
            max_output: DEFAULT_MAX_OUTPUT,
            make_arg: Vec::new(),
            priority: None,
            verbose: false,
            no_sandbox: false,
            events: false,
            json: false,
            junit: None,
            log_events: false,
            ask_kernel: false,
            dry_run: false,
        }
    }
}

impl RunOrder {
    /// The variables of the test file's environment.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let verbose = self.verbose.then(|| ("ktest_verbose".into(), "true".into()));
        let priority = self.priority.map(|priority| ("ktest_priority".into(), priority.to_string()));
        self.test.variables().chain(verbose).chain(priority)
    }

    /// The arguments after `ktest run`. Options with their default value are left out.
    #[must_use]
    pub fn to_argv(&self) -> Vec<OsString> {
        let mut argv = Argv::default();
        for (name, set) in [
            ("--events", self.events),
            ("--log-events", self.log_events),
            ("--ask-kernel", self.ask_kernel),
            ("--json", self.json),
            ("--failfast", self.failfast),
            ("--interactive", self.interactive),
            ("--exit-on-success", self.exit_on_success),
            ("--verbose", self.verbose),
            ("--no-sandbox", self.no_sandbox),
            ("--dry-run", self.dry_run),
        ] {
            if set {
                argv.flag(name);
            }
        }
        argv.values("--junit", &self.junit);
        argv.values("--deps-dir", &self.deps_dir);
        if self.accel != AccelChoice::Auto {
            argv.displayed("--accel", [self.accel]);
        }
        argv.displayed("--jobs", self.jobs);
        argv.displayed("--priority", self.priority);
        argv.values("--make-arg", &self.make_arg);
        if let Some(rounds) = self.rounds {
            argv.flag(format!("--loop={rounds}"));
        }
        for (name, size, default) in [
            ("--keep-devices", self.keep_devices, DEFAULT_KEEP_DEVICES),
            ("--keep-core", self.keep_core, DEFAULT_KEEP_CORE),
            ("--max-output", self.max_output, DEFAULT_MAX_OUTPUT),
        ] {
            if size != default {
                argv.displayed(name, [size]);
            }
        }
        self.test.options(&mut argv);
        argv.positional(&self.test.tests);
        argv.0
    }

    /// The order that repeats one subtest in the same way, from any directory: `file` and `kernel` are absolute.
    ///
    /// `--merge` is left out: a farm merges all its test files, and the options that the others add rarely matter.
    #[must_use]
    pub fn reproduction(&self, file: &Path, subtest: &SubtestName, kernel: String) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let TestOrder { tests, out, merge, trust_domain, verify_builds, .. } = TestOrder::of(file, [subtest]);
        let given = self.test.clone();
        let tests_dir = given.tests_dir.as_ref().map(absolute);
        let image = given.image.as_ref().map(RootImage::absolute);
        let test =
            TestOrder { tests, out, merge, trust_domain, verify_builds, kernel, tests_dir, image, ..given };
        Self {
            deps_dir: self.deps_dir.as_ref().map(absolute),
            accel: self.accel,
            make_arg: self.make_arg.clone(),
            priority: self.priority,
            no_sandbox: self.no_sandbox,
            ..Self::from(test)
        }
    }

    /// The order that repeats one subtest on another machine, in a clone of the kernel repository. It contains no path
    /// of this machine; `file` is relative to the directory of the tests.
    #[must_use]
    pub fn reproduction_elsewhere(&self, file: &Path, subtest: &SubtestName) -> Self {
        let TestOrder { kernel, kernel_repos, commit, tolerate, arch, image, packages, env, network, .. } =
            self.test.clone();
        // Without a commit, the kernel is one of the store, by name.
        let kernel = if commit.is_some() { DEFAULT_KERNEL.into() } else { kernel };
        Self::from(TestOrder {
            kernel,
            kernel_repos,
            commit,
            tolerate,
            arch,
            image: image.as_ref().and_then(RootImage::shipped).map(RootImage::Shipped),
            packages,
            env,
            network,
            ..TestOrder::of(file, [subtest])
        })
    }
}

/// An argv list under construction. A value that starts with `-` is attached to its option.
#[derive(Default)]
struct Argv(Vec<OsString>);

impl Argv {
    fn flag(&mut self, flag: impl Into<OsString>) {
        self.0.push(flag.into());
    }

    fn value(&mut self, name: &str, long: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref();
        if value.as_encoded_bytes().starts_with(b"-") {
            let mut word = OsString::from(long);
            word.push("=");
            word.push(value);
            self.0.push(word);
        } else {
            self.0.extend([name.into(), value.into()]);
        }
    }

    fn values<T: AsRef<OsStr>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.value(name, name, value);
        }
    }

    fn displayed<T: fmt::Display>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.value(name, name, value.to_string());
        }
    }

    fn positional(&mut self, words: &[String]) {
        if words.iter().any(|word| word.starts_with('-')) {
            self.flag("--");
        }
        self.0.extend(words.iter().map(OsString::from));
    }
}

#[cfg(test)]
mod tests;
