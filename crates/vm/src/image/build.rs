//! Builds one image: installs packages into a tar archive, unpacks it into a directory, and creates a file system from
//! it.
//!
//! The command lines are pure functions. fakeroot preserves file owners, so the result does not depend on the user.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use debian::installed_packages;
use debian::programs::{find_program, search_path};
use fsx::own;
use spawn::{Cmd, Limits, Stream};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::foreign;
use super::host::{Host, InstallMode, MERGED_USR_HOOK, PACKAGE_FILE_HOOK};
use super::package_file;
use super::scratch;
use super::{ImageError, ImageSpec, packages};

const STAGE_1: &str = include_str!("../../guest/ktest-init");
const FSTAB: &str = include_str!("../../guest/fstab");

/// The files that ktest adds to the image. They are part of its name, so a change gives a new image.
pub(super) const OURS: [&str; 2] = [STAGE_1, FSTAB];

/// The files of packages that are left out, because a guest does not need them.
const EXCLUDED: [&str; 5] = [
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
];

/// File system features that every kernel since 2.6.30 supports. Without checksums, which are slow in an emulated
/// guest.
const FEATURES: &str =
    "none,dir_index,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,sparse_super";

/// The inodes of a file system: one for 64 KiB, and enough for small ones.
const INODES_PER_MIB: u64 = 16;
const MIN_INODES: u64 = 65536;

pub(super) fn program(name: &str) -> Cmd {
    let path = find_program(name).unwrap_or_else(|| name.into());
    Cmd::new(path).guarded().env("PATH", search_path()).env("LC_ALL", "C.UTF-8")
}

/// mmdebstrap without arguments. As root it mounts file systems, which end with its mount namespace, even if it is
/// killed.
fn mmdebstrap(host: &Host) -> Cmd {
    let mmdebstrap = program("mmdebstrap");
    if host.mount_namespaces {
        program("unshare").args(["--mount", "--"]).args(mmdebstrap.argv())
    } else {
        mmdebstrap
    }
}

/// The arguments of mmdebstrap. `files` are the arguments for the files of packages.
fn mmdebstrap_args(
    spec: &ImageSpec,
    host: &Host,
    mode: InstallMode,
    (suite, lines): (&str, &[String]),
    (files, tar): (&[String], &str),
) -> Vec<String> {
    let foreign = !host.can_run(spec.arch);
    let mut packages: Vec<&str> = spec.packages.iter().map(String::as_str).collect();
    if foreign {
        packages.extend(foreign::ESSENTIAL);
    }
    packages.extend(files.iter().map(String::as_str));
    let mut args = vec![
        format!("--mode={}", mode.name()),
        format!("--variant={}", if foreign { "extract" } else { "essential" }),
        format!("--architectures={}", spec.arch.debian_name()),
        format!("--include={}", packages.join(",")),
        "--format=tar".into(),
        "--dpkgopt=force-unsafe-io".into(),
    ];
    args.extend(host.apt.settings.iter().map(|option| format!("--aptopt={option}")));
    args.extend(host.merged_usr_hook.then(|| format!("--hook-dir={MERGED_USR_HOOK}")));
    args.extend((!files.is_empty()).then(|| format!("--hook-dir={PACKAGE_FILE_HOOK}")));
    args.extend(EXCLUDED.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    args.extend([suite.into(), tar.into()]);
    args.extend(lines.iter().cloned());
    args
}

fn tar_args(state: &str, tar: &str, root: &str) -> Vec<String> {
    let args =
        ["-s", state, "--", "tar", "--extract", "--numeric-owner", "--same-permissions", "--file", tar];
    let args = args.into_iter().chain(["--directory", root, "--exclude=./dev/fd", "--exclude=./dev/std*"]);
    args.map(String::from).collect()
}

fn mke2fs_args(state: &str, root: &str, image: &str, size_mib: u64) -> Vec<String> {
    let head =
        ["-i", state, "--", "mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-b", "4096", "-I", "256"];
    let size = format!("{size_mib}M");
    let inodes = (size_mib * INODES_PER_MIB).max(MIN_INODES).to_string();
    let tail =
        ["-m", "0", "-N", &inodes, "-L", "ktest-root", "-E", "root_owner=0:0", "-d", root, image, &size];
    head.into_iter().chain(tail).map(String::from).collect()
}

/// The result of [`build`] in addition to the file.
pub(super) struct Built {
    /// The packages, one `name version` per line.
    pub packages: String,
}

/// Builds the image as `work/image`, in the empty directory `work`.
pub(super) async fn build(
    spec: &ImageSpec,
    host: &Host,
    (suite, lines): (&str, &[String]),
    work: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, ImageError> {
    let mode = host.mode()?;
    if !spec.package_files.is_empty() {
        host.check_package_files(spec.arch)?;
    }
    let text = |name: &str| -> Result<String, ImageError> {
        let path = work.join(name);
        path.to_str().map(String::from).ok_or(ImageError::Path(path))
    };
    let (tar, root, state, image) = (text("root.tar")?, text("root")?, text("fakeroot")?, text("image")?);

    let (count, takes) = (spec.packages.len(), packages::duration(spec.base));
    progress(&format!(
        "downloading and installing {count} packages of {suite} and what they need (takes {takes})"
    ));
    let scratch = scratch::create(mode)
        .await
        .map_err(|source| ImageError::io("create", std::env::temp_dir(), source))?;
    let files = package_file::copy(&spec.package_files, &scratch)?;
    let args = mmdebstrap_args(spec, host, mode, (suite, lines), (&files, &tar));
    let installed =
        install(mmdebstrap(host).args(&args).env("TMPDIR", scratch.path()), suite, progress).await;
    scratch::remove(scratch, mode).await;
    installed?;

    progress("unpacking");
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&root)
        .map_err(|source| ImageError::io("create", &root, source))?;
    run(program("fakeroot").args(tar_args(&state, &tar, &root))).await?;
    let _ = own::remove_file(Path::new(&tar));
    if !host.can_run(spec.arch) {
        foreign::configure(Path::new(&root)).map_err(|source| ImageError::io("configure", &root, source))?;
    }
    add_own_files(Path::new(&root))?;

    progress("creating the file system");
    run(program("fakeroot")
        .args(mke2fs_args(&state, &root, &image, spec.size_mib))
        .env("MKE2FS_CONFIG", "/dev/null"))
    .await?;
    let status = own::read_to_string(&work.join("root/var/lib/dpkg/status"), 64 << 20).unwrap_or_default();
    Ok(Built { packages: installed_packages(&status) })
}

/// Adds ktest's files and mount points to the unpacked root.
fn add_own_files(root: &Path) -> Result<(), ImageError> {
    let files = [("usr/sbin/ktest-init", STAGE_1, 0o755), ("usr/lib/ktest/fstab", FSTAB, 0o644)];
    // The host's directories are mounted under /host. The link makes a path valid if it has the prefix twice.
    let links = [
        ("host/host", "."),
        ("usr/lib/ktest/dev/fd", "/proc/self/fd"),
        ("usr/lib/ktest/dev/stdin", "/proc/self/fd/0"),
        ("usr/lib/ktest/dev/stdout", "/proc/self/fd/1"),
        ("usr/lib/ktest/dev/stderr", "/proc/self/fd/2"),
    ];
    for dir in ["host", "ktest", "ktest-out", "usr/lib/ktest/dev", "usr/sbin"] {
        let dir = root.join(dir);
        own::create_dir_all(&dir)?;
    }
    for (name, text, mode) in files {
        let file = root.join(name);
        own::write(&file, text)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))
            .map_err(|source| ImageError::io("write", &file, source))?;
    }
    for (name, target) in links {
        let link = root.join(name);
        symlink(target, &link).map_err(|source| ImageError::io("create", &link, source))?;
    }
    Ok(())
}

async fn run(cmd: Cmd) -> Result<(), ImageError> {
    let output = cmd.output(Limits::seconds(900)).await?;
    if output.exit.success() {
        return Ok(());
    }
    Err(ImageError::Program { what: inner_program(&cmd), complaint: output.error_line() })
}

/// The program after the `--` of fakeroot.
fn inner_program(cmd: &Cmd) -> String {
    let inner = cmd.argv().iter().skip_while(|word| *word != "--").nth(1);
    inner.map_or_else(|| cmd.program(), |word| word.to_string_lossy().into_owned())
}

/// Runs mmdebstrap and passes on its progress messages.
async fn install(cmd: Cmd, suite: &str, progress: &mut dyn FnMut(&str)) -> Result<(), ImageError> {
    let limit = Duration::from_secs(3600);
    let mut child = cmd.streams(Stream::Null, Stream::Null, Stream::Pipe).start()?;
    let mut errors = InstallErrors::default();
    let work = async {
        if let Some(stderr) = child.take_stderr() {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = String::from_utf8_lossy(&line);
                match line.strip_prefix("I: ") {
                    Some(what) if what.contains('/') => {}
                    Some(what) => progress(what),
                    None => errors.add(&line),
                }
            }
        }
        child.wait().await
    };
    let Ok(exit) = tokio::time::timeout(limit, work).await else {
        return Err(spawn::SpawnError::Time { program: "mmdebstrap".into(), limit }.into());
    };
    if exit?.success() {
        return Ok(());
    }
    Err(errors.into_error(suite))
}

/// The error lines of an installation. Those of apt and dpkg come first; the last line, from mmdebstrap, only contains
/// the name of the program that failed.
#[derive(Debug, Default)]
struct InstallErrors {
    first: Option<String>,
    last: Option<String>,
    /// The packages that the release does not have.
    missing: Vec<String>,
}

/// The package of an apt message that says that there is no such package.
fn missing_package(line: &str) -> Option<&str> {
    let line = line.strip_prefix("E: ")?;
    let unknown = line.strip_prefix("Unable to locate package ");
    let virtual_only = || line.strip_prefix("Package '")?.strip_suffix("' has no installation candidate");
    unknown.or_else(virtual_only)
}

impl InstallErrors {
    fn add(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        self.missing.extend(missing_package(line).map(String::from));
        let cause = ["E: ", "Err:", "dpkg: error", "W: Failed"].iter().any(|head| line.starts_with(head));
        if cause && self.first.is_none() {
            self.first = Some(line.into());
        }
        self.last = Some(line.into());
    }

    fn into_error(self, suite: &str) -> ImageError {
        if !self.missing.is_empty() {
            return ImageError::NoPackages { suite: suite.into(), packages: self.missing.join(", ") };
        }
        let complaint = self.first.or(self.last).unwrap_or_else(|| "no error message".into());
        ImageError::Program { what: "mmdebstrap".into(), complaint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debian::HostApt;
    use model::Arch;

    #[test]
    fn command_lines() {
        let spec =
            ImageSpec { packages: vec!["kmod".into(), "acl".into()], ..ImageSpec::standard(Arch::X86_64) };
        let lines = ["deb http://m.example/debian bookworm main".to_string()];
        let host = Host {
            arch: Some(Arch::X86_64),
            apt: HostApt { settings: vec!["Acquire::Check-Date \"false\"".into()], ..HostApt::default() },
            merged_usr_hook: true,
            ..Host::default()
        };
        let args =
            mmdebstrap_args(&spec, &host, InstallMode::Unshare, ("bookworm", &lines), (&[], "/w/root.tar"));
        let lines = |program: &str, args: Vec<String>| format!("{program}\n    {}\n", args.join("\n    "));
        let all = [
            lines("mmdebstrap", args),
            lines("fakeroot", tar_args("/w/state", "/w/root.tar", "/w/root")),
            lines("fakeroot", mke2fs_args("/w/state", "/w/root", "/w/image", 2048)),
        ];
        insta::assert_snapshot!(all.concat());
    }

    #[test]
    fn packages_of_another_architecture_are_unpacked() {
        let spec = ImageSpec { packages: vec!["kmod".into()], ..ImageSpec::standard(Arch::Aarch64) };
        let host = Host { arch: Some(Arch::X86_64), ..Host::default() };
        let args = mmdebstrap_args(&spec, &host, InstallMode::Root, ("bookworm", &[]), (&[], "/w/root.tar"));
        assert!(args.contains(&"--variant=extract".to_string()), "{args:?}");
        assert!(args.iter().any(|arg| arg.starts_with("--include=kmod,base-files,")), "{args:?}");
        let host = Host { foreign: vec![Arch::Aarch64], ..host };
        let args = mmdebstrap_args(&spec, &host, InstallMode::Root, ("bookworm", &[]), (&[], "/w/root.tar"));
        assert!(args.contains(&"--variant=essential".to_string()), "{args:?}");
        assert!(!args.iter().any(|arg| arg.starts_with("--hook-dir")), "{args:?}");
        let files = ["/t/0a.deb".to_string()];
        let args =
            mmdebstrap_args(&spec, &host, InstallMode::Root, ("bookworm", &[]), (&files, "/w/root.tar"));
        assert!(args.contains(&"--include=kmod,/t/0a.deb".to_string()), "{args:?}");
        assert!(args.iter().any(|arg| arg.starts_with("--hook-dir")), "{args:?}");
    }

    #[test]
    fn the_error_contains_the_cause() {
        let error = |lines: &[&str]| {
            let mut errors = InstallErrors::default();
            lines.iter().for_each(|line| errors.add(line));
            errors.into_error("bookworm").to_string()
        };
        let end = ["E: apt-get failed", "E: mmdebstrap failed to run"];
        let cause = ["W: noise", "E: Release file is expired"];
        assert_eq!(error(&[cause, end].concat()), "mmdebstrap failed: E: Release file is expired");
        assert_eq!(error(&[]), "mmdebstrap failed: no error message");
        let cause = [
            "E: Unable to locate package systemd-dev",
            "E: Package 'fsverity' has no installation candidate",
        ];
        assert_eq!(
            error(&[cause, end].concat()),
            "bookworm has no package systemd-dev, fsverity; use another release, or another list of packages"
        );
    }
}
