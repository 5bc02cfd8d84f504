//! Checks the requirements of a run on this host: whether each is present and works, and how to fix it.

pub mod suite;

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Arch;
use sandbox::SandboxError;
use serde::Serialize;
use spawn::{Cmd, Limits, SpawnError};
use vm::accel::Kvm;

/// The state of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It works.
    Ok,
    /// Runs are possible, but slower or less safe.
    Weak,
    /// No run is possible without it.
    Missing,
    /// It is present but not effective: untrusted code is not confined.
    Fail,
}

/// A requirement and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The requirement: a program, a feature.
    pub what: String,
    /// Its state.
    pub health: Health,
    /// What was found, one line.
    pub found: String,
    /// How to fix it; empty if it works.
    pub remedy: String,
}

/// A required program or file.
struct Need {
    /// The command that prints its version, or the path of the file.
    argv: &'static [&'static str],
    /// The package.
    package: &'static str,
    /// What does not work without it; `None` if no run is possible.
    optional: Option<&'static str>,
}

impl Need {
    const fn of(argv: &'static [&'static str], package: &'static str) -> Self {
        Self { argv, package, optional: None }
    }
    const fn or(argv: &'static [&'static str], package: &'static str, lost: &'static str) -> Self {
        Self { argv, package, optional: Some(lost) }
    }
}

/// The compilers for an architecture, in addition to the host's gcc: programs and packages.
fn compilers(arch: Arch) -> Vec<(String, String)> {
    match kernel::toolchain::cross(arch, Arch::native()) {
        "" => vec![("ld".into(), "binutils".into())],
        cross => {
            let place = cross.trim_end_matches('-').replace('_', "-");
            let named = |(program, package)| (format!("{cross}{program}"), format!("{package}-{place}"));
            [("gcc", "gcc"), ("ld", "binutils")].map(named).into()
        }
    }
}

const NEEDS: &[Need] = &[
    Need::of(&["git", "--version"], "git"),
    Need::of(&["make", "--version"], "make"),
    Need::of(&["gcc", "--version"], "gcc"),
    Need::of(&["flex", "--version"], "flex"),
    Need::of(&["bison", "--version"], "bison"),
    Need::of(&["bc", "--version"], "bc"),
    Need::of(&["perl", "-e", "print \"perl $^V\""], "perl"),
    Need::of(&["/usr/include/libelf.h"], "libelf-dev"),
    Need::or(
        &["/usr/include/openssl/ssl.h"],
        "libssl-dev",
        "kernels with signed modules or certificates do not build",
    ),
    Need::of(&["depmod", "--version"], "kmod"),
    Need::of(&["mmdebstrap", "--version"], "mmdebstrap"),
    Need::of(&["fakeroot", "--version"], "fakeroot"),
    Need::of(&["mke2fs", "-V"], "e2fsprogs"),
    Need::or(&["ccache", "--version"], "ccache", "rebuilding a kernel takes longer"),
    Need::or(&["clang", "--version"], "clang lld llvm", "test files with config-compiler clang cannot run"),
    Need::or(&["rsync", "--version"], "rsync", "kernel selftests cannot be installed"),
    Need::or(&["gdb", "--version"], "gdb", "ktest gdb and kgdb do not work"),
    Need::or(&["ssh", "-V"], "openssh-client", "ktest ssh does not work"),
];

/// Checks everything, and passes each finding on as soon as it is made. KVM is checked by booting a guest, without a cache.
pub async fn examine(arch: Arch, cache: &Path, mut found: impl FnMut(Finding)) {
    let qemu = vm::machine::program(arch);
    let package = match arch {
        Arch::X86_64 => "qemu-system-x86",
        Arch::Aarch64 => "qemu-system-arm",
    };
    found(program(&[qemu, "--version"], package, None).await);
    found(kvm(&vm::accel::kvm_now(arch).await));
    for (name, package) in compilers(arch) {
        found(program(&[&name, "--version"], &package, None).await);
    }
    for need in NEEDS {
        found(check(need).await);
    }
    sandbox().await.into_iter().chain(daemon().await).for_each(&mut found);
    found(root_image(arch, cache).await);
    found(space(cache));
}

/// Whether this host can run tests, in one line.
pub fn verdict(findings: &[Finding]) -> String {
    let named = |wanted: &[Health]| -> Vec<&str> {
        let found = findings.iter().filter(|finding| wanted.contains(&finding.health));
        found.map(|finding| finding.what.as_str()).collect()
    };
    let (missing, escapes, weak) =
        (named(&[Health::Missing]), named(&[Health::Fail]), named(&[Health::Weak]));
    if !missing.is_empty() {
        format!("this host cannot run tests: {} missing", missing.join(", "))
    } else if !escapes.is_empty() {
        format!("this host must not run untrusted code: {} not effective", escapes.join(", "))
    } else if weak.is_empty() {
        format!("this host can run tests: {} checks, all ok", findings.len())
    } else {
        format!("this host can run tests, with limits: {}", weak.join(", "))
    }
}

async fn check(Need { argv, package, optional }: &Need) -> Finding {
    match argv {
        [path] => file(Path::new(path), package, *optional),
        _ => program(argv, package, *optional).await,
    }
}

/// The finding for something that is not installed.
fn absent(what: String, package: &str, optional: Option<&str>) -> Finding {
    let health = if optional.is_some() { Health::Weak } else { Health::Missing };
    let found = optional.map_or("not installed".into(), |lost| format!("not installed: {lost}"));
    Finding { what, health, found, remedy: format!("apt-get install {package}") }
}

fn file(path: &Path, package: &str, optional: Option<&str>) -> Finding {
    let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_file() {
        let found = path.display().to_string();
        return Finding { what, health: Health::Ok, found, remedy: String::new() };
    }
    absent(what, package, optional)
}

/// The standard root image.
async fn root_image(arch: Arch, cache: &Path) -> Finding {
    let spec = vm::image::ImageSpec::standard(arch);
    let there = vm::image::find(&spec, cache).await;
    let found = there.map_or("the first run creates it".into(), |image| image.path.display().to_string());
    Finding { what: "root image".into(), health: Health::Ok, found, remedy: String::new() }
}

async fn program(argv: &[&str], package: &str, optional: Option<&str>) -> Finding {
    let what = argv[0].to_string();
    // The search path of a run includes sbin, which contains mke2fs; a user's PATH often does not.
    let path = debian::programs::search_path();
    let output = Cmd::new(argv[0]).args(&argv[1..]).env("PATH", path).output(limits()).await;
    let lost = if optional.is_some() { Health::Weak } else { Health::Missing };
    match output {
        Ok(output) => {
            let text = if output.stdout.is_empty() { output.error_line() } else { output.text() };
            let version = text.lines().next().unwrap_or_default().trim().to_string();
            Finding { what, health: Health::Ok, found: version, remedy: String::new() }
        }
        Err(SpawnError::NotFound { .. }) => absent(what, package, optional),
        Err(error) => Finding { what, health: lost, found: error.to_string(), remedy: String::new() },
    }
}

fn limits() -> Limits {
    Limits { time: Duration::from_secs(10), bytes: 1 << 20 }
}

fn kvm(kvm: &Kvm) -> Finding {
    let what = "KVM".to_string();
    match kvm {
        Kvm::Works => {
            Finding { what, health: Health::Ok, found: "a test guest runs".into(), remedy: String::new() }
        }
        Kvm::Unusable(reason) => Finding {
            what,
            health: Health::Weak,
            found: format!("cannot run guests: {reason}"),
            remedy: "runs use TCG, which is several times slower; enable (nested) virtualization for KVM"
                .into(),
        },
    }
}

/// The sandbox, and each attempt to break out of it.
async fn sandbox() -> Vec<Finding> {
    let missing = |error: SandboxError| {
        let remedy = match error {
            SandboxError::Refused(_) => {
                "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
                 kernel.apparmor_restrict_unprivileged_userns; a farm does not run without the sandbox. \
                 For your own branches use --no-sandbox (then a kernel's Makefile can read your files)"
            }
            _ => "",
        };
        let found = error.to_string();
        vec![Finding { what: "sandbox".into(), health: Health::Missing, found, remedy: remedy.into() }]
    };
    if let Err(error) = sandbox::probe().await {
        return missing(error);
    }
    match sandbox::try_to_escape().await {
        Ok(attempts) => attempts.into_iter().map(escape).collect(),
        Err(error) => missing(error),
    }
}

fn escape(attempt: sandbox::Attempt) -> Finding {
    let what = format!("sandbox {}", attempt.name);
    if attempt.held {
        return Finding { what, health: Health::Ok, found: attempt.claim.into(), remedy: String::new() };
    }
    let remedy = "do not build branches of other people on this host; report it with the output of \
                  bwrap --version and uname -r"
        .into();
    Finding { what, health: Health::Fail, found: format!("not effective: {}", attempt.claim), remedy }
}

/// The `ci-daemon` that is installed next to this command, if there is one. It starts this command.
async fn daemon() -> Option<Finding> {
    let path = std::env::current_exe().ok()?.with_file_name("ci-daemon");
    if !path.is_file() {
        return None;
    }
    let output = Cmd::new(&path).arg("--version").output(limits()).await.ok()?;
    Some(same_build(output.text().lines().next()?.strip_prefix("ci-daemon ")?, model::build::version()))
}

fn same_build(daemon: &str, own: &str) -> Finding {
    let (what, found) = ("ci-daemon".to_owned(), daemon.to_owned());
    if daemon == own {
        return Finding { what, health: Health::Ok, found, remedy: String::new() };
    }
    let remedy = format!("this ktest is {own}; install the same version of both and restart the daemon");
    Finding { what, health: Health::Weak, found, remedy }
}

/// The space for a checkout, its objects, a kernel and a root image, in bytes.
const SPACE_NEEDED: u64 = 8 << 30;

fn space(cache: &Path) -> Finding {
    let what = "cache".to_string();
    let there: PathBuf = cache.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).into();
    match fsx::own::free_bytes(&there) {
        Ok(free) => {
            let found = format!("{}: {} GiB free", cache.display(), free >> 30);
            let writable = rustix::fs::access(&there, rustix::fs::Access::WRITE_OK).is_ok();
            match (writable, free >= SPACE_NEEDED) {
                (true, true) => Finding { what, health: Health::Ok, found, remedy: String::new() },
                (false, _) => Finding {
                    what,
                    health: Health::Missing,
                    found: format!("{}: not writable", cache.display()),
                    remedy: "pass --cache-dir DIR".into(),
                },
                (true, false) => Finding {
                    what,
                    health: Health::Weak,
                    found,
                    remedy: format!(
                        "free some space; a kernel tree and its objects take {} GiB",
                        SPACE_NEEDED >> 30
                    ),
                },
            }
        }
        Err(error) => Finding {
            what,
            health: Health::Missing,
            found: format!("{}: {}", there.display(), error.source),
            remedy: "pass --cache-dir DIR".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let finding = program(&["/nowhere/flex", "--version"], "flex", None).await;
        assert_eq!((finding.health, finding.remedy.as_str()), (Health::Missing, "apt-get install flex"));
        let finding = program(&["/nowhere/ccache"], "ccache", Some("slower")).await;
        assert_eq!((finding.health, finding.found.as_str()), (Health::Weak, "not installed: slower"));
    }

    #[test]
    fn an_attempt_that_broke_out_is_a_failure() {
        let attempt = |held| sandbox::Attempt { name: "network", claim: "no network", held };
        assert_eq!(escape(attempt(true)).health, Health::Ok);
        let broke = escape(attempt(false));
        assert_eq!((broke.health, broke.found.as_str()), (Health::Fail, "not effective: no network"));
    }

    #[test]
    fn a_daemon_of_another_build_is_reported() {
        assert_eq!(same_build("0.1.0 (aaaa)", "0.1.0 (aaaa)").health, Health::Ok);
        let other = same_build("0.1.0 (bbbb)", "0.1.0 (aaaa)");
        assert!(other.health == Health::Weak && other.remedy.contains("this ktest is 0.1.0 (aaaa)"));
    }

    #[test]
    fn a_missing_file_names_its_package() {
        let finding = file(Path::new("/nowhere/libelf.h"), "libelf-dev", None);
        assert_eq!((finding.what.as_str(), finding.health), ("libelf.h", Health::Missing));
        assert_eq!(finding.remedy, "apt-get install libelf-dev");
    }

    #[test]
    fn a_foreign_architecture_needs_a_cross_compiler() {
        let foreign = Arch::ALL.into_iter().find(|arch| Arch::native() != Some(*arch)).unwrap();
        assert!(compilers(foreign)[0].0.ends_with("-linux-gnu-gcc"));
        assert!(
            compilers(foreign)
                .iter()
                .all(|(_, package)| package.ends_with("-linux-gnu") && !package.contains('_'))
        );
    }

    #[test]
    fn kvm_that_cannot_run_guests_is_reported() {
        let finding = kvm(&Kvm::Unusable("/dev/kvm opens, but a test guest did not run within 5 s".into()));
        assert_eq!(finding.health, Health::Weak);
        assert!(finding.found.starts_with("cannot run guests: /dev/kvm opens"));
    }
}
