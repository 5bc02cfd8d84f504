//! `ktest run`.

use std::path::{Path, PathBuf};

use clap::Args;
use model::{Arch, ByteSize, Env, Event, PackageName, Status};
use vm::accel::AccelChoice;

use super::Failure;
use crate::report::{Reporter, Seconds, Style, record};
use crate::run::{RunError, RunOptions, Summary, parse_kernel};
use testfile::TestFile;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest run -k ~/linux tests/fs/ext4/basic.ktest punch_hole      one subtest
  ktest run -I tests/fs/ext4/basic.ktest punch_hole              and a shell in the guest when it is over
  ktest run -IS tests/fs/ext4/basic.ktest                        the shell only if something failed
  ktest run -L tests/fs/ext4/basic.ktest punch_hole              again and again until it fails
  ktest run -L=25 tests/fs/ext4/basic.ktest punch_hole           25 times at most
  ktest run --dry-run tests/boot.ktest                           the QEMU command
While it runs, from another terminal: ktest ssh, gdb, kgdb, mon, sysrq.

Exit codes: 0 all passed or not run; 1 a test failed; 2 usage; 125 nothing could be judged (no build, no VM),
so that `git bisect run ktest run ...` works as it stands.

Several files share one kernel as far as their requirements do not contradict each other (see ktest plan).")]
pub(super) struct RunArgs {
    /// A test file, then those of its subtests that are to run [default: all]; further files the same way, each named
    /// with its ending.
    #[arg(value_name = "FILE.ktest [SUBTEST]", required = true)]
    what: Vec<String>,
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
    /// The root image has this package beside the standard ones; made when it is missing (repeatable).
    #[arg(long = "package", value_name = "NAME", conflicts_with = "image")]
    packages: Vec<PackageName>,
    /// Compiler processes [default: one per processor].
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after the first failure.
    #[arg(short = 'F', long)]
    failfast: bool,
    /// Work by hand: no time limits, the guest's console on this terminal, a shell in the guest when the subtests are
    /// over. The VM stays after a panic, too; `ktest gdb` shows where it is.
    #[arg(short = 'I', long, conflicts_with_all = ["events", "rounds"])]
    interactive: bool,
    /// With -I: when everything passed the VM ends by itself.
    #[arg(short = 'S', long, requires = "interactive")]
    exit_on_success: bool,
    /// Run the subtests again and again until one fails, N times at most; each round in a fresh VM.
    #[arg(short = 'L', long = "loop", value_name = "N", id = "rounds", num_args = 0..=1, require_equals = true,
        default_missing_value = "0", conflicts_with = "events")]
    rounds: Option<u32>,
    /// Keep the devices of a failed subtest if they hold at most this much (512M, 2G; 0 keeps none).
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    keep_devices: ByteSize,
    /// End a guest that writes more than this into the output folder (512M, 2G).
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    max_output: ByteSize,
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
    /// Tell the result as one JSON document on standard output when all is over (docs/reports.md).
    #[arg(long, conflicts_with = "events")]
    json: bool,
    /// Write a JUnit XML report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// With --events: tell the console's lines, too.
    #[arg(long, requires = "events")]
    log_events: bool,
    /// With --events: before a kernel is built, tell its name and wait for a line on standard input.
    #[arg(long, requires = "events")]
    ask_kernel: bool,
    /// Print the QEMU command instead of running it; the kernel is built all the same.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn parse_env(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    let map = std::collections::BTreeMap::from([(name.to_string(), value.to_string())]);
    Env::try_from(map).map_err(|error| error.to_string())?;
    Ok((name.into(), value.into()))
}

pub(super) async fn run(args: RunArgs, cache: PathBuf) -> Result<u8, Failure> {
    let style = match (args.events, args.json) {
        (true, _) => Style::Events,
        (false, true) => Style::Silent,
        (false, false) => Style::Text,
    };
    let base = options(&args, cache)?;
    let runs = runs(&args.what, &base)?;
    let mut records = Vec::new();
    let mut codes = Vec::new();
    for options in &runs {
        let mut reporter = Reporter::new(style);
        if args.log_events {
            reporter = reporter.with_console();
        }
        let result = crate::run::run(options, &mut reporter).await;
        let code = result.as_ref().map_or_else(failure_code, Summary::exit_code);
        if let Err(RunError::Infrastructure(what)) = &result {
            reporter.event(Event::Infrastructure { what: what.clone() });
        }
        reporter.event(Event::RunFinished { exit_code: code });
        codes.push(code);
        let mut record = reporter.record();
        match result {
            Ok(summary) => {
                record.out.clone_from(&summary.out);
                if let Some(command) = &summary.command {
                    println!("{command}");
                } else {
                    summarize(&summary, &reporter, &options.out);
                }
            }
            // Already told, in the style that was asked for.
            Err(RunError::Infrastructure(_)) => {}
            Err(error) if runs.len() == 1 => return Err(Failure { code, message: error.to_string() }),
            Err(error) => {
                super::report(&Failure { code, message: error.to_string() });
                record.infrastructure = Some(error.to_string());
            }
        }
        records.push(record);
        if options.failfast && code != 0 || reporter.broken() {
            break;
        }
    }
    let code = overall(&codes);
    if args.json {
        println!("{}", record::json(&records, code));
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, record::junit(&records))
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    }
    Ok(code)
}

/// The exit code of several runs: a failed test counts most, then what could not be judged.
fn overall(codes: &[u8]) -> u8 {
    let first = [1, 125, 2].into_iter().find(|code| codes.contains(code));
    first.or_else(|| codes.iter().copied().find(|code| *code != 0)).unwrap_or(0)
}

/// One run for each file; every file is there, and shares its kernel with the others where it can.
fn runs(what: &[String], base: &RunOptions) -> Result<Vec<RunOptions>, Failure> {
    let mut runs: Vec<RunOptions> = Vec::new();
    for word in what {
        match runs.last_mut() {
            Some(run) if !word.ends_with(".ktest") => {
                run.subtests.push(word.parse().map_err(Failure::usage)?);
            }
            _ => runs.push(RunOptions { file: word.into(), ..base.clone() }),
        }
    }
    if runs.len() > 1 {
        let files: Vec<PathBuf> = runs.iter().map(|run| run.file.clone()).collect();
        for run in &mut runs {
            TestFile::find(&run.file, run.tests_dir.as_deref()).map_err(Failure::usage)?;
            run.merge.extend(files.iter().filter(|file| **file != run.file).cloned());
        }
    }
    Ok(runs)
}

pub(super) fn failure_code(error: &RunError) -> u8 {
    match error {
        RunError::Infrastructure(_) => 125,
        RunError::TestFile(_) | RunError::Source(_) | RunError::Usage(_) | RunError::Out(_) => 2,
    }
}

fn options(args: &RunArgs, cache: PathBuf) -> Result<RunOptions, Failure> {
    Ok(RunOptions {
        file: PathBuf::new(),
        subtests: Vec::new(),
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
        packages: args.packages.clone(),
        cache,
        env: args.env.clone(),
        jobs: args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        sandboxed: args.events && !args.no_sandbox,
        accept_unknown: args.events,
        failfast: args.failfast,
        dry_run: args.dry_run,
        interactive: args.interactive,
        exit_on_success: args.exit_on_success,
        rounds: args.rounds.unwrap_or(1),
        keep_devices: args.keep_devices.0,
        max_output: args.max_output.0,
        command: Vec::new(),
        kernel_args: kernel_args(&args.kernel, args.commit.as_deref()),
        ask_kernel: args.ask_kernel,
    })
}

/// What says the same from any folder.
fn kernel_args(kernel: &str, commit: Option<&str>) -> Vec<String> {
    let absolute = std::fs::canonicalize(kernel).map(|dir| dir.display().to_string());
    let mut args = vec!["-k".to_string(), absolute.unwrap_or_else(|_| kernel.into())];
    args.extend(commit.iter().flat_map(|commit| ["--commit".to_string(), (*commit).to_string()]));
    args
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
    let all = summary.asked.saturating_mul(usize::try_from(summary.rounds).unwrap_or(usize::MAX));
    let left = all.saturating_sub(summary.verdicts.len());
    if left > 0 {
        parts.push(format!("{left} not started"));
    }
    if summary.rounds > 1 {
        let word = if summary.exit_code() == 0 { "rounds" } else { "rounds, the last one failed" };
        parts.insert(0, format!("{} {word}", summary.rounds));
    }
    let took = Seconds(u64::try_from(reporter.began().elapsed().as_millis()).unwrap_or(u64::MAX));
    reporter.note(&format!("{} in {took}; logs: {}", parts.join(", "), out.join("out").display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        assert_eq!(overall(&[]), 0);
        assert_eq!(overall(&[0, 125, 1, 2]), 1);
        assert_eq!(overall(&[0, 2, 125]), 125);
        assert_eq!(overall(&[0, 2]), 2);
    }

    #[test]
    fn files_and_their_subtests() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: RunArgs,
        }
        let dir = tempfile::tempdir().unwrap();
        let line = |words: &[&str]| {
            let args = Line::try_parse_from(["run", "-k", "/"].iter().chain(words)).unwrap().args;
            let runs = runs(&args.what, &options(&args, dir.path().into()).unwrap());
            runs.map(|runs| {
                let list = |run: &RunOptions| {
                    let subtests: Vec<_> = run.subtests.iter().map(ToString::to_string).collect();
                    format!("{} {} +{}", run.file.display(), subtests.join(" "), run.merge.len())
                };
                runs.iter().map(list).collect::<Vec<_>>()
            })
            .map_err(|failure| failure.message)
        };
        assert_eq!(line(&["a", "x", "generic/001"]).unwrap(), ["a x generic/001 +0"]);
        assert_eq!(
            line(&["a.ktest", "../x"]).unwrap_err().split(':').next(),
            Some("\"../x\" is not a subtest")
        );
        assert_eq!(line(&["a.ktest", "x", "b.ktest"]).unwrap_err(), "a.ktest: no such test file");
    }
}
