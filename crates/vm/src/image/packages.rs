//! The packages of the root images that ktest makes, and the releases that have them.

use model::ShippedImage;

/// A standard guest: the programs of the test contract and the file system tools.
const STANDARD: &[&str] = &[
    "acl",
    "attr",
    "bash-static",
    "btrfs-progs",
    "busybox-static",
    "cryptsetup-bin",
    "dmsetup",
    "e2fsprogs",
    "iproute2",
    "keyutils",
    "kmod",
    "mawk",
    "mount",
    "openssh-server",
    "passwd",
    "procps",
    "psmisc",
    "quota",
    "util-linux",
    "xfsprogs",
    "xxd",
];

/// Builds in the guest: compilers, make and its relatives, and what reads a source tree.
const BUILD: &[&str] = &[
    "autoconf",
    "automake",
    "autopoint",
    "bc",
    "bison",
    "build-essential",
    "ca-certificates",
    "cpio",
    "curl",
    "file",
    "flex",
    "gawk",
    "gettext",
    "git",
    "jq",
    "libtool-bin",
    "perl",
    "pkgconf",
    "python3",
    "python3-docutils",
    "rsync",
    "xz-utils",
    "zstd",
];

/// Rust and LLVM, also for Rust in a kernel module.
const RUST_AND_LLVM: &[&str] =
    &["bindgen", "cargo", "clang", "libclang-dev", "lld", "llvm", "rust-src", "rustc", "rustfmt"];

/// Kernel modules outside the tree.
const MODULES: &[&str] = &["dkms", "dwarves", "libdw-dev", "libelf-dev", "libssl-dev", "openssl"];

/// Libraries of the programs that test files build: file system tools, fio, xfstests, blktests, bcache-tools, quota and
/// puzzlefs.
const LIBRARIES: &[&str] = &[
    "capnproto",
    "libacl1-dev",
    "libaio-dev",
    "libattr1-dev",
    "libblkid-dev",
    "libcap-dev",
    "libext2fs-dev",
    "libfuse3-dev",
    "libgdbm-compat-dev",
    "libgdbm-dev",
    "libinih-dev",
    "libkeyutils-dev",
    "liblz4-dev",
    "libscrypt-dev",
    "libsodium-dev",
    "libtirpc-dev",
    "libudev-dev",
    "libunwind-dev",
    "liburcu-dev",
    "liburing-dev",
    "libzstd-dev",
    "systemd-dev",
    "uuid-dev",
    "valgrind",
    "xfslibs-dev",
    "zlib1g-dev",
];

/// Loads, and programs that store data.
const LOADS: &[&str] = &["bonnie++", "dbench", "fio", "fsmark", "sqlite3", "stress-ng"];

/// Block devices, file systems and network file systems.
const DEVICES: &[&str] = &[
    "blktrace",
    "dosfstools",
    "duperemove",
    "erofs-utils",
    "exfatprogs",
    "f2fs-tools",
    "fdisk",
    "fsverity",
    "fuse3",
    "jfsutils",
    "lvm2",
    "mdadm",
    "nbd-client",
    "nbd-server",
    "nfs-kernel-server",
    "nilfs-tools",
    "nvme-cli",
    "parted",
    "sg3-utils",
    "squashfs-tools",
    "udev",
    "xfsdump",
];

/// The cases of xfstests and the search for a cause.
const TOOLS: &[&str] = &[
    "acct",
    "bsdextrautils",
    "gdb",
    "less",
    "libcap2-bin",
    "linux-perf",
    "lsof",
    "pciutils",
    "strace",
    "trace-cmd",
    "uuid-runtime",
];

/// The groups of packages of the full image.
const FULL: [&[&str]; 8] = [STANDARD, BUILD, RUST_AND_LLVM, MODULES, LIBRARIES, LOADS, DEVICES, TOOLS];

/// Releases of Debian that lack a package of the full image, or whose rustc is older than 1.85.
const TOO_OLD: [&str; 2] = ["bullseye", "bookworm"];

/// The release of the full image on a host with one of these.
const RELEASE_OF_FULL: &str = "trixie";

/// The packages of an image, in addition to the essential ones.
pub(super) fn packages(image: ShippedImage) -> Vec<String> {
    let groups: &[&[&str]] = match image {
        ShippedImage::Standard => &[STANDARD],
        ShippedImage::Full => &FULL,
    };
    groups.iter().flat_map(|group| group.iter()).map(|name| (*name).to_owned()).collect()
}

/// The size of the file system, in MiB; the file is sparse.
pub(super) fn size_mib(image: ShippedImage) -> u64 {
    match image {
        ShippedImage::Standard => 4096,
        ShippedImage::Full => 16384,
    }
}

/// The usual time to download and install the packages.
pub(super) fn duration(image: ShippedImage) -> &'static str {
    match image {
        ShippedImage::Standard => "a minute or two",
        ShippedImage::Full => "ten minutes or more",
    }
}

/// The suite of an image on a host with the suite `host`, for a kernel of the distribution's release `kernel`: modules
/// for that kernel are built with the compiler of its release.
pub(super) fn suite(image: ShippedImage, host: &str, kernel: Option<&str>) -> String {
    let new = |release: &&str| !TOO_OLD.contains(release);
    match image {
        ShippedImage::Standard => host.into(),
        ShippedImage::Full => kernel.into_iter().chain([host]).find(new).unwrap_or(RELEASE_OF_FULL).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_full_image_has_each_package_once_and_all_of_the_standard_one() {
        let (standard, full) = (packages(ShippedImage::Standard), packages(ShippedImage::Full));
        let names: BTreeSet<_> = full.iter().collect();
        assert_eq!(names.len(), full.len());
        assert!(standard.iter().all(|name| names.contains(name)));
        for group in FULL {
            assert!(group.is_sorted(), "{group:?}");
        }
    }

    #[test]
    fn the_full_image_has_a_release_with_its_programs() {
        let full = |host, kernel| suite(ShippedImage::Full, host, kernel);
        assert_eq!(suite(ShippedImage::Standard, "bookworm", Some("forky")), "bookworm");
        assert_eq!(full("bookworm", None), "trixie");
        assert_eq!(full("trixie", None), "trixie");
        assert_eq!(full("forky", Some("bookworm")), "forky");
        assert_eq!(full("bookworm", Some("bookworm")), "trixie");
        assert_eq!(full("bookworm", Some("forky")), "forky");
        assert_eq!(full("forky", Some("trixie")), "trixie");
    }
}
