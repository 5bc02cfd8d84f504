//! What a flavor means for a build, before any source is looked at: the fragment, the base, the kernel's name.

use model::KernelId;

use crate::dotconfig::{DotConfig, fragment};
use crate::error::BuildError;
use crate::flavor::Flavor;
use crate::requirements::KconfigBase;
use crate::store::hash_fields;
use crate::toolchain::Toolchain;

/// Raised whenever the way kernels are built changes what comes out.
const RECIPE: &str = "1";

/// How a flavor is configured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The flavor's name.
    pub flavor: String,
    /// What goes on top of the base.
    pub fragment: DotConfig,
    /// Where the configuration starts.
    pub base: Base,
    make_append: Vec<String>,
    /// What to make beside the usual.
    pub target: Option<String>,
}

/// Where a configuration starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// allnoconfig.
    Nothing,
    /// A configuration's text.
    Text(String),
    /// A make target.
    Target(String),
}

impl Plan {
    /// Reads the base file, where there is one.
    pub fn new(flavor: &Flavor) -> Result<Self, BuildError> {
        let requirements = &flavor.requirements;
        crate::toolchain::check_name(requirements.compiler_name())?;
        let base = match &requirements.kconfig_base {
            None => Base::Nothing,
            Some(KconfigBase::Target(target)) => Base::Target(target.clone()),
            Some(KconfigBase::File(path)) => {
                let text = std::fs::read_to_string(path);
                let text =
                    text.map_err(|error| BuildError::Source(format!("{}: {error}", path.display())))?;
                Base::Text(text)
            }
        };
        let make_append = requirements.make_append.clone();
        if let Some(bad) = make_append.iter().find(|arg| arg.starts_with('-') || !arg.contains('=')) {
            return Err(BuildError::Source(format!("make argument {bad:?} is not of the form NAME=VALUE")));
        }
        let target = requirements.kbuild_target.clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
        if let Some(bad) = target.iter().find(|target| target.starts_with('-') || !target.chars().all(plain))
        {
            return Err(BuildError::Source(format!("{bad:?} is no make target")));
        }
        Ok(Self { flavor: flavor.name(), fragment: fragment(requirements), base, make_append, target })
    }

    /// The kernel's name: a hash of all that goes into it.
    #[must_use]
    pub fn id(&self, source_tree: &str, toolchain: &Toolchain) -> KernelId {
        let (kind, base) = match &self.base {
            Base::Nothing => ("allnoconfig", ""),
            Base::Text(text) => ("file", text.as_str()),
            Base::Target(target) => ("target", target.as_str()),
        };
        let fragment = self.fragment.text();
        let arch = toolchain.arch.as_str();
        let fixed = ["kernel", RECIPE, source_tree, &fragment, kind, base, arch, &toolchain.version];
        let append = self.make_append.iter().map(String::as_str);
        // What is appended holds a `=`, a target does not.
        hash_fields(fixed.into_iter().chain(append).chain(self.target.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Requirements;
    use model::Arch;

    #[test]
    fn whatever_goes_in_changes_the_name() {
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
        let plan = |asked: &Requirements| Plan::new(&Flavor::of("f", asked)).unwrap();
        let mut ids: Vec<_> = [&plain, &option, &target, &base, &append, &more]
            .iter()
            .map(|asked| plan(asked).id("t", &toolchain))
            .collect();
        ids.push(plan(&plain).id("u", &toolchain));
        let mut newer = toolchain.clone();
        newer.version = "gcc 13".into();
        ids.push(plan(&plain).id("t", &newer));
        std::fs::write(&file, "CONFIG_A=n\n").unwrap();
        ids.push(plan(&base).id("t", &toolchain));
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        // The same requirements of another file, and ccache or not, are the same kernel.
        let mut cached = toolchain.clone();
        cached.ccache = true;
        assert_eq!(
            Plan::new(&Flavor::of("g", &plain)).unwrap().id("t", &cached),
            plan(&plain).id("t", &toolchain)
        );
    }

    #[test]
    fn bad_requirements_are_said_before_anything_runs() {
        let mut asked = Requirements::new(Arch::X86_64);
        asked.make_append = vec!["--eval=$(shell id)".into()];
        assert!(Plan::new(&Flavor::of("f", &asked)).is_err());
        asked.make_append.clear();
        asked.kbuild_target = Some("--eval=x".into());
        assert!(Plan::new(&Flavor::of("f", &asked)).is_err());
        asked.kbuild_target = None;
        asked.kconfig_base = Some(KconfigBase::File("/nowhere/x.config".into()));
        let error = Plan::new(&Flavor::of("f", &asked)).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/x.config: No such file or directory (os error 2)");
    }
}
