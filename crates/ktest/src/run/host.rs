//! Test files that declare `config-no-vm`: their subtests run on the host, in a sandbox without network that sees the
//! tests and writes to the output folder only, under the same supervision as a guest's.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use ::kernel::sandbox::{self, Mount};
use model::{Event, Status, SubtestName};
use rustix::process::Signal;
use spawn::{Cmd, Exit, Stream};
use tokio::io::AsyncReadExt;
use vm::console::LineSplitter;
use vm::supervise::{Action, Supervisor, TimeLimits, VmEnd, VmOutcome};

use super::{Run, RunError, RunOptions};
use testfile::declare::Declarations;
use testfile::{HostEnv, TestFile};

/// What is said by a guest's init, for a file that has none.
const SCRIPT: &str = include_str!("host.bash");
/// Until the file's `init` begins.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// From the last verdict to the end of all that was started.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// How often the rest of the subtests is begun again when none starts.
const ATTEMPTS: u32 = 3;

/// What is known of the run.
pub(super) struct Prepared<'a> {
    pub(super) options: &'a RunOptions,
    pub(super) file: &'a TestFile,
    pub(super) declared: &'a Declarations,
    pub(super) host_env: &'a HostEnv,
}

/// Runs the subtests; each ends with a verdict in `run`, unless `run.summary.infrastructure` says why not.
pub(super) async fn run(
    prepared: &Prepared<'_>,
    mut remaining: Vec<SubtestName>,
    run: &mut Run<'_>,
) -> Result<(), RunError> {
    if prepared.options.sandbox {
        sandbox::probe().await.map_err(|error| RunError::Infrastructure(error.to_string()))?;
    }
    let mut fruitless = 0;
    loop {
        let cmd = command(prepared, &remaining, run.out.dir());
        if prepared.options.dry_run {
            run.summary.command = Some(cmd.to_string());
            return Ok(());
        }
        let before = run.summary.verdicts.len();
        let (ending, cut_short) = once(&cmd, prepared.declared.timeout, &remaining, run).await?;
        remaining.retain(|subtest| !run.summary.verdicts.iter().any(|(done, _)| done == subtest));
        let failed = run.summary.count(Status::Failed) > 0;
        if remaining.is_empty() || run.reporter.broken() || (prepared.options.failfast && failed) {
            return Ok(());
        }
        fruitless = if run.summary.verdicts.len() > before { 0 } else { fruitless + 1 };
        let reason = match ending {
            VmOutcome::Complete if !cut_short => "the file lists it, but run-tests never ran it".into(),
            VmOutcome::InitFailed(reason) | VmOutcome::NoBoot { reason, .. } => reason,
            VmOutcome::Infrastructure(what) => {
                run.reporter.event(Event::Infrastructure { what: what.clone() });
                run.summary.infrastructure = Some(what);
                return Ok(());
            }
            _ if fruitless >= ATTEMPTS => format!("run-tests started no subtest in {ATTEMPTS} attempts"),
            _ => continue,
        };
        return remaining.into_iter().try_for_each(|subtest| run.failed_to_run(subtest, &reason, &[]));
    }
}

/// The whole command: bash with our script, in the sandbox.
fn command(prepared: &Prepared<'_>, subtests: &[SubtestName], out: &Path) -> Cmd {
    let env = environment(prepared, subtests, out);
    let Prepared { options, file, host_env, .. } = prepared;
    let script = ["bash", "--norc", "-c", SCRIPT, "ktest"];
    let cmd = if options.sandbox {
        let mount = |path: &Path, writable| Mount { host: path.into(), inside: path.into(), writable };
        let mut mounts = vec![mount(&file.ktest_dir, false)];
        if host_env.deps_dir.is_dir() {
            mounts.push(mount(&host_env.deps_dir, false));
        }
        // Last, so that it is writable where it lies in one of the others.
        mounts.push(mount(out, true));
        let env: Vec<(&str, OsString)> =
            env.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
        let argv = sandbox::argv(&sandbox::root_entries(), &mounts, &env, Path::new("/tmp"));
        Cmd::new(&argv[0]).args(&argv[1..]).args(script)
    } else {
        let cmd = Cmd::new(script[0]).args(&script[1..]).env_clear();
        env.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value))
    };
    cmd.arg(&file.path).args(subtests.iter().map(SubtestName::as_str))
}

/// What the subtests find in their environment: the contract's variables, with paths of the host.
fn environment(prepared: &Prepared<'_>, subtests: &[SubtestName], out: &Path) -> Vec<(String, String)> {
    let Prepared { options, file, declared, host_env } = prepared;
    let tests = subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>().join(" ");
    let path = |path: &Path| path.display().to_string();
    let own = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("HOME", "/tmp".into()),
        ("LANG", "C.UTF-8".into()),
        ("ktest_arch", declared.kernel.arch.to_string()),
        ("ktest_compiler", declared.kernel.compiler_name().into()),
        ("ktest_timeout", declared.timeout.as_secs().to_string()),
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
        ("ktest_failfast", options.failfast.to_string()),
        ("ktest_priority", "0".into()),
        ("ktest_crashdump", "false".into()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(options.env.iter().cloned()).collect()
}

/// Runs the command once, to its end or its time limit; how it ended, and whether a subtest cut it short.
async fn once(
    cmd: &Cmd,
    limit: Duration,
    subtests: &[SubtestName],
    run: &mut Run<'_>,
) -> Result<(VmOutcome, bool), RunError> {
    let clock = run.reporter.began();
    let limits = TimeLimits {
        boot: BOOT_LIMIT,
        subtest: limit,
        shutdown: SHUTDOWN_LIMIT,
        watchdog_scale: 1,
        interactive: false,
    };
    let mut supervisor = Supervisor::new(subtests.iter().cloned(), limits, clock.elapsed());
    let cmd = cmd.clone().streams(Stream::Null, Stream::Pipe, Stream::Null);
    let mut child = match cmd.start() {
        Ok(child) => child,
        Err(error) => return Ok((VmOutcome::Infrastructure(error.to_string()), false)),
    };
    let (mut stdout, mut lines) = (child.take_stdout(), LineSplitter::default());
    let mut buffer = vec![0; 64 << 10];
    let mut killed = false;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        let mut seen = Vec::new();
        tokio::select! {
            biased;
            _ = tick.tick() => run.out.flush().map_err(full)?,
            count = read(&mut stdout, &mut buffer) => match count {
                0 => break,
                count => lines.feed(&buffer[..count], |line| seen.push(line.to_owned())),
            },
        }
        take(&seen, &mut supervisor, clock, run)?;
        for act in supervisor.tick(clock.elapsed()) {
            if act == Action::Kill {
                killed = true;
                child.signal(Signal::KILL);
            }
        }
    }
    let mut seen = Vec::new();
    lines.finish(|line| seen.push(line.to_owned()));
    take(&seen, &mut supervisor, clock, run)?;
    let exit = match child.stop(Duration::from_secs(5)).await {
        Ok(exit) => exit,
        Err(error) => return Ok((VmOutcome::Infrastructure(error.to_string()), false)),
    };
    let end = match exit {
        _ if killed => VmEnd::Killed,
        Exit::Code(_) => VmEnd::Guest,
        Exit::Signal(signal) => VmEnd::Died(format!("bash was killed by signal {signal}")),
    };
    let (acts, ending) = supervisor.ended(end, clock.elapsed());
    acts.into_iter().try_for_each(|act| done(act, run))?;
    Ok((ending, supervisor.cut_short()))
}

fn take(
    lines: &[String],
    supervisor: &mut Supervisor,
    clock: Instant,
    run: &mut Run<'_>,
) -> Result<(), RunError> {
    for line in lines {
        run.out.line(line, clock.elapsed()).map_err(full)?;
        supervisor.line(line, clock.elapsed()).into_iter().try_for_each(|act| done(act, run))?;
    }
    Ok(())
}

fn done(act: Action, run: &mut Run<'_>) -> Result<(), RunError> {
    match act {
        Action::Started(subtest) => {
            run.out.started(&subtest)?;
            run.reporter.event(Event::SubtestStarted { subtest });
            Ok(())
        }
        Action::Finished(finished) => run.finished(finished),
        // There is no machine: nothing to ask a monitor for.
        Action::GuestUp | Action::Kill | Action::Sysrq(_) | Action::Monitor(_) => Ok(()),
    }
}

fn full(error: impl std::fmt::Display) -> RunError {
    RunError::Infrastructure(format!("writing the log: {error}"))
}

/// Bytes read; 0 at the end of the stream.
async fn read(stream: &mut Option<tokio::process::ChildStdout>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}
