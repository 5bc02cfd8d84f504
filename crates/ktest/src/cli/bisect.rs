//! `ktest bisect`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use belief::bisect::State;
use belief::{Outcome, Signature};
use clap::Args;
use gitio::{CommitInfo, Repo};
use kernel::closure::BuildFiles;
use model::{CommitId, Event, ResultKey, RunOrder, Status};
use testfile::TestFile;

use super::failure::Failure;
use crate::bisect::{
    KnownFiles, Lab, Ran, Range, RangeError, RecordFile, Reproduced, Search, SearchError, Tested, conclusion,
    executed_files, mark, progress, reproduce,
};
use crate::report::{Reporter, Style};
use crate::run::{RunError, RunRequest, Summary, parse_kernel};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest bisect -k ~/linux --range v6.12..HEAD tests/fs/ext4/basic.ktest punch_hole
                                                   find the first commit at which punch_hole fails
  ktest bisect -k ~/linux --range v6.12..HEAD --attempts 50 tests/fs/ext4/basic.ktest punch_hole
                                                   the same, for a failure that is rare
  ktest bisect -k ~/linux --range v6.12.. --json tests/boot.ktest memory | jq .culprit

The head is run until the subtest fails. That failure is searched: another one is no evidence. A test that fails only sometimes
is run as often as needed, and the result is verified in new VMs. Ctrl-C interrupts the search; the same command continues it.
The options of ktest run select the machine, the image and the output directory.

Exit codes: 0 the first bad commit is found; 1 there is none, or only a range; 2 usage error; 125 no answer.")]
pub(super) struct BisectArgs {
    /// The commits: BASE does not have the failure, HEAD has it. The search follows first parents, and continues in a merge
    /// that is the first bad commit.
    #[arg(long, value_name = "BASE..HEAD")]
    range: String,
    /// Search for this failure (the title of a crash, or the reason of a verdict) [default: the failure of the head].
    #[arg(long, value_name = "TEXT")]
    signature: Option<String>,
    /// Run the head at most N times until it fails.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    #[command(flatten)]
    order: RunOrder,
}

pub(super) async fn run(args: BisectArgs, cache: PathBuf) -> Result<u8, Failure> {
    let order = &args.order;
    check(order)?;
    let range: Range = args.range.parse().map_err(Failure::usage)?;
    let dir = Path::new(&order.test.kernel);
    let repo =
        Repo::open(dir).map_err(|error| Failure::usage(format!("{error}; pass -k DIR, a repository")))?;
    let commits = range.commits(&repo).map_err(|error| match error {
        RangeError::Git(error) => Failure::unjudged(error),
        error => Failure::usage(error),
    })?;
    let test = test(order)?;
    let signature = args.signature.as_deref().map(|text| Signature::new(None, text));
    let mut bench = Bench { order: order.clone(), cache, known: KnownFiles::default() };
    bench.say(&format!("{}: {} commits, {}", test, commits.len() - 1, args.range));
    let head = commits.last().map(|head| head.id.short().to_owned());
    let mut search = begin(&mut bench, &test, &repo, commits, signature, args.attempts).await?;
    let of_head = bench.order.test.out.join("bisect").join(head.unwrap_or_default());
    bench.known.executed = executed_files([bench.order.test.out.as_path(), &of_head]);
    mark(&mut search, &repo, &bench.known).await;
    let search = finish(&mut bench, search, &repo).await?;
    report(&search, order.json)
}

/// What a search cannot use.
fn check(order: &RunOrder) -> Result<(), Failure> {
    if order.test.tests.len() != 2 || order.test.tests[1].ends_with(".ktest") {
        return Err(Failure::usage("ktest bisect needs one test file and one subtest: FILE.ktest SUBTEST"));
    }
    let refused = [
        ("--commit", order.test.commit.is_some()),
        ("--events", order.events),
        ("--interactive", order.interactive),
        ("--dry-run", order.dry_run),
        ("-L", order.rounds.is_some()),
    ];
    match refused.iter().find(|(_, given)| *given) {
        Some((option, _)) => {
            Err(Failure::usage(format!("{option} has no meaning for ktest bisect; leave it out")))
        }
        None => Ok(()),
    }
}

/// The test, as results name it.
fn test(order: &RunOrder) -> Result<ResultKey, Failure> {
    let words = &order.test.tests;
    let file =
        TestFile::find(Path::new(&words[0]), order.test.tests_dir.as_deref()).map_err(Failure::usage)?;
    let subtest = words[1].parse().map_err(Failure::usage)?;
    ResultKey::new(&file.test, None, &order.test.environment(), &subtest).map_err(Failure::usage)
}

/// Continues an interrupted search, or begins one by running the head.
async fn begin(
    bench: &mut Bench,
    test: &ResultKey,
    repo: &Repo,
    commits: Vec<CommitInfo>,
    signature: Option<Signature>,
    attempts: u32,
) -> Result<Search, Failure> {
    let (Some(base), Some(head)) = (commits.first(), commits.last()) else {
        return Err(Failure::usage("no commits"));
    };
    let (base, head) = (base.id.clone(), head.id.clone());
    let file = RecordFile::new(&bench.order.test.out, &base, &head);
    if let Some(record) = file.unfinished(test, signature.as_ref()) {
        let (runs, builds) = record.all_runs();
        bench.say(&format!("continuing after {runs} runs and {builds} builds"));
        let search = Search::resume(&record, repo, commits, file).map_err(failure)?;
        return Ok(search.with_reverts(repo, head));
    }
    let reproduced = match signature {
        Some(signature) => Reproduced { signature, runs: Vec::new() },
        None => {
            bench.say(&format!("running the head, {}, until it fails", head.short()));
            let quiet = bench.order.json;
            reproduce(bench, &head, attempts, |tested| say(quiet, &outcome(tested))).await.map_err(failure)?
        }
    };
    bench.say(&format!("searching: {}", reproduced.signature));
    let search = Search::new(test, reproduced, commits, file).map_err(failure)?;
    Ok(search.with_reverts(repo, head))
}

/// Executes the search, and that in the second parent of a merge.
async fn finish(bench: &mut Bench, mut search: Search, repo: &Repo) -> Result<Search, Failure> {
    let quiet = bench.order.json;
    loop {
        let said = |search: &Search, commit: &CommitId, ran: Option<&Ran>| match ran {
            None => {
                let subject =
                    search.commits().iter().find(|other| other.id == *commit).map(CommitInfo::subject);
                say(
                    quiet,
                    &format!("{}; next: {} {}", progress(search), commit.short(), subject.unwrap_or("")),
                );
            }
            Some(Ran::DoesNotBuild(reason)) => say(quiet, reason),
            Some(Ran::Tested(tested)) => say(quiet, &outcome(tested)),
        };
        while search.step(bench, said).await.map_err(failure)? {}
        let Some(merged) = search.merged(repo).map_err(failure)? else {
            return Ok(search);
        };
        bench.say("the first bad commit is a merge; searching the commits that it merged");
        search = merged;
        mark(&mut search, repo, &bench.known).await;
    }
}

fn report(search: &Search, json: bool) -> Result<u8, Failure> {
    let record = search.bisection().record(search.file().id());
    search.file().write(&record).map_err(Failure::unjudged)?;
    let (runs, builds) = record.all_runs();
    if json {
        stdio::json(&record)?;
    } else {
        stdio::line(stdio::terminal::text(&conclusion(&record, search.commits())))?;
        stdio::line(format_args!(
            "  {runs} runs, {builds} builds; record: {}",
            search.file().path().display()
        ))?;
    }
    Ok(match record.state {
        State::Culprit { .. } => 0,
        State::Range { .. } | State::NotConfirmed { .. } => 1,
        State::Unresolved { .. } | State::Running | State::Cancelled => 125,
    })
}

fn failure(error: SearchError) -> Failure {
    match error {
        SearchError::Run(error) => error.into(),
        SearchError::Question(error) => Failure::usage(error),
        error => Failure::unjudged(error),
    }
}

fn outcome(tested: &Tested) -> String {
    match (&tested.outcome, &tested.reason) {
        (Outcome::Passed, _) => "passed".into(),
        (Outcome::Failed { .. }, reason) => format!("failed: {}", reason.as_deref().unwrap_or("")),
        (Outcome::NoVerdict, reason) => format!("no verdict: {}", reason.as_deref().unwrap_or("")),
    }
}

fn say(quiet: bool, text: &str) {
    if !quiet {
        stdio::message(stdio::terminal::line(&format!("bisect: {text}")));
    }
}

/// This host, on which one commit runs after another.
struct Bench {
    order: RunOrder,
    cache: PathBuf,
    /// What is known of the files of the source.
    known: KnownFiles,
}

impl Bench {
    fn say(&self, text: &str) {
        say(self.order.json, text);
    }
}

impl Lab for Bench {
    async fn run(&mut self, commit: &CommitId) -> Result<Ran, RunError> {
        let mut order = self.order.clone();
        // The logs of each commit.
        order.test.out = order.test.out.join("bisect").join(commit.short());
        let test = &order.test;
        let kernel = parse_kernel(&test.kernel, Some(commit.as_str()), &test.kernel_repos, &self.cache)
            .map_err(RunError::infrastructure)?;
        let requests = RunRequest::all(&order, &kernel, &self.cache)?;
        let request = requests.first().ok_or_else(|| RunError::Usage("no test file".into()))?;
        let mut reporter = Reporter::new(if order.json { Style::Silent } else { Style::Text });
        let began = Instant::now();
        let summary = crate::run::run(request, &mut reporter).await;
        reporter.event(Event::RunFinished { exit_code: 0 });
        // Of the first kernel: the configuration of the others is the same.
        if self.known.build.is_none() {
            let kernel = summary.as_ref().ok().and_then(|summary| summary.kernel.as_ref());
            self.known.build = kernel.and_then(|used| BuildFiles::of(&used.kernel));
        }
        let crash = reporter.record().subtests.pop().and_then(|subtest| subtest.crash);
        ran(summary?, crash.as_deref(), began.elapsed())
    }
}

/// What a run says about its commit. `crash` is the title of the crash, if the kernel crashed.
fn ran(summary: Summary, crash: Option<&str>, took: Duration) -> Result<Ran, RunError> {
    if let Some(error) = summary.infrastructure {
        return Err(RunError::Infrastructure(format!("{error}; the same command continues the search")));
    }
    let Some((_, verdict)) = summary.verdicts.into_iter().next_back() else {
        return Err(RunError::Infrastructure("the run gave no verdict".into()));
    };
    let Some(used) = summary.kernel else {
        if verdict.status() != Status::FailedToRun {
            return Err(RunError::Usage(
                "this test file runs without a kernel, so no commit makes it fail".into(),
            ));
        }
        return Ok(Ran::DoesNotBuild(verdict.reason().unwrap_or("").to_owned()));
    };
    let reason = verdict.reason().map(str::to_owned);
    let outcome = Outcome::of(verdict.status(), verdict.reason(), crash);
    let kernel = used.kernel.content().map_err(RunError::infrastructure)?;
    let built = (!used.kernel.cached).then_some(used.took);
    Ok(Ran::Tested(Tested { outcome, reason, kernel, built, took: took.saturating_sub(used.took) }))
}
