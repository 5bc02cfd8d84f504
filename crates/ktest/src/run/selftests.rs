//! The kernel's selftests (tools/testing/selftests), built on the host from the tree under test.
//!
//! The build runs in the same sandbox as kernel builds, because a branch's Makefiles are untrusted. The result is
//! cached by its sources and published by rename, so a directory in the cache is complete.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::digest::Hasher;
use fsx::untrusted::Scratch;
use kernel::KernelSource;
use kernel::toolchain::Toolchain;
use model::{Arch, CommitId};
use sandbox::Sandbox;
use spawn::{Cmd, Limits};

use super::error::RunError;
use super::kernel_arg::KernelFrom;
use super::request::RunRequest;
use super::results::Results;

/// The parts of the tree that the build needs.
const PATHS: [&str; 11] = [
    "Makefile",
    "Kbuild",
    "Kconfig",
    "scripts",
    "include",
    "usr",
    "tools/testing/selftests",
    "tools/include",
    "tools/build",
    "tools/scripts",
    "tools/lib",
];
/// The list of programs that the installation writes.
const LIST: &str = "kselftest-list.txt";
const LIMIT: Duration = Duration::from_secs(1800);
/// The paths of the source and the result in the sandbox.
const SRC_SEEN: &str = "/ktest/src";
const OUT_SEEN: &str = "/ktest/out";

/// Installed collections.
#[derive(Debug)]
pub(super) struct Selftests {
    /// The directory.
    pub dir: PathBuf,
    /// Only for a work tree: removed at the end of the run.
    _place: Option<Scratch>,
}

/// Builds and installs these collections. Those that do not build on this host are skipped; `selftests-build.log`
/// contains the output of the build. Returns `None` for a kernel without source.
pub(super) async fn build(
    request: &RunRequest,
    arch: Arch,
    collections: &[String],
    results: &mut Results<'_>,
) -> Result<Option<Selftests>, RunError> {
    let KernelFrom::Source(source) = &request.kernel else { return Ok(None) };
    check(arch, collections)?;
    let cache = kernel::Cache { dir: request.cache.clone() };
    let cache = cache.selftests(request.order.test.trust_domain.as_ref());
    fsx::own::create_dir_all(&cache).map_err(|error| broken(&cache, &error.source))?;
    let name = match source {
        KernelSource::Commit { repo, commit } => {
            let opened = gitio::Repo::open(repo).map_err(no_source)?;
            let inputs = inputs(&opened, commit, arch, request.sandbox()).await?;
            Some(format!("{arch}-{}", fingerprint(&inputs, collections)))
        }
        // A work tree has no id that could be the cache key.
        KernelSource::WorkingTree(_) => None,
    };
    if let Some(name) = &name
        && cache.join(name).join(LIST).is_file()
    {
        return Ok(Some(Selftests { dir: cache.join(name), _place: None }));
    }
    // Without rsync, `make install` writes the list of programs, but does not install them.
    if finish(Cmd::new("rsync").arg("--version")).await.is_err() {
        return Err(RunError::Infrastructure(
            "installing the kernel's selftests requires rsync; run apt-get install rsync".into(),
        ));
    }
    results.reporter.event(model::Event::Phase { what: "kernel selftests: building".into() });
    let place = Scratch::new_in(&cache, "new-").map_err(|error| broken(&cache, &error))?;
    let (src, out) = (place.path().join("src"), place.path().join("out"));
    for dir in [&src, &out] {
        fsx::own::create_dir(dir).map_err(|error| broken(dir, &error.source))?;
    }
    unpack(source, arch, place.path(), &src).await?;
    let log = make(request, arch, collections, &src, &out).await?;
    results.out.file("selftests-build.log", &log)?;
    if !fsx::own::is_file(&out.join(LIST)).map_err(RunError::infrastructure)? {
        let complaint = last_line(&log);
        return Err(RunError::Selftests(format!("the kernel's selftests do not build: {complaint}")));
    }
    let Some(name) = name else { return Ok(Some(Selftests { dir: out, _place: Some(place) })) };
    let kept = cache.join(name);
    match fsx::publish::dir(&out, &kept, fsx::publish::Durability::Cached) {
        // Another slot has published the same build.
        Err(error) if !kept.join(LIST).is_file() => Err(broken(&kept, &error.source)),
        _ => Ok(Some(Selftests { dir: kept, _place: None })),
    }
}

fn check(arch: Arch, collections: &[String]) -> Result<(), RunError> {
    if Arch::native() != Some(arch) {
        return Err(RunError::Usage(format!(
            "require-kselftest: selftests can only be built for the host's architecture, not for {arch}"
        )));
    }
    let sound = |name: &&String| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte);
        name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(word)
    };
    match collections.iter().find(|name| !sound(name)) {
        Some(name) => Err(RunError::Usage(format!(
            "require-kselftest: {name:?} is not a directory of tools/testing/selftests"
        ))),
        None => Ok(()),
    }
}

/// All inputs of the build: the id of each part of the tree, the compiler, and whether it runs in the sandbox.
async fn inputs(
    repo: &gitio::Repo,
    commit: &CommitId,
    arch: Arch,
    sandboxed: bool,
) -> Result<Vec<String>, RunError> {
    let id = |path: &String| match repo.path_id(commit, path) {
        Err(gitio::GitError::NoSuchPath { .. }) => Ok("none".into()),
        id => id.map_err(no_source),
    };
    let mut inputs = paths(arch).iter().map(id).collect::<Result<Vec<String>, RunError>>()?;
    let toolchain = Toolchain::probe(arch, "gcc").await.map_err(RunError::infrastructure)?;
    inputs.extend([toolchain.version, sandboxed.to_string()]);
    Ok(inputs)
}

/// A name for the result of building these collections from these inputs.
fn fingerprint(inputs: &[String], collections: &[String]) -> String {
    let mut hasher = Hasher::new();
    for list in [inputs, collections] {
        hasher.field(list.len().to_string());
        list.iter().for_each(|text| hasher.field(text));
    }
    hasher.finish_hex()
}

fn paths(arch: Arch) -> Vec<String> {
    let directory = match arch {
        Arch::X86_64 => "x86",
        Arch::Aarch64 => "arm64",
    };
    PATHS.iter().map(|path| (*path).to_owned()).chain([format!("arch/{directory}")]).collect()
}

async fn unpack(source: &KernelSource, arch: Arch, place: &Path, src: &Path) -> Result<(), RunError> {
    let packed = place.join("src.tar");
    match source {
        KernelSource::Commit { repo, commit } => {
            let opened = gitio::Repo::open(repo).map_err(no_source)?;
            opened.archive(commit, &paths(arch), &packed).await.map_err(no_source)?;
        }
        KernelSource::WorkingTree(dir) => {
            let pack = Cmd::new("tar").arg("-C").arg(dir).arg("-cf").arg(&packed).args(paths(arch));
            finish(pack).await?;
        }
    }
    finish(Cmd::new("tar").arg("-C").arg(src).arg("-xf").arg(&packed)).await?;
    fsx::own::remove_file(&packed).map(|_| ()).map_err(|error| broken(&packed, &error.source))
}

/// Runs make and returns its output.
async fn make(
    request: &RunRequest,
    arch: Arch,
    collections: &[String],
    src: &Path,
    out: &Path,
) -> Result<Vec<u8>, RunError> {
    let arch = match arch {
        Arch::X86_64 => "ARCH=x86_64",
        Arch::Aarch64 => "ARCH=arm64",
    };
    let sandbox = request.sandbox().then(Sandbox::new);
    let seen = |host: &Path, seen: &str| if sandbox.is_some() { PathBuf::from(seen) } else { host.into() };
    let install = format!("INSTALL_PATH={}", seen(out, OUT_SEEN).display());
    let targets = format!("TARGETS={}", collections.join(" "));
    let jobs = format!("-j{}", request.jobs().max(1));
    let mut log = Vec::new();
    let headers = [jobs.as_str(), arch, "headers"].map(str::to_owned);
    // -k: a collection that lacks a library must not stop the others. The list shows what is missing.
    let programs = ["-k", &jobs, arch, "-C", "tools/testing/selftests", "install", &install, &targets];
    for args in [&headers[..], &programs.map(str::to_owned)[..]] {
        let cmd = in_sandbox(sandbox.as_ref(), src, out, &seen(src, SRC_SEEN)).args(args);
        let limits = Limits { time: LIMIT, bytes: 16 << 20 };
        let output = cmd.output(limits).await.map_err(|error| RunError::Infrastructure(error.to_string()))?;
        log.extend(output.stdout);
        log.extend(output.stderr);
    }
    Ok(log)
}

fn in_sandbox(sandbox: Option<&Sandbox>, src: &Path, out: &Path, dir: &Path) -> Cmd {
    let env = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LC_ALL", "C"),
        ("HOME", "/nonexistent"),
    ];
    let Some(sandbox) = sandbox else {
        let cmd = Cmd::new("make").env_clear().dir(dir).arg("-s");
        return env.into_iter().fold(cmd, |cmd, (key, value)| cmd.env(key, value));
    };
    let sandbox = sandbox.clone().writable(src, SRC_SEEN).writable(out, OUT_SEEN).dir(dir);
    env.into_iter().fold(sandbox, |sandbox, (key, value)| sandbox.env(key, value)).command("make").arg("-s")
}

fn no_source(error: gitio::GitError) -> RunError {
    match error {
        gitio::GitError::Spawn(error) => RunError::Infrastructure(error.to_string()),
        error => RunError::Selftests(format!("the source of the kernel's selftests: {error}")),
    }
}

async fn finish(cmd: Cmd) -> Result<String, RunError> {
    let output = cmd
        .output(Limits::seconds(300))
        .await
        .map_err(|error| RunError::Infrastructure(error.to_string()))?;
    if output.exit.success() {
        return Ok(output.text());
    }
    Err(RunError::Selftests(format!("the source of the kernel's selftests: {}", output.error_line())))
}

fn broken(path: &Path, error: &std::io::Error) -> RunError {
    RunError::Infrastructure(format!("{}: {error}", path.display()))
}

fn last_line(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("make printed nothing");
    line.trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directory_names_reach_make() {
        let native = Arch::native().unwrap();
        let checked = |name: &str| check(native, &[name.to_owned()]).is_ok();
        assert!(checked("timers") && checked("net/af_unix") && checked("cpu-hotplug"));
        for bad in ["", "a b", "$(id)", "../x", "-f", "a;b", "/etc"] {
            assert!(!checked(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_fingerprint_depends_on_all_inputs() {
        let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
        let of = |inputs: &[&str], collections: &[&str]| fingerprint(&texts(inputs), &texts(collections));
        let all = [
            of(&["t", "gcc 12"], &["timers", "futex"]),
            of(&["t", "gcc 13"], &["timers", "futex"]),
            of(&["u", "gcc 12"], &["timers", "futex"]),
            of(&["t", "gcc 12"], &["timers"]),
            of(&["t", "gcc 12", "timers"], &["futex"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one));
        }
        assert_eq!(all[0], of(&["t", "gcc 12"], &["timers", "futex"]));
    }
}
