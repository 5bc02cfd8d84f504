//! Regenerates `src/generated/` from `schema/`; needs the `capnp` tool (`apt-get install capnproto`).
//!
//! `cargo run -p results --example generate [FOLDER]`; a test does the same in a temporary directory and compares the
//! files.

#![expect(clippy::print_stderr, reason = "a program for developers")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = std::env::args_os().nth(1).map_or_else(|| here.join("src/generated"), PathBuf::from);
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(here.join("schema")).output_path(&out).default_parent_module(vec!["generated".into()]);
    for schema in ["test_results", "branch_log", "durations"] {
        command.file(here.join("schema").join(schema).with_extension("capnp"));
    }
    match command.run() {
        Ok(()) => {
            eprintln!("written to {}; format them with rustfmt", out.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot generate: {error}; is the capnp tool installed? (apt-get install capnproto)");
            ExitCode::FAILURE
        }
    }
}
