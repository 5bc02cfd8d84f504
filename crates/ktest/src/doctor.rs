//! What a run needs of this host: whether it is there, whether it works, and how to get it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Arch;
use serde::Serialize;
use spawn::{Cmd, Limits, SpawnError};
use vm::accel::Kvm;

/// How one need stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It works.
    Ok,
    /// Runs are possible, but slower or less safe.
    Weak,
    /// No run is possible without it.
    Missing,
}

/// One need and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is: a program, a feature.
    pub what: String,
    /// How it stands.
    pub health: Health,
    /// What was found, in one line.
    pub found: String,
    /// What to do about it; empty where it works.
    pub remedy: String,
}

/// A program that a run starts.
struct Program {
    argv: &'static [&'static str],
    package: &'static str,
    /// What is lost without it; None: everything.
    optional: Option<&'static str>,
}

const PROGRAMS: &[Program] = &[
    Program { argv: &["git", "--version"], package: "git", optional: None },
    Program { argv: &["make", "--version"], package: "make", optional: None },
    Program { argv: &["gcc", "--version"], package: "gcc", optional: None },
    Program { argv: &["ld", "--version"], package: "binutils", optional: None },
    Program { argv: &["flex", "--version"], package: "flex", optional: None },
    Program { argv: &["bison", "--version"], package: "bison", optional: None },
    Program { argv: &["bc", "--version"], package: "bc", optional: None },
    Program { argv: &["mmdebstrap", "--version"], package: "mmdebstrap", optional: None },
    Program { argv: &["fakeroot", "--version"], package: "fakeroot", optional: None },
    Program { argv: &["mke2fs", "-V"], package: "e2fsprogs", optional: None },
    Program { argv: &["depmod", "--version"], package: "kmod", optional: None },
    Program {
        argv: &["ccache", "--version"],
        package: "ccache",
        optional: Some("kernels that were built before are compiled again"),
    },
];

const SANDBOX: &[&str] =
    &["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "true"];

/// Looks at everything. KVM is tested by booting a guest, always anew.
pub async fn examine(arch: Arch, cache: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let qemu = vm::machine::program(arch);
    let package = match arch {
        Arch::X86_64 => "qemu-system-x86",
        Arch::Aarch64 => "qemu-system-arm",
    };
    findings.push(program(&[qemu, "--version"], package, None).await);
    findings.push(kvm(&vm::accel::kvm_now(arch).await));
    for Program { argv, package, optional } in PROGRAMS {
        findings.push(program(argv, package, *optional).await);
    }
    findings.push(sandbox().await);
    findings.push(space(cache));
    findings
}

async fn program(argv: &[&str], package: &str, optional: Option<&str>) -> Finding {
    let what = argv[0].to_string();
    // As those who start them look for them: an ordinary user's path leaves out sbin, where mke2fs is.
    let path = vm::image::host::search_path();
    let output = Cmd::new(argv[0]).args(&argv[1..]).env("PATH", path).output(limits()).await;
    let lost = if optional.is_some() { Health::Weak } else { Health::Missing };
    match output {
        Ok(output) => {
            let text = if output.stdout.is_empty() { output.complaint() } else { output.text() };
            let version = text.lines().next().unwrap_or_default().trim().to_string();
            Finding { what, health: Health::Ok, found: version, remedy: String::new() }
        }
        Err(SpawnError::NotFound { .. }) => {
            let why = optional.map_or("not installed".into(), |lost| format!("not installed: {lost}"));
            Finding { what, health: lost, found: why, remedy: format!("apt-get install {package}") }
        }
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
            Finding { what, health: Health::Ok, found: "a test guest ran".into(), remedy: String::new() }
        }
        Kvm::Unusable(why) => Finding {
            what,
            health: Health::Weak,
            found: format!("does not run guests: {why}"),
            remedy: "runs use TCG, several times slower; KVM needs a host that passes virtualisation on"
                .into(),
        },
    }
}

async fn sandbox() -> Finding {
    let what = "sandbox".to_string();
    let remedy = "apt-get install bubblewrap, allow user namespaces, or say --no-sandbox: \
                  a kernel's Makefile then sees the network and your files";
    match Cmd::new(SANDBOX[0]).args(&SANDBOX[1..]).output(limits()).await {
        Ok(output) if output.exit.success() => {
            Finding { what, health: Health::Ok, found: "bubblewrap works".into(), remedy: String::new() }
        }
        Ok(output) => {
            let found = format!("bubblewrap does not work: {}", output.complaint());
            Finding { what, health: Health::Missing, found, remedy: remedy.into() }
        }
        Err(error) => {
            Finding { what, health: Health::Missing, found: error.to_string(), remedy: remedy.into() }
        }
    }
}

/// A checkout, its objects, a kernel and a root image.
const SPACE_NEEDED: u64 = 8 << 30;

fn space(cache: &Path) -> Finding {
    let what = "cache".to_string();
    let there: PathBuf = cache.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).into();
    match rustix::fs::statvfs(&there) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!("{}: {} GiB free", cache.display(), free >> 30);
            let writable = rustix::fs::access(&there, rustix::fs::Access::WRITE_OK).is_ok();
            match (writable, free >= SPACE_NEEDED) {
                (true, true) => Finding { what, health: Health::Ok, found, remedy: String::new() },
                (false, _) => Finding {
                    what,
                    health: Health::Missing,
                    found: format!("{}: not writable", cache.display()),
                    remedy: "say --cache-dir DIR".into(),
                },
                (true, false) => Finding {
                    what,
                    health: Health::Weak,
                    found,
                    remedy: format!("a kernel tree and its objects take {} GiB", SPACE_NEEDED >> 30),
                },
            }
        }
        Err(error) => Finding {
            what,
            health: Health::Missing,
            found: format!("{}: {error}", there.display()),
            remedy: "say --cache-dir DIR".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_says_how_to_get_it() {
        let finding = program(&["/nowhere/flex", "--version"], "flex", None).await;
        assert_eq!((finding.health, finding.remedy.as_str()), (Health::Missing, "apt-get install flex"));
        let finding = program(&["/nowhere/ccache"], "ccache", Some("slower")).await;
        assert_eq!((finding.health, finding.found.as_str()), (Health::Weak, "not installed: slower"));
    }

    #[test]
    fn kvm_that_does_not_run_guests_is_said() {
        let finding = kvm(&Kvm::Unusable("/dev/kvm opens, but a test guest did not run within 5 s".into()));
        assert_eq!(finding.health, Health::Weak);
        assert!(finding.found.starts_with("does not run guests: /dev/kvm opens"));
    }
}
