//! Commands that send: they read a message from standard input.

use std::time::Duration;

use spawn::{Cmd, Limits};
use tokio::runtime::{Builder, Handle};

use crate::http::SendError;

/// The maximum number of bytes of output that are kept.
const OUTPUT_MAX: usize = 64 << 10;

/// Runs a command with this input, and waits for it. Not for the worker threads of a runtime.
pub fn run(argv: &[String], input: &[u8], timeout: Duration) -> Result<(), SendError> {
    let Some((program, rest)) = argv.split_first() else {
        return Err(SendError::Refused("the command is empty".into()));
    };
    let command = Cmd::new(program).args(rest).input(input).dir("/");
    let output = command.output(Limits { time: timeout, bytes: OUTPUT_MAX });
    let output = match Handle::try_current() {
        Ok(runtime) => runtime.block_on(output),
        Err(_) => match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(output),
            Err(error) => return Err(SendError::Later(error.to_string())),
        },
    };
    match output {
        Ok(output) if output.exit.success() => Ok(()),
        Ok(output) => {
            let line = crate::text::line(&output.error_line(), 200);
            Err(SendError::Later(format!("{program}: {} {line}", output.exit)))
        }
        Err(error) => Err(SendError::Later(crate::text::line(&error.to_string(), 300))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_the_message() {
        let dir = std::env::temp_dir().join(format!("ktest-notify-{}", std::process::id()));
        let run = |script: &str| {
            let argv = ["sh", "-c", script, "sh", dir.to_str().unwrap()].map(str::to_owned);
            super::run(&argv, b"message", Duration::from_secs(10))
        };
        run("cat > \"$1\"").unwrap();
        assert_eq!(std::fs::read_to_string(&dir).unwrap(), "message");
        std::fs::remove_file(&dir).unwrap();
        let error = run("echo no route >&2; exit 75").unwrap_err();
        assert!(matches!(&error, SendError::Later(text) if text.contains("no route")), "{error:?}");
        // A command may ignore its input.
        run("true").unwrap();
        assert!(super::run(&["/none".into()], b"", Duration::from_secs(10)).is_err());
    }
}
