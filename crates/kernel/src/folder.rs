//! A kernel in a directory of its own, as `ktest` of the ktest system stores it: `vmlinuz`, and if they exist `initramfs`,
//! `config`, `vmlinux` and `lib/modules/RELEASE`. It is used in place and never stored.

use std::path::{Path, PathBuf};

use fsx::own;
use model::Arch;

use crate::error::{BuildError, SourceError};
use crate::store::Kernel;

/// The boot image.
const IMAGE: &str = "vmlinuz";
/// The maximum size of a boot image, in bytes.
const IMAGE_BYTES: u64 = 1 << 30;

/// Whether the directory has a kernel and is no source tree.
pub fn is_one(dir: &Path) -> Result<bool, fsx::Error> {
    Ok(own::is_file(&dir.join(IMAGE))? && !own::is_file(&dir.join("Kconfig"))?)
}

/// The kernel in the directory.
pub fn find(dir: &Path, arch: Arch) -> Result<Kernel, BuildError> {
    let image = dir.join(IMAGE);
    let bytes = own::read(&image, IMAGE_BYTES)?;
    let releases = own::list(&dir.join("lib/modules")).unwrap_or_default();
    let mut releases = releases.into_iter().filter_map(|entry| entry.name.into_string().ok());
    let release = match (releases.next(), releases.next()) {
        (Some(only), None) => Some(only),
        // The modules are those of the image.
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(releases).collect::<Vec<_>>();
            release_of(&bytes).filter(|release| all.contains(release))
        }
        _ => release_of(&bytes),
    };
    let release = release.ok_or_else(|| SourceError::NoRelease(dir.into()))?;
    let image_hash = fsx::digest::sha256_hex(&bytes);
    let existing = |name: &str| Some(dir.join(name)).filter(|path: &PathBuf| path.is_file());
    Ok(Kernel {
        modules: Some(dir.to_owned()).filter(|dir| dir.join("lib/modules").join(&release).is_dir()),
        initrd: existing("initramfs"),
        vmlinux: existing("vmlinux"),
        ..Kernel::in_place("folder", arch, (image, image_hash), release, dir.join("config"))
    })
}

/// The release in the header of an x86 boot image (Documentation/arch/x86/boot.rst, `kernel_version`).
fn release_of(image: &[u8]) -> Option<String> {
    const MAGIC: std::ops::Range<usize> = 0x202..0x206;
    const POINTER: std::ops::Range<usize> = 0x20e..0x210;
    if image.get(MAGIC)? != b"HdrS" {
        return None;
    }
    let start = 0x200 + usize::from(u16::from_le_bytes(image.get(POINTER)?.try_into().ok()?));
    let text = image.get(start..)?.split(|byte| *byte == 0).next()?;
    let word = std::str::from_utf8(text.get(..text.len().min(200))?).ok()?.split(' ').next()?;
    Some(word.to_owned()).filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && !word.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_a_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        assert!(!is_one(dir.path()).unwrap());
        put("vmlinuz", b"image");
        assert!(is_one(dir.path()).unwrap());
        let error = find(dir.path(), Arch::X86_64).unwrap_err().to_string();
        assert!(error.contains("lib/modules/RELEASE"), "{error}");
        put("lib/modules/6.17.0/modules.order", b"");
        put("initramfs", b"cpio");
        let kernel = find(dir.path(), Arch::X86_64).unwrap();
        assert_eq!((kernel.release.as_str(), kernel.modules.as_deref()), ("6.17.0", Some(dir.path())));
        assert_eq!(kernel.initrd, Some(dir.path().join("initramfs")));
        put("Kconfig", b"");
        assert!(!is_one(dir.path()).unwrap());
    }

    #[test]
    fn the_release_in_a_boot_image() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x310].copy_from_slice(b"6.17.0-x (a@b) #");
        assert_eq!(release_of(&image).as_deref(), Some("6.17.0-x"));
        image[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(release_of(&image), None);
        assert_eq!(release_of(b"HdrS"), None);
    }
}
