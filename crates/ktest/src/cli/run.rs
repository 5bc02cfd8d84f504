//! `ktest run`.

use std::path::{Path, PathBuf};

use clap::Args;
use model::{Arch, Env, Event, Status, SubtestName};
use vm::accel::AccelChoice;

use super::Failure;
use crate::report::{Reporter, Seconds, Style};
use crate::run::{RunError, RunOptions, Summary, parse_kernel};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all passed or not run; 1 a test failed; 2 usage; 125 nothing could be judged (no build, no VM),
so that `git bisect run ktest run ...` works as it stands.")]
pub(super) struct RunArgs {
    /// The test file.
    #[arg(value_name = "FILE.ktest")]
    file: PathBuf,
    /// The subtests to run [default: all that the file lists].
    subtests: Vec<SubtestName>,
    /// The kernel: a source tree, or with --commit any git repository that has the commit; or one of the store, by
    /// name (debian/trixie: brought there when it is missing) or by id.
    #[arg(
        short = 'k',
        long,
        visible_alias = "kernel-source",
        value_name = "DIR|NAME|ID",
        default_value = "."
    )]
    kernel: String,
    /// Build this commit of the repository, not the tree as it lies there.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// The tree that the test file belongs to, where its own path does not say.
    #[arg(long, value_name = "DIR")]
    tests_dir: Option<PathBuf>,
    /// Where `require-git` clones to, and finds what lies there [default: deps in the cache].
    #[arg(long, value_name = "DIR")]
    deps_dir: Option<PathBuf>,
    /// Share one kernel with this test file, if their requirements do not contradict each other (repeatable).
    #[arg(long, value_name = "FILE.ktest")]
    merge: Vec<PathBuf>,
    /// Where logs and verdicts go.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
    /// How the guest is run: auto (KVM if a guest really runs under it here), kvm or tcg.
    #[arg(long, default_value = "auto")]
    accel: AccelChoice,
    /// The guest's architecture, where the test file does not say [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// The root image [default: a standard one, made when it is missing].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Compiler processes [default: one per processor].
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after the first failure.
    #[arg(short = 'F', long)]
    failfast: bool,
    /// Build without bubblewrap: the source's Makefile then sees the network and your files.
    #[arg(long)]
    no_sandbox: bool,
    /// Go on although this kernel option cannot have its required value (repeatable).
    #[arg(long, value_name = "OPTION")]
    tolerate: Vec<String>,
    /// Set a variable in the test file's environment (repeatable).
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Tell what happens as JSON lines on standard output (docs/events.md).
    #[arg(long)]
    events: bool,
    /// Print the QEMU command instead of running it; the kernel is built all the same.
    #[arg(long)]
    dry_run: bool,
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    let map = std::collections::BTreeMap::from([(name.to_string(), value.to_string())]);
    Env::try_from(map).map_err(|error| error.to_string())?;
    Ok((name.into(), value.into()))
}

pub(super) async fn run(args: RunArgs, cache: PathBuf) -> Result<u8, Failure> {
    let style = if args.events { Style::Events } else { Style::Text };
    let options = options(&args, cache)?;
    let mut reporter = Reporter::new(style);
    let result = crate::run::run(&options, &mut reporter).await;
    let code = match &result {
        Ok(summary) => summary.exit_code(),
        Err(error) => failure_code(error),
    };
    if let Err(RunError::Infrastructure(what)) = &result {
        reporter.event(Event::Infrastructure { what: what.clone() });
    }
    reporter.event(Event::RunFinished { exit_code: code });
    match result {
        Ok(summary) => {
            if let Some(command) = &summary.command {
                println!("{command}");
            } else if style == Style::Text {
                summarize(&summary, &reporter, &options.out);
            }
            Ok(code)
        }
        // Already told, in the style that was asked for.
        Err(RunError::Infrastructure(_)) => Ok(code),
        Err(error) => Err(Failure { code, message: error.to_string() }),
    }
}

fn failure_code(error: &RunError) -> u8 {
    match error {
        RunError::Infrastructure(_) => 125,
        RunError::TestFile(_) | RunError::Source(_) | RunError::Usage(_) | RunError::Out(_) => 2,
    }
}

fn options(args: &RunArgs, cache: PathBuf) -> Result<RunOptions, Failure> {
    Ok(RunOptions {
        file: args.file.clone(),
        subtests: args.subtests.clone(),
        tests_dir: args.tests_dir.clone(),
        deps_dir: args.deps_dir.clone(),
        merge: args.merge.clone(),
        kernel: parse_kernel(&args.kernel, args.commit.as_deref(), &cache).map_err(Failure::usage)?,
        out: args.out.clone(),
        accel: args.accel,
        arch: args.arch,
        sandbox: !args.no_sandbox,
        tolerate: args.tolerate.clone(),
        image: args.image.clone(),
        cache,
        env: args.env.clone(),
        jobs: args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        accept_unknown: args.events,
        failfast: args.failfast,
        dry_run: args.dry_run,
    })
}

fn summarize(summary: &Summary, reporter: &Reporter, out: &Path) {
    let mut parts = Vec::new();
    for status in [Status::Passed, Status::Failed, Status::NotRun, Status::FailedToRun] {
        let count = summary.count(status);
        if count > 0 {
            let style = crate::report::verdict_style(status);
            parts.push(format!("{style}{count} {}{style:#}", status.label().to_lowercase()));
        }
    }
    let took = Seconds(u64::try_from(reporter.began().elapsed().as_millis()).unwrap_or(u64::MAX));
    reporter.note(&format!("{} in {took}; logs: {}", parts.join(", "), out.join("out").display()));
}
