//! How long it takes until an amended message is pushed and all results are there: 50 commits with 100 subtests each, of which 25
//! get new ids. Includes the start of the daemon and its fetch.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use model::{CommitId, Env, ResultKey, Verdict};
use results::{CommitDetails, Reader, VerdictRecord, Writer};
use testkit::ScratchRepo;

/// The first argument of the process that is the daemon.
pub const DAEMON: &str = "daemon";
const COMMITS: usize = 50;
const AMENDED: usize = 25;
const FILES: usize = 10;
const SUBTESTS: usize = 10;

/// Runs the daemon with these arguments.
pub fn daemon(args: impl Iterator<Item = OsString>) -> Result<()> {
    let code = ci_daemon::cli::main_from(std::iter::once("ci-daemon".into()).chain(args));
    ensure!(code == 0, "the daemon ended with {code}");
    Ok(())
}

/// Prints the figure.
pub fn measure() -> Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR"))?;
    let (linux, repo) = (ScratchRepo::new(), ScratchRepo::new());
    linux.commit("unrelated", &[("x", "")]);
    for number in 0..COMMITS {
        repo.commit(&format!("commit {number}"), &[("x", &number.to_string())]);
    }
    write_farm(dir.path(), linux.url(), repo.url())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(fill(dir.path(), &repo))?;
    once(dir.path(), &runtime)?;
    amend(&repo);
    let start = Instant::now();
    once(dir.path(), &runtime)?;
    let took = start.elapsed();
    let reader = Reader::open(dir.path().join("data"))?;
    for (age, commit) in commits(&repo).iter().enumerate() {
        let entries = reader.commit(commit)?.map(|results| results.entries).unwrap_or_default();
        let inherited = entries.iter().filter(|entry| entry.decisive.ran_at.is_some()).count();
        let expected = if age < AMENDED { FILES * SUBTESTS } else { 0 };
        ensure!(
            entries.len() == FILES * SUBTESTS && inherited == expected,
            "{commit}: {inherited} inherited"
        );
    }
    println!("amend_seconds {:.2} s", took.as_secs_f64());
    Ok(())
}

/// The configuration and the test files. No test must run: the command fails.
fn write_farm(dir: &Path, linux: &str, remote: &str) -> Result<()> {
    let tests = dir.join("kt/tests/t");
    std::fs::create_dir_all(&tests)?;
    let mut names = Vec::new();
    for number in 0..FILES {
        let path = tests.join(format!("f{number}.ktest"));
        std::fs::write(&path, "#!/bin/bash\necho s{0..9}\n")?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        names.push(format!("\"t/f{number}.ktest\""));
    }
    let config = format!(
        "linux_repo = {linux:?}\noutput_dir = \"data\"\nktest_dir = \"kt\"\nuser = \"u\"\n\
         [test_group.g]\ntests = [{}]\n[branch.next]\nremote = {remote:?}\nref = \"master\"\ntest_groups = [\"g\"]\n",
        names.join(", ")
    );
    std::fs::write(dir.join("ci.toml"), config)?;
    Ok(())
}

fn commits(repo: &ScratchRepo) -> Vec<CommitId> {
    repo.git(["rev-list", "HEAD"]).lines().map(|line| line.parse().expect("a commit id")).collect()
}

/// Records the results of all commits, as the daemon does.
async fn fill(dir: &Path, repo: &ScratchRepo) -> Result<()> {
    std::fs::create_dir_all(dir.join("data"))?;
    let writer = Writer::open(dir.join("data"))?;
    for commit in commits(repo) {
        let mut records = Vec::new();
        for (file, subtest) in (0..FILES * SUBTESTS).map(|at| (at / SUBTESTS, at % SUBTESTS)) {
            let (file, subtest) = (format!("t/f{file}").parse()?, format!("s{subtest}").parse()?);
            let key = ResultKey::new(&file, None, &Env::default(), &subtest)?;
            let record = VerdictRecord::new(commit.clone(), key, Verdict::Passed, Duration::from_secs(1));
            records.push(VerdictRecord { domain: Some("user/u".parse()?), ..record });
        }
        try_join_all(records.into_iter().map(|record| writer.record(record))).await?;
        let tree = repo.git(["rev-parse", &format!("{commit}^{{tree}}")]);
        writer.set_details(vec![(commit, CommitDetails { tree, author: "A".into(), date: 1 })]).await?;
    }
    Ok(writer.close().await?)
}

/// Gives the commit in the middle another message.
fn amend(repo: &ScratchRepo) {
    let list = repo.git(["rev-list", "--reverse", &format!("HEAD~{AMENDED}..HEAD")]);
    let mut parent = repo.git(["rev-parse", &format!("HEAD~{AMENDED}")]);
    for commit in list.lines() {
        let tree = format!("{commit}^{{tree}}");
        parent = repo.git(["commit-tree", "-p", &parent, "-m", "in better words", &tree]);
    }
    repo.git(["reset", "-q", "--hard", &parent]);
}

fn once(dir: &Path, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let config = dir.join("ci.toml");
    let cmd = spawn::Cmd::new(std::env::current_exe()?).arg(DAEMON);
    let cmd = cmd.arg("--config").arg(&config).arg("--ktest").arg("/bin/false").arg("--once");
    let output = runtime.block_on(cmd.output(spawn::Limits::seconds(120)))?;
    ensure!(output.exit.success(), "{}: {}", output.exit, output.error_line());
    Ok(())
}
