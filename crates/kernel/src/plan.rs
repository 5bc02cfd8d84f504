//! The plan of a build, made before the source is read: fragment, base configuration, make arguments, kernel id.

use fsx::own;
use model::{KernelId, TrustDomain};

use crate::dotconfig::{DotConfig, fragment};
use crate::error::{BuildError, SourceError};
use crate::flavor::Flavor;
use crate::id::hash_fields;
use crate::requirements::KconfigBase;
use crate::state::CONFIG_BYTES;
use crate::toolchain::Toolchain;

/// The version of the build steps. Increase it when a change of the steps changes the kernels.
const RECIPE: &str = "1";

/// How a flavor is built.
#[derive(Debug, Clone)]
pub struct BuildPlan {
    /// The flavor's name.
    pub flavor: String,
    /// The options that are added to the base.
    pub fragment: DotConfig,
    /// The base configuration.
    pub base: ConfigBase,
    make_append: Vec<String>,
    /// A make target in addition to the usual ones.
    pub target: Option<String>,
}

/// The base of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigBase {
    /// `make allnoconfig`.
    AllNo,
    /// The text of a configuration.
    Text(String),
    /// A make target that produces it.
    Target(String),
}

impl BuildPlan {
    /// Checks the requirements, and reads the base file if they contain one.
    pub fn new(flavor: &Flavor) -> Result<Self, BuildError> {
        let requirements = &flavor.requirements;
        crate::toolchain::check_name(requirements.compiler_name())?;
        let base = match &requirements.kconfig_base {
            None => ConfigBase::AllNo,
            Some(KconfigBase::Target(target)) => ConfigBase::Target(target.clone()),
            Some(KconfigBase::File(path)) => {
                let text = own::read_to_string(path, CONFIG_BYTES)
                    .map_err(|error| SourceError::BaseConfig { path: path.clone(), cause: error.source })?;
                ConfigBase::Text(text)
            }
        };
        let make_append = requirements.make_append.clone();
        if let Some(bad) = make_append.iter().find(|arg| arg.starts_with('-') || !arg.contains('=')) {
            return Err(SourceError::MakeArgument(bad.clone()).into());
        }
        let target = requirements.kbuild_target.clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
        if let Some(bad) = target.iter().find(|target| target.starts_with('-') || !target.chars().all(plain))
        {
            return Err(SourceError::MakeTarget(bad.clone()).into());
        }
        Ok(Self { flavor: flavor.name(), fragment: fragment(requirements), base, make_append, target })
    }

    /// The kernel id: a hash of everything that determines the kernel, and of the trust domain that the objects and the
    /// compiler cache belong to.
    #[must_use]
    pub fn id(&self, source_tree: &str, toolchain: &Toolchain, trust: Option<&TrustDomain>) -> KernelId {
        let (kind, base) = match &self.base {
            ConfigBase::AllNo => ("allnoconfig", ""),
            ConfigBase::Text(text) => ("file", text.as_str()),
            ConfigBase::Target(target) => ("target", target.as_str()),
        };
        let fragment = self.fragment.text();
        let arch = toolchain.arch.as_str();
        let fixed = ["kernel", RECIPE, source_tree, &fragment, kind, base, arch, &toolchain.version];
        let append = self.make_append.iter().map(String::as_str);
        // An argument contains a `=` and a target does not, so the list is unambiguous.
        let domain = trust.into_iter().flat_map(|trust| ["trust domain", trust.as_str()]);
        hash_fields(domain.chain(fixed).chain(append).chain(self.target.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Requirements;
    use model::Arch;

    #[test]
    fn every_input_changes_the_id() {
        let toolchain = Toolchain {
            arch: Arch::X86_64,
            make_args: Vec::new(),
            compiler: "gcc".into(),
            version: "gcc 12".into(),
            ccache: false,
            dirs: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("base.config");
        std::fs::write(&file, "CONFIG_A=y\n").unwrap();
        let plain = Requirements::new(Arch::X86_64);
        let option = Requirements { require: vec!["A".parse().unwrap()], ..plain.clone() };
        let target =
            Requirements { kconfig_base: Some(KconfigBase::Target("defconfig".into())), ..plain.clone() };
        let base = Requirements { kconfig_base: Some(KconfigBase::File(file.clone())), ..plain.clone() };
        let append = Requirements { make_append: vec!["KCFLAGS=-g".into()], ..plain.clone() };
        let more = Requirements { kbuild_target: Some("dtbs".into()), ..plain.clone() };
        let plan = |asked: &Requirements| BuildPlan::new(&Flavor::of("f", asked)).unwrap();
        let mut ids: Vec<_> = [&plain, &option, &target, &base, &append, &more]
            .iter()
            .map(|asked| plan(asked).id("t", &toolchain, None))
            .collect();
        ids.push(plan(&plain).id("u", &toolchain, None));
        let mut newer = toolchain.clone();
        newer.version = "gcc 13".into();
        ids.push(plan(&plain).id("t", &newer, None));
        std::fs::write(&file, "CONFIG_A=n\n").unwrap();
        ids.push(plan(&base).id("t", &toolchain, None));
        ids.push(plan(&plain).id("t", &toolchain, Some(&"user/a".parse().unwrap())));
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        // The file with the requirements and the use of ccache do not affect the kernel.
        let mut cached = toolchain.clone();
        cached.ccache = true;
        assert_eq!(
            BuildPlan::new(&Flavor::of("g", &plain)).unwrap().id("t", &cached, None),
            plan(&plain).id("t", &toolchain, None)
        );
    }

    #[test]
    fn bad_requirements_are_refused_before_anything_runs() {
        let mut asked = Requirements::new(Arch::X86_64);
        asked.make_append = vec!["--eval=$(shell id)".into()];
        assert!(BuildPlan::new(&Flavor::of("f", &asked)).is_err());
        asked.make_append.clear();
        asked.kbuild_target = Some("--eval=x".into());
        assert!(BuildPlan::new(&Flavor::of("f", &asked)).is_err());
        asked.kbuild_target = None;
        asked.kconfig_base = Some(KconfigBase::File("/nowhere/x.config".into()));
        let error = BuildPlan::new(&Flavor::of("f", &asked)).unwrap_err().to_string();
        assert_eq!(error, "cannot read /nowhere/x.config: No such file or directory (os error 2)");
    }
}
