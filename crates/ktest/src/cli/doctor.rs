//! `ktest doctor`.

use std::path::Path;

use clap::Args;
use model::Arch;

use super::failure::Failure;
use crate::doctor::{Health, examine};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest doctor                         check before the first run
  ktest doctor -a aarch64              check for guests of another architecture
  ktest doctor --json | jq -r '.[] | select(.health == \"missing\") | .remedy'

Exit codes: 0 this host can run tests; 1 something is missing, or the sandbox is not effective.")]
pub(super) struct DoctorArgs {
    /// Architecture of the guests [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Print JSON: [{"what", "health": "ok"|"weak"|"missing"|"fail", "found", "remedy"}].
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DoctorArgs, cache: &Path) -> Result<u8, Failure> {
    let arch = args.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    let findings = examine(arch, cache).await;
    let missing = findings.iter().any(|finding| matches!(finding.health, Health::Missing | Health::Fail));
    if args.json {
        stdio::json(&findings)?;
        return Ok(u8::from(missing));
    }
    for finding in &findings {
        let (word, color) = match finding.health {
            Health::Ok => ("ok", anstyle::AnsiColor::Green),
            Health::Weak => ("weak", anstyle::AnsiColor::Yellow),
            Health::Missing => ("missing", anstyle::AnsiColor::Red),
            Health::Fail => ("FAIL", anstyle::AnsiColor::Red),
        };
        let style = anstyle::Style::new().fg_color(Some(color.into()));
        stdio::line(format_args!("{style}{word:<8}{style:#} {:<20} {}", finding.what, finding.found))?;
        if !finding.remedy.is_empty() {
            stdio::line(format_args!("{:29} {}", "", finding.remedy))?;
        }
    }
    Ok(u8::from(missing))
}
