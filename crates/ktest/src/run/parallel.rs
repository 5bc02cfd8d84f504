//! `--until-believed --vms N`: further runs of a claim, several at the same time. Each is a process of its own, with its files in
//! `OUT/vm-<number>`.

use std::path::PathBuf;
use std::time::Duration;

use belief::{FixClaim, FixState};
use model::{Conditions, Event, RunOrder, SubtestName, TestOrder, Verdict};
use serde::Deserialize;
use spawn::{Cmd, Limits, Stream};
use tokio::task::JoinSet;

use super::believe;
use super::error::RunError;
use super::kernel_arg::KernelFrom;
use super::phases::Prepared;
use super::request::RunRequest;
use super::results::Results;

/// A run has limits of its own. This one ends a process that hangs.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The maximum size of the record of a run.
const RECORD_MAX: usize = 16 << 20;

/// What is read of the record of `ktest run --json`.
#[derive(Debug, Deserialize)]
struct Document {
    runs: Vec<RunRecord>,
}

#[derive(Debug, Deserialize)]
struct RunRecord {
    infrastructure: Option<String>,
    subtests: Vec<RunVerdict>,
}

#[derive(Debug, Deserialize)]
struct RunVerdict {
    subtest: SubtestName,
    #[serde(flatten)]
    verdict: Verdict,
    duration_ms: u64,
    crash: Option<String>,
    dir: PathBuf,
    #[serde(flatten)]
    conditions: Conditions,
}

/// Runs the subtest until its passes prove the claim, or one run ends otherwise. The kernel is in the store by now.
pub(super) async fn rounds(
    prepared: &Prepared<'_>,
    subtest: &SubtestName,
    results: &mut Results<'_>,
) -> Result<(), RunError> {
    let request = prepared.run.request;
    let ktest = std::env::current_exe().map_err(RunError::infrastructure)?;
    let mut running = JoinSet::new();
    loop {
        let free = wanted(results.summary.claim.as_ref(), request.vms).saturating_sub(running.len());
        for _ in 0..free {
            results.summary.rounds += 1;
            let place = format!("vm-{}", results.summary.rounds);
            let order = order(request, prepared.kernel.id.as_str(), subtest, results.out.dir().join(&place));
            let cmd =
                Cmd::new(&ktest).arg("--cache-dir").arg(&request.cache).arg("run").args(order.to_argv());
            running.spawn(async move { (place, run(cmd).await) });
        }
        let Some(ended) = running.join_next().await else { return Ok(()) };
        let (place, ended) = ended.map_err(RunError::infrastructure)?;
        let is_over = match ended {
            Ok(record) => count(record, &place, results),
            Err(what) => {
                results.infrastructure(format!("{place}: {what}"));
                true
            }
        };
        if let Some(claim) = &results.summary.claim {
            results.reporter.note(&believe::progress(claim));
        }
        if is_over || results.reporter.broken() {
            // Dropping the processes ends them.
            running.shutdown().await;
            return Ok(());
        }
    }
}

/// The number of runs at a time: not more than are missing.
fn wanted(claim: Option<&FixClaim>, vms: u32) -> usize {
    let missing = claim.filter(|claim| claim.state() == FixState::Unproven);
    let missing = missing.map_or(0, |claim| claim.needed().saturating_sub(claim.passes()).max(1));
    usize::try_from(missing.min(vms)).unwrap_or(usize::MAX)
}

/// The order of one run of the subtest.
fn order(request: &RunRequest, kernel: &str, subtest: &SubtestName, out: PathBuf) -> RunOrder {
    let mut test: TestOrder = request.order.test.clone();
    test.tests = vec![request.file.to_string_lossy().into_owned(), subtest.to_string()];
    test.out = out;
    if matches!(request.kernel, KernelFrom::Source(_)) {
        // The source can change while the runs go on.
        test.kernel = kernel.to_owned();
        test.commit = None;
        test.merge = Vec::new();
    }
    RunOrder { test, json: true, junit: None, verbose: false, ..request.order.clone() }
}

/// One run. The error is one line.
async fn run(cmd: Cmd) -> Result<RunRecord, String> {
    let cmd = cmd.streams(Stream::Null, Stream::Pipe, Stream::Pipe);
    let limits = Limits { time: LIMIT, bytes: RECORD_MAX };
    let output = cmd.output(limits).await.map_err(|error| error.to_string())?;
    let document: Result<Document, _> = serde_json::from_slice(&output.stdout);
    let last_line = || {
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("ktest run printed nothing")
            .to_owned()
    };
    let record = document.ok().and_then(|document| document.runs.into_iter().next());
    record.ok_or_else(last_line)
}

/// Counts a run. Returns whether it is the last one that matters.
fn count(record: RunRecord, place: &str, results: &mut Results<'_>) -> bool {
    if let Some(what) = record.infrastructure {
        results.infrastructure(format!("{place}: {what}"));
        return true;
    }
    let Some(RunVerdict { subtest, verdict, duration_ms, crash, dir, conditions }) =
        record.subtests.into_iter().next()
    else {
        results.infrastructure(format!("{place}: the run has no verdict"));
        return true;
    };
    results.judged(&subtest, &verdict, Duration::from_millis(duration_ms));
    let dir = PathBuf::from(place).join(dir);
    let passed = verdict == Verdict::Passed;
    let source = None;
    results.reporter.event(Event::Verdict { subtest, verdict, duration_ms, crash, source, dir, conditions });
    let claim = results.summary.claim.as_ref();
    !passed || !claim.is_some_and(|claim| believe::goes_on(claim, &results.summary))
}

#[cfg(test)]
mod tests {
    use belief::{Confidence, Evidence};

    use super::*;
    use crate::out::Out;
    use crate::report::{Reporter, Style};

    fn claim() -> FixClaim {
        FixClaim::new(Evidence::ONE, Confidence::USUAL, None)
    }

    #[test]
    fn not_more_runs_than_are_missing() {
        let mut claim = claim();
        assert_eq!((claim.needed(), wanted(Some(&claim), 3), wanted(Some(&claim), 9)), (5, 3, 5));
        for _ in 0..4 {
            claim.passed(Duration::from_secs(1));
        }
        assert_eq!(wanted(Some(&claim), 3), 1);
        claim.passed(Duration::from_secs(1));
        assert_eq!((wanted(Some(&claim), 3), wanted(None, 3)), (0, 0));
    }

    #[test]
    fn a_run_has_the_kernel_of_the_store_and_files_of_its_own() {
        let source = KernelFrom::Source(kernel::KernelSource::WorkingTree("/src/linux".into()));
        let mut request = RunRequest::new("/kt/tests/fs/a.ktest", source, "/cache".into());
        request.order.test.kernel = "/src/linux".into();
        request.order.test.tests = vec!["/kt/tests/fs/a.ktest".into(), "x".into()];
        let words = |request: &RunRequest| {
            let argv = order(request, "beef", &"x".parse().unwrap(), "/out/vm-2".into()).to_argv();
            argv.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(&request), "--json -k beef --out /out/vm-2 /kt/tests/fs/a.ktest x");
        request.kernel = KernelFrom::Named("debian/trixie".parse().unwrap());
        request.order.test.kernel = "debian/trixie".into();
        assert!(words(&request).contains("-k debian/trixie "), "{}", words(&request));
    }

    #[test]
    fn verdicts_are_counted_and_a_failure_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut reporter = Reporter::new(Style::Silent);
        let out = Out::create(dir.path(), &"fs/a".parse().unwrap(), &["x".parse().unwrap()]).unwrap();
        let mut results = Results::new(out, &mut reporter, false);
        results.summary.claim = Some(claim());
        let record = |text: &str| serde_json::from_str::<Document>(text).unwrap().runs.remove(0);
        let verdict = |verdict: &str| {
            record(&format!(
                r#"{{"version":1,"exit_code":0,"runs":[{{"test":"fs/a","infrastructure":null,"subtests":[
                {{"subtest":"x",{verdict},"duration_ms":900,"crash":null,"dir":"out/fs.a.x","load":50}}]}}]}}"#
            ))
        };
        assert!(!count(verdict(r#""status":"Passed""#), "vm-2", &mut results));
        assert_eq!(results.summary.claim.as_ref().map(FixClaim::passes), Some(1));
        assert!(count(verdict(r#""status":"Failed","reason":"lost""#), "vm-3", &mut results));
        assert_eq!(results.summary.exit_code(), 1);
        let broken = record(r#"{"runs":[{"infrastructure":"no space","subtests":[]}]}"#);
        assert!(count(broken, "vm-4", &mut results));
        assert_eq!(results.summary.infrastructure.as_deref(), Some("vm-4: no space"));
    }
}
