//! A kernel that the user built in its own source tree. It is used in place and never stored.

use std::path::{Path, PathBuf};

use fsx::own;
use model::Arch;

use crate::error::{BuildError, SourceError};
use crate::store::Kernel;

/// The kernel in a source tree or object directory after `make`. Its modules are those that `make modules_install`
/// installed below `DIR/modules` (`INSTALL_MOD_PATH=modules`), if they exist.
pub fn find(dir: &Path, arch: Arch) -> Result<Kernel, BuildError> {
    let image = match arch {
        Arch::X86_64 => "arch/x86/boot/bzImage",
        Arch::Aarch64 => "arch/arm64/boot/Image",
    };
    let image = dir.join(image);
    let release = own::read_to_string(&dir.join("include/config/kernel.release"), 1000).unwrap_or_default();
    let release = release.trim().to_owned();
    if !image.is_file() || release.is_empty() {
        return Err(SourceError::NotBuilt { dir: dir.into(), arch }.into());
    }
    let image_hash = fsx::digest::file(&image)?;
    let existing = |path: PathBuf| Some(path).filter(|path| path.exists());
    Ok(Kernel {
        modules: existing(dir.join("modules")).filter(|dir| dir.join("lib/modules").join(&release).is_dir()),
        vmlinux: existing(dir.join("vmlinux")),
        ..Kernel::in_place("in place", arch, (image, image_hash), release, dir.join(".config"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_build_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(dir.path(), Arch::X86_64).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "no built kernel for x86_64 in this directory; build one there, or use -k debian/trixie"
            ),
            "{error}"
        );
        for (name, text) in [("arch/x86/boot/bzImage", "image"), ("include/config/kernel.release", "6.1.0\n")]
        {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let kernel = find(dir.path(), Arch::X86_64).unwrap();
        assert_eq!((kernel.release.as_str(), &kernel.modules, &kernel.vmlinux), ("6.1.0", &None, &None));
        std::fs::create_dir_all(dir.path().join("modules/lib/modules/6.1.0")).unwrap();
        assert_eq!(find(dir.path(), Arch::X86_64).unwrap().modules, Some(dir.path().join("modules")));
    }
}
