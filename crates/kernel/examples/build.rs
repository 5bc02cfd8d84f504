//! Builds a kernel into a cache and prints the time of each step:
//! `cargo run -p kernel --example build -- CACHE SOURCE[@COMMIT] [--no-sandbox] [--predict=N] [--tolerate=OPT] [OPT[=VALUE]...]`

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use kernel::{Arch, BuildRequest, Cache, Flavor, KOption, KernelSource, Progress, Requirements};

const USAGE: &str =
    "usage: build CACHE SOURCE[@COMMIT] [--no-sandbox] [--predict=N] [--tolerate=OPT] [OPT[=VALUE]...]";

#[tokio::main]
async fn main() -> ExitCode {
    let (request, cache) = match request(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let mut last = None;
    let result = kernel::build(&request, &cache, &mut |progress| {
        // One line for each step, and one for every 100 objects.
        let phase = match &progress {
            Progress::Compiling { done, .. } => (std::mem::discriminant(&progress), done / 100),
            _ => (std::mem::discriminant(&progress), 0),
        };
        if last.replace(phase) != Some(phase) {
            println!("{:8.2} s  {progress:?}", begun.elapsed().as_secs_f64());
        }
    })
    .await;
    let seconds = begun.elapsed().as_secs_f64();
    match result {
        Ok(kernel) => {
            println!("{seconds:8.2} s  {kernel:#?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{seconds:8.2} s  {error}");
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line. The log of the build is in the cache directory.
fn request(mut args: impl Iterator<Item = String>) -> Result<(BuildRequest, Cache), Box<dyn Error>> {
    let (Some(cache), Some(source)) = (args.next(), args.next()) else { return Err(USAGE.into()) };
    let source = match source.split_once('@') {
        Some((repo, commit)) => KernelSource::Commit { repo: repo.into(), commit: commit.parse()? },
        None => KernelSource::WorkingTree(source.into()),
    };
    let (mut sandbox, mut tolerate, mut requirements) = (true, Vec::new(), Requirements::new(Arch::X86_64));
    let mut check_predicted = 0;
    for arg in args {
        if arg == "--no-sandbox" {
            sandbox = false;
        } else if let Some(every) = arg.strip_prefix("--predict=") {
            check_predicted = every.parse()?;
        } else if let Some(option) = arg.strip_prefix("--tolerate=") {
            tolerate.push(option.into());
        } else if let Some(arch) = arg.strip_prefix("--arch=") {
            requirements.arch = arch.parse()?;
        } else {
            requirements.require.push(arg.parse::<KOption>()?);
        }
    }
    let cache = Cache { dir: PathBuf::from(cache) };
    let request = BuildRequest {
        trust: None,
        verify_every: 0,
        check_predicted,
        source,
        flavor: Flavor::of("example", &requirements),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        sandbox,
        tolerate,
        out_log: cache.dir.join("example.log"),
    };
    Ok((request, cache))
}
