//! `ktest sandbox`: a command in the sandbox of builds, for the library of the test files (`lib/suite.sh`).

use std::ffi::OsString;
use std::path::PathBuf;

use ::sandbox::Sandbox;
use clap::Args;
use spawn::{Exit, Stream};

use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
    /// The only directory that the command can write to, and its working directory.
    #[arg(long, value_name = "DIR")]
    writable: PathBuf,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) async fn run(args: SandboxArgs) -> Result<u8, Failure> {
    ::sandbox::probe().await.map_err(Failure::unjudged)?;
    let dir = std::path::absolute(&args.writable).map_err(Failure::usage)?;
    let (program, words) = args.command.split_first().ok_or_else(|| Failure::usage("no command given"))?;
    let cmd = Sandbox::new().writable(&dir, &dir).dir(&dir).command(program).args(words);
    let cmd = cmd.streams(Stream::Null, Stream::Inherit, Stream::Inherit);
    match cmd.start().map_err(Failure::unjudged)?.wait().await.map_err(Failure::unjudged)? {
        Exit::Code(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        exit @ Exit::Signal(_) => Err(Failure::unjudged(format!("{} was {exit}", program.display()))),
    }
}
