//! A kernel that somebody built in its own source tree: found, not made.
//!
//! What is there is taken as it is; it has no place in the store.

use std::path::{Path, PathBuf};

use model::Arch;

use crate::error::BuildError;
use crate::store::{Kernel, hash_fields, hash_file};

/// The kernel in a source tree or object folder, as `make` leaves it. Modules are those of `make modules_install`
/// below `DIR/modules` (`INSTALL_MOD_PATH=modules`), where they are there.
pub fn find(dir: &Path, arch: Arch) -> Result<Kernel, BuildError> {
    let image = match arch {
        Arch::X86_64 => "arch/x86/boot/bzImage",
        Arch::Aarch64 => "arch/arm64/boot/Image",
    };
    let image = dir.join(image);
    let release_file = dir.join("include/config/kernel.release");
    let release = std::fs::read_to_string(&release_file).unwrap_or_default().trim().to_owned();
    if !image.is_file() || release.is_empty() {
        let text = format!(
            "{}: holds no built kernel for {arch}; build one there, or say -k debian/trixie",
            dir.display()
        );
        return Err(BuildError::Source(text));
    }
    let image_hash = hash_file(&image)?;
    let there = |path: PathBuf| Some(path).filter(|path| path.exists());
    Ok(Kernel {
        id: hash_fields(["in place", &image_hash, &release]),
        arch,
        image,
        image_hash,
        modules: there(dir.join("modules")).filter(|dir| dir.join("lib/modules").join(&release).is_dir()),
        release,
        config: dir.join(".config"),
        initrd: None,
        vmlinux: there(dir.join("vmlinux")),
        headers: None,
        objects: 0,
        cached: true,
        tolerated: Vec::new(),
        unknown_options: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_make_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(dir.path(), Arch::X86_64).unwrap_err().to_string();
        assert!(
            error.ends_with("holds no built kernel for x86_64; build one there, or say -k debian/trixie"),
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
