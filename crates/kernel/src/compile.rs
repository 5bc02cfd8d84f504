//! Configures and compiles in a prepared layout, under the build tree's lock.
//!
//! All that make prints goes into the log; the first error of the source is its verdict.

use std::time::{Duration, Instant, SystemTime};

use crate::build::{BuildRequest, CompileError, image_of};
use crate::check::{Unmet, all_met, check};
use crate::configured;
use crate::diagnose::{Diagnosis, Failure};
use crate::dotconfig::DotConfig;
use crate::error::BuildError;
use crate::kconfig::Tree;
use crate::make::{Log, Make};
use crate::option::KValue;
use crate::plan::{Base, Plan};
use crate::progress::{Counter, Progress, count_dry_run, outdated};
use crate::tree;

/// The time limits of configuring and of compiling.
const CONFIG_LIMIT: Duration = Duration::from_secs(600);
const COMPILE_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// One compile to be done.
pub(crate) struct Compile<'a> {
    pub request: &'a BuildRequest,
    pub plan: &'a Plan,
    pub make: &'a Make,
}

/// What it gave; the files are in the object folder.
#[derive(Debug)]
pub struct Compiled {
    /// The finished configuration.
    pub config: DotConfig,
    /// Its text.
    pub config_text: String,
    /// Required options that did not take, all tolerated.
    pub unmet: Vec<Unmet>,
    /// Required options that the source does not know.
    pub unknown: Vec<String>,
    /// How many objects were made.
    pub objects: u32,
}

impl Compile<'_> {
    pub(crate) async fn run(&self, on: &mut (dyn FnMut(Progress) + Send)) -> Result<Compiled, CompileError> {
        let obj = &self.make.layout.obj;
        let mut log = Log::create(&self.request.out_log)?;
        tree::begin(obj)?;
        on(Progress::Configuring);
        let before = std::fs::read_to_string(obj.join(".config")).unwrap_or_default();
        let (config, config_text) = self.configure(&mut log).await?;
        let (unmet, unknown) = self.check(&config).await?;
        if !unmet.is_empty() {
            // What is missing on this host may be there next time.
            configured::forget(obj);
        }
        let (target, _) = image_of(self.make.toolchain.arch, &config);
        let mut targets = vec![target];
        if config.has_modules() {
            targets.push("modules");
        }
        if *config.get("MODULES") == KValue::Yes {
            // For modules outside the tree.
            targets.push("modules_prepare");
        }
        if *config.get("GDB_SCRIPTS") == KValue::Yes {
            targets.push("scripts_gdb");
        }
        targets.extend(self.plan.target.as_deref());
        let total = self.total(&targets, before == config_text, &mut log).await?;
        let objects = self.compile(&targets, total, &mut log, on).await?;
        let complete = obj.join(tree::COMPLETE);
        std::fs::write(&complete, "").map_err(|error| BuildError::io(&complete, &error))?;
        tree::end(obj);
        Ok(Compiled { config, config_text, unmet, unknown, objects })
    }

    /// Runs make; what is not success is a failure with its reason.
    async fn step(
        &self,
        args: &[&str],
        limit: Duration,
        log: &mut Log,
        seen: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), CompileError> {
        let layout = &self.make.layout;
        let mut diagnosis = Diagnosis::new(&[&layout.src_seen, &layout.obj_seen]);
        let begun = Instant::now();
        let exit = self
            .make
            .run(args, limit, &mut |line| {
                log.line(line);
                diagnosis.feed(line);
                seen(line);
            })
            .await?;
        log.flush();
        tracing::debug!(?args, %exit, ms = begun.elapsed().as_millis(), "make ended");
        if exit.success() {
            return Ok(());
        }
        let failure = diagnosis.conclude(exit);
        if matches!(exit, spawn::Exit::Code(_)) {
            tree::end(&layout.obj);
        }
        Err(match failure {
            Failure::Source { reason, certain } => CompileError::Failed { reason, certain },
            Failure::Host { reason } => {
                BuildError::Infrastructure(format!("{reason}; see {}", self.request.out_log.display())).into()
            }
        })
    }

    /// Makes the `.config`, unless it is still right; its date stays as it is if nothing changes.
    async fn configure(&self, log: &mut Log) -> Result<(DotConfig, String), CompileError> {
        let layout = &self.make.layout;
        let fragment = self.plan.fragment.text();
        let (command, text) = match &self.plan.base {
            Base::Nothing => ("allnoconfig", fragment),
            Base::Text(base) => ("alldefconfig", format!("{base}\n{fragment}")),
            Base::Target(target) => {
                let into = format!("KCONFIG_CONFIG={}", layout.obj_seen.join(".ktest-base").display());
                match self.step(&[target, &into], CONFIG_LIMIT, log, &mut |_| {}).await {
                    Err(CompileError::Failed { reason, .. }) if reason.contains("No rule to make target") => {
                        return Err(BuildError::Source(format!(
                            "make {target}: this kernel has no such target"
                        ))
                        .into());
                    }
                    other => other?,
                }
                let path = layout.obj.join(".ktest-base");
                let base = std::fs::read_to_string(&path).map_err(|error| BuildError::io(&path, &error))?;
                ("alldefconfig", format!("{base}\n{fragment}"))
            }
        };
        let version = &self.make.toolchain.version;
        let skippable = !matches!(self.plan.base, Base::Target(_));
        if let Some(config) = configured::still_right(layout, &text, version).filter(|_| skippable) {
            return Ok((DotConfig::parse(&config), config));
        }
        let begun = SystemTime::now();
        let path = layout.obj.join(".ktest-wanted");
        std::fs::write(&path, &text).map_err(|error| BuildError::io(&path, &error))?;
        let wanted = format!("KCONFIG_ALLCONFIG={}", layout.obj_seen.join(".ktest-wanted").display());
        self.step(&[command, &wanted], CONFIG_LIMIT, log, &mut |_| {}).await?;
        let path = layout.obj.join(".config");
        let config = std::fs::read_to_string(&path).map_err(|error| BuildError::io(&path, &error))?;
        configured::note(&layout.obj, &text, version, &config, begun)?;
        Ok((DotConfig::parse(&config), config))
    }

    /// Whether the requirements took.
    async fn check(&self, config: &DotConfig) -> Result<(Vec<Unmet>, Vec<String>), CompileError> {
        let asked = &self.request.flavor.requirements;
        if all_met(asked.require.iter().chain(&asked.require_soft), config) {
            return Ok((Vec::new(), Vec::new()));
        }
        let (hard, soft) = (asked.require.clone(), asked.require_soft.clone());
        let (source, config) = (self.make.layout.src.clone(), config.clone());
        let srcarch = crate::toolchain::srcarch(asked.arch);
        let work = move || check(&hard, &soft, &config, &Tree::read(&source, srcarch));
        let checked = tokio::task::spawn_blocking(work).await;
        let checked = checked.map_err(|error| BuildError::Infrastructure(error.to_string()))?;
        if let Err(error) = self.request.refuse(&checked.unmet) {
            configured::forget(&self.make.layout.obj);
            tree::end(&self.make.layout.obj);
            return Err(error.into());
        }
        Ok((checked.unmet, checked.unknown))
    }

    /// How many objects there are to make, where that can be told cheaply: by the dates of what they were made from if
    /// they are all there and the configuration is the same, else by make's dry run.
    async fn total(&self, targets: &[&str], same: bool, log: &mut Log) -> Result<Option<u32>, CompileError> {
        let layout = self.make.layout.clone();
        if same && layout.obj.join(tree::COMPLETE).exists() {
            let work = move || outdated(&layout.obj, &|seen| layout.on_host(seen));
            return Ok(tokio::task::spawn_blocking(work).await.unwrap_or(None));
        }
        self.step(&["prepare"], CONFIG_LIMIT, log, &mut |_| {}).await?;
        let mut args = vec!["-n"];
        args.extend(targets);
        // It ends with an error where it would need what it did not make; what it printed until then counts.
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
        let mut counter = Counter::new(total);
        on(counter.progress());
        let mut told = Instant::now();
        let result = self
            .step(targets, COMPILE_LIMIT, log, &mut |line| {
                if counter.feed(line) && told.elapsed() >= Duration::from_millis(100) {
                    told = Instant::now();
                    on(counter.progress());
                }
            })
            .await;
        on(counter.progress());
        result.map(|()| counter.done())
    }
}
