//! `ktest host`: runs on other machines, and what makes a machine fit for them.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hosts::frame::RunOrder;
use hosts::kernels::Kernels;
use hosts::link::Link;
use hosts::run::{Job, Said};
use hosts::serve::Serve;
use hosts::target::Target;
use model::{
    Arch, EVENT_VERSION, Env, Event, HostName, KernelId, PackageName, Stamped, StoreKernel, SubtestName,
};

use super::Failure;
use testfile::{HostEnv, TestFile};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest host setup root@farm1 --key ~/.ssh/id_ed25519.pub   make a Debian or Ubuntu machine a worker
  ktest host check ktest@farm1                              is it fit for work?
  ktest host run ktest@farm1 -k ~/linux --commit HEAD tests/boot.ktest   run a test file there")]
pub(super) struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Debug, Subcommand)]
enum HostCommand {
    /// Make a Debian or Ubuntu machine a worker: packages, a user, KVM, limits, this ktest.
    Setup(SetupArgs),
    /// Say whether a machine is fit for work: connection, version, disk, clock, KVM, programs.
    Check(CheckArgs),
    /// Run a test file on another machine, as `ktest run --events` does here.
    Run(Box<HostRunArgs>),
    /// Run a test file as a job of a Slurm cluster; run this where sbatch works.
    Slurm(Box<SlurmArgs>),
    /// What such a job does (started by the cluster).
    #[command(hide = true)]
    SlurmJob {
        /// The folder it shares with whoever submitted it.
        spool: PathBuf,
    },
    /// The far end of `run` (started over ssh).
    #[command(hide = true)]
    Serve,
    /// Write a kernel of the store to standard output (started over ssh).
    #[command(hide = true)]
    KernelSend {
        /// Which.
        kernel: KernelId,
    },
    /// Read a kernel into the store from standard input (started over ssh).
    #[command(hide = true)]
    KernelReceive {
        /// Which.
        kernel: KernelId,
    },
}

/// How to get to a host.
#[derive(Debug, Args)]
struct Way {
    /// Where: [USER@]HOST, as ssh knows it.
    #[arg(value_name = "[USER@]HOST")]
    host: String,
    /// What the farm calls it [default: HOST].
    #[arg(long, value_name = "NAME")]
    name: Option<HostName>,
    /// Use this configuration file of ssh.
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// The ktest command over there.
    #[arg(long, value_name = "PATH", default_value = "ktest")]
    remote_ktest: String,
    /// The cache folder over there [default: its own].
    #[arg(long, value_name = "DIR")]
    remote_cache_dir: Option<PathBuf>,
}

impl Way {
    fn link(&self, cache: &Path) -> Result<Link, Failure> {
        let (user, address) = match self.host.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, self.host.as_str()),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        if user.is_some_and(|user| user.is_empty() || user.starts_with('-') || !user.chars().all(plain)) {
            return Err(Failure::usage(format!("{}: not [USER@]HOST", self.host)));
        }
        let address: HostName = address.parse().map_err(Failure::usage)?;
        let target = Target {
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
    way: Way,
    /// The user that runs tests there; made if missing.
    #[arg(long, value_name = "NAME", default_value = "ktest")]
    user: String,
    /// Let this public key in as that user.
    #[arg(long, value_name = "FILE.pub")]
    key: Option<PathBuf>,
    /// The ktest to install there [default: this one, if the architecture is the same; none: leave what is there].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Print the script instead of running it.
    #[arg(long)]
    print_script: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    way: Way,
    /// As JSON: [{"what", "health": "ok"|"weak"|"missing", "found", "remedy"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct HostRunArgs {
    #[command(flatten)]
    way: Way,
    /// A name that one run at a time has on the host; an older one of the same name is ended.
    #[arg(long, value_name = "NAME", default_value = "by-hand")]
    slot: String,
    /// What the host must be.
    #[arg(long, value_name = "ARCH")]
    host_arch: Option<Arch>,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct SlurmArgs {
    /// What the farm calls the cluster.
    #[arg(long, value_name = "NAME", default_value = "slurm")]
    name: String,
    /// A name that one job at a time has; an older one of the same name is cancelled.
    #[arg(long, value_name = "NAME", default_value = "by-hand")]
    slot: String,
    /// The nodes' architecture [default: this machine's].
    #[arg(long, value_name = "ARCH")]
    host_arch: Option<Arch>,
    /// What a node must have, as sbatch takes it [default: a feature named like the architecture].
    #[arg(long, value_name = "FEATURES")]
    constraint: Option<String>,
    /// The partition [default: the cluster's].
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// The account.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The ktest command on the nodes.
    #[arg(long, value_name = "PATH", default_value = "ktest")]
    remote_ktest: String,
    /// The cache folder on the nodes [default: its own].
    #[arg(long, value_name = "DIR")]
    remote_cache_dir: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

/// What to run; the same words as of `ktest run`.
#[derive(Debug, Args)]
pub(super) struct What {
    /// The test file.
    #[arg(value_name = "FILE.ktest")]
    file: PathBuf,
    /// The subtests to run [default: all that the file lists].
    subtests: Vec<SubtestName>,
    /// The repository that has the commit; without --commit a kernel of the store, like debian/trixie.
    #[arg(short = 'k', long, value_name = "DIR|KERNEL", default_value = ".")]
    kernel_source: PathBuf,
    /// The commit whose kernel is built.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// The tree that the test file belongs to, where its own path does not say.
    #[arg(long, value_name = "DIR")]
    tests_dir: Option<PathBuf>,
    /// Share one kernel with this test file (repeatable).
    #[arg(long, value_name = "FILE.ktest")]
    merge: Vec<PathBuf>,
    /// Where logs and verdicts go, here.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
    /// The guest's architecture, where the test file does not say.
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Go on although this kernel option cannot have its required value (repeatable).
    #[arg(long, value_name = "OPTION")]
    tolerate: Vec<String>,
    /// The root image has this package beside the standard ones (repeatable).
    #[arg(long = "package", value_name = "NAME")]
    packages: Vec<PackageName>,
    /// Set a variable in the test file's environment (repeatable).
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::run::parse_env)]
    env: Vec<(String, String)>,
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
            let serve = Serve { cache, ktest: vec![ktest.into()] };
            // What went wrong was told to the other end.
            Ok(hosts::serve::serve(&serve).await.map_or(125, |whole| if whole { 0 } else { 125 }))
        }
        HostCommand::KernelSend { kernel } => {
            hosts::serve::send_kernel(&cache, &kernel).map_err(Failure::unjudged).map(|()| 0)
        }
        HostCommand::KernelReceive { kernel } => {
            hosts::serve::receive_kernel(&cache, &kernel).await.map_err(Failure::unjudged).map(|()| 0)
        }
    }
}

async fn setup(args: SetupArgs, cache: &Path) -> Result<u8, Failure> {
    if args.print_script {
        print!("{}", hosts::check::SETUP);
        return Ok(0);
    }
    let key = match &args.key {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
            .and_then(|text| public_key(&text).map_err(Failure::usage))?,
        None => String::new(),
    };
    let link = args.way.link(cache)?;
    link.up_now().await.map_err(Failure::unjudged)?;
    let binary = match args.binary {
        Some(binary) => Some(binary),
        None => {
            let output = link.remote("uname -m").output(spawn::Limits::seconds(30)).await;
            let there = output.map_err(Failure::unjudged)?.text();
            let same = there.trim() == std::env::consts::ARCH;
            if !same {
                println!(
                    "{} is {}: install the ktest of that architecture there",
                    args.way.host,
                    there.trim()
                );
            }
            let own = std::env::current_exe().map_err(Failure::unjudged)?;
            same.then_some(own)
        }
    };
    let mut more = vec![("--user", args.user.as_str())];
    if !key.is_empty() {
        more.push(("--key", key.as_str()));
    }
    let mut say = |line: &str| println!("{line}");
    hosts::check::setup(&link, binary.as_deref(), &more, &mut say).await.map_err(Failure::unjudged)?;
    println!("Is it fit for work? ktest host check {}@{}", args.user, link.target().address);
    Ok(0)
}

/// The one key of a `.pub` file. More than one line would go past the restrictions that it is let in with.
fn public_key(text: &str) -> Result<String, &'static str> {
    if text.contains("PRIVATE KEY") {
        return Err("--key: this is a private key; give the .pub file");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(key), None) = (lines.next(), lines.next()) else {
        return Err("--key: a file with one public key is wanted");
    };
    let kind = key.split(' ').next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| kind.starts_with(prefix));
    if !known || kind.contains(',') || key.chars().any(char::is_control) {
        return Err("--key: this is no public key as ssh-keygen writes it");
    }
    Ok(key.to_owned())
}

async fn check(args: CheckArgs, cache: &Path) -> Result<u8, Failure> {
    let findings = hosts::check::check(&args.way.link(cache)?).await;
    let missing = findings.iter().any(|finding| finding.health == "missing");
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings).map_err(Failure::usage)?);
    } else {
        for finding in &findings {
            let color = match finding.health.as_str() {
                "ok" => anstyle::AnsiColor::Green,
                "weak" => anstyle::AnsiColor::Yellow,
                _ => anstyle::AnsiColor::Red,
            };
            let style = anstyle::Style::new().fg_color(Some(color.into()));
            anstream::println!(
                "{style}{:<8}{style:#} {:<18} {}",
                finding.health,
                finding.what,
                finding.found
            );
            if !finding.remedy.is_empty() {
                anstream::println!("{:27} {}", "", finding.remedy);
            }
        }
    }
    Ok(u8::from(missing))
}

/// What the words mean, or why nothing.
pub(super) fn order(what: &What) -> Result<(TestFile, PathBuf, RunOrder), Failure> {
    let file = TestFile::find(&what.file, what.tests_dir.as_deref()).map_err(Failure::usage)?;
    let merge = what.merge.iter().map(|other| TestFile::find(other, what.tests_dir.as_deref()));
    let merge = merge.map(|found| found.map(|file| file.test)).collect::<Result<_, _>>();
    let (commit, kernel) = match &what.commit {
        Some(commit) => {
            let repo = gitio::Repo::open(&what.kernel_source).map_err(Failure::usage)?;
            (Some(repo.resolve(commit).map_err(Failure::usage)?), None)
        }
        None => {
            let name = what.kernel_source.display().to_string().parse::<StoreKernel>();
            (None, Some(name.map_err(|error| Failure::usage(format!("{error}; or say --commit COMMIT")))?))
        }
    };
    let env: std::collections::BTreeMap<String, String> = what.env.iter().cloned().collect();
    let order = RunOrder {
        commit,
        kernel,
        test: file.test.clone(),
        subtests: what.subtests.clone(),
        merge: merge.map_err(Failure::usage)?,
        tolerate: what.tolerate.clone(),
        packages: what.packages.clone(),
        env: Env::try_from(env).map_err(Failure::usage)?,
        arch: what.arch,
    };
    Ok((file, what.kernel_source.clone(), order))
}

/// Prints what a run on another host says; what went wrong on the way is an infrastructure failure.
pub(super) fn tell(said: Said<'_>) {
    // Whoever reads this may be gone; then this process is ended soon.
    let _ = match said {
        Said::Event(line) => writeln!(std::io::stdout(), "{line}"),
        Said::Complaint(line) => writeln!(std::io::stderr(), "{line}"),
    };
}

/// How a run on another host ended, as `ktest run` would.
pub(super) fn ended(result: Result<Option<i32>, hosts::HostError>) -> u8 {
    match result {
        Ok(Some(code)) => u8::try_from(code).unwrap_or(125),
        Ok(None) => {
            infrastructure("ktest over there was killed".into());
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
    tell(Said::Event(&serde_json::to_string(&event).expect("events are plain data")));
}

async fn host_run(args: HostRunArgs, cache: &Path) -> Result<u8, Failure> {
    let (file, linux_repo, mut order) = order(&args.what)?;
    order.arch = order.arch.or(args.host_arch);
    let out = std::path::absolute(&args.what.out).map_err(Failure::usage)?;
    std::fs::create_dir_all(&out).map_err(|error| Failure::usage(format!("{}: {error}", out.display())))?;
    let ktest = std::env::current_exe().map_err(Failure::unjudged)?;
    let job = Job {
        link: args.way.link(cache)?,
        slot: args.slot,
        linux_repo,
        tests_dir: file.ktest_dir,
        out,
        order,
        kernels: Kernels::of(cache).with_own(vec![ktest.into()]),
        arch: args.host_arch,
    };
    Ok(ended(hosts::run::run(&job, &mut tell).await))
}

async fn slurm(args: SlurmArgs, cache: &Path) -> Result<u8, Failure> {
    use hosts::slurm::{Needs, Task};
    let (file, linux_repo, mut order) = order(&args.what)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::usage);
    let out = absolute(&args.what.out)?;
    std::fs::create_dir_all(&out).map_err(|error| Failure::usage(format!("{}: {error}", out.display())))?;
    let arch = args.host_arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    order.arch = order.arch.or(args.host_arch);
    let host_env = HostEnv {
        arch: order.arch,
        out: out.clone(),
        deps_dir: cache.join("deps"),
        kernel_version: String::new(),
        env: args.what.env.clone(),
        sandboxed: true,
    };
    let declared = file.deps(&order.subtests, &host_env).await.map_err(Failure::usage)?;
    let constraint = args.constraint.unwrap_or_else(|| arch.to_string());
    let needs =
        Needs::declared(declared.mem_mib, declared.cpus, declared.timeout, order.subtests.len(), constraint);
    let job = hosts::slurm::Job {
        name: args.name,
        slot: args.slot,
        needs: Needs { partition: args.partition, account: args.account, ..needs },
        ktest: args.remote_ktest,
        cache_dir: args.remote_cache_dir,
        task: Task { linux_repo: absolute(&linux_repo)?, tests_dir: file.ktest_dir, out, order },
    };
    Ok(ended(hosts::slurm::run(&job, &mut tell).await))
}

#[cfg(test)]
mod tests {
    use super::public_key;

    #[test]
    fn one_public_key_and_nothing_else_is_let_in() {
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
