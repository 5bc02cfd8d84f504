//! `ktest plan`: prints the kernels that a set of test files needs, and why they cannot be merged.

use std::path::{Path, PathBuf};

use clap::Args;
use kernel::{Flavor, KOption, KconfigBase, Requirements};
use model::{Arch, TestPath};
use serde::Serialize;

use super::failure::Failure;
use crate::run::{kernel_version, parse_kernel};
use testfile::{HostEnv, TestFile, TestFileError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest plan tests/boot.ktest tests/fs/*/*.ktest
  ktest plan --json tests/fs/*/*.ktest | jq '.flavors | length'

Exit codes: 0 success; 1 a file has invalid declarations; 2 usage error.")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Print JSON: {"flavors": [{"name", "arch", "compiler", "base", "files", "require", "require_soft", "overruled",
    /// "apart"}], "host": [...], "prebuilt": [...], "broken": [{"file", "why"}]}.
    #[arg(long)]
    json: bool,
}

/// Test files, and the source of their kernels.
#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// Test files.
    #[arg(value_name = "FILE.ktest", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Kernel source, for files whose declarations depend on its version.
    #[arg(short = 'k', long, value_name = "DIR", default_value = ".")]
    pub(super) kernel: String,
    /// Commit of the kernel source [default: the work tree].
    #[arg(long, value_name = "COMMIT")]
    pub(super) commit: Option<String>,
    /// Root of the test tree [default: found from the file's path].
    #[arg(long, value_name = "DIR")]
    pub(super) tests_dir: Option<PathBuf>,
    /// Directory for `require-git` clones [default: deps in the cache directory].
    #[arg(long, value_name = "DIR")]
    pub(super) deps_dir: Option<PathBuf>,
    /// Architecture of the guests if a test file does not declare one [default: the host's].
    #[arg(short, long)]
    pub(super) arch: Option<Arch>,
}

/// The kernels that the files need.
#[derive(Debug, Default, Serialize)]
pub(super) struct Plan {
    flavors: Vec<Planned>,
    /// Files with tests that run on the host.
    host: Vec<TestPath>,
    /// Files that use an existing kernel.
    prebuilt: Vec<TestPath>,
    /// Files with invalid declarations.
    pub(super) broken: Vec<Broken>,
    #[serde(skip)]
    pub(super) built: Vec<Flavor>,
}

#[derive(Debug, Serialize)]
pub(super) struct Broken {
    pub(super) file: PathBuf,
    #[serde(rename = "why")]
    pub(super) reason: String,
}

/// A flavor, as printed.
#[derive(Debug, Serialize)]
struct Planned {
    name: String,
    arch: Arch,
    compiler: String,
    base: String,
    files: Vec<String>,
    require: Vec<String>,
    require_soft: Vec<String>,
    /// Soft requirements that another file overrides.
    overruled: Vec<Overruled>,
    /// Why it cannot be merged with an earlier flavor.
    apart: Vec<Apart>,
}

#[derive(Debug, Serialize)]
struct Overruled {
    file: String,
    option: String,
}

#[derive(Debug, Serialize)]
struct Apart {
    from: String,
    #[serde(rename = "why")]
    reason: String,
}

impl Plan {
    /// Evaluates every file, using the cache.
    pub(super) async fn of(args: &FilesArgs, cache: &Path) -> Result<Self, Failure> {
        let kernel = parse_kernel(&args.kernel, args.commit.as_deref(), &[], cache)?;
        // Without a kernel source, the files get no version; the flavors still differ.
        let kernel_version = kernel_version(&kernel).await.unwrap_or_default();
        let env = HostEnv {
            arch: args.arch,
            out: "ktest-out".into(),
            deps_dir: super::deps_dir(args.deps_dir.as_deref(), cache)?,
            kernel_version,
            ktest: std::env::current_exe().ok(),
            ..HostEnv::default()
        };
        let mut plan = Self::default();
        let mut requirements: Vec<(String, Requirements)> = Vec::new();
        for path in &args.files {
            let file = match TestFile::find(path, args.tests_dir.as_deref()) {
                Ok(file) => file,
                Err(error @ TestFileError::Missing(_)) => return Err(Failure::usage(error)),
                Err(error) => {
                    plan.broken.push(Broken { file: path.clone(), reason: error.to_string() });
                    continue;
                }
            };
            match file.deps_cached(&env, cache).await {
                Ok(declared) if declared.no_vm => plan.host.push(file.test),
                Ok(declared) if declared.no_kbuild => plan.prebuilt.push(file.test),
                Ok(declared) => requirements.push((file.test.to_string(), declared.kernel)),
                Err(error) => plan.broken.push(Broken { file: path.clone(), reason: error.to_string() }),
            }
        }
        requirements.dedup_by(|a, b| a.0 == b.0);
        plan.built = kernel::merge(&requirements);
        plan.flavors = plan.built.iter().enumerate().map(|(at, _)| planned(&plan.built, at)).collect();
        Ok(plan)
    }
}

fn planned(flavors: &[Flavor], at: usize) -> Planned {
    let flavor = &flavors[at];
    let asked = &flavor.requirements;
    let texts = |list: &[KOption]| list.iter().map(ToString::to_string).collect();
    let overruled = flavor
        .overruled
        .iter()
        .map(|(file, option)| Overruled { file: file.clone(), option: option.to_string() });
    let apart = flavors[..at]
        .iter()
        .map(|other| Apart { from: other.name(), reason: difference(&other.requirements, asked) });
    Planned {
        name: flavor.name(),
        arch: asked.arch,
        compiler: asked.compiler_name().into(),
        base: base(asked.kconfig_base.as_ref()),
        files: flavor.files.clone(),
        require: texts(&asked.require),
        require_soft: texts(&asked.require_soft),
        overruled: overruled.collect(),
        apart: apart.collect(),
    }
}

fn base(base: Option<&KconfigBase>) -> String {
    match base {
        None => "allnoconfig".into(),
        Some(KconfigBase::Target(target)) => target.clone(),
        Some(KconfigBase::File(path)) => path.display().to_string(),
    }
}

/// The first difference between two flavors.
fn difference(other: &Requirements, this: &Requirements) -> String {
    if other.arch != this.arch {
        return format!("architecture {}, not {}", this.arch, other.arch);
    }
    if other.compiler_name() != this.compiler_name() {
        return format!("compiler {}, not {}", this.compiler_name(), other.compiler_name());
    }
    if other.kconfig_base != this.kconfig_base {
        let [other, this] = [other, this].map(|asked| base(asked.kconfig_base.as_ref()));
        return format!("based on {this}, not {other}");
    }
    if other.make_append != this.make_append {
        return "different make arguments".into();
    }
    let (theirs, ours) = (other.hard(), this.hard());
    let clash = ours.iter().find(|(name, value)| theirs.get(*name).is_some_and(|other| !other.agrees(value)));
    match clash {
        Some((name, value)) => format!("{name}={value}, not {name}={}", theirs[name]),
        None => "each of its files contradicts one of the other flavor".into(),
    }
}

pub(super) async fn run(args: PlanArgs, cache: &Path) -> Result<u8, Failure> {
    let plan = Plan::of(&args.files, cache).await?;
    let code = u8::from(!plan.broken.is_empty());
    if args.json {
        stdio::json(&plan)?;
        return Ok(code);
    }
    stdio::print(text(&plan))?;
    Ok(code)
}

fn text(plan: &Plan) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for flavor in &plan.flavors {
        let count =
            |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (files, options) = (count(flavor.files.len(), "file"), count(flavor.require.len(), "option"));
        let Planned { name, compiler, base, .. } = flavor;
        let _ = writeln!(text, "{name}: {files}, {compiler} on {base}, {options} required");
        for file in &flavor.files {
            let _ = writeln!(text, "  {file}");
        }
        for Overruled { file, option } in &flavor.overruled {
            let _ = writeln!(text, "    without {option}, a soft requirement of {file}");
        }
        for Apart { from, reason } in &flavor.apart {
            let _ = writeln!(text, "    separate from {from}: {reason}");
        }
    }
    for (what, files) in [("on the host", &plan.host), ("existing kernel", &plan.prebuilt)] {
        for file in files {
            let _ = writeln!(text, "{what}: {file}");
        }
    }
    for Broken { reason, .. } in &plan.broken {
        let _ = writeln!(text, "invalid: {reason}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(options: &str, compiler: Option<&str>) -> Requirements {
        let require = options.split_whitespace().map(|word| word.parse().unwrap()).collect();
        Requirements { require, compiler: compiler.map(Into::into), ..Requirements::new(Arch::X86_64) }
    }

    #[test]
    fn the_text() {
        let soft = Requirements { require_soft: vec!["QUOTA=n".parse().unwrap()], ..asks("XFS_FS", None) };
        let built = kernel::merge(&[
            ("fs/ext4".into(), asks("EXT4_FS QUOTA", None)),
            ("fs/xfs".into(), soft),
            ("noquota".into(), asks("QUOTA=n", None)),
            ("clang".into(), asks("EXT4_FS", Some("clang"))),
        ]);
        let flavors = built.iter().enumerate().map(|(at, _)| planned(&built, at)).collect();
        let broken = vec![Broken { file: "x.ktest".into(), reason: "x.ktest declares no ktest_mem".into() }];
        let host = vec!["tool".parse().unwrap()];
        let plan = Plan { flavors, host, prebuilt: Vec::new(), broken, built };
        insta::assert_snapshot!(text(&plan), @r"
        x86_64-3cedfb23a384: 1 file, clang on allnoconfig, 1 option required
          clang
        x86_64-37e31bffe264: 2 files, gcc on allnoconfig, 3 options required
          fs/ext4
          fs/xfs
            without QUOTA=n, a soft requirement of fs/xfs
            separate from x86_64-3cedfb23a384: compiler gcc, not clang
        x86_64-0b3df2a2e337: 1 file, gcc on allnoconfig, 1 option required
          noquota
            separate from x86_64-3cedfb23a384: compiler gcc, not clang
            separate from x86_64-37e31bffe264: QUOTA=n, not QUOTA=y
        on the host: tool
        invalid: x.ktest declares no ktest_mem
        ");
    }
}
