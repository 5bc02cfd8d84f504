//! The VMs of a run: one after another until every subtest has its verdict, or none can be had.
//!
//! A VM that crashes or hangs takes only its running subtest with it; the others go on in a fresh one.

use std::io::Write;
use std::time::{Duration, Instant};

use model::{Event, Status, SubtestName, Verdict};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use vm::accel::{AccelChoice, kvm};
use vm::machine::{Accel, Machine};
use vm::session::{self, Session, SessionError, SessionEvent, SessionInput};
use vm::supervise::{Action, EXIT, Supervisor, TimeLimits, UP, VmOutcome};

use super::fill::{self, Cap};
use super::machine::{Purpose, Workplace, has_kgdb, prepare};
use super::{Prepared, Run, RunError, crashes, leftovers, terminal};
use crate::access::Access;
use crate::live::{self, Live, Published, Ssh};

/// From starting QEMU to the guest being up, under KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// From the last verdict to the end of the VM, under KVM.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// How much slower everything may be under TCG.
const TCG_SCALE: u32 = 4;
/// How often a VM is tried that makes no progress at all.
const ATTEMPTS: u32 = 3;

fn limits(accel: Accel, subtest: Duration) -> TimeLimits {
    let scale = match accel {
        Accel::Kvm => 1,
        Accel::Tcg => TCG_SCALE,
    };
    TimeLimits {
        boot: BOOT_LIMIT * scale,
        subtest: subtest.saturating_mul(scale),
        shutdown: SHUTDOWN_LIMIT * scale,
        watchdog_scale: scale,
        interactive: false,
    }
}

/// Runs the subtests; each ends with a verdict in `run`, unless `run.summary.infrastructure` says why not.
pub(super) async fn run(
    prepared: &Prepared<'_>,
    mut remaining: Vec<SubtestName>,
    run: &mut Run<'_>,
) -> Result<(), RunError> {
    let options = prepared.options;
    let mut accel = accel(prepared, run).await;
    let no_tests = remaining.is_empty();
    let limits = |accel| match options.interactive {
        true => TimeLimits::interactive(),
        // A command may take its time.
        false if no_tests => limits(accel, Duration::MAX),
        false => limits(accel, prepared.declared.timeout),
    };
    let begin = run.summary.verdicts.len();
    let test = prepared.file.map_or_else(String::new, |file| file.test.dotted());
    let cap = Cap::new(run.out.dir(), options.max_output, test);
    let mut early_console = false;
    let mut fruitless = 0;
    for vm in 1.. {
        let workplace = Workplace::create(&options.cache)
            .map_err(|error| RunError::Infrastructure(format!("{}: {error}", options.cache.display())))?;
        let out_dir = run.out.dir().to_path_buf();
        let access = match Access::new(&options.cache).await {
            Ok(access) => Some(access),
            Err(error) => {
                tracing::warn!("no way into the guest by ssh: {error}");
                None
            }
        };
        let ssh = access.as_ref();
        let purpose = Purpose { accel, subtests: &remaining, out: &out_dir, early_console, ssh };
        let machine = prepare(prepared, &purpose, &workplace)?;
        let command = session::command(&machine).map_err(|error| RunError::Usage(error.to_string()))?;
        if options.dry_run {
            run.summary.command = Some(command.to_string());
            return Ok(());
        }
        run.out.file("qemu-command", format!("{command}\n").as_bytes())?;
        let before = run.summary.verdicts.len();
        let vm = Vm {
            number: vm,
            prepared,
            machine: &machine,
            accel,
            limits: limits(accel),
            access: ssh,
            place: &workplace,
            cap: &cap,
        };
        let outcome = vm.run(&remaining, run).await?;
        let done = &run.summary.verdicts[begin..];
        remaining.retain(|subtest| !done.iter().any(|(done, _)| done == subtest));
        let failed = run.summary.count(Status::Failed) > 0;
        if let (Outcome::NoKvm(why), AccelChoice::Auto) = (&outcome, options.accel) {
            accel = Accel::Tcg;
            run.reporter.note(&format!("{why}; trying again under TCG, time limits x{TCG_SCALE}"));
            continue;
        }
        let was_up = !matches!(outcome, Outcome::Not { .. } | Outcome::NoKvm(_) | Outcome::Infrastructure(_));
        let over = remaining.is_empty() && (was_up || !no_tests);
        if over || run.reporter.broken() || (options.failfast && failed) || options.interactive {
            return Ok(());
        }
        let progress = run.summary.verdicts.len() > before;
        fruitless = if progress { 0 } else { fruitless + 1 };
        match outcome {
            Outcome::Again => {
                if fruitless >= ATTEMPTS {
                    let reason = format!("run-tests started no subtest in {ATTEMPTS} VMs");
                    return give_up(run, remaining, &reason, &[]);
                }
            }
            Outcome::NeverRan => {
                return give_up(run, remaining, "the file lists it, but run-tests never ran it", &[]);
            }
            Outcome::Not { reason, final_word } => {
                if final_word || fruitless >= ATTEMPTS {
                    if no_tests {
                        run.summary.infrastructure = Some(reason);
                        return Ok(());
                    }
                    let log = std::fs::read(workplace.path().join("serial")).unwrap_or_default();
                    return give_up(run, remaining, &reason, &log);
                }
                // What it says before its console is up may tell why.
                early_console = true;
                run.reporter.note(&format!("{reason}; trying again"));
            }
            Outcome::Infrastructure(what) | Outcome::NoKvm(what) => {
                if fruitless >= ATTEMPTS {
                    run.reporter.event(Event::Infrastructure { what: what.clone() });
                    run.summary.infrastructure = Some(what);
                    return Ok(());
                }
                run.reporter.note(&format!("{what}; trying again"));
            }
        }
    }
    Ok(())
}

/// Boots a guest that is to run no test.
pub(super) async fn boot(prepared: &Prepared<'_>, run: &mut Run<'_>) -> Result<(), RunError> {
    self::run(prepared, Vec::new(), run).await
}

fn give_up(run: &mut Run<'_>, remaining: Vec<SubtestName>, reason: &str, log: &[u8]) -> Result<(), RunError> {
    remaining.into_iter().try_for_each(|subtest| run.failed_to_run(subtest, reason, log))
}

/// What the end of a VM means for the subtests that are left.
enum Outcome {
    /// They can run in a fresh VM.
    Again,
    /// They had their chance.
    NeverRan,
    /// They could not be started; `final_word`: trying again would not change that.
    Not { reason: String, final_word: bool },
    /// KVM does not run this guest to its end.
    NoKvm(String),
    /// Something broke that is not the tested code.
    Infrastructure(String),
}

/// One VM of a run.
struct Vm<'a> {
    number: u32,
    prepared: &'a Prepared<'a>,
    machine: &'a Machine,
    accel: Accel,
    limits: TimeLimits,
    access: Option<&'a Access>,
    place: &'a Workplace,
    cap: &'a Cap,
}

impl Vm<'_> {
    async fn run(&self, subtests: &[SubtestName], run: &mut Run<'_>) -> Result<Outcome, RunError> {
        run.reporter.event(Event::BootStarted { vm: self.number, accel: self.accel.to_string() });
        let clock = run.reporter.began();
        let boot = Instant::now();
        let mut supervisor = Supervisor::new(subtests.iter().cloned(), self.limits, clock.elapsed());
        let (sender, input) = unbounded_channel();
        let (_known, listener) = self.publish(run, sender.clone())?;
        let watch = self.cap.watch(self.place.path(), sender.clone());
        let interactive = self.prepared.options.interactive;
        let raw = interactive.then(|| {
            run.reporter.note(terminal::HELP);
            run.reporter.lend_terminal(true);
            terminal::forward(sender);
            terminal::Raw::begin()
        });
        let session = Session {
            machine: self.machine,
            temp_dir: self.place.path(),
            clock,
            input,
            pause_at_failure: self.prepared.options.keep_devices > 0 && self.has_devices(),
        };
        let mut trouble = None;
        let mut answer = Answer::default();
        let ending = session
            .run(&mut supervisor, |seen| {
                if let (SessionEvent::ConsoleLine(line), false) =
                    (&seen, self.prepared.options.command.is_empty())
                {
                    answer.line(line);
                }
                if let Err(error) = self.see(seen, run, boot) {
                    trouble.get_or_insert(error);
                }
            })
            .await;
        if raw.is_some() {
            run.reporter.lend_terminal(false);
        }
        drop(raw);
        listener.abort();
        watch.abort();
        if self.cap.exceeded(&self.place.path().join("serial")).is_some() {
            self.cap.clear();
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        run.summary.command_status = supervisor.exit_status();
        let ending = match ending {
            Ok(ending) => ending,
            Err(error @ SessionError::Kvm(_)) => return Ok(Outcome::NoKvm(error.to_string())),
            Err(error) => VmOutcome::Infrastructure(error.to_string()),
        };
        Ok(match ending {
            VmOutcome::Complete if supervisor.cut_short() => Outcome::Again,
            VmOutcome::Complete => Outcome::NeverRan,
            VmOutcome::Lost => Outcome::Again,
            VmOutcome::NoBoot { reason, .. } => Outcome::Not { reason, final_word: false },
            VmOutcome::InitFailed(reason) => Outcome::Not { reason, final_word: true },
            VmOutcome::Infrastructure(what) => Outcome::Infrastructure(what),
        })
    }

    fn has_devices(&self) -> bool {
        !self.prepared.declared.scratch.is_empty() || !self.machine.pmem.is_empty()
    }

    /// Makes the VM known to `ktest ssh` and its like.
    fn publish(
        &self,
        run: &Run<'_>,
        sender: UnboundedSender<SessionInput>,
    ) -> Result<(Published, JoinHandle<()>), RunError> {
        let kernel = self.prepared.kernel;
        let live = Live {
            pid: std::process::id(),
            what: self.prepared.file.map_or("boot", |file| file.test.as_str()).into(),
            arch: self.machine.arch,
            sockets: self.place.sockets().into(),
            vmlinux: kernel.vmlinux.clone(),
            modules: kernel.modules.clone(),
            kgdb: self.machine.kgdb && has_kgdb(kernel),
            ssh: self.access.map(|access| Ssh {
                port: access.port,
                identity: access.identity.clone(),
                known_hosts: access.known_hosts.clone(),
            }),
        };
        let known = live.publish(run.out.dir()).map_err(|error| full(&error))?;
        let listener = live::listen(self.place.sockets(), sender).map_err(|error| full(&error))?;
        Ok((known, listener))
    }

    fn see(&self, seen: SessionEvent<'_>, run: &mut Run<'_>, boot: Instant) -> Result<(), RunError> {
        let clock = run.reporter.began();
        match seen {
            SessionEvent::ConsoleBytes(bytes) if self.prepared.options.interactive => {
                let mut screen = std::io::stdout().lock();
                // Nobody looks: no reason to end the VM.
                let _ = screen.write_all(bytes).and_then(|()| screen.flush());
                Ok(())
            }
            SessionEvent::ConsoleLine(line) => {
                run.reporter.console_line(line, clock.elapsed());
                run.out.line(line, clock.elapsed()).map_err(|error| full(&error))
            }
            SessionEvent::Tick(_) => {
                run.reporter.flush_console();
                run.out.flush().map_err(|error| full(&error))
            }
            SessionEvent::Action(Action::GuestUp) => {
                let duration_ms = u64::try_from(boot.elapsed().as_millis()).unwrap_or(u64::MAX);
                run.reporter.event(Event::Booted { vm: self.number, duration_ms });
                Ok(())
            }
            SessionEvent::Action(Action::Started(subtest)) => {
                run.out.started(&subtest)?;
                run.reporter.event(Event::SubtestStarted { subtest });
                Ok(())
            }
            SessionEvent::Action(Action::Finished(mut finished)) => {
                if let Verdict::Failed { .. } = finished.verdict {
                    // It may have failed for want of room.
                    let dirs = [run.out.dir(), self.place.path()];
                    if let Some(what) = dirs.into_iter().find_map(fill::no_room) {
                        return Err(RunError::Infrastructure(what));
                    }
                    let source = crashes::look(self.prepared.kernel, &mut finished, &run.out);
                    leftovers::keep(self.prepared, self.machine, &mut finished, &run.out);
                    return run.crashed(finished, source);
                }
                run.finished(finished)
            }
            SessionEvent::MonitorReply(line) => {
                run.out.line(&line, clock.elapsed()).map_err(|error| full(&error))
            }
            SessionEvent::ConsoleBytes(_)
            | SessionEvent::Action(Action::Kill | Action::Sysrq(_) | Action::Monitor(_)) => Ok(()),
        }
    }
}

/// What a command prints, out of the console's lines, to standard output.
#[derive(Default)]
struct Answer {
    begun: bool,
    over: bool,
    empty: bool,
}

impl Answer {
    fn line(&mut self, line: &str) {
        if !self.begun {
            self.begun = line == UP;
            return;
        }
        self.over |= line.starts_with(EXIT);
        if self.over {
            return;
        }
        let mut screen = std::io::stdout().lock();
        // Whoever reads it may have gone; the command is to come to its end all the same. The guest ends an
        // unfinished last line, so an empty line counts only if another follows.
        let _ = if std::mem::replace(&mut self.empty, line.is_empty()) { writeln!(screen) } else { Ok(()) }
            .and_then(|()| if line.is_empty() { Ok(()) } else { writeln!(screen, "{line}") });
    }
}

fn full(error: &std::io::Error) -> RunError {
    RunError::Infrastructure(format!("writing the log: {error}"))
}

/// How the VMs are run, found out where the user leaves it open.
async fn accel(prepared: &Prepared<'_>, run: &Run<'_>) -> Accel {
    match prepared.options.accel {
        AccelChoice::Fixed(accel) => accel,
        AccelChoice::Auto => {
            let found = kvm(prepared.declared.kernel.arch, &prepared.options.cache).await;
            if found.accel() == Accel::Tcg {
                run.reporter.note(&format!("{found}; using TCG, time limits x{TCG_SCALE}"));
            }
            found.accel()
        }
    }
}
