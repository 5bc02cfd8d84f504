//! Explains why options do not have their required value, from a source tree and a final configuration:
//! `cargo run -p kernel --example explain -- SOURCE DOTCONFIG OPT[=VALUE]...`

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use kernel::KOption;
use kernel::check::check;
use kernel::dotconfig::DotConfig;
use kernel::kconfig::KconfigTree;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(source), Some(config)) = (args.next(), args.next()) else {
        eprintln!("usage: explain SOURCE DOTCONFIG OPT[=VALUE]...");
        return ExitCode::from(2);
    };
    let options: Result<Vec<KOption>, _> = args.map(|text| text.parse()).collect();
    let (options, text) = match (options, std::fs::read_to_string(&config)) {
        (Ok(options), Ok(text)) => (options, text),
        (Err(error), _) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
        (_, Err(error)) => {
            eprintln!("{config}: {error}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let tree = KconfigTree::read(Path::new(&source), "x86");
    println!("{} options defined, read in {} ms", tree.len(), begun.elapsed().as_millis());
    let checked = check(&options, &[], &DotConfig::parse(&text), &tree);
    for unmet in &checked.unmet {
        println!("{unmet}");
    }
    println!("unknown: {}", checked.unknown.join(" "));
    ExitCode::SUCCESS
}
