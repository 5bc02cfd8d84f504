//! `ktest image create|update|list`: manages root images.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use fsx::untrusted::Scratch;
use model::size::SizeError;
use model::{Arch, ByteSize, Event, PackageName, ShippedImage};
use vm::image::{self, Image, ImageSpec, PackageFile};

use super::failure::Failure;
use super::kernel::Bytes;
use crate::report::{Reporter, Style};

#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Create a root image, unless it exists.
    #[command(after_help = "\
Examples:
  ktest image create                                create the standard image, as ktest run does when needed
  ktest image create full                           create the image for --image full, with compilers, Rust and DKMS
  ktest image create --suite trixie --package fio   use another suite, add a package
  ktest image create --package-file ./bcachefs-tools_1.20_amd64.deb
  ktest run --image \"$(ktest image create --suite trixie --json | jq -r .path)\" FILE.ktest")]
    Create(CreateArgs),
    /// Rebuild a root image with current packages. Running guests keep the old one.
    #[command(after_help = "\
Examples:
  ktest image update                    rebuild the standard image
  ktest image update --package fio      rebuild the one with this package")]
    Update(CreateArgs),
    /// List the root images.
    #[command(after_help = "\
Examples:
  ktest image list
  ktest image list --json | jq -r '.[].path'")]
    List(ListArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The image: standard or full.
    #[arg(value_name = "NAME", default_value_t)]
    base: ShippedImage,
    /// Architecture of the guest [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Suite of the distribution [default: the host's; trixie if that is too old for the full image].
    #[arg(long, value_name = "SUITE")]
    suite: Option<String>,
    /// Additional package (repeatable).
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<PackageName>,
    /// Additional package, from a .deb file (repeatable). It replaces that of the distribution.
    #[arg(long = "package-file", value_name = "FILE")]
    package_files: Vec<PathBuf>,
    /// Size of the file system. The file is sparse [default: 4G; 16G for the full image].
    #[arg(long, value_name = "SIZE", value_parser = image_size)]
    size: Option<ByteSize>,
    /// Package repository [default: the host's].
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Path of the image [default: in the cache directory].
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON: {"path", "arch", "suite", "bytes", "new"}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON: [{"path", "arch", "suite", "bytes", "new"}].
    #[arg(long)]
    json: bool,
}

/// Parses the size of an image. A root file system needs at least 512 MiB.
fn image_size(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::at_least(text, ByteSize(512 << 20))
}

impl CreateArgs {
    fn spec(&self) -> Result<ImageSpec, Failure> {
        let arch = self.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
        let mut spec = ImageSpec::new(self.base, arch).with(&self.packages);
        let files = self.package_files.iter().map(|path| PackageFile::read(path)).collect::<Result<_, _>>();
        spec.package_files = files.map_err(Failure::unjudged)?;
        spec.suite = self.suite.clone();
        spec.mirror = self.mirror.clone();
        spec.size_mib = self.size.map_or(spec.size_mib, ByteSize::mib);
        Ok(spec)
    }
}

pub(super) async fn run(args: ImageArgs, cache: &Path) -> Result<u8, Failure> {
    match args.command {
        ImageCommand::Create(args) => make(args, cache, false).await,
        ImageCommand::Update(args) => make(args, cache, true).await,
        ImageCommand::List(args) => list(&args, cache),
    }
}

async fn make(args: CreateArgs, cache: &Path, update: bool) -> Result<u8, Failure> {
    let spec = args.spec()?;
    let mut reporter = Reporter::new(if args.json { Style::Silent } else { Style::Text });
    let mut on = |what: &str| reporter.event(Event::Phase { what: what.into() });
    let made = match &args.out {
        Some(path) => replace(&spec, path, &mut on).await,
        None => match image::find_or_create(&spec, cache, &mut on).await {
            Ok(found) if update && !found.new => replace(&spec, &found.path, &mut on).await,
            other => other.map_err(Failure::unjudged),
        },
    }?;
    reporter.event(Event::RunFinished { exit_code: 0 });
    if args.json {
        stdio::json(&json(&made))?;
    } else {
        let how = if made.new { "created" } else { "exists" };
        reporter.note(&format!("{} {how}, {}", made.path.display(), Bytes(made.bytes)));
    }
    Ok(0)
}

/// Builds the image next to the old one, and replaces the old one when the new one is complete.
async fn replace(spec: &ImageSpec, path: &Path, on: &mut dyn FnMut(&str)) -> Result<Image, Failure> {
    let io = |error: std::io::Error| Failure::unjudged(format!("{}: {error}", path.display()));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fsx::own::create_dir_all(dir).map_err(Failure::unjudged)?;
    let work = Scratch::new_in(dir, ".ktest-image-").map_err(io)?;
    let new = image::create(spec, &work.path().join("root.ext4"), on).await.map_err(Failure::unjudged)?;
    let lists = (new.path.with_extension("packages"), path.with_extension("packages"));
    fsx::own::rename(&lists.0, &lists.1).map_err(Failure::unjudged)?;
    fsx::own::rename(&new.path, path).map_err(Failure::unjudged)?;
    Ok(Image { path: path.into(), ..new })
}

fn list(args: &ListArgs, cache: &Path) -> Result<u8, Failure> {
    let images = image::list(cache);
    if args.json {
        let all: Vec<_> = images.iter().map(json).collect();
        stdio::json(&all)?;
        return Ok(0);
    }
    for image in &images {
        let size = Bytes(image.bytes).to_string();
        let path = image.path.display();
        stdio::line(format_args!("{:<8} {:<12} {size:>8}  {path}", image.arch, image.suite))?;
    }
    if images.is_empty() {
        stdio::line("no images; ktest run creates the standard one, or use ktest image create")?;
    }
    Ok(0)
}

fn json(image: &Image) -> serde_json::Value {
    serde_json::json!({
        "path": image.path, "arch": image.arch, "suite": image.suite, "bytes": image.bytes, "new": image.new,
    })
}
