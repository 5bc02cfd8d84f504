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
use crate::{Arch, ByteSize, PackageRepo, TrustDomain};

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
        let TestOrder {
            kernel_repos, commit, tests_dir, tolerate, arch, image, packages, env, network, ..
        } = self.test.clone();
        let test = TestOrder {
            kernel,
            kernel_repos,
            commit,
            tests_dir: tests_dir.as_ref().map(absolute),
            tolerate,
            arch,
            image: image.as_ref().map(RootImage::absolute),
            packages,
            env,
            network,
            ..TestOrder::of(file, [subtest])
        };
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
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        order: RunOrder,
    }

    fn parse(argv: Vec<OsString>) -> Result<RunOrder, clap::Error> {
        Line::try_parse_from(std::iter::once("run".into()).chain(argv)).map(|line| line.order)
    }

    fn word() -> impl Strategy<Value = String> {
        "[-=a-zA-Z0-9 $'\"/.]{0,11}[a-z/]"
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        word().prop_map(PathBuf::from)
    }

    prop_compose! {
        fn test_order()(
            tests in prop::collection::vec(word(), 1..4),
            kernel in word(), commit in prop::option::of(word()), tests_dir in prop::option::of(path()),
            out in path(), tolerate in prop::collection::vec(word(), 0..3), merge in prop::collection::vec(path(), 0..3),
            arch in prop::option::of(prop::sample::select(Arch::ALL.to_vec())),
            image in prop::option::of(prop_oneof![Just("standard".into()), Just("full".into()), word()]),
            packages in prop::collection::vec("[a-z][a-z0-9+.-]{1,8}", 0..3),
            env in prop::collection::vec("[A-Z]{1,4}=[a-z0-9-]{0,5}", 0..3),
            repos in prop::collection::vec("[a-c][a-z]{1,3},format=(apt|pacman),url=https://[a-z/.]{1,9}x", 0..2),
            trust_domain in prop::option::of("user/[a-z]{1,5}"), verify_builds in 0..100_u32, network in any::<bool>(),
        ) -> TestOrder {
            let image = image.map(|text: String| RootImage::from(OsString::from(text)));
            let packages = packages.iter().map(|name| name.parse().unwrap()).collect();
            let env = env.iter().map(|pair| pair.parse().unwrap()).collect();
            let kernel_repos = repos.iter().map(|repo| repo.parse().unwrap()).collect();
            let trust_domain = trust_domain.map(|name| name.parse().unwrap());
            TestOrder {
                tests, kernel, kernel_repos, commit, tests_dir, out, tolerate, merge, arch, image, packages, env, network,
                trust_domain, verify_builds,
            }
        }
    }

    prop_compose! {
        /// Mutually exclusive options are never both set.
        fn run_order()(
            test in test_order(), deps_dir in prop::option::of(path()),
            accel in prop::sample::select(vec![AccelChoice::Auto, AccelChoice::Kvm, AccelChoice::Tcg]),
            jobs in prop::option::of(0..100_usize), rounds in prop::option::of(0..100_u32),
            sizes in (0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40), junit in prop::option::of(path()),
            flags in any::<[bool; 10]>(),
            make_arg in prop::collection::vec(word(), 0..3), priority in prop::option::of(0..9_u32),
        ) -> RunOrder {
            let [failfast, interactive, success, no_sandbox, events, json, log, ask, dry_run, verbose] = flags;
            let interactive = interactive && !events;
            RunOrder {
                test, deps_dir, accel, jobs, failfast, interactive,
                exit_on_success: success && interactive,
                rounds: rounds.filter(|_| !events && !interactive),
                keep_devices: ByteSize(sizes.0), max_output: ByteSize(sizes.1), keep_core: ByteSize(sizes.2), no_sandbox, events,
                make_arg, priority, verbose,
                json: json && !events, junit, log_events: log && events, ask_kernel: ask && events, dry_run,
            }
        }
    }

    proptest! {
        #[test]
        fn a_printed_order_parses_to_itself(order in run_order()) {
            let argv = order.to_argv();
            prop_assert_eq!(parse(argv.clone()).map_err(|error| error.to_string()), Ok(order), "{:?}", argv);
        }
    }

    #[test]
    fn a_reproduction_is_complete() {
        let words = "--events --image /i.ext4 --accel tcg -k x --commit abc --arch arm64 --env A=b --merge m.ktest \
                     --tolerate RUST --deps-dir /d a.ktest one two";
        let order = parse(words.split_whitespace().map(OsString::from).collect()).unwrap();
        let again = order.reproduction("/t/a.ktest".as_ref(), &"two".parse().unwrap(), "/linux".into());
        let argv: Vec<_> = again.to_argv().into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(
            argv.join(" "),
            "--deps-dir /d --accel tcg -k /linux --commit abc --tolerate RUST --arch aarch64 --image /i.ext4 \
             --env A=b /t/a.ktest two"
        );
    }

    /// An image that ktest makes exists on every machine, a file does not.
    #[test]
    fn a_reproduction_elsewhere_has_no_paths() {
        for (given, kept) in [("full", Some("full")), ("/i.ext4", None)] {
            let words = ["--image", given, "-k", "debian/trixie", "a.ktest"];
            let order = parse(words.map(OsString::from).into()).unwrap();
            let again = order.reproduction_elsewhere("a.ktest".as_ref(), &"one".parse().unwrap());
            assert_eq!(again.test.image.as_ref().map(RootImage::as_os_str), kept.map(OsStr::new));
        }
    }

    #[test]
    fn contradicting_options_are_refused() {
        for words in ["-I --events a", "--json --events a", "--log-events a", "-S a", "--env x a"] {
            assert!(parse(words.split_whitespace().map(OsString::from).collect()).is_err(), "{words}");
        }
    }
}
