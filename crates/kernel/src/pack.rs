//! What of a build goes into the store: image, configuration, modules, the ELF file with symbols.

use std::path::Path;
use std::time::Duration;

use walkdir::WalkDir;

use crate::build::image_of;
use crate::cache::make_dir;
use crate::compile::Compiled;
use crate::error::BuildError;
use crate::headers;
use crate::make::Make;
use crate::option::KValue;
use crate::store::{hash_fields, hash_file};

/// The time limit of installing modules.
const LIMIT: Duration = Duration::from_secs(1800);

/// What is in a filled stage.
pub(crate) struct Files {
    pub release: String,
    pub image: String,
    pub image_hash: String,
    pub vmlinux: Option<String>,
    pub modules: bool,
}

/// Fills a stage from the object folder.
pub(crate) async fn fill(stage: &Path, make: &Make, compiled: &Compiled) -> Result<Files, BuildError> {
    let obj = &make.layout.obj;
    let copy = |from: &Path, name: &str| {
        let to = stage.join(name);
        std::fs::copy(from, &to).map(|_| ()).map_err(|error| BuildError::io(from, &error))
    };
    let (image, place) = image_of(make.toolchain.arch, &compiled.config);
    copy(&obj.join(place), image)?;
    let vmlinux = obj.join("vmlinux").is_file().then(|| "vmlinux".to_owned());
    if vmlinux.is_some() && image != "vmlinux" {
        copy(&obj.join("vmlinux"), "vmlinux")?;
    }
    gdb_scripts(stage, make)?;
    if *compiled.config.get("GCOV_KERNEL") == KValue::Yes {
        coverage_notes(stage, obj)?;
    }
    let config = stage.join("config");
    std::fs::write(&config, &compiled.config_text).map_err(|error| BuildError::io(&config, &error))?;
    let path = obj.join("include/config/kernel.release");
    let release =
        std::fs::read_to_string(&path).map_err(|error| BuildError::io(&path, &error))?.trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    if release.is_empty() || release.starts_with('.') || !release.chars().all(plain) {
        return Err(BuildError::Source(format!(
            "{release:?} is no kernel release; see the source's Makefile"
        )));
    }
    let modules = match compiled.config.get("MODULES") {
        KValue::Yes if compiled.config.has_modules() => install(stage, make, &release, compiled).await?,
        KValue::Yes => list_builtin(stage, make, &release).await?,
        _ => false,
    };
    if modules {
        keep_headers(stage, make, &release).await?;
    }
    let image_hash = hash_file(&stage.join(image))?;
    Ok(Files { release, image: image.into(), image_hash, vmlinux, modules })
}

/// What `vmlinux-gdb.py` beside `vmlinux` loads: the scripts of the source, and what was made of its constants.
fn gdb_scripts(stage: &Path, make: &Make) -> Result<(), BuildError> {
    let below = Path::new("scripts/gdb");
    let (src, obj) = (make.layout.src.join(below), make.layout.obj.join(below));
    let main = src.join("vmlinux-gdb.py");
    if !obj.join("linux/constants.py").is_file() || !main.is_file() {
        return Ok(());
    }
    let copy = |from: &Path, to: &Path| {
        make_dir(to.parent().unwrap_or(stage))?;
        std::fs::copy(from, to).map(|_| ()).map_err(|error| BuildError::io(from, &error))
    };
    copy(&main, &stage.join("vmlinux-gdb.py"))?;
    for from in [&src, &obj] {
        for entry in WalkDir::new(from).into_iter().filter_map(Result::ok) {
            let script = entry.path().extension().is_some_and(|ending| ending == "py");
            // Links of the object folder lead to the source as make saw it.
            if script && entry.file_type().is_file() {
                let name = entry.path().strip_prefix(from).unwrap_or(entry.path());
                copy(entry.path(), &stage.join(below).join(name))?;
            }
        }
    }
    Ok(())
}

/// The notes that gcov needs to read a kernel's coverage data, in the folder `gcno`.
fn coverage_notes(stage: &Path, obj: &Path) -> Result<(), BuildError> {
    for entry in WalkDir::new(obj).into_iter().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_file() && path.extension().is_some_and(|ending| ending == "gcno") {
            let to = stage.join("gcno").join(path.strip_prefix(obj).unwrap_or(path));
            make_dir(to.parent().unwrap_or(stage))?;
            std::fs::copy(path, &to).map_err(|error| BuildError::io(path, &error))?;
        }
    }
    Ok(())
}

/// The headers, and the empty folder where a guest finds them.
async fn keep_headers(stage: &Path, make: &Make, release: &str) -> Result<(), BuildError> {
    make_dir(&stage.join("lib/modules").join(release).join("build"))?;
    let (stage, layout, arch) = (stage.to_path_buf(), make.layout.clone(), make.toolchain.arch);
    let work = move || headers::pack(&stage, &layout, arch);
    let packed = tokio::task::spawn_blocking(work).await;
    packed.map_err(|error| BuildError::Infrastructure(error.to_string()))?
}

/// The kernel's own `modules_install`.
async fn install(stage: &Path, make: &Make, release: &str, compiled: &Compiled) -> Result<bool, BuildError> {
    need_depmod()?;
    let make = Make { out: Some(stage.into()), ..make.clone() };
    let into = format!("INSTALL_MOD_PATH={}", make.out_seen().unwrap_or_default().display());
    let mut args = vec!["modules_install", into.as_str()];
    if *compiled.config.get("DEBUG_INFO") != KValue::Yes {
        args.push("INSTALL_MOD_STRIP=1");
    }
    let output = make.capture(&args, LIMIT).await?;
    if !output.exit.success() {
        return Err(BuildError::Infrastructure(format!("make modules_install: {}", output.complaint())));
    }
    // They point into folders that are not there for whoever boots it.
    for link in ["build", "source"] {
        let _ = std::fs::remove_file(stage.join("lib/modules").join(release).join(link));
    }
    Ok(true)
}

/// Without modules: the list of what is built in, so that `modprobe ext4` succeeds in the guest.
async fn list_builtin(stage: &Path, make: &Make, release: &str) -> Result<bool, BuildError> {
    let dir = stage.join("lib/modules").join(release);
    make_dir(&dir)?;
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        let from = make.layout.obj.join(name);
        if from.is_file() {
            std::fs::copy(&from, dir.join(name)).map_err(|error| BuildError::io(&from, &error))?;
        }
    }
    let order = dir.join("modules.order");
    std::fs::write(&order, "").map_err(|error| BuildError::io(&order, &error))?;
    if need_depmod().is_ok() {
        let make = Make { out: Some(stage.into()), ..make.clone() };
        let base = make.out_seen().unwrap_or_default();
        let args = ["-b", &base.to_string_lossy(), release].map(str::to_owned);
        let output = make.program("depmod", &args).output(spawn::Limits::seconds(60)).await?;
        if !output.exit.success() {
            return Err(BuildError::Infrastructure(format!("depmod: {}", output.complaint())));
        }
    }
    Ok(true)
}

pub(crate) fn need_depmod() -> Result<(), BuildError> {
    match debian::programs::find_program("depmod") {
        Some(_) => Ok(()),
        None => Err(BuildError::Infrastructure("depmod: not installed; apt-get install kmod".into())),
    }
}

/// A hash over all modules of a stage.
pub(crate) fn modules_hash(stage: &Path) -> Result<String, BuildError> {
    let mut fields = Vec::new();
    for entry in WalkDir::new(stage.join("lib")).sort_by_file_name().into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            fields.push(
                entry.path().strip_prefix(stage).unwrap_or(entry.path()).to_string_lossy().into_owned(),
            );
            fields.push(hash_file(entry.path())?);
        }
    }
    Ok(hash_fields(fields.iter().map(String::as_str)).to_string())
}
