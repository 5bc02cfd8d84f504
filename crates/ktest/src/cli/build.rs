//! `ktest build`: builds the kernels that test files need into the store.

use std::path::{Path, PathBuf};

use clap::Args;
use kernel::{BuildError, BuildRequest, Cache, Flavor, KernelSource};
use model::Event;

use super::failure::Failure;
use super::plan::{FilesArgs, Plan};
use crate::report::{Reporter, Seconds, Style};
use crate::run::{KernelFrom, parse_kernel, progress_event};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest build -k ~/linux tests/fs/ext4/basic.ktest
  ktest build -k ~/linux --commit v6.1 tests/boot.ktest tests/fs/*/*.ktest
  git bisect run ktest build tests/boot.ktest                find the commit that broke the build

Exit codes: 0 all built; 1 a kernel does not build; 2 usage error; 125 this host cannot build.")]
pub(super) struct BuildArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Print JSON: [{"flavor", "files", "kernel", "image", "release", "cached", "objects", "duration_ms", "tolerated",
    /// "unknown_options"} or {"flavor", "files", "reason", "log"}].
    #[arg(long)]
    json: bool,
    /// Compile with N jobs [default: one per processor].
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Build without bubblewrap. The source's Makefile can then use the network and read your files.
    #[arg(long)]
    no_sandbox: bool,
    /// Continue even if this kernel option cannot get its required value (repeatable).
    #[arg(long, value_name = "OPTION")]
    tolerate: Vec<String>,
    /// Directory for the output of make, one file per flavor.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
}

/// The request for the kernel of a flavor. The log of the build is written to `out`.
fn build_request(args: &BuildArgs, source: &KernelSource, flavor: Flavor, out: &Path) -> BuildRequest {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    let out_log = out.join("out").join(format!("build.{}.log", flavor.name()));
    BuildRequest {
        source: source.clone(),
        flavor,
        jobs: args.jobs.unwrap_or_else(cpus),
        sandbox: !args.no_sandbox,
        tolerate: args.tolerate.clone(),
        trust: None,
        verify_every: 0,
        check_predicted: kernel::CHECK_PREDICTED,
        out_log,
    }
}

pub(super) async fn run(args: BuildArgs, cache: &Path) -> Result<u8, Failure> {
    let plan = Plan::of(&args.files, cache).await?;
    if let Some(broken) = plan.broken.first() {
        return Err(Failure::usage(&broken.reason));
    }
    let from = parse_kernel(&args.files.kernel, args.files.commit.as_deref(), &[], cache)?;
    let KernelFrom::Source(source) = from else {
        return Err(Failure::usage(format!(
            "-k {}: this is a kernel of the store; pass a source tree",
            args.files.kernel
        )));
    };
    let style = if args.json { Style::Silent } else { Style::Text };
    let mut reporter = Reporter::new(style);
    let out = std::path::absolute(&args.out).map_err(Failure::usage)?;
    let mut built = Vec::new();
    let mut code = 0;
    for flavor in plan.built {
        let (name, files) = (flavor.name(), flavor.files.clone());
        reporter.note(&format!("{name} for {}", files.join(" ")));
        let began = std::time::Instant::now();
        let request = build_request(&args, &source, flavor, &out);
        let mut on = |progress| reporter.event(progress_event(progress));
        let result = kernel::build(&request, &Cache { dir: cache.into() }, &mut on).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(kernel) => {
                reporter.event(Event::RunFinished { exit_code: 0 });
                let how = if kernel.cached { "from the store" } else { "built" };
                reporter.note(&format!("  {how} in {}: {}", Seconds(ms), kernel.image.display()));
                built.push(serde_json::json!({
                    "flavor": name, "files": files, "kernel": kernel.id, "image": kernel.image,
                    "release": kernel.release, "cached": kernel.cached, "objects": kernel.objects,
                    "duration_ms": ms, "tolerated": kernel.tolerated, "unknown_options": kernel.unknown_options,
                }));
            }
            Err(error @ (BuildError::DoesNotBuild { .. } | BuildError::Requirements { .. })) => {
                code = 1;
                reporter.event(Event::BuildFailed { reason: error.to_string() });
                built.push(serde_json::json!({
                    "flavor": name, "files": files, "reason": error.to_string(), "log": request.out_log,
                }));
            }
            Err(error @ BuildError::Source(_)) => return Err(Failure::usage(error)),
            Err(error @ BuildError::Infrastructure(_)) => return Err(Failure::unjudged(error)),
        }
    }
    if args.json {
        stdio::json(&built)?;
    }
    Ok(code)
}
