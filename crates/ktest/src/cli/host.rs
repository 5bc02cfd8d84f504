//! `ktest host`: runs tests on other machines, checks them and sets them up.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hosts::frame::RemoteOrder;
use hosts::kernels::Kernels;
use hosts::link::Link;
use hosts::run::{Output, RemoteJob};
use hosts::serve::ServeOptions;
use hosts::target::SshTarget;
use model::{Arch, EVENT_VERSION, Event, HostName, KernelId, ShippedImage, Stamped, StoreKernel, TestOrder};

use super::failure::Failure;
use testfile::{HostEnv, TestFile, Trust, clones};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest host setup root@farm1 --key ~/.ssh/id_ed25519.pub   set up a Debian or Ubuntu machine as a worker
  ktest host check ktest@farm1                              check that it can run tests
  ktest host run ktest@farm1 -k ~/linux --commit HEAD tests/boot.ktest   run a test file there")]
pub(super) struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Debug, Subcommand)]
enum HostCommand {
    /// Set up a Debian or Ubuntu machine as a worker: packages, a user, KVM, limits, this ktest.
    Setup(SetupArgs),
    /// Check that a machine can run tests: connection, version, disk, clock, KVM, programs.
    Check(CheckArgs),
    /// Run a test file on another machine; print events like `ktest run --events`.
    Run(Box<HostRunArgs>),
    /// Run a test file as a job of a Slurm cluster, from a machine with sbatch.
    Slurm(Box<SlurmArgs>),
    /// Run a job (started by the cluster).
    #[command(hide = true)]
    SlurmJob {
        /// Directory shared with the submitting process.
        spool: PathBuf,
    },
    /// Serve `ktest host run` (started over ssh).
    #[command(hide = true)]
    Serve,
    /// Write a kernel of the store to standard output (started over ssh).
    #[command(hide = true)]
    KernelSend {
        /// Kernel id.
        kernel: KernelId,
    },
    /// Read a kernel into the store from standard input (started over ssh).
    #[command(hide = true)]
    KernelReceive {
        /// Kernel id.
        kernel: KernelId,
    },
}

/// The connection to a host.
#[derive(Debug, Args)]
struct HostTarget {
    /// The host: [USER@]HOST, as for ssh.
    #[arg(value_name = "[USER@]HOST")]
    host: String,
    /// Name of the host in messages [default: HOST].
    #[arg(long, value_name = "NAME")]
    name: Option<HostName>,
    /// ssh configuration file.
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// The ktest command on the host.
    #[arg(long, value_name = "PATH", default_value = "ktest")]
    remote_ktest: String,
    /// Cache directory on the host [default: its own].
    #[arg(long, value_name = "DIR")]
    remote_cache_dir: Option<PathBuf>,
}

impl HostTarget {
    fn link(&self, cache: &Path) -> Result<Link, Failure> {
        let (user, address) = match self.host.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, self.host.as_str()),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        if user.is_some_and(|user| user.is_empty() || user.starts_with('-') || !user.chars().all(plain)) {
            return Err(Failure::usage(format!("{}: expected [USER@]HOST", self.host)));
        }
        let address: HostName = address.parse().map_err(Failure::usage)?;
        let target = SshTarget {
            name: self.name.clone().unwrap_or_else(|| address.clone()),
            address,
            user: user.map(Into::into),
            ssh_config: self.ssh_config.clone(),
            ktest: self.remote_ktest.clone(),
            cache_dir: self.remote_cache_dir.clone(),
        };
        Link::new(target, cache).map_err(Failure::unjudged)
    }
}

#[derive(Debug, Args)]
struct SetupArgs {
    #[command(flatten)]
    target: HostTarget,
    /// User that runs the tests; created if missing.
    #[arg(long, value_name = "NAME", default_value = "ktest")]
    user: String,
    /// Authorize this public key for that user.
    #[arg(long, value_name = "FILE.pub")]
    key: Option<PathBuf>,
    /// The ktest binary to install [default: this one if the architecture is the same, else none].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Print the script instead of running it.
    #[arg(long)]
    print_script: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    target: HostTarget,
    /// Print JSON: [{"what", "health": "ok"|"weak"|"missing", "found", "remedy"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct HostRunArgs {
    #[command(flatten)]
    target: HostTarget,
    /// Name of the run on the host. An older run with the same name is ended.
    #[arg(long, value_name = "NAME", default_value = "manual")]
    slot: String,
    /// The expected architecture of the host.
    #[arg(long, value_name = "ARCH")]
    host_arch: Option<Arch>,
    #[command(flatten)]
    test: TestOrder,
}

#[derive(Debug, Args)]
struct SlurmArgs {
    /// Name of the cluster in messages.
    #[arg(long, value_name = "NAME", default_value = "slurm")]
    name: String,
    /// Name of the job. An older job with the same name is cancelled.
    #[arg(long, value_name = "NAME", default_value = "manual")]
    slot: String,
    /// Architecture of the nodes [default: this machine's].
    #[arg(long, value_name = "ARCH")]
    host_arch: Option<Arch>,
    /// Required node features, as for sbatch --constraint [default: the name of the architecture].
    #[arg(long, value_name = "FEATURES")]
    constraint: Option<String>,
    /// Partition [default: the cluster's].
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Account.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Run on nodes that no other job shares, as sbatch --exclusive does.
    #[arg(long)]
    exclusive: bool,
    /// The ktest command on the nodes.
    #[arg(long, value_name = "PATH", default_value = "ktest")]
    remote_ktest: String,
    /// Cache directory on the nodes [default: its own].
    #[arg(long, value_name = "DIR")]
    remote_cache_dir: Option<PathBuf>,
    #[command(flatten)]
    test: TestOrder,
}

pub(super) async fn run(args: HostArgs, cache: PathBuf) -> Result<u8, Failure> {
    match args.command {
        HostCommand::Setup(args) => setup(args, &cache).await,
        HostCommand::Check(args) => check(args, &cache).await,
        HostCommand::Run(args) => host_run(*args, &cache).await,
        HostCommand::Slurm(args) => slurm(*args, &cache).await,
        HostCommand::SlurmJob { spool } => {
            let ktest = std::env::current_exe().map_err(Failure::unjudged)?;
            hosts::slurm::work(&spool, &cache, &[ktest.into()]).await.map_err(Failure::unjudged).map(|()| 0)
        }
        HostCommand::Serve => {
            let ktest = std::env::current_exe().map_err(Failure::unjudged)?;
            let serve = ServeOptions { cache, ktest: vec![ktest.into()] };
            // The error was already sent to the other end.
            Ok(hosts::serve::serve(&serve).await.map_or(125, |whole| if whole { 0 } else { 125 }))
        }
        HostCommand::KernelSend { kernel } => {
            hosts::transfer::send_kernel(&cache, &kernel).map_err(Failure::unjudged).map(|()| 0)
        }
        HostCommand::KernelReceive { kernel } => {
            hosts::transfer::receive_kernel(&cache, &kernel).await.map_err(Failure::unjudged).map(|()| 0)
        }
    }
}

async fn setup(args: SetupArgs, cache: &Path) -> Result<u8, Failure> {
    if args.print_script {
        stdio::print(hosts::check::SETUP)?;
        return Ok(0);
    }
    let key = match &args.key {
        Some(path) => {
            let text = fsx::own::read_to_string(path, 64 << 10).map_err(Failure::usage)?;
            public_key(&text)?
        }
        None => String::new(),
    };
    let link = args.target.link(cache)?;
    link.up_now().await.map_err(Failure::unjudged)?;
    let binary = match args.binary {
        Some(binary) => Some(binary),
        None => {
            let output = link.remote("uname -m").output(spawn::Limits::seconds(30)).await;
            let there = output.map_err(Failure::unjudged)?.text();
            let same = there.trim() == std::env::consts::ARCH;
            if !same {
                stdio::line(format_args!(
                    "{} is {}: install ktest for that architecture on it",
                    args.target.host,
                    there.trim()
                ))?;
            }
            let own = std::env::current_exe().map_err(Failure::unjudged)?;
            same.then_some(own)
        }
    };
    let mut more = vec![("--user", args.user.as_str())];
    if !key.is_empty() {
        more.push(("--key", key.as_str()));
    }
    // If a step cannot be printed, the setup continues.
    let mut say = |line: &str| drop(stdio::line(line));
    hosts::check::setup(&link, binary.as_deref(), &more, &mut say).await.map_err(Failure::unjudged)?;
    stdio::line(format_args!("To check it: ktest host check {}@{}", args.user, link.target().address))?;
    Ok(0)
}

/// The key in a `.pub` file. A second line would bypass the restrictions on the key in authorized_keys.
fn public_key(text: &str) -> Result<String, Failure> {
    if text.contains("PRIVATE KEY") {
        return Err(Failure::usage("--key: this is a private key; pass the .pub file"));
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(key), None) = (lines.next(), lines.next()) else {
        return Err(Failure::usage("--key: expected a file with one public key"));
    };
    let kind = key.split(' ').next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| kind.starts_with(prefix));
    if !known || kind.contains(',') || key.chars().any(char::is_control) {
        return Err(Failure::usage("--key: not a public key in the format of ssh-keygen"));
    }
    Ok(key.to_owned())
}

async fn check(args: CheckArgs, cache: &Path) -> Result<u8, Failure> {
    let findings = hosts::check::check(&args.target.link(cache)?).await;
    let missing = findings.iter().any(|finding| finding.health == "missing");
    if args.json {
        stdio::json(&findings)?;
    } else {
        for finding in &findings {
            let color = match finding.health.as_str() {
                "ok" => anstyle::AnsiColor::Green,
                "weak" => anstyle::AnsiColor::Yellow,
                _ => anstyle::AnsiColor::Red,
            };
            let style = anstyle::Style::new().fg_color(Some(color.into()));
            stdio::line(format_args!(
                "{style}{:<8}{style:#} {:<18} {}",
                finding.health, finding.what, finding.found
            ))?;
            if !finding.remedy.is_empty() {
                stdio::line(format_args!("{:27} {}", "", finding.remedy))?;
            }
        }
    }
    Ok(u8::from(missing))
}

/// The test file, the kernel repository and the order for another host.
pub(super) fn remote_order(test: &TestOrder) -> Result<(TestFile, PathBuf, RemoteOrder), Failure> {
    let find = |path: &Path| TestFile::find(path, test.tests_dir.as_deref()).map_err(Failure::usage);
    let (file, subtests) = test.tests.split_first().ok_or_else(|| Failure::usage("no test file given"))?;
    let file = find(file.as_ref())?;
    let subtests = subtests.iter().map(|name| name.parse().map_err(Failure::usage));
    let merge = test.merge.iter().map(|other| Ok(find(other)?.test));
    let (commit, kernel) = match &test.commit {
        Some(commit) => {
            let repo = gitio::Repo::open(Path::new(&test.kernel)).map_err(Failure::usage)?;
            (Some(repo.resolve(commit).map_err(Failure::usage)?), None)
        }
        None => {
            let name = test.kernel.parse::<StoreKernel>();
            (None, Some(name.map_err(|error| Failure::usage(format!("{error}; or pass --commit COMMIT")))?))
        }
    };
    let order = RemoteOrder {
        commit,
        kernel,
        test: file.test.clone(),
        subtests: subtests.collect::<Result<_, _>>()?,
        merge: merge.collect::<Result<_, Failure>>()?,
        tolerate: test.tolerate.clone(),
        image: shipped_image(test)?,
        packages: test.packages.clone(),
        env: test.environment(),
        suites: test.suites.clone(),
        arch: test.arch,
        trust_domain: test.trust_domain.clone(),
        verify_builds: test.verify_builds,
        kernel_repos: test.kernel_repos.clone(),
    };
    Ok((file, test.kernel.clone().into(), order))
}

/// The root image of a run on another host, which makes the image itself.
fn shipped_image(test: &TestOrder) -> Result<ShippedImage, Failure> {
    let Some(image) = &test.image else { return Ok(ShippedImage::default()) };
    image.shipped().ok_or_else(|| {
        let file = Path::new(image.as_os_str()).display();
        Failure::usage(format!(
            "--image {file}: another host cannot use a file of this one; use standard or full"
        ))
    })
}

/// Prints the output of a run on another host.
pub(super) fn print_output(output: Output<'_>) {
    // If the reader has closed its end, this process will be stopped soon.
    match output {
        Output::Event(line) => drop(stdio::line(line)),
        Output::Message(line) => stdio::message(line),
    }
}

/// The exit code of a run on another host. An error is reported as an infrastructure event.
pub(super) fn ended(result: Result<Option<i32>, hosts::HostError>) -> u8 {
    match result {
        Ok(Some(code)) => u8::try_from(code).unwrap_or(125),
        Ok(None) => {
            infrastructure("ktest on the host was killed by a signal".into());
            125
        }
        Err(error) => {
            infrastructure(error.to_string());
            125
        }
    }
}

fn infrastructure(what: String) {
    let event = Stamped { v: EVENT_VERSION, at_ms: 0, event: Event::Infrastructure { what } };
    print_output(Output::Event(&serde_json::to_string(&event).expect("events are plain data")));
}

async fn host_run(args: HostRunArgs, cache: &Path) -> Result<u8, Failure> {
    let (file, linux_repo, mut order) = remote_order(&args.test)?;
    order.arch = order.arch.or(args.host_arch);
    let out = std::path::absolute(&args.test.out).map_err(Failure::usage)?;
    fsx::own::create_dir_all(&out).map_err(Failure::usage)?;
    let ktest = std::env::current_exe().map_err(Failure::unjudged)?;
    let job = RemoteJob {
        link: args.target.link(cache)?,
        slot: args.slot,
        linux_repo,
        tests_dir: file.ktest_dir,
        out,
        order,
        kernels: Kernels::of(cache).with_own(vec![ktest.into()]),
        arch: args.host_arch,
    };
    Ok(ended(hosts::run::run(&job, &mut print_output).await))
}

async fn slurm(args: SlurmArgs, cache: &Path) -> Result<u8, Failure> {
    use hosts::slurm::{Resources, Task};
    let (file, linux_repo, mut order) = remote_order(&args.test)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::usage);
    let out = absolute(&args.test.out)?;
    fsx::own::create_dir_all(&out).map_err(Failure::usage)?;
    let arch = args.host_arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    order.arch = order.arch.or(args.host_arch);
    let deps_dir = ::kernel::Cache { dir: cache.into() };
    let deps_dir = clones::of_domain(&deps_dir, order.trust_domain.as_ref()).map_err(Failure::usage)?;
    let suites = crate::run::suites::of_order(&order.suites, cache).await.map_err(Failure::unjudged)?;
    let host_env = HostEnv {
        arch: order.arch,
        out: out.clone(),
        deps_dir,
        suites,
        kernel_version: String::new(),
        env: args.test.variables().collect(),
        sandboxed: true,
        trust: Trust::Sandboxed,
        ktest: None,
    };
    let declared = file.deps(&order.subtests, &host_env).await.map_err(Failure::usage)?;
    let constraint = args.constraint.unwrap_or_else(|| arch.to_string());
    let resources = Resources::declared(
        declared.mem_mib,
        declared.cpus,
        declared.timeout,
        order.subtests.len(),
        constraint,
    );
    let job = hosts::slurm::SlurmJob {
        name: args.name,
        slot: args.slot,
        resources: Resources {
            partition: args.partition,
            account: args.account,
            exclusive: args.exclusive,
            ..resources
        },
        ktest: args.remote_ktest,
        cache_dir: args.remote_cache_dir,
        task: Task { linux_repo: absolute(&linux_repo)?, tests_dir: file.ktest_dir, out, order },
    };
    Ok(ended(hosts::slurm::run(&job, &mut print_output).await))
}

#[cfg(test)]
mod tests {
    use super::public_key;

    #[test]
    fn exactly_one_public_key_is_accepted() {
        assert_eq!(public_key("ssh-ed25519 AAAA ci@farm\n").unwrap(), "ssh-ed25519 AAAA ci@farm");
        assert_eq!(public_key("# ours\n\nsk-ssh-ed25519@openssh.com AAAA\n").unwrap().split(' ').count(), 2);
        for wrong in [
            "",
            "ssh-ed25519 AAAA a\nssh-ed25519 BBBB b\n",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "command=\"x\" ssh-ed25519 AAAA",
            "ssh-ed25519 AAAA a\rssh-rsa BBBB",
        ] {
            assert!(public_key(wrong).is_err(), "{wrong:?}");
        }
    }
}
