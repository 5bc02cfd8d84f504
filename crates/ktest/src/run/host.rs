//! Test files that declare `config-no-vm`: their subtests run on the host, with the same supervision as in a guest.
//!
//! The sandbox has no network and sees only the tests; only the output directory is writable.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use model::{AccelChoice, SubtestName};
use rustix::process::Signal;
use sandbox::Sandbox;
use spawn::{Child, Cmd, Exit, Stream};
use testfile::TestFile;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use vm::console::LineSplitter;
use vm::session::SessionInput;
use vm::supervise::{Action, LibraryLines, Protocol, Supervisor, TimeLimits, Token, VmEnd, VmOutcome};

use super::error::RunError;
use super::phases::Declared;
use super::quota::Quota;
use super::results::Results;
use super::retry::{Attempt, AttemptEnd, Change, RetryPolicy, supervise};

/// Prints the same lines as a guest's init.
const SCRIPT: &str = include_str!("host.bash");
/// The time limit until the file's `init` starts.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// The time limit from the last verdict to the exit of the command.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Runs the subtests on the host.
pub(super) async fn run(
    declared: &Declared<'_>,
    subtests: Vec<SubtestName>,
    results: &mut Results<'_>,
) -> Result<(), RunError> {
    if declared.request.sandbox() {
        sandbox::probe().await.map_err(RunError::infrastructure)?;
    }
    let policy = RetryPolicy {
        unit: "attempts",
        retry_infrastructure: false,
        accel: AccelChoice::Tcg,
        failfast: declared.request.order.failfast,
        interactive: false,
        boot_only: false,
        fruitless: 0,
    };
    let file = declared.file.as_ref().expect("a run has a test file");
    supervise(&mut Host { declared, file }, policy, subtests, results).await
}

/// Executions on the host.
struct Host<'a> {
    declared: &'a Declared<'a>,
    file: &'a TestFile,
}

impl Attempt for Host<'_> {
    async fn execute(
        &mut self,
        subtests: &[SubtestName],
        results: &mut Results<'_>,
    ) -> Result<AttemptEnd, RunError> {
        let token = Token::random();
        let cmd = self.command(subtests, &results.out.files(), &token)?;
        if self.declared.request.order.dry_run {
            results.summary.command = Some(cmd.to_string());
            return Ok(AttemptEnd::DryRun);
        }
        let quota = Quota::new(&results.out.files(), self.declared.request.order.max_output.0);
        let (outcome, cut_short) =
            once(&cmd, &quota, self.supervisor(subtests, token, results), results).await?;
        Ok(match outcome {
            VmOutcome::Complete if !cut_short => AttemptEnd::NeverRan,
            VmOutcome::Complete | VmOutcome::Lost | VmOutcome::Rebooting => AttemptEnd::Interrupted,
            VmOutcome::InitFailed(reason) => AttemptEnd::NotStarted { reason, is_final: true },
            // The first line is printed before any code of the test file runs.
            VmOutcome::NoBoot { reason, .. } => {
                AttemptEnd::Infrastructure(format!("bash does not start in the sandbox: {reason}"))
            }
            VmOutcome::Infrastructure(what) => AttemptEnd::Infrastructure(what),
        })
    }

    fn change(&mut self, _: Change) {}

    fn console_log(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl Host<'_> {
    fn supervisor(&self, subtests: &[SubtestName], token: Token, results: &Results<'_>) -> Supervisor {
        let declared = &self.declared.declared;
        let limits = TimeLimits {
            boot: BOOT_LIMIT,
            subtest: declared.timeout,
            shutdown: SHUTDOWN_LIMIT,
            watchdog_scale: 1,
            interactive: false,
        };
        let library = match declared.marks_with_token {
            true => LibraryLines::Token,
            false => LibraryLines::Output,
        };
        let protocol = Protocol { token, library };
        let now = results.reporter.began().elapsed();
        Supervisor::new(subtests.iter().cloned(), limits, protocol, now).without_kernel()
    }

    /// The command: bash with the script, in the sandbox.
    fn command(&self, subtests: &[SubtestName], out: &Path, token: &Token) -> Result<Cmd, RunError> {
        let env = self.environment(subtests, out);
        let (file, host_env) = (self.file, &self.declared.host_env);
        let script = ["bash", "--norc", "-c", SCRIPT, "ktest"];
        let cmd = if self.declared.request.sandbox() {
            let mut sandbox = Sandbox::new().read_only(&file.ktest_dir, &file.ktest_dir);
            if host_env.deps_dir.is_dir() {
                let shown = testfile::clones::show(sandbox, &host_env.deps_dir);
                sandbox = shown.map_err(RunError::infrastructure)?;
            }
            // A later mount hides an earlier one: the output directory can be inside one of the others.
            sandbox = sandbox.writable(out, out);
            let sandbox = env.iter().fold(sandbox, |sandbox, (name, value)| sandbox.env(name, value));
            sandbox.command(script[0]).args(&script[1..])
        } else {
            let cmd = Cmd::new(script[0]).args(&script[1..]).env_clear();
            env.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value))
        };
        Ok(cmd.arg(token.as_str()).arg(&file.path).args(subtests.iter().map(SubtestName::as_str)))
    }

    /// The variables of the contract, with paths of the host.
    fn environment(&self, subtests: &[SubtestName], out: &Path) -> Vec<(String, String)> {
        let Declared { request, declared, host_env, .. } = self.declared;
        let file = self.file;
        let tests = subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>().join(" ");
        let path = |path: &Path| path.display().to_string();
        let own = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME", "/tmp".into()),
            ("LANG", "C.UTF-8".into()),
            ("ktest_arch", declared.kernel.arch.to_string()),
            ("ktest_compiler", declared.kernel.compiler_name().into()),
            ("ktest_timeout", declared.timeout_seconds().to_string()),
            ("ktest_tests_unknown", declared.tests_unknown.to_string()),
            ("ktest_no_vm", "true".into()),
            ("ktest_no_kbuild", declared.no_kbuild.to_string()),
            ("ktest_dir", path(&file.ktest_dir)),
            ("ktest_out", path(out)),
            ("ktest_tmp", "/tmp".into()),
            ("ktest_deps_dir", path(&host_env.deps_dir)),
            ("ktest_test", path(&file.path)),
            ("ktest_tests", tests),
            ("ktest_kernel_version", host_env.kernel_version.clone()),
            ("ktest_verbose", "false".into()),
            ("ktest_interactive", "false".into()),
            ("ktest_failfast", request.order.failfast.to_string()),
            ("ktest_priority", "0".into()),
            ("ktest_crashdump", "false".into()),
        ];
        let markers = declared.marks_with_token.then(|| ("ktest_markers", "token".to_owned()));
        let own = own.into_iter().chain(markers).map(|(name, value)| (name.to_owned(), value));
        request.inherited().chain(own).chain(request.env()).collect()
    }
}

/// Runs the command until it exits or exceeds its time limit. The flag is true if a subtest ended it early.
async fn once(
    cmd: &Cmd,
    quota: &Quota,
    mut supervisor: Supervisor,
    results: &mut Results<'_>,
) -> Result<(VmOutcome, bool), RunError> {
    let clock = results.reporter.began();
    let cmd = cmd.clone().streams(Stream::Null, Stream::Pipe, Stream::Null);
    let mut child = match cmd.start() {
        Ok(child) => child,
        Err(error) => return Ok((VmOutcome::Infrastructure(error.to_string()), false)),
    };
    let files = results.out.files();
    let (sender, exceeded) = unbounded_channel();
    let watch = quota.watch(&files, sender);
    let ended = until_end(&mut child, &mut supervisor, exceeded, results).await;
    watch.abort();
    let exit = match child.stop(Duration::from_secs(5)).await {
        Ok(exit) => exit,
        Err(error) => return Ok((VmOutcome::Infrastructure(error.to_string()), false)),
    };
    if quota.exceeded(&files).is_some() {
        quota.clear();
    }
    let end = match (ended?, exit) {
        (OutputEnd::HostFailed(error), _) => return Ok((VmOutcome::Infrastructure(error), false)),
        (OutputEnd::Killed, _) => VmEnd::Killed,
        // Bubblewrap reports a command that was killed by signal N with exit code 128 + N. SIGXFSZ: a file was too large.
        (OutputEnd::Closed, Exit::Code(153)) => VmEnd::Died(format!("bash was {}", Exit::Signal(25))),
        (OutputEnd::Closed, Exit::Code(_)) => VmEnd::Guest,
        (OutputEnd::Closed, exit @ Exit::Signal(_)) => VmEnd::Died(format!("bash was {exit}")),
    };
    let (actions, outcome) = supervisor.ended(end, clock.elapsed());
    actions.into_iter().try_for_each(|action| apply(action, results))?;
    Ok((outcome, supervisor.cut_short()))
}

/// Why the output of the command ended.
enum OutputEnd {
    /// The command closed it.
    Closed,
    /// It exceeded a limit and was killed.
    Killed,
    /// This host failed.
    HostFailed(String),
}

/// Passes the output of the command to the supervisor until it ends.
async fn until_end(
    child: &mut Child,
    supervisor: &mut Supervisor,
    mut exceeded: UnboundedReceiver<SessionInput>,
    results: &mut Results<'_>,
) -> Result<OutputEnd, RunError> {
    let clock = results.reporter.began();
    let (mut stdout, mut lines) = (child.take_stdout(), LineSplitter::default());
    let (mut buffer, mut end) = (vec![0; 64 << 10], OutputEnd::Closed);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut text: Vec<String> = Vec::new();
    loop {
        let mut actions = Vec::new();
        tokio::select! {
            biased;
            _ = tick.tick() => results.out.flush().map_err(RunError::log)?,
            Some(input) = exceeded.recv() => match input {
                SessionInput::GiveUp(reason) => actions = supervisor.give_up(reason),
                SessionInput::InfrastructureError(error) => return Ok(OutputEnd::HostFailed(error)),
                SessionInput::Console(_) | SessionInput::Sysrq(_) | SessionInput::Kill => {}
            },
            count = read(&mut stdout, &mut buffer) => match count {
                Ok(0) => break,
                Err(error) => return Ok(OutputEnd::HostFailed(format!("cannot read the output of the tests: {error}"))),
                Ok(count) => lines.feed(&buffer[..count], |line| text.push(line.to_owned())),
            },
        }
        feed(&std::mem::take(&mut text), supervisor, clock, results)?;
        actions.extend(supervisor.tick(clock.elapsed()));
        for action in actions {
            if action == Action::Kill {
                end = OutputEnd::Killed;
                child.signal(Signal::KILL);
            }
            apply(action, results)?;
        }
    }
    lines.finish(|line| text.push(line.to_owned()));
    feed(&text, supervisor, clock, results)?;
    Ok(end)
}

fn feed(
    lines: &[String],
    supervisor: &mut Supervisor,
    clock: Instant,
    results: &mut Results<'_>,
) -> Result<(), RunError> {
    for line in lines {
        let line = supervisor.read(line);
        results.out.line(&line.text, clock.elapsed()).map_err(RunError::log)?;
        supervisor.line(&line, clock.elapsed()).into_iter().try_for_each(|action| apply(action, results))?;
    }
    Ok(())
}

fn apply(action: Action, results: &mut Results<'_>) -> Result<(), RunError> {
    match action {
        Action::Started(subtest) => results.started(subtest),
        Action::Finished(finished) => results.verdict(finished, None),
        // Without a VM, there is no monitor.
        Action::GuestUp | Action::Kill | Action::Sysrq(_) | Action::Monitor(_) => Ok(()),
    }
}

/// Returns the number of bytes read; 0 at the end of the stream.
async fn read(stream: &mut Option<tokio::process::ChildStdout>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => Ok(0),
    }
}
