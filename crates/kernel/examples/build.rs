//! Builds a kernel into a cache and prints the time of each step:
//! `cargo run -p kernel --example build -- CACHE SOURCE[@COMMIT] [--no-sandbox] [--tolerate=OPT] [OPT[=VALUE]...]`

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use kernel::{Arch, BuildRequest, Cache, Flavor, KOption, KernelSource, Progress, Requirements};

#[tokio::main]
#[expect(clippy::too_many_lines, reason = "an example reads from top to bottom")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(cache), Some(source)) = (args.next(), args.next()) else {
        eprintln!("usage: build CACHE SOURCE[@COMMIT] [--no-sandbox] [--tolerate=OPT] [OPT[=VALUE]...]");
        return ExitCode::from(2);
    };
    let source = match source.split_once('@') {
        Some((repo, commit)) => match commit.parse() {
            Ok(commit) => KernelSource::Commit { repo: repo.into(), commit },
            Err(error) => return refuse(&error),
        },
        None => KernelSource::WorkingTree(source.into()),
    };
    let (mut sandbox, mut tolerate, mut requirements) = (true, Vec::new(), Requirements::new(Arch::X86_64));
    for arg in args {
        if arg == "--no-sandbox" {
            sandbox = false;
        } else if let Some(option) = arg.strip_prefix("--tolerate=") {
            tolerate.push(option.into());
        } else if let Some(arch) = arg.strip_prefix("--arch=") {
            match arch.parse() {
                Ok(arch) => requirements.arch = arch,
                Err(error) => return refuse(&error),
            }
        } else {
            match arg.parse::<KOption>() {
                Ok(option) => requirements.require.push(option),
                Err(error) => return refuse(&error),
            }
        }
    }
    let cache = Cache { dir: PathBuf::from(cache) };
    let request = BuildRequest {
        trust: None,
        verify_every: 0,
        source,
        flavor: Flavor::of("example", &requirements),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        sandbox,
        tolerate,
        out_log: cache.dir.join("example.log"),
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

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}
