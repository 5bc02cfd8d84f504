//! Configures and compiles in prepared directories. The caller holds the lock of the build tree.
//!
//! The log receives the complete output of make. The first error in it becomes the reason of a failed build.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use fsx::own;
use fsx::untrusted::{Dir, EntryType};

use crate::blocking::blocking;
use crate::boot_image::image_of;
use crate::check::{UnmetOption, all_met, check};
use crate::configured;
use crate::diagnose::{Diagnosis, Failure};
use crate::dotconfig::DotConfig;
use crate::error::{BuildError, CompileError, InfrastructureError, SourceError};
use crate::kconfig::KconfigTree;
use crate::make::{Log, Make};
use crate::option::KValue;
use crate::plan::{BuildPlan, ConfigBase};
use crate::progress::{ObjectCounter, Progress, count_dry_run, outdated};
use crate::request::BuildRequest;
use crate::state::{CONFIG_BYTES, ObjectState};

/// The time limits of configuring and of compiling.
const CONFIG_LIMIT: Duration = Duration::from_secs(600);
const COMPILE_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// How often Kconfig runs to set what requirements need: a menu can be in a menu that is also off.
const CONFIG_ROUNDS: usize = 4;
/// Precedes the options that were added to a fragment.
const ADDED: &str = "# On by default, and needed by the options above:\n";
/// The interval of progress reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// The file in the object directory that a configuration target of make writes.
const BASE_FILE: &str = ".ktest-base";

/// A build that is ready to run.
pub(crate) struct Compilation<'a> {
    pub request: &'a BuildRequest,
    pub plan: &'a BuildPlan,
    pub make: &'a Make,
}

/// The result. Its files are in the object directory.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    /// The final configuration.
    pub config: DotConfig,
    /// Its text.
    pub config_text: String,
    /// Required options that did not get their value; all of them are tolerated.
    pub unmet: Vec<UnmetOption>,
    /// Required options that the source does not define.
    pub unknown: Vec<String>,
    /// The number of compiled objects.
    pub objects: u32,
}

/// The files that Kconfig and make read before they run any code of the source.
const KCONFIG_FILES: [&str; 5] = [
    ".config",
    "include/config/auto.conf",
    "include/config/auto.conf.cmd",
    "include/config/kernel.release",
    "include/generated/autoconf.h",
];

/// Removes links, FIFOs and devices that an earlier build created instead of [`KCONFIG_FILES`] and their directories, and
/// those without permissions. make would wait for a FIFO until its time limit.
pub(crate) fn remove_special_files(objects: &Dir) -> Result<(), CompileError> {
    for name in KCONFIG_FILES {
        let mut paths: Vec<&Path> =
            Path::new(name).ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        while let Some(path) = paths.pop() {
            let Some(found) = objects.metadata(path)? else { break };
            let (wanted, mode) = match paths.is_empty() {
                true => (EntryType::File, 0o600),
                false => (EntryType::Directory, 0o700),
            };
            if found.entry_type != wanted || found.mode & mode != mode {
                objects.remove_tree(path)?;
                break;
            }
        }
    }
    Ok(())
}

/// Prepares the object directory. Objects that an earlier build made unusable, for example by removing permissions, are
/// removed: they must not affect the result of this build.
pub(crate) fn begin(state: &ObjectState, objects: &Dir) -> Result<(), CompileError> {
    objects.make_accessible()?;
    match remove_special_files(objects).and_then(|()| Ok(state.begin(objects)?)) {
        Err(CompileError::Failed { reason, .. }) => {
            tracing::warn!(objects = %objects.path().display(), reason, "removed unusable objects");
            objects.clear()?;
            state.clear()?;
            Ok(state.begin(objects)?)
        }
        prepared => prepared,
    }
}

impl Compilation<'_> {
    pub(crate) async fn run(&self, on: &mut (dyn FnMut(Progress) + Send)) -> Result<Compiled, CompileError> {
        let state = &self.make.layout.state;
        let mut log = Log::create(&self.request.out_log)?;
        self.begin().await?;
        on(Progress::Configuring);
        let before = self.dot_config().unwrap_or_default();
        let (config, config_text) = self.configure(&mut log).await?;
        let (unmet, unknown) = self.check(&config).await?;
        if !unmet.is_empty() {
            // A program that is missing on this host may be installed before the next build.
            configured::invalidate(state)?;
        }
        let targets = self.targets(&config);
        let total = self.total(&targets, before == config_text, &mut log).await?;
        let objects = self.compile(&targets, total, &mut log, on).await?;
        state.set_complete()?;
        state.end();
        Ok(Compiled { config, config_text, unmet, unknown, objects })
    }

    fn objects(&self) -> Result<Dir, CompileError> {
        Ok(Dir::open(&self.make.layout.obj)?)
    }

    async fn begin(&self) -> Result<(), CompileError> {
        let (state, objects) = (self.make.layout.state.clone(), self.objects()?);
        blocking("repairing the objects of an interrupted build", move || begin(&state, &objects)).await?
    }

    fn dot_config(&self) -> Result<String, CompileError> {
        Ok(self.objects()?.read_to_string(".config", CONFIG_BYTES)?)
    }

    fn targets(&self, config: &DotConfig) -> Vec<&str> {
        let (target, _) = image_of(self.make.toolchain.arch, config);
        let mut targets = vec![target];
        if config.has_modules() {
            targets.push("modules");
        }
        if *config.get("MODULES") == KValue::Yes {
            // Needed to build modules outside the tree.
            targets.push("modules_prepare");
        }
        if *config.get("GDB_SCRIPTS") == KValue::Yes {
            targets.push("scripts_gdb");
        }
        targets.extend(self.plan.target.as_deref());
        targets
    }

    /// Runs make. Any result other than success is an error with its reason.
    async fn step(
        &self,
        args: &[&str],
        limit: Duration,
        log: &mut Log,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), CompileError> {
        let layout = &self.make.layout;
        let mut diagnosis = Diagnosis::new(&[&layout.make_src, &layout.make_obj]);
        let begun = Instant::now();
        let exit = self
            .make
            .run(args, limit, &mut |line| {
                log.line(line);
                diagnosis.feed(line);
                on_line(line);
            })
            .await?;
        log.flush();
        tracing::debug!(?args, %exit, ms = begun.elapsed().as_millis(), "make ended");
        if exit.success() {
            return Ok(());
        }
        if matches!(exit, spawn::Exit::Code(_)) {
            layout.state.end();
        }
        Err(match diagnosis.conclude(exit) {
            Failure::Source { reason, certain } => CompileError::Failed { reason, certain },
            Failure::Host { reason } => {
                let log = self.request.out_log.clone();
                BuildError::from(InfrastructureError::Make { reason, log }).into()
            }
        })
    }

    /// Produces the `.config`, unless it is up to date. An unchanged file keeps its modification time.
    async fn configure(&self, log: &mut Log) -> Result<(DotConfig, String), CompileError> {
        let layout = &self.make.layout;
        let fragment = self.plan.fragment.text();
        let (command, text) = match &self.plan.base {
            ConfigBase::AllNo => ("allnoconfig", fragment),
            ConfigBase::Text(base) => ("alldefconfig", format!("{base}\n{fragment}")),
            ConfigBase::Target(target) => {
                ("alldefconfig", format!("{}\n{fragment}", self.base_of_target(target, log).await?))
            }
        };
        let version = &self.make.toolchain.version;
        let skippable = !matches!(self.plan.base, ConfigBase::Target(_));
        // With what the last build of it had to add.
        let last = own::read_to_string(&layout.state.fragment(), CONFIG_BYTES).unwrap_or_default();
        let mut text = if last.starts_with(&format!("{text}{ADDED}")) { last } else { text };
        if skippable {
            let (layout, text, version) = (layout.clone(), text.clone(), version.clone());
            let work = move || configured::up_to_date(&layout, &text, &version);
            if let Some(config) = blocking("comparing dates", work).await? {
                return Ok((DotConfig::parse(&config), config));
            }
        }
        let started = SystemTime::now();
        let allconfig = format!("KCONFIG_ALLCONFIG={}", layout.make_fragment.display());
        let mut rounds = 0;
        let config = loop {
            own::write(&layout.state.fragment(), &text)?;
            self.step(&[command, &allconfig], CONFIG_LIMIT, log, &mut |_| {}).await?;
            let config = self.dot_config()?;
            rounds += 1;
            let defaults = self.unset_defaults(&config).await?;
            if defaults.is_empty() || rounds == CONFIG_ROUNDS {
                break config;
            }
            let lines = defaults.iter().map(|name| format!("CONFIG_{name}=y\n"));
            text = lines.fold(text + ADDED, |text, line| text + &line);
        };
        configured::record(&layout.state, &text, version, &config, started)?;
        Ok((DotConfig::parse(&config), config))
    }

    /// The options that are on by default, off in this `.config`, and needed by a requirement.
    async fn unset_defaults(&self, config: &str) -> Result<Vec<String>, CompileError> {
        let required = &self.request.flavor.requirements;
        let config = DotConfig::parse(config);
        if all_met(&required.require, &config) {
            return Ok(Vec::new());
        }
        let hard = required.require.clone();
        let (source, arch) = (self.make.layout.src.clone(), crate::toolchain::srcarch(required.arch));
        let work = move || crate::check::unset_defaults(&hard, &config, &KconfigTree::read(&source, arch));
        Ok(blocking("reading the Kconfig files", work).await?)
    }

    /// The configuration that a make target produces.
    async fn base_of_target(&self, target: &str, log: &mut Log) -> Result<String, CompileError> {
        // An earlier build may have created any type of file with this name.
        let objects = self.objects()?;
        blocking("removing files", move || objects.remove_tree(BASE_FILE)).await??;
        let output = format!("KCONFIG_CONFIG={}", self.make.layout.make_obj.join(BASE_FILE).display());
        match self.step(&[target, &output], CONFIG_LIMIT, log, &mut |_| {}).await {
            Err(CompileError::Failed { reason, .. }) if reason.contains("No rule to make target") => {
                return Err(BuildError::from(SourceError::NoTarget(target.into())).into());
            }
            result => result?,
        }
        Ok(self.objects()?.read_to_string(BASE_FILE, CONFIG_BYTES)?)
    }

    /// Checks that the requirements took effect.
    async fn check(&self, config: &DotConfig) -> Result<(Vec<UnmetOption>, Vec<String>), CompileError> {
        let required = &self.request.flavor.requirements;
        if all_met(required.require.iter().chain(&required.require_soft), config) {
            return Ok((Vec::new(), Vec::new()));
        }
        let (hard, soft) = (required.require.clone(), required.require_soft.clone());
        let (source, config) = (self.make.layout.src.clone(), config.clone());
        let srcarch = crate::toolchain::srcarch(required.arch);
        let work = move || check(&hard, &soft, &config, &KconfigTree::read(&source, srcarch));
        let checked = blocking("reading the Kconfig files", work).await?;
        if let Err(error) = self.request.refuse(&checked.unmet) {
            configured::invalidate(&self.make.layout.state)?;
            self.make.layout.state.end();
            return Err(error.into());
        }
        Ok((checked.unmet, checked.unknown))
    }

    /// The number of objects that will be compiled, if it can be determined quickly. If the configuration is unchanged
    /// and the objects are complete, it is derived from modification times, otherwise from a dry run of make.
    async fn total(
        &self,
        targets: &[&str],
        same_config: bool,
        log: &mut Log,
    ) -> Result<Option<u32>, CompileError> {
        let layout = self.make.layout.clone();
        if same_config && layout.state.completed().is_some() {
            let objects = self.objects()?;
            let work = move || outdated(&objects, &|path| layout.on_host(path));
            return Ok(blocking("comparing dates", work).await.unwrap_or(None));
        }
        self.step(&["prepare"], CONFIG_LIMIT, log, &mut |_| {}).await?;
        let mut args = vec!["-n"];
        args.extend(targets);
        // The dry run fails if a recipe needs a file that only a real run creates; its output up to that point is used.
        let output = self.make.capture(&args, CONFIG_LIMIT).await;
        Ok(output.ok().map(|output| count_dry_run(&output.text())).filter(|count| *count > 0))
    }

    async fn compile(
        &self,
        targets: &[&str],
        total: Option<u32>,
        log: &mut Log,
        on: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<u32, CompileError> {
        let mut counter = ObjectCounter::new(total);
        on(counter.progress());
        let mut reported = Instant::now();
        let result = self
            .step(targets, COMPILE_LIMIT, log, &mut |line| {
                if counter.feed(line) && reported.elapsed() >= REPORT_INTERVAL {
                    reported = Instant::now();
                    on(counter.progress());
                }
            })
            .await;
        on(counter.progress());
        result.map(|()| counter.done())
    }
}
