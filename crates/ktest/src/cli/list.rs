//! `ktest list`.

use std::path::{Path, PathBuf};

use clap::Args;
use model::SubtestName;

use super::failure::Failure;
use testfile::{HostEnv, TestFile};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest list tests/fs/ext4/basic.ktest
  ktest list --json tests/fs/*/*.ktest | jq 'map(.subtests | length) | add'

Exit codes: 0 success; 2 a file cannot be used.")]
pub(super) struct ListArgs {
    /// Test files.
    #[arg(value_name = "FILE.ktest", required = true)]
    files: Vec<PathBuf>,
    /// Root of the test tree [default: found from the file's path].
    #[arg(long, value_name = "DIR")]
    tests_dir: Option<PathBuf>,
    /// Directory for `require-git` clones [default: deps in the cache directory].
    #[arg(long, value_name = "DIR")]
    deps_dir: Option<PathBuf>,
    /// Print JSON: [{"test", "subtests": [...]}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, serde::Serialize)]
struct Listed {
    test: model::TestPath,
    subtests: Vec<SubtestName>,
}

pub(super) async fn run(args: ListArgs, cache: &Path) -> Result<u8, Failure> {
    let deps_dir = super::deps_dir(args.deps_dir.as_deref(), cache)?;
    let env = HostEnv { deps_dir, out: "ktest-out".into(), ..HostEnv::default() };
    let mut all = Vec::new();
    for file in &args.files {
        let file = TestFile::find(file, args.tests_dir.as_deref()).map_err(Failure::usage)?;
        let subtests = file.list_tests(&env).await.map_err(Failure::usage)?;
        all.push(Listed { test: file.test, subtests });
    }
    if args.json {
        stdio::json(&all)?;
        return Ok(0);
    }
    for listed in all {
        stdio::line(listed.test)?;
        for subtest in listed.subtests {
            stdio::line(format_args!("  {subtest}"))?;
        }
    }
    Ok(0)
}
