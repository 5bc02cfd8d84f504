//! The VMs of a run: one after another until every subtest has its verdict, or none can be had.
//!
//! A VM that crashes or hangs takes only its running subtest with it; the others go on in a fresh one.

use std::path::Path;
use std::time::{Duration, Instant};

use model::{Event, Status, SubtestName};
use vm::accel::{AccelChoice, kvm};
use vm::machine::{Accel, Machine};
use vm::session::{self, Seen};
use vm::supervise::{Act, Ending, Limits, Supervisor};

use super::machine::{Workplace, prepare};
use super::{Prepared, Run, RunError};

/// From starting QEMU to the guest being up, under KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// From the last verdict to the end of the VM, under KVM.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// How much slower everything may be under TCG.
const TCG_SCALE: u32 = 4;
/// How often a VM is tried that makes no progress at all.
const ATTEMPTS: u32 = 3;

fn limits(accel: Accel, subtest: Duration) -> Limits {
    let scale = match accel {
        Accel::Kvm => 1,
        Accel::Tcg => TCG_SCALE,
    };
    Limits {
        boot: BOOT_LIMIT * scale,
        subtest: subtest.saturating_mul(scale),
        shutdown: SHUTDOWN_LIMIT * scale,
        watchdog_scale: scale,
    }
}

/// Runs the subtests; each ends with a verdict in `run`, unless `run.summary.infrastructure` says why not.
pub(super) async fn run(
    prepared: &Prepared<'_>,
    mut remaining: Vec<SubtestName>,
    run: &mut Run<'_>,
) -> Result<(), RunError> {
    let accel = match prepared.options.accel {
        AccelChoice::Fixed(accel) => accel,
        AccelChoice::Auto => {
            let found = kvm(prepared.declared.kernel.arch, &prepared.options.cache).await;
            if found.accel() == Accel::Tcg {
                run.reporter.note(&format!("{found}; using TCG, time limits x{TCG_SCALE}"));
            }
            found.accel()
        }
    };
    let limits = limits(accel, prepared.declared.timeout);
    let mut fruitless = 0;
    for vm in 1.. {
        let workplace = Workplace::create(&prepared.options.cache).map_err(|error| {
            RunError::Infrastructure(format!("{}: {error}", prepared.options.cache.display()))
        })?;
        let out_dir = run.out.dir().to_path_buf();
        let machine = prepare(prepared, accel, &remaining, &workplace, &out_dir)?;
        let command = session::command(&machine).map_err(|error| RunError::Usage(error.to_string()))?;
        if prepared.options.dry_run {
            run.summary.command = Some(command.to_string());
            return Ok(());
        }
        run.out.file("qemu-command", format!("{command}\n").as_bytes())?;
        let before = run.summary.verdicts.len();
        let outcome = one(&machine, vm, accel, &remaining, limits, workplace.path(), run).await?;
        remaining.retain(|subtest| !run.summary.verdicts.iter().any(|(done, _)| done == subtest));
        let failed = run.summary.count(Status::Failed) > 0;
        if remaining.is_empty() || run.reporter.broken() || (prepared.options.failfast && failed) {
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
                    let log = std::fs::read(workplace.path().join("serial")).unwrap_or_default();
                    return give_up(run, remaining, &reason, &log);
                }
                run.reporter.note(&format!("{reason}; trying again"));
            }
            Outcome::Infrastructure(what) => {
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
    /// Something broke that is not the tested code.
    Infrastructure(String),
}

async fn one(
    machine: &Machine,
    vm: u32,
    accel: Accel,
    subtests: &[SubtestName],
    limits: Limits,
    workplace: &Path,
    run: &mut Run<'_>,
) -> Result<Outcome, RunError> {
    run.reporter.event(Event::BootStarted { vm, accel: accel.to_string() });
    let clock = run.reporter.began();
    let boot = Instant::now();
    let mut supervisor = Supervisor::new(subtests.iter().cloned(), limits, clock.elapsed());
    let mut trouble = None;
    let ending = session::run(machine, workplace, &mut supervisor, clock, |seen| {
        if let Err(error) = see(seen, run, clock, boot, vm) {
            trouble.get_or_insert(error);
        }
    })
    .await;
    if let Some(error) = trouble {
        return Err(error);
    }
    let ending = match ending {
        Ok(ending) => ending,
        Err(error) => Ending::Infrastructure(error.to_string()),
    };
    Ok(match ending {
        Ending::Complete if supervisor.cut_short() => Outcome::Again,
        Ending::Complete => Outcome::NeverRan,
        Ending::Lost => Outcome::Again,
        Ending::NoBoot { reason, .. } => Outcome::Not { reason, final_word: false },
        Ending::InitFailed(reason) => Outcome::Not { reason, final_word: true },
        Ending::Infrastructure(what) => Outcome::Infrastructure(what),
    })
}

fn see(seen: Seen<'_>, run: &mut Run<'_>, clock: Instant, boot: Instant, vm: u32) -> Result<(), RunError> {
    let full = |error: std::io::Error| RunError::Infrastructure(format!("writing the log: {error}"));
    match seen {
        Seen::Line(line) => run.out.line(line, clock.elapsed()).map_err(full),
        Seen::Tick(_) => run.out.flush().map_err(full),
        Seen::Act(Act::Up) => {
            let duration_ms = u64::try_from(boot.elapsed().as_millis()).unwrap_or(u64::MAX);
            run.reporter.event(Event::Booted { vm, duration_ms });
            Ok(())
        }
        Seen::Act(Act::Started(subtest)) => {
            run.out.started(&subtest)?;
            run.reporter.event(Event::SubtestStarted { subtest });
            Ok(())
        }
        Seen::Act(Act::Finished(finished)) => run.finished(finished),
        Seen::Answer(line) => run.out.line(&line, clock.elapsed()).map_err(full),
        Seen::Act(Act::Kill | Act::Sysrq(_) | Act::Monitor(_)) => Ok(()),
    }
}
