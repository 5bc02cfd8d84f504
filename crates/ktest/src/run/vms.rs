//! The VMs of a run: each attempt of [`super::retry`] is one VM, supervised from boot to exit.

use std::io::{IsTerminal as _, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use model::{AccelChoice, Event, SubtestName, Verdict};
use testfile::Trust;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use vm::accel::kvm;
use vm::machine::{Accel, Machine};
use vm::qemu_sandbox::{self, QemuSandbox};
use vm::session::{self, Session, SessionError, SessionEvent, SessionInput};
use vm::supervise::{
    Action, ConsoleLine, EXIT, LibraryLines, Protocol, Supervisor, TimeLimits, Token, UP, VmOutcome,
};

use super::cores::Cores;
use super::error::{CannotRun, RunError};
use super::experiment::Keys;
use super::guest_cache::GuestCache;
use super::machine::{VmSetup, has_kgdb, prepare};
use super::phases::{Declared, Prepared};
use super::quota::{self, Quota};
use super::results::Results;
use super::retry::{Attempt, AttemptEnd, Change, RetryPolicy, supervise};
use super::vm_dir::{VmDir, open_written};
use super::{artifacts, crashes, experiment, terminal};
use crate::access::Access;
use crate::live::{self, Live, Published, Ssh};

/// The time limit from the start of QEMU until the guest is up, under KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// The time limit from the last verdict to the exit of the VM, under KVM.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// The factor for all time limits under TCG.
const TCG_SCALE: u32 = 4;
/// The maximum number of resets by the subtests of a VM.
const MAX_REBOOTS: u32 = 100;
/// The maximum number of processors that both machine types support.
const MAX_CPUS: u32 = 255;
/// How many bytes of the serial log become the log of subtests that never started.
const SERIAL_LOG: u64 = 16 << 20;

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

/// Runs the subtests in VMs. Without subtests, boots a guest for a shell or a command.
pub(super) async fn run(
    prepared: &Prepared<'_>,
    subtests: Vec<SubtestName>,
    results: &mut Results<'_>,
) -> Result<(), RunError> {
    let order = &prepared.run.request.order;
    let boot_only = subtests.is_empty();
    let policy = RetryPolicy {
        unit: "VMs",
        retry_infrastructure: true,
        accel: order.accel,
        failfast: order.failfast,
        interactive: order.interactive,
        boot_only,
        fruitless: 0,
    };
    if let Some(reason) = too_large(prepared) {
        return match boot_only {
            true => Err(RunError::Usage(reason)),
            false => results.cannot_run(subtests, &CannotRun::because(reason)),
        };
    }
    let mut vms = Vms {
        prepared,
        qemu_sandbox: probe_sandbox(prepared, results).await?,
        accel: accel(prepared, results).await,
        early_console: false,
        boot_only,
        quota: Quota::new(&results.out.files(), order.max_output.0),
        number: 0,
        cores: 0,
        serial_log: Vec::new(),
    };
    supervise(&mut vms, policy, subtests, results).await
}

/// The successive VMs of a run.
struct Vms<'a> {
    prepared: &'a Prepared<'a>,
    qemu_sandbox: Option<QemuSandbox>,
    accel: Accel,
    early_console: bool,
    boot_only: bool,
    quota: Quota,
    /// The number of the last VM, from 1.
    number: u32,
    /// The number of saved cores.
    cores: u32,
    /// The serial log of the last VM.
    serial_log: Vec<u8>,
}

impl Vms<'_> {
    /// The keys for `ktest ssh`. On a farm, no port of the host is forwarded to a guest.
    async fn access(&self) -> Option<Access> {
        let request = self.prepared.run.request;
        if request.trust() == Trust::Sandboxed {
            return None;
        }
        let access = Access::new(&request.cache).await;
        access.inspect_err(|error| tracing::warn!("ktest ssh will not work with this guest: {error}")).ok()
    }

    /// What outlives the guest. A file of this project's library needs it only if it uses clones.
    fn cache(&self) -> Result<Option<GuestCache>, RunError> {
        let Declared { request, file, declared, host_env } = &self.prepared.run;
        let unused =
            file.is_none() || declared.marks_with_token && testfile::clones_in(&host_env.deps_dir).is_empty();
        if unused || request.order.dry_run {
            return Ok(None);
        }
        GuestCache::open(&request.cache, request.order.test.trust_domain.as_ref()).map(Some)
    }

    fn limits(&self) -> TimeLimits {
        let run = &self.prepared.run;
        match run.request.order.interactive {
            true => TimeLimits::interactive(),
            // A command has no time limit.
            false if self.boot_only => limits(self.accel, Duration::MAX),
            false => limits(self.accel, run.declared.timeout),
        }
    }
}

impl Attempt for Vms<'_> {
    async fn execute(
        &mut self,
        subtests: &[SubtestName],
        results: &mut Results<'_>,
    ) -> Result<AttemptEnd, RunError> {
        self.number += 1;
        let cache = &self.prepared.run.request.cache;
        let vm_dir = VmDir::create(cache)
            .map_err(|error| RunError::Infrastructure(format!("{}: {error}", cache.display())))?;
        let access = self.access().await;
        let token = Token::random();
        let files = results.out.files();
        let guest_cache = self.cache()?;
        let core_bytes = self.prepared.run.request.cores().next(self.cores);
        let setup = VmSetup {
            accel: self.accel,
            subtests,
            out: &files,
            early_console: self.early_console,
            core: core_bytes > 0,
            ssh: access.as_ref(),
            token: &token,
            cache: guest_cache.as_ref(),
        };
        let machine = prepare(self.prepared, &setup, &vm_dir)?;
        let command = session::command(&machine).map_err(|error| RunError::Usage(error.to_string()))?;
        if self.prepared.run.request.order.dry_run {
            results.summary.command = Some(command.to_string());
            return Ok(AttemptEnd::DryRun);
        }
        results.out.file("qemu-command", format!("{command}\n").as_bytes())?;
        let keys = if self.boot_only { Keys::default() } else { experiment::keys(self.prepared, &machine) };
        results.conditions.experiment = keys.experiment;
        let vm = Vm {
            number: self.number,
            prepared: self.prepared,
            machine: &machine,
            accel: self.accel,
            limits: self.limits(),
            protocol: Protocol {
                token: token.clone(),
                library: match self.prepared.run.declared.marks_with_token {
                    true => LibraryLines::Token,
                    false => LibraryLines::Kmsg,
                },
            },
            access: access.as_ref(),
            dir: &vm_dir,
            quota: &self.quota,
            cache: guest_cache.as_ref(),
            qemu_sandbox: self.qemu_sandbox.as_ref(),
            core_bytes,
            keys,
        };
        let (end, cores) = vm.run(subtests, results).await?;
        self.cores += cores;
        if matches!(end, AttemptEnd::NotStarted { .. }) {
            self.serial_log = serial_log(&vm_dir.path().join("serial"));
        }
        Ok(end)
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Tcg => self.accel = Accel::Tcg,
            Change::EarlyConsole => self.early_console = true,
        }
    }

    fn console_log(&self) -> Vec<u8> {
        self.serial_log.clone()
    }
}

/// One VM of a run.
struct Vm<'a> {
    number: u32,
    prepared: &'a Prepared<'a>,
    machine: &'a Machine,
    accel: Accel,
    limits: TimeLimits,
    protocol: Protocol,
    access: Option<&'a Access>,
    dir: &'a VmDir,
    quota: &'a Quota,
    cache: Option<&'a GuestCache>,
    qemu_sandbox: Option<&'a QemuSandbox>,
    core_bytes: u64,
    keys: Keys,
}

impl Vm<'_> {
    /// Returns the end of the VM and the number of saved cores.
    async fn run(
        &self,
        subtests: &[SubtestName],
        results: &mut Results<'_>,
    ) -> Result<(AttemptEnd, u32), RunError> {
        let (accel, Keys { experiment, code }) = (self.accel.to_string(), self.keys);
        results.reporter.event(Event::BootStarted { vm: self.number, accel, experiment, code });
        let clock = results.reporter.began();
        let boot = Instant::now();
        let protocol = self.protocol.clone();
        let mut supervisor =
            Supervisor::new(subtests.iter().cloned(), self.limits, protocol, clock.elapsed());
        supervisor.allow_reboots(MAX_REBOOTS);
        let (sender, input) = unbounded_channel();
        let (_published, listener) = self.publish(results, sender.clone())?;
        let watch = self.quota.watch(self.dir.path(), sender.clone());
        let cache_watch = self.cache.map(|cache| cache.watch(sender.clone()));
        let interactive = self.prepared.run.request.order.interactive;
        let terminal = interactive.then(|| {
            results.reporter.note(terminal::HELP);
            results.reporter.hide_bar(true);
            terminal::forward(sender);
            terminal::Raw::begin()
        });
        let mut session = self.session(clock, input);
        let mut cores = Cores::new(self.prepared.run.request.cores(), self.dir);
        let mut trouble = None;
        let mut output = CommandOutput::default();
        let mut on = |event: SessionEvent<'_>| {
            if let (SessionEvent::ConsoleLine(line), false) =
                (&event, self.prepared.run.request.command.is_empty())
            {
                output.line(line);
            }
            let event = match event {
                SessionEvent::Core(saved) => return cores.add(saved),
                event => event,
            };
            if let Err(error) = self.event(event, results, boot, &mut cores) {
                trouble.get_or_insert(error);
            }
        };
        let ending = self.sessions(&mut session, &mut supervisor, subtests, &mut on).await?;
        if terminal.is_some() {
            results.reporter.hide_bar(false);
        }
        drop(terminal);
        [Some(listener), Some(watch), cache_watch].iter().flatten().for_each(JoinHandle::abort);
        self.remove_excess();
        trouble.map_or(Ok(()), Err)?;
        if let Some(title) = supervisor.boot_trouble() {
            results.reporter.note(&format!("the kernel reported trouble during the boot: {title}"));
        }
        results.summary.command_status = supervisor.exit_status();
        // A guest that crashed during the boot ran no subtest.
        if let Some(note) = cores.keep(&results.out, Path::new("out")) {
            results.reporter.note(&note);
        }
        let end = attempt_end(ending, supervisor.cut_short(), self.declares_arguments());
        Ok((end, cores.kept))
    }

    fn session(&self, clock: Instant, input: UnboundedReceiver<SessionInput>) -> Session<'_> {
        Session {
            machine: self.machine,
            temp_dir: self.dir.path(),
            qemu_sandbox: self.qemu_sandbox,
            clock,
            input,
            pause_at_failure: self.prepared.run.request.keeps_devices() && self.has_devices(),
            core_bytes: self.core_bytes,
        }
    }

    /// Removes what the guest wrote beyond its limits.
    fn remove_excess(&self) {
        if self.quota.exceeded(&self.dir.path().join("serial")).is_some() {
            self.quota.clear();
        }
        if let Some(cache) = self.cache {
            cache.clear_if_exceeded();
        }
    }

    /// Runs guests until one ends for another reason than a reset that the subtest announced.
    async fn sessions(
        &self,
        session: &mut Session<'_>,
        supervisor: &mut Supervisor,
        subtests: &[SubtestName],
        on: &mut impl FnMut(SessionEvent<'_>),
    ) -> Result<Result<VmOutcome, SessionError>, RunError> {
        let mut reboots = 0;
        loop {
            let ending = session.run(supervisor, &mut *on).await;
            if !matches!(ending, Ok(VmOutcome::Rebooting)) {
                return Ok(ending);
            }
            reboots += 1;
            let guest = self.dir.path().join("guest");
            vm::guest::write_reboot(&guest, &supervisor.remaining(subtests), reboots)
                .map_err(RunError::log)?;
        }
    }

    fn declares_arguments(&self) -> bool {
        let declared = &self.prepared.run.declared;
        !declared.qemu_append.is_empty() || !declared.qemu_prepend.is_empty()
    }

    fn has_devices(&self) -> bool {
        !self.prepared.run.declared.scratch.is_empty() || !self.machine.pmem.is_empty()
    }

    /// Publishes the VM for `ktest ssh`, `gdb` and the other commands.
    fn publish(
        &self,
        results: &Results<'_>,
        sender: UnboundedSender<SessionInput>,
    ) -> Result<(Published, JoinHandle<()>), RunError> {
        let kernel = &self.prepared.kernel;
        let live = Live {
            pid: std::process::id(),
            what: self.prepared.run.file.as_ref().map_or("boot", |file| file.test.as_str()).into(),
            arch: self.machine.arch,
            sockets: self.dir.sockets().into(),
            vmlinux: kernel.vmlinux.clone(),
            modules: kernel.modules.clone(),
            kgdb: self.machine.kgdb && has_kgdb(kernel),
            ssh: self.access.map(|access| Ssh {
                port: access.port,
                identity: access.identity.clone(),
                known_hosts: access.known_hosts.clone(),
            }),
        };
        let published = live.publish(results.out.dir()).map_err(RunError::log)?;
        let listener = live::listen(self.dir.sockets(), sender).map_err(RunError::log)?;
        Ok((published, listener))
    }

    fn event(
        &self,
        event: SessionEvent<'_>,
        results: &mut Results<'_>,
        boot: Instant,
        cores: &mut Cores<'_>,
    ) -> Result<(), RunError> {
        let clock = results.reporter.began();
        match event {
            SessionEvent::ConsoleBytes(bytes) if self.prepared.run.request.order.interactive => {
                let mut screen = std::io::stdout().lock();
                // A closed terminal does not end the VM.
                let _ = screen.write_all(bytes).and_then(|()| screen.flush());
                Ok(())
            }
            SessionEvent::ConsoleLine(ConsoleLine { text, .. }) => {
                results.reporter.console_line(text, clock.elapsed());
                results.out.line(text, clock.elapsed()).map_err(RunError::log)
            }
            SessionEvent::Tick(_) => {
                results.reporter.flush_console();
                results.out.flush().map_err(RunError::log)
            }
            SessionEvent::Action(Action::GuestUp) => {
                let duration_ms = u64::try_from(boot.elapsed().as_millis()).unwrap_or(u64::MAX);
                results.reporter.event(Event::Booted { vm: self.number, duration_ms });
                Ok(())
            }
            SessionEvent::Action(Action::Started(subtest)) => results.started(subtest),
            SessionEvent::Action(Action::Finished(mut finished)) => {
                if let Verdict::Failed { .. } = finished.verdict {
                    // A full disk can be the cause; then the verdict is not reliable.
                    let dirs = [results.out.dir(), self.dir.path()];
                    if let Some(what) = dirs.into_iter().find_map(quota::disk_full) {
                        return Err(RunError::Infrastructure(what));
                    }
                    let source = crashes::locate(&self.prepared.kernel, &mut finished, &results.out);
                    artifacts::keep(self.prepared, self.machine, &mut finished, &results.out, cores);
                    return results.verdict(finished, source);
                }
                results.verdict(finished, None)
            }
            SessionEvent::MonitorReply(line) => {
                results.out.line(&line, clock.elapsed()).map_err(RunError::log)
            }
            SessionEvent::ConsoleBytes(_)
            | SessionEvent::Core(_)
            | SessionEvent::Action(Action::Kill | Action::Sysrq(_) | Action::Monitor(_)) => Ok(()),
        }
    }
}

/// The consequence of the end of a VM for the remaining subtests.
fn attempt_end(
    outcome: Result<VmOutcome, SessionError>,
    cut_short: bool,
    declares_arguments: bool,
) -> AttemptEnd {
    match outcome {
        // The likely cause is not this host.
        Err(error @ SessionError::Refused(_)) if declares_arguments => {
            let reason = format!("{error}; the test file declares ktest_qemu_append or ktest_qemu_prepend");
            AttemptEnd::NotStarted { reason, is_final: true }
        }
        Ok(VmOutcome::Complete) if !cut_short => AttemptEnd::NeverRan,
        Ok(VmOutcome::Complete | VmOutcome::Lost | VmOutcome::Rebooting) => AttemptEnd::Interrupted,
        Ok(VmOutcome::NoBoot { reason, .. }) => AttemptEnd::NotStarted { reason, is_final: false },
        Ok(VmOutcome::InitFailed(reason)) => AttemptEnd::NotStarted { reason, is_final: true },
        Ok(VmOutcome::Infrastructure(what)) => AttemptEnd::Infrastructure(what),
        Err(error @ SessionError::Kvm(_)) => AttemptEnd::NoKvm(error.to_string()),
        Err(error) => AttemptEnd::Infrastructure(error.to_string()),
    }
}

/// Copies the output of the command from the console to standard output.
#[derive(Default)]
struct CommandOutput {
    begun: bool,
    over: bool,
    empty: bool,
}

impl CommandOutput {
    fn line(&mut self, line: &ConsoleLine) {
        if !self.begun {
            self.begun = line.is_authentic() && line.message() == UP;
            return;
        }
        self.over |= line.is_authentic() && line.message().starts_with(EXIT);
        if self.over {
            return;
        }
        let line = &line.text;
        let mut screen = std::io::stdout().lock();
        // In a file or a pipe, the output is unchanged.
        let text = if screen.is_terminal() { stdio::terminal::text(line) } else { line.to_owned() };
        // A closed pipe does not end the command. The guest terminates an unfinished last line, so an empty line is
        // printed only when another one follows.
        let _ = if std::mem::replace(&mut self.empty, line.is_empty()) { writeln!(screen) } else { Ok(()) }
            .and_then(|()| if line.is_empty() { Ok(()) } else { writeln!(screen, "{text}") });
    }
}

/// The start of the serial log, which contains the cause of a failed boot. The guest can fill this file.
fn serial_log(path: &Path) -> Vec<u8> {
    let mut log = Vec::new();
    if let Ok(file) = open_written(path) {
        let _ = file.take(SERIAL_LOG).read_to_end(&mut log);
    }
    log
}

/// The sandbox of QEMU. On a farm, a run without sandbox is refused; a developer's run continues and reports it.
async fn probe_sandbox(
    prepared: &Prepared<'_>,
    results: &Results<'_>,
) -> Result<Option<QemuSandbox>, RunError> {
    let Declared { request, declared, .. } = &prepared.run;
    if !request.sandbox() {
        return Ok(None);
    }
    if request.trust() == Trust::Own && testfile::reaches_host_through_qemu(declared) {
        results.reporter.note("QEMU runs without a sandbox: the declared QEMU arguments reach the host");
        return Ok(None);
    }
    match QemuSandbox::probe(declared.kernel.arch).await {
        Ok(qemu_sandbox) => Ok(Some(qemu_sandbox)),
        Err(error) if request.trust() == Trust::Sandboxed => Err(RunError::infrastructure(error)),
        Err(error) => {
            results.reporter.note(&format!("QEMU runs without a sandbox: {error}"));
            Ok(None)
        }
    }
}

/// Why this host can never run the guest, regardless of its load.
fn too_large(prepared: &Prepared<'_>) -> Option<String> {
    let declared = &prepared.run.declared;
    if let Some(cpus) = declared.cpus.filter(|cpus| !(1..=MAX_CPUS).contains(cpus)) {
        return Some(format!("the test file declares ktest_cpus={cpus}; use 1 to {MAX_CPUS}"));
    }
    let host = qemu_sandbox::host_memory_mib()?;
    let wants = declared.mem_mib;
    (wants > host).then(|| {
        format!("the test file declares ktest_mem={wants} MiB, this host has {host} MiB; declare less or use another host")
    })
}

/// The accelerator: as requested, or the one that works on this host.
async fn accel(prepared: &Prepared<'_>, results: &Results<'_>) -> Accel {
    let request = &prepared.run.request;
    match request.order.accel {
        AccelChoice::Kvm => Accel::Kvm,
        AccelChoice::Tcg => Accel::Tcg,
        AccelChoice::Auto => {
            let found = kvm(prepared.run.declared.kernel.arch, &request.cache).await;
            if found.accel() == Accel::Tcg {
                results.reporter.note(&format!("{found}; using TCG, time limits x{TCG_SCALE}"));
            }
            found.accel()
        }
    }
}
