//! `ktest kernel list|fetch|headers|gc`: manages the kernel store of this host.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use kernel::gc::{GcKind, Retention, StoreEntry};
use kernel::{BuildError, Cache, InfrastructureError, NamedKernel, Store};
use model::{Arch, ByteSize, Event, KernelId, PackageRepo, StoreKernel};
use serde::Serialize;

use super::failure::Failure;
use crate::report::{Reporter, Style};
use crate::run::{KernelFrom, parse_kernel, progress_event};

#[derive(Debug, Args)]
pub(super) struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Debug, Subcommand)]
enum KernelCommand {
    /// List the kernels of the store, most recently used first.
    #[command(after_help = "\
Examples:
  ktest kernel list
  ktest kernel list --json | jq -r '.[] | select(.failed) | .reason'")]
    List(ListArgs),
    /// Fetch a distribution's newest kernel into the store, from this host's apt sources or a package repository.
    #[command(after_help = "\
Examples:
  ktest kernel fetch debian/trixie         fetch the kernel of a suite
  ktest kernel fetch debian/trixie/arm64   fetch it for another architecture
  ktest kernel fetch -n debian/sid         only see whether there is one
  ktest run -k debian/trixie FILE.ktest    boot it")]
    Fetch(FetchArgs),
    /// Unpack a kernel's headers, to build out-of-tree modules.
    #[command(after_help = "\
Examples:
  ktest kernel headers 1908ba79fe9f /tmp/headers
  make -C /tmp/headers M=$PWD modules      build the module in this directory for that kernel

In a guest they are in /lib/modules/$(uname -r)/build if the test file has require-kernel-headers, and always with a
distribution kernel.")]
    Headers(HeadersArgs),
    /// Remove the least recently used kernels until the store is small enough.
    #[command(after_help = "\
Examples:
  ktest kernel gc --dry-run
  ktest kernel gc --size 20G --unused 7")]
    Gc(GcArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON: [{"id", "arch", "release", "names", "package", "flavor", "bytes", "used_s", "path"} or {"id",
    /// "failed": true, "reason", ...}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// debian/SUITE, or NAME/SUITE of a --kernel-repo, each with or without /ARCH.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<StoreKernel>,
    /// Package repository with kernels (docs/kernels.md; repeatable).
    #[arg(long = "kernel-repo", value_name = "NAME,format=FORMAT,url=URL")]
    kernel_repos: Vec<PackageRepo>,
    /// Architecture if the name has none [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Only check that the mirror has the kernel, unless the store has it.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON: [{"name", "id", "release", "arch", "cached", "path"}], or [{"name", "found"}] with --dry-run.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct HeadersArgs {
    /// Kernel id, or its first digits (see ktest kernel list).
    #[arg(value_name = "KERNEL")]
    kernel: String,
    /// Directory to create.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct GcArgs {
    /// Largest size of the store.
    #[arg(long, value_name = "SIZE", default_value = "20G")]
    size: ByteSize,
    /// Keep kernels used within the last DAYS days.
    #[arg(long, value_name = "DAYS", default_value_t = 3)]
    unused: u64,
    /// Print what would be removed; remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the removed kernels as JSON: [{"id", "bytes"}].
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: KernelArgs, cache: &Path) -> Result<u8, Failure> {
    let cache = Cache { dir: cache.into() };
    match args.command {
        KernelCommand::List(args) => list(&args, &cache),
        KernelCommand::Fetch(args) => fetch(args, &cache).await,
        KernelCommand::Headers(args) => headers(&args, &cache),
        KernelCommand::Gc(args) => gc(&args, &cache),
    }
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Listed {
    id: KernelId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    failed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<Arch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<StoreKernel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flavor: Option<String>,
    /// Without files that are counted for a more recently used kernel.
    bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    shared_bytes: u64,
    /// Seconds since its last use.
    used_s: u64,
    path: PathBuf,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Listed {
    fn of(entry: StoreEntry, names: &[(StoreKernel, KernelId)], store: &Store, now: SystemTime) -> Self {
        let mut listed = Self {
            names: names.iter().filter(|(_, id)| *id == entry.id).map(|(name, _)| name.clone()).collect(),
            path: store.path(&entry.id),
            bytes: entry.bytes,
            shared_bytes: entry.shared,
            used_s: now.duration_since(entry.used).map_or(0, |age| age.as_secs()),
            id: entry.id,
            failed: false,
            reason: None,
            arch: None,
            release: None,
            package: None,
            flavor: None,
        };
        match entry.kind {
            GcKind::Kernel(meta) => {
                (listed.arch, listed.release) = (Some(meta.arch), Some(meta.release));
                (listed.package, listed.flavor) = (meta.package, Some(meta.flavor));
            }
            GcKind::Failed(reason) => (listed.failed, listed.reason) = (true, Some(reason)),
            GcKind::Unreadable => listed.reason = Some("unreadable".into()),
        }
        listed
    }

    fn line(&self) -> String {
        let (id, bytes, used) = (self.id.short(), Bytes(self.bytes), Age(self.used_s));
        let what = match (&self.reason, &self.release) {
            (Some(reason), _) => format!("does not build: {reason}"),
            (None, release) => {
                let names = self.names.iter().map(StoreKernel::as_str).collect::<Vec<_>>().join(" ");
                let origin = if names.is_empty() { self.flavor.clone().unwrap_or_default() } else { names };
                format!("{:<24} {origin}", release.as_deref().unwrap_or(""))
            }
        };
        let shared = match self.shared_bytes {
            0 => String::new(),
            bytes => format!(" (and {} shared with newer ones)", Bytes(bytes)),
        };
        format!("{id}  {:>8}  {:>7}  {what}{shared}", bytes.to_string(), used.to_string())
    }
}

fn list(args: &ListArgs, cache: &Cache) -> Result<u8, Failure> {
    let store = Store::of(cache);
    let (names, now) = (store.names(), SystemTime::now());
    let entries = store.list().map_err(Failure::unjudged)?;
    let listed: Vec<Listed> =
        entries.into_iter().map(|entry| Listed::of(entry, &names, &store, now)).collect();
    if args.json {
        stdio::json(&listed)?;
        return Ok(0);
    }
    for kernel in &listed {
        stdio::line(kernel.line())?;
    }
    let total = listed.iter().map(|kernel| kernel.bytes).sum();
    stdio::line(format_args!("{} in {}", count(listed.len()), Bytes(total)))?;
    Ok(0)
}

fn count(kernels: usize) -> String {
    if kernels == 1 { "1 kernel".into() } else { format!("{kernels} kernels") }
}

async fn fetch(args: FetchArgs, cache: &Cache) -> Result<u8, Failure> {
    let arch = args.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
    let wanted = args
        .names
        .iter()
        .map(|name| NamedKernel::parse(name, &args.kernel_repos, arch).map_err(Failure::usage));
    let wanted: Vec<NamedKernel> = wanted.collect::<Result<_, _>>()?;
    let mut reporter = Reporter::new(if args.json { Style::Silent } else { Style::Text });
    let mut fetched = Vec::new();
    for wanted in wanted {
        let mirror = kernel::fetch::host_mirror(&wanted).await;
        let mut on = |progress| reporter.event(progress_event(progress));
        let failure = |error: BuildError| {
            Failure::unjudged(match error {
                BuildError::Infrastructure(error @ InfrastructureError::KernelNotFound { .. }) => {
                    error.to_string()
                }
                error => format!("{}: {error}", wanted.name()),
            })
        };
        if args.dry_run {
            let found = match Store::of(cache).named(&wanted) {
                Some(kernel) => format!("{} is in the store", kernel.release),
                None => kernel::fetch::find(&wanted, &mirror, cache, &mut on).await.map_err(failure)?,
            };
            let name = wanted.name();
            reporter.note(&format!("{name}: {found}"));
            fetched.push(serde_json::json!({ "name": name, "found": found }));
            continue;
        }
        let kernel = kernel::fetch::fetch(&wanted, &mirror, cache, &mut on).await.map_err(failure)?;
        reporter.event(Event::RunFinished { exit_code: 0 });
        let (name, how) = (wanted.name(), if kernel.cached { "is in the store" } else { "fetched" });
        reporter.note(&format!("{name} {how}: {} ({})", kernel.release, kernel.id.short()));
        fetched.push(serde_json::json!({
            "name": name, "id": kernel.id, "release": kernel.release, "arch": kernel.arch, "cached": kernel.cached,
            "path": Store::of(cache).path(&kernel.id),
        }));
    }
    if args.json {
        stdio::json(&fetched)?;
    }
    Ok(0)
}

fn headers(args: &HeadersArgs, cache: &Cache) -> Result<u8, Failure> {
    let kernel = match parse_kernel(&args.kernel, None, &[], &cache.dir)? {
        KernelFrom::Stored(id) => Store::of(cache).get(&id),
        _ => None,
    };
    let Some(kernel) = kernel else {
        return Err(Failure::usage(format!(
            "{}: no such kernel in the store; see ktest kernel list",
            args.kernel
        )));
    };
    let dir = std::path::absolute(&args.dir).map_err(Failure::usage)?;
    if dir.exists() {
        return Err(Failure::usage(format!("{}: exists; name a new directory", dir.display())));
    }
    kernel::headers::unpack(&kernel, &dir).map_err(|error| match error {
        kernel::BuildError::Source(what) => Failure::usage(what),
        other => Failure::unjudged(other),
    })?;
    stdio::line(format_args!("headers of {}: make -C {} M=MODULE", kernel.release, dir.display()))?;
    Ok(0)
}

fn gc(args: &GcArgs, cache: &Cache) -> Result<u8, Failure> {
    let store = Store::of(cache);
    let entries = store.list().map_err(Failure::unjudged)?;
    let younger = Duration::from_secs(args.unused.saturating_mul(86_400));
    let plan =
        kernel::gc::plan(&entries, Retention { bytes: args.size.0, unused_for: younger }, SystemTime::now());
    let mut gone = Vec::new();
    for id in plan {
        if args.dry_run || store.remove(&id).map_err(Failure::unjudged)? {
            let bytes = entries.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.bytes);
            gone.push((id, bytes));
        }
    }
    if args.json {
        let gone: Vec<_> =
            gone.iter().map(|(id, bytes)| serde_json::json!({ "id": id, "bytes": bytes })).collect();
        stdio::json(&gone)?;
        return Ok(0);
    }
    let word = if args.dry_run { "would be removed" } else { "removed" };
    for (id, bytes) in &gone {
        stdio::line(format_args!("{}  {:>8}  {word}", id.short(), Bytes(*bytes).to_string()))?;
    }
    let total = gone.iter().map(|(_, bytes)| bytes).sum();
    stdio::line(format_args!("{} {word}, {}", count(gone.len()), Bytes(total)))?;
    Ok(0)
}

/// Displays bytes: `812 MiB`.
pub(super) struct Bytes(pub(super) u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0..1_048_576 => write!(f, "{} KiB", self.0.div_ceil(1 << 10)),
            1_048_576..10_737_418_240 => write!(f, "{} MiB", self.0 >> 20),
            bytes => write!(f, "{} GiB", bytes >> 30),
        }
    }
}

/// Displays an age in seconds: `5 min`, `3 h`, `12 d`.
pub(super) struct Age(pub(super) u64);

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0..60 => f.write_str("now"),
            seconds @ 60..7200 => write!(f, "{} min", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} d", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let bytes = [0, 1, 5 << 20, 5 << 30, 50 << 30].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(bytes, ["0 KiB", "1 KiB", "5 MiB", "5120 MiB", "50 GiB"]);
        assert_eq!([1, 120, 7300, 864_000].map(|age| Age(age).to_string()), ["now", "2 min", "2 h", "10 d"]);
    }
}
