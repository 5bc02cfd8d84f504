//! `ktest doctor`.

use std::path::{Path, PathBuf};

use clap::Args;
use model::Arch;

use super::failure::Failure;
use crate::doctor::suite::{self, Suite, SuiteCheck};
use crate::doctor::{Finding, Health, examine, verdict};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest doctor                         check before the first run
  ktest doctor -a aarch64              check for guests of another architecture
  ktest doctor --suite xfstests        check also what xfstests needs of this host and of the root image
  ktest doctor --suite xfstests --kernel-config /boot/config-$(uname -r)
  ktest doctor --json | jq -r '.[] | select(.health == \"missing\") | .remedy'

Exit codes: 0 this host can run tests; 1 something is missing, or the sandbox is not effective.")]
pub(super) struct DoctorArgs {
    /// Architecture of the guests [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Check also the requirements of a test suite: xfstests or blktests.
    #[arg(long, value_name = "SUITE")]
    suite: Option<Suite>,
    /// Root image in which the programs of the suite are looked for [default: the standard one].
    #[arg(long, value_name = "FILE", requires = "suite")]
    image: Option<PathBuf>,
    /// Kernel configuration (.config) in which the options that the suite needs are looked for.
    #[arg(long, value_name = "FILE", requires = "suite")]
    kernel_config: Option<PathBuf>,
    /// Root of the test tree, with the test files of the suite.
    #[arg(long, value_name = "DIR", default_value = ".", requires = "suite")]
    tests_dir: PathBuf,
    /// Print JSON: [{"what", "health": "ok"|"weak"|"missing"|"fail", "found", "remedy"}].
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DoctorArgs, cache: &Path) -> Result<u8, Failure> {
    let arch = args.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    let (mut findings, mut output) = (Vec::new(), Ok(()));
    let mut found = |finding: Finding| {
        if !args.json && output.is_ok() {
            output = print(&finding);
        }
        findings.push(finding);
    };
    examine(arch, cache, &mut found).await;
    if let Some(suite) = args.suite {
        let DoctorArgs { image, kernel_config, tests_dir, .. } = args;
        let check = SuiteCheck { suite, arch, image, kernel_config, tests_dir };
        suite::examine(&check, cache).await.into_iter().for_each(&mut found);
    }
    output?;
    let missing = findings.iter().any(|finding| matches!(finding.health, Health::Missing | Health::Fail));
    if args.json {
        stdio::json(&findings)?;
        return Ok(u8::from(missing));
    }
    let style = if missing { style(Health::Missing) } else { style(Health::Ok) };
    stdio::line(format_args!("\n{style}{}{style:#}", verdict(&findings)))?;
    Ok(u8::from(missing))
}

fn style(health: Health) -> anstyle::Style {
    let color = match health {
        Health::Ok => anstyle::AnsiColor::Green,
        Health::Weak => anstyle::AnsiColor::Yellow,
        Health::Missing | Health::Fail => anstyle::AnsiColor::Red,
    };
    anstyle::Style::new().fg_color(Some(color.into()))
}

fn print(finding: &Finding) -> Result<(), stdio::OutputError> {
    let word = match finding.health {
        Health::Ok => "ok",
        Health::Weak => "weak",
        Health::Missing => "missing",
        Health::Fail => "FAIL",
    };
    let style = style(finding.health);
    stdio::line(format_args!("{style}{word:<8}{style:#} {:<20} {}", finding.what, finding.found))?;
    if finding.remedy.is_empty() { Ok(()) } else { stdio::line(format_args!("{:29} {}", "", finding.remedy)) }
}
