//! Measures the store at the size of years of results: `cargo run --release -p results --example scale [DIR [COMMITS [TESTS]]]`.
//!
//! The default is 10,000 commits of 5,000 tests, 5x10^7 verdicts, which takes 12 GB and about ten minutes. The rows and
//! the published files are written directly; everything measured goes through [`Writer`] and [`Reader`]. Prints one
//! `name value unit` per line. A DIR that does not exist is created and kept; the next run measures what is in it.

#![expect(clippy::print_stderr, reason = "a program for developers")]

mod support;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use model::{BranchRef, ResultKey};
use results::{Reader, Writer};
use rusqlite::{Connection, OpenFlags, params};
use support::{FILE, commit, copy_blobs, key, median, message, millis, record, record_all, report};

/// The commits of the branch that a page lists; the second branch has all commits.
const LISTED: usize = 500;
/// The tests of the large commits.
const LARGE: [usize; 2] = [30_000, 100_000];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let base = args.next().unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let commits = args.next().map_or(Ok(10_000), |text| text.parse())?;
    let tests = args.next().map_or(Ok(5_000), |text| text.parse())?;
    let base = Path::new(&base);
    let is_kept = !base.exists() || base.join("results.db").exists();
    let scratch = if is_kept { None } else { Some(tempfile::tempdir_in(base)?) };
    let dir = scratch.as_ref().map_or(base, tempfile::TempDir::path);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if !dir.join("results.db").exists() {
        let started = Instant::now();
        runtime.block_on(fill(dir, commits, tests))?;
        eprintln!("filled in {:.0} s", started.elapsed().as_secs_f64());
    }
    report("scale_rows", (commits * tests) as f64, "count");
    report("scale_db_mb", dir.join("results.db").metadata()?.len() as f64 / 1e6, "MB");
    // Migrates a database of an earlier version: readers would read the published files.
    runtime.block_on(async { Writer::open(dir)?.close().await })?;
    queries(dir, commits, tests)?;
    runtime.block_on(writes(dir, tests))
}

/// The number of a commit that no earlier run used.
fn fresh(number: usize) -> Result<usize> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(usize::try_from(now.as_secs())? << 20 | number)
}

fn all() -> Result<BranchRef> {
    Ok("u/all".parse()?)
}

fn listed() -> Result<BranchRef> {
    Ok("u/listed".parse()?)
}

/// One commit through the writer, its copies as rows and files.
async fn fill(dir: &Path, commits: usize, tests: usize) -> Result<()> {
    let writer = Writer::open(dir)?;
    let list =
        |first: usize| (first..commits).rev().map(|at| Ok((commit(at)?, message(at)))).collect::<Result<_>>();
    writer.set_branch(&all()?, list(0)?).await?;
    writer.set_branch(&listed()?, list(commits.saturating_sub(LISTED))?).await?;
    record_all(&writer, tests, |test| Ok((commit(0)?, test))).await?;
    writer.close().await?;
    rows(&dir.join("results.db"), commits)?;
    copy_blobs(dir, commits)
}

fn rows(path: &Path, commits: usize) -> Result<()> {
    let mut database = Connection::open(path)?;
    database.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; PRAGMA journal_mode = OFF;",
    )?;
    let indexes = take_indexes(&database)?;
    database.execute_batch("CREATE TEMP TABLE copy (id INTEGER, number INTEGER, base INTEGER)")?;
    let transaction = database.transaction()?;
    transaction.execute(
        "INSERT INTO crash (title) VALUES ('kernel BUG in f1'), ('WARNING in f2'), ('KASAN: f3')",
        [],
    )?;
    for number in 1..commits {
        let (sha, base) = (commit(number)?, commit(0)?);
        transaction.execute(
            "INSERT INTO copy SELECT c.id, ?1, b.id FROM commit_ c, commit_ b WHERE c.sha = ?2 AND b.sha = ?3",
            params![i64::try_from(number)?, sha.as_str(), base.as_str()],
        )?;
    }
    let experiment = experiment_key();
    let (attempt, history) =
        (copied_columns(&transaction, "attempt")?, copied_columns(&transaction, "history")?);
    // In the order of each table.
    transaction.execute_batch(&format!(
        "CREATE TEMP TABLE sample AS SELECT * FROM attempt; CREATE TEMP TABLE counts AS SELECT * FROM facet; \
         INSERT INTO experiment SELECT {experiment}, c.id FROM copy c CROSS JOIN (SELECT min(test) AS test FROM sample GROUP BY test / {FILE}) a; \
         INSERT INTO attempt SELECT {attempt} FROM copy c CROSS JOIN sample a; \
         INSERT INTO history SELECT {history} FROM sample a CROSS JOIN copy c; \
         INSERT INTO facet SELECT c.id, a.status, a.host, a.kernel, a.tests FROM copy c CROSS JOIN counts a; \
         UPDATE commit_ SET in_history = 2, \
            (has_results, passed, failed, not_run, failed_to_run, unknown, duration_ms) = \
            (SELECT has_results, passed, failed, not_run, failed_to_run, unknown, duration_ms FROM commit_ b \
             WHERE b.id = (SELECT base FROM copy LIMIT 1)) WHERE id IN (SELECT id FROM copy);"
    ))?;
    transaction.commit()?;
    for index in indexes {
        database.execute_batch(&index)?;
    }
    database.execute_batch(
        "INSERT INTO branch_crash SELECT l.branch, a.crash, l.position, count(*) FROM branch_commit l \
            CROSS JOIN attempt a INDEXED BY crash_by_commit ON a.commit_ = l.commit_ AND a.crash IS NOT NULL GROUP BY 1, 2, 3;",
    )?;
    database.execute_batch("PRAGMA journal_mode = WAL;")?;
    Ok(())
}

/// Drops the indices of the attempts, for the time in which rows are inserted, and returns what creates them.
fn take_indexes(database: &Connection) -> Result<Vec<String>> {
    let names = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'attempt' AND sql IS NOT NULL";
    let indexes: Vec<(String, String)> = database
        .prepare(names)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (name, _) in &indexes {
        database.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    Ok(indexes.into_iter().map(|(_, sql)| sql).collect())
}

/// The key of an experiment of a commit `c` and a row `a` of the sample: far from that of the next one, as keys are.
fn experiment_key() -> String {
    format!("(c.number * 1000 + a.test / {FILE}) * 570035740967")
}

/// What selects a row for a table of attempts from a commit `c` and a row `a` of the sample: what differs between the
/// commits, and the columns of the sample.
fn copied_columns(database: &Connection, table: &str) -> Result<String> {
    let mut statement = database.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns: Vec<String> = statement
        .query_map([table], |row| row.get::<_, String>(0))?
        .map(|name| {
            Ok(match name?.as_str() {
                "commit_" => "c.id".to_owned(),
                "started" => "a.started + c.number".to_owned(),
                "crash" => "CASE WHEN a.test % 997 = c.number % 997 THEN 1 + a.test % 3 END".to_owned(),
                "experiment" => experiment_key(),
                "log_bytes" | "full_log_bytes" => "0".to_owned(),
                other => format!("a.{other}"),
            })
        })
        .collect::<rusqlite::Result<_>>()?;
    Ok(columns.join(", "))
}

fn queries(dir: &Path, commits: usize, tests: usize) -> Result<()> {
    let reader = Reader::open(dir)?;
    let (all, listed, key) = (all()?, listed()?, key(tests / 3)?);
    let history = || reader.history(&all, &key).map(Option::unwrap_or_default);
    anyhow::ensure!(history()?.iter().all(|row| row.entry.is_some()), "a verdict is missing");
    let history_ms = median(|| Ok(history()?.len()))?;
    report("scale_history_ms", history_ms, "ms");
    report(
        "scale_history_listed_ms",
        median(|| Ok(reader.history(&listed, &key)?.context("no branch")?.len()))?,
        "ms",
    );
    report(
        "scale_entry_ms",
        median(|| Ok(usize::from(reader.entry(&commit(commits / 2)?, &key)?.is_some())))?,
        "ms",
    );
    report("scale_crashes_ms", median(|| Ok(reader.crashes(&all).context("no database")?.len()))?, "ms");
    report(
        "scale_crashes_listed_ms",
        median(|| Ok(reader.crashes(&listed).context("no database")?.len()))?,
        "ms",
    );
    let wanted = |key: &ResultKey| key.as_str().contains("t12");
    report(
        "scale_filter_listed_ms",
        median(|| Ok(reader.branch_filtered(&listed, wanted)?.context("no branch")?.len()))?,
        "ms",
    );
    report(
        "scale_filter_ms",
        median(|| Ok(reader.branch_filtered(&all, wanted)?.context("no branch")?.len()))?,
        "ms",
    );
    let database = Connection::open_with_flags(dir.join("results.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let titles = "SELECT x.title, times FROM (SELECT c.crash, sum(c.attempts) AS times, min(c.position), max(c.position) \
        FROM user u JOIN branch b ON b.user = u.id AND b.name = 'all' JOIN branch_crash c ON c.branch = b.id \
        GROUP BY c.crash) JOIN crash x ON x.id = crash";
    let count = |sql: &str| -> Result<usize> {
        let mut select = database.prepare_cached(sql)?;
        let mut rows = select.query([])?;
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    };
    report("scale_crashes_by_title_ms", median(|| count(titles))?, "ms");
    Ok(())
}

async fn writes(dir: &Path, tests: usize) -> Result<()> {
    let start = Instant::now();
    let writer = Writer::open(dir)?;
    report("scale_start_ms", millis(start.elapsed()), "ms");
    report("scale_start_rss_mb", resident()?, "MB");
    anyhow::ensure!(writer.opened().unpublished == 0, "files were missing");
    let small = commit(fresh(10_000)?)?;
    let stored = record_all(&writer, 10_000, move |test| Ok((small.clone(), test))).await?;
    report("scale_store_10k_verdicts_s", stored.as_secs_f64(), "s");
    let mut large = Vec::new();
    for tests in LARGE {
        let commit = commit(fresh(tests)?)?;
        large.push(commit.clone());
        let of = commit.clone();
        record_all(&writer, tests, move |test| Ok((of.clone(), test))).await?;
        writer.flush().await?;
        let mut acknowledged = Vec::new();
        for test in 0..100 {
            let mut late = record(&commit, test)?;
            late.key = format!("late.t{test}").parse()?;
            let start = Instant::now();
            writer.record(late).await?;
            acknowledged.push(start.elapsed());
        }
        acknowledged.sort_unstable();
        report(&format!("scale_verdict_into_{tests}_ms"), millis(acknowledged[50]), "ms");
        report(&format!("scale_verdict_into_{tests}_max_ms"), millis(acknowledged[99]), "ms");
    }
    writer.flush().await?;
    let database = Connection::open_with_flags(dir.join("results.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let large = &large[0];
    let facets = "SELECT status, host, kernel, tests FROM facet WHERE commit_ = (SELECT id FROM commit_ WHERE sha = ?1)";
    let read = || -> Result<usize> {
        let mut select = database.prepare_cached(facets)?;
        let mut rows = select.query([large.as_str()])?;
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    };
    report("scale_facets_30k_ms", median(read)?, "ms");
    report("scale_tests", tests as f64, "count");
    Ok(())
}

/// The resident memory of this process in MB.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1000.0)
}
