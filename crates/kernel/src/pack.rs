//! Copies the results of a build into a stage of the kernel store: image, configuration, modules, symbols.
//!
//! The branch's Makefile writes to the object directory and the module directory. They are read with
//! [`fsx::untrusted`], and only regular files are copied. make never writes to the stage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::own;
use fsx::untrusted::{Dir, EntryType, Special, TreeLimits, UntrustedError};
use walkdir::WalkDir;

use crate::blocking::blocking;
use crate::boot_image::image_of;
use crate::code;
use crate::compile::Compiled;
use crate::copy::copy_file;
use crate::error::{BuildError, CompileError, InfrastructureError, SourceError};
use crate::headers;
use crate::id::hash_fields;
use crate::make::{Layout, Make};
use crate::option::KValue;
use crate::state::OBJECT_LIMITS;
use crate::store::Kernel;

/// The time limit of installing modules.
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
/// The maximum size of a file copied from an object directory: `vmlinux` with debug information is 1 GB.
const FILE_BYTES: u64 = 4 << 30;
/// The limits of the installed modules: an allmodconfig kernel has 10,000 with 5 GB of debug information.
const MODULE_LIMITS: TreeLimits = TreeLimits { entries: 100_000, bytes: 16 << 30, depth: 32 };

/// The contents of a filled stage.
pub(crate) struct StageContents {
    pub release: String,
    pub image: String,
    pub image_hash: String,
    pub code: Option<String>,
    pub vmlinux: Option<String>,
    pub modules: bool,
}

/// Fills a stage. `module_dir` is an empty directory into which modules are installed.
pub(crate) async fn fill(
    stage: &Path,
    module_dir: &Path,
    make: &Make,
    compiled: &Compiled,
) -> Result<StageContents, CompileError> {
    let (image, image_path) = image_of(make.toolchain.arch, &compiled.config);
    let files = {
        let (stage, layout, compiled) = (stage.to_path_buf(), make.layout.clone(), compiled.clone());
        move || copy_files(&stage, &layout, &compiled, (image, image_path))
    };
    let (release, vmlinux) = blocking("copying the results of the build", files).await??;
    let modules = match compiled.config.get("MODULES") {
        KValue::Yes if compiled.config.has_modules() => {
            install_modules(module_dir, make, compiled).await?;
            true
        }
        KValue::Yes => {
            list_builtin(module_dir, make, &release).await?;
            true
        }
        _ => false,
    };
    if modules {
        let (stage, from, layout) = (stage.to_path_buf(), module_dir.to_path_buf(), make.layout.clone());
        let (arch, release) = (make.toolchain.arch, release.clone());
        let work = move || {
            copy_modules(&stage, &from, &release)?;
            headers::pack(&stage, &layout, arch)
        };
        blocking("copying the modules", work).await??;
    }
    let path = stage.join(image);
    let elf = vmlinux.as_ref().map(|name| stage.join(name));
    let dir = modules.then(|| stage.to_path_buf());
    let hash = move || {
        let code = elf.map(|elf| code::hash(&elf, dir.as_deref())).transpose()?.flatten();
        Ok::<_, BuildError>((fsx::digest::file(&path)?, code))
    };
    let (image_hash, code) = blocking("hashing the image", hash).await??;
    Ok(StageContents { release, image: image.into(), image_hash, code, vmlinux, modules })
}

/// Copies all files except the modules. Returns the release and the name of the ELF file.
pub(crate) fn copy_files(
    stage: &Path,
    layout: &Layout,
    compiled: &Compiled,
    (image, image_path): (&str, &str),
) -> Result<(String, Option<String>), CompileError> {
    let objects = Dir::open(&layout.obj)?;
    copy_file(&objects, Path::new(image_path), &stage.join(image), FILE_BYTES)?;
    let vmlinux = objects.metadata("vmlinux")?.is_some().then(|| "vmlinux".to_owned());
    if vmlinux.is_some() && image != "vmlinux" {
        copy_file(&objects, Path::new("vmlinux"), &stage.join("vmlinux"), FILE_BYTES)?;
    }
    gdb_scripts(stage, layout, &objects)?;
    if *compiled.config.get("GCOV_KERNEL") == KValue::Yes {
        copy_matching(&objects, ".", "gcno", &stage.join("gcno"))?;
    }
    own::write(&stage.join("config"), &compiled.config_text)?;
    let release = objects.read_to_string("include/config/kernel.release", 1000)?.trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    if release.is_empty() || release.starts_with('.') || !release.chars().all(plain) {
        return Err(BuildError::from(SourceError::Release(release)).into());
    }
    Ok((release, vmlinux))
}

/// Copies the scripts that `vmlinux-gdb.py` loads: those of the source, and the constants generated from them.
fn gdb_scripts(stage: &Path, layout: &Layout, objects: &Dir) -> Result<(), CompileError> {
    const SCRIPTS: &str = "scripts/gdb";
    let source = Dir::open(&layout.src)?;
    let main = Path::new(SCRIPTS).join("vmlinux-gdb.py");
    let generated = objects.metadata(Path::new(SCRIPTS).join("linux/constants.py"));
    // A parent directory that is a link was created by the Makefile: such a kernel gets no scripts.
    let exists = |found: Result<Option<_>, UntrustedError>| found.is_ok_and(|found| found.is_some());
    if !exists(generated) || !exists(source.metadata(&main)) {
        return Ok(());
    }
    copy_file(&source, &main, &stage.join("vmlinux-gdb.py"), FILE_BYTES)?;
    for from in [&source, objects] {
        copy_matching(from, SCRIPTS, "py", &stage.join(SCRIPTS))?;
    }
    Ok(())
}

/// Copies the regular files below `relative` with this extension. Links are skipped: in the object directory, they
/// point to make's path of the source.
fn copy_matching(from: &Dir, relative: &str, extension: &str, to: &Path) -> Result<(), CompileError> {
    for (path, entry_type) in from.walk(relative, OBJECT_LIMITS)? {
        if entry_type == EntryType::File && path.extension().is_some_and(|found| found == extension) {
            let to = to.join(&path);
            own::create_dir_all(to.parent().unwrap_or(&to))?;
            copy_file(from, &Path::new(relative).join(&path), &to, FILE_BYTES)?;
        }
    }
    Ok(())
}

/// Copies the directory of one release from the module directory into the stage. Links and special files are skipped.
pub(crate) fn copy_modules(stage: &Path, module_dir: &Path, release: &str) -> Result<(), CompileError> {
    let below = Path::new("lib/modules").join(release);
    let to = stage.join(&below);
    // The guest mounts the headers at the directory `build`.
    own::create_dir_all(&to.join("build"))?;
    let to = Dir::open(&to)?;
    Dir::open(module_dir)?.copy_tree(&below, &to, MODULE_LIMITS, Special::Skip)?;
    Ok(())
}

/// Runs the kernel's own `modules_install`.
async fn install_modules(module_dir: &Path, make: &Make, compiled: &Compiled) -> Result<(), BuildError> {
    need_depmod()?;
    let make = Make { out: Some(module_dir.into()), ..make.clone() };
    let path = format!("INSTALL_MOD_PATH={}", make.make_out().unwrap_or_default().display());
    let mut args = vec!["modules_install", path.as_str()];
    if *compiled.config.get("DEBUG_INFO") != KValue::Yes {
        args.push("INSTALL_MOD_STRIP=1");
    }
    let output = make.capture(&args, INSTALL_LIMIT).await?;
    if !output.exit.success() {
        return Err(InfrastructureError::program("make modules_install", output.error_line()).into());
    }
    Ok(())
}

/// Without modules: installs the list of built-in modules, so that `modprobe ext4` succeeds in the guest.
async fn list_builtin(module_dir: &Path, make: &Make, release: &str) -> Result<(), CompileError> {
    let dir = module_dir.join("lib/modules").join(release);
    own::create_dir_all(&dir)?;
    let objects = Dir::open(&make.layout.obj)?;
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        if objects.metadata(name)?.is_some() {
            copy_file(&objects, Path::new(name), &dir.join(name), FILE_BYTES)?;
        }
    }
    own::write(&dir.join("modules.order"), "")?;
    if need_depmod().is_ok() {
        let make = Make { out: Some(module_dir.into()), ..make.clone() };
        let base = make.make_out().unwrap_or_default();
        let args = ["-b", &base.to_string_lossy(), release].map(str::to_owned);
        let output = make.program("depmod", &args).output(spawn::Limits::seconds(60)).await?;
        if !output.exit.success() {
            return Err(BuildError::from(InfrastructureError::program("depmod", output.error_line())).into());
        }
    }
    Ok(())
}

pub(crate) fn need_depmod() -> Result<(), BuildError> {
    match debian::programs::find_program("depmod") {
        Some(_) => Ok(()),
        None => Err(InfrastructureError::Missing { program: "depmod".into(), package: "kmod" }.into()),
    }
}

impl Kernel {
    /// A hash over what runs: the image and the modules. Commits with equal kernels have the same.
    ///
    /// # Errors
    ///
    /// If a module cannot be read.
    pub fn content(&self) -> Result<String, BuildError> {
        let modules = self.modules.as_deref().map(modules_hash).transpose()?.unwrap_or_default();
        Ok(hash_fields([self.image_hash.as_str(), modules.as_str()]).to_string())
    }
}

/// A hash over all modules of a stage.
pub(crate) fn modules_hash(stage: &Path) -> Result<String, BuildError> {
    let mut fields = Vec::new();
    for entry in WalkDir::new(stage.join("lib")).sort_by_file_name().into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            let name: PathBuf = entry.path().strip_prefix(stage).unwrap_or(entry.path()).into();
            fields.push(name.to_string_lossy().into_owned());
            fields.push(fsx::digest::file(entry.path())?);
        }
    }
    Ok(hash_fields(fields.iter().map(String::as_str)).to_string())
}
