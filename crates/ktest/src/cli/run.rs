//! `ktest run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use belief::{Confidence, Evidence, FixClaim};
use clap::Args;
use model::{Event, RootImage, RunOrder, Status};
use testfile::TestFile;

use super::existing::ExistingOptions;
use super::failure::{Failure, exit_code};
use crate::report::{Failures, Reporter, Seconds, Style, record};
use crate::run::{RunError, RunRequest, Summary, conclusion, parse_kernel};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest run -k ~/linux tests/fs/ext4/basic.ktest punch_hole      run one subtest
  ktest run -I tests/fs/ext4/basic.ktest punch_hole              open a guest shell after the subtest
  ktest run -IS tests/fs/ext4/basic.ktest                        open the shell only if something failed
  ktest run -L tests/fs/ext4/basic.ktest punch_hole              repeat until it fails
  ktest run -L=25 tests/fs/ext4/basic.ktest punch_hole           repeat at most 25 times
  ktest run --until-believed --rate 3/25 tests/fs/ext4/basic.ktest punch_hole
                                                                 prove that a failure is fixed
  ktest run --dry-run tests/boot.ktest                           print the QEMU command
From another terminal, while it runs: ktest ssh, gdb, kgdb, mon, sysrq.

Exit codes: 0 all passed or not run; 1 a test failed; 2 usage error; 125 no verdict (no build, no VM).
They are the codes that `git bisect run` expects.

Several files share one kernel if their requirements do not contradict each other (see ktest plan).")]
pub(super) struct RunArgs {
    #[command(flatten)]
    order: RunOrder,
    #[command(flatten)]
    existing: ExistingOptions,
    #[command(flatten)]
    believe: BelieveOptions,
}

/// The options of a claim that a failure is fixed.
#[derive(Debug, Args)]
struct BelieveOptions {
    /// Repeat one subtest, each time in a new VM, until its passes prove that a failure is fixed. Exit codes: 0 fixed; 1 it failed;
    /// 125 not proven.
    #[arg(long, conflicts_with_all = ["events", "rounds", "interactive", "dry_run"])]
    until_believed: bool,
    /// With --until-believed: how often the subtest failed before the fix [default: 1/1].
    #[arg(long, value_name = "FAILURES/ATTEMPTS", requires = "until_believed")]
    rate: Option<Evidence>,
    /// With --until-believed: the confidence to reach, 50 to 99.9 [default: 95].
    #[arg(long, value_name = "PERCENT", requires = "until_believed")]
    confidence: Option<Confidence>,
    /// With --until-believed: the shortest time after which the subtest failed before the fix. A pass that ends earlier does not
    /// count.
    #[arg(long, value_name = "SECONDS", requires = "until_believed")]
    fails_after: Option<u64>,
    /// With --until-believed: the number of VMs at the same time, after the first run.
    #[arg(long, value_name = "N", requires = "until_believed", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    vms: u32,
}

impl BelieveOptions {
    fn claim(&self) -> Option<FixClaim> {
        let evidence = self.rate.unwrap_or(Evidence::ONE);
        let confidence = self.confidence.unwrap_or(Confidence::USUAL);
        let fails_after = self.fails_after.map(Duration::from_secs);
        self.until_believed.then(|| FixClaim::new(evidence, confidence, fails_after))
    }
}

pub(super) async fn run(args: RunArgs, cache: PathBuf) -> Result<u8, Failure> {
    args.existing.refuse()?;
    let order = args.order;
    let mut requests = requests(&order, &cache)?;
    for request in &mut requests {
        request.claim = args.believe.claim();
        request.vms = args.believe.vms;
    }
    let mut records = Vec::new();
    let mut codes = Vec::new();
    for request in &requests {
        let (code, record, reader_gone) = run_one(request, requests.len() == 1).await?;
        codes.push(code);
        records.push(record);
        if order.failfast && code != 0 || reader_gone {
            break;
        }
    }
    let code = overall(&codes, records.iter().any(|record| !record.subtests.is_empty()));
    if order.json {
        stdio::line(stdio::terminal::json(&record::json(&records, code)))?;
    }
    if let Some(path) = &order.junit {
        fsx::own::write(path, record::junit(&records)).map_err(Failure::unjudged)?;
    }
    Ok(code)
}

/// Runs one file. Returns the exit code, the record, and whether the reader of the events has closed its end. A usage
/// error ends the command if this is the `only` file.
async fn run_one(request: &RunRequest, only: bool) -> Result<(u8, record::Record, bool), Failure> {
    let order = &request.order;
    let style = match (order.events, order.json) {
        (true, _) => Style::Events,
        (false, true) => Style::Silent,
        (false, false) => Style::Text,
    };
    let mut reporter = Reporter::new(style);
    if order.log_events {
        reporter = reporter.with_console();
    }
    let heartbeat = reporter.heartbeat(request.cache.clone());
    let result = crate::run::run(request, &mut reporter).await;
    let result = result.map_err(|error| match error {
        RunError::Commit(error) if order.events => RunError::Infrastructure(error),
        error => error,
    });
    drop(heartbeat);
    let mut code = match &result {
        Ok(summary) => summary.exit_code(),
        // For `git bisect`, a commit with selftests that do not build is not bad (125). For a farm, the error is one of
        // the commit, which exit code 2 indicates.
        Err(RunError::Selftests(_)) if !order.events => 125,
        Err(error) => exit_code(error),
    };
    if code == 0 && reporter.broken() {
        // The run ended early, and subtests that did not run have not passed.
        code = 125;
    }
    if let Err(RunError::Infrastructure(what)) = &result {
        reporter.event(Event::Infrastructure { what: what.clone() });
    }
    reporter.event(Event::RunFinished { exit_code: code });
    let mut record = reporter.record();
    match result {
        Ok(summary) => {
            record.out.clone_from(&summary.out);
            record.believed = summary.claim.as_ref().map(Into::into);
            match &summary.command {
                Some(command) => stdio::line(command)?,
                None => {
                    let failures = Failures { record: &record, out: &order.test.out };
                    let failures = failures.to_string();
                    if !failures.is_empty() {
                        reporter.note(failures.trim_end());
                    }
                    summarize(&summary, &reporter, &order.test.out);
                }
            }
        }
        // The infrastructure event has already reported it.
        Err(RunError::Infrastructure(_)) => {}
        Err(error) if only => return Err(Failure { code, message: error.to_string() }),
        Err(error) => {
            record.infrastructure = Some(error.to_string());
            Failure::from(error).print();
        }
    }
    if let Some(error) = reporter.output_error() {
        // Verdicts that could not be printed are lost to the reader.
        stdio::error("ktest", error);
        code = 125;
    }
    Ok((code, record, reporter.broken()))
}

/// The exit code of several runs. A failed test takes precedence, then a missing verdict. A usage error after a verdict
/// (`judged`) counts as a missing verdict, because 2 means that nothing ran.
fn overall(codes: &[u8], judged: bool) -> u8 {
    let first = [1, 125, 2].into_iter().find(|code| codes.contains(code));
    let code = first.or_else(|| codes.iter().copied().find(|code| *code != 0)).unwrap_or(0);
    if code == 2 && judged { 125 } else { code }
}

/// One request per file. If there are several files, checks first that each exists.
fn requests(order: &RunOrder, cache: &Path) -> Result<Vec<RunRequest>, Failure> {
    let test = &order.test;
    if let Some(RootImage::File(image)) = &test.image
        && let Some(package) = test.packages.first()
    {
        let image = image.display();
        let error =
            format!("--package {package} cannot be installed in {image}; use --image standard or full");
        return Err(Failure::usage(error));
    }
    // A farm's operator chooses the repository and the commit, so they are never the reason for a verdict.
    let failure = |error| if order.events { Failure::unjudged(error) } else { Failure::from(error) };
    let kernel =
        parse_kernel(&test.kernel, test.commit.as_deref(), &test.kernel_repos, cache).map_err(failure)?;
    let requests = RunRequest::all(order, &kernel, cache)?;
    if requests.len() > 1 {
        for request in &requests {
            TestFile::find(&request.file, test.tests_dir.as_deref()).map_err(Failure::usage)?;
        }
    }
    Ok(requests)
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
    if let Some(claim) = &summary.claim {
        reporter.note(&conclusion(claim, summary));
    }
    reporter.note(&format!("{} in {took}; logs: {}", parts.join(", "), out.join("out").display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_takes_precedence() {
        assert_eq!(overall(&[], false), 0);
        assert_eq!(overall(&[0, 125, 1, 2], true), 1);
        assert_eq!(overall(&[0, 2, 125], true), 125);
        assert_eq!(overall(&[0, 2], false), 2);
        assert_eq!(overall(&[0, 2], true), 125);
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
            requests(&args.order, dir.path())
                .map(|requests| {
                    let list = |request: &RunRequest| {
                        let subtests: Vec<_> = request.subtests.iter().map(ToString::to_string).collect();
                        let merged = request.order.test.merge.len();
                        format!("{} {} +{merged}", request.file.display(), subtests.join(" "))
                    };
                    requests.iter().map(list).collect::<Vec<_>>()
                })
                .map_err(|failure| failure.message)
        };
        assert_eq!(line(&["a", "x", "generic/001"]).unwrap(), ["a x generic/001 +0"]);
        assert_eq!(
            line(&["a.ktest", "../x"]).unwrap_err().split(':').next(),
            Some("\"../x\" is not a subtest")
        );
        assert_eq!(line(&["a.ktest", "x", "b.ktest"]).unwrap_err(), "a.ktest: no such test file");
        assert!(line(&["--image", "full", "--package", "fio", "a"]).is_ok());
        assert_eq!(
            line(&["--image", "./full", "--package", "fio", "a"]).unwrap_err(),
            "--package fio cannot be installed in ./full; use --image standard or full"
        );
    }
}
