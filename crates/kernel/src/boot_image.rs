//! The boot image of a configuration.

use model::Arch;

use crate::dotconfig::DotConfig;
use crate::option::KValue;

/// The make target of the boot image, which is also its name in the store, and its path below the object directory.
pub(crate) fn image_of(arch: Arch, config: &DotConfig) -> (&'static str, &'static str) {
    match arch {
        // QEMU starts such an ELF file directly, so there is no compression at build time and no decompression at boot.
        // With KASAN, a PVH kernel stops before its first console output (seen with 6.1).
        Arch::X86_64 if *config.get("PVH") == KValue::Yes && *config.get("KASAN") != KValue::Yes => {
            ("vmlinux", "vmlinux")
        }
        Arch::X86_64 => ("bzImage", "arch/x86/boot/bzImage"),
        Arch::Aarch64 => ("Image", "arch/arm64/boot/Image"),
    }
}
