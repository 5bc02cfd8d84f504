//! The initramfs of a kernel with modular drivers: busybox, the modules for the root disk and the runner's shares, and
//! a script that loads them.
//!
//! Pure: the same module lists and bytes give the same archive.

use std::collections::{BTreeMap, BTreeSet};

/// The init of the initramfs.
const INIT: &str = include_str!("../../guest/initramfs-init");

/// The modules that the console, the root disk and the guest's init need. Modules that the kernel has built in or does
/// not have are skipped; drivers of other devices are loaded later.
pub(super) const WANTED: [&str; 15] = [
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio_rng",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "9pnet_virtio",
    "9p",
    "sd_mod",
    "overlay",
    "configfs",
    "virtio_net",
    "af_packet",
    "qemu_fw_cfg",
];

/// A module's name from its path: `kernel/fs/ext4/ext4.ko.xz` is `ext4`; `-` and `_` are equivalent.
pub(super) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The paths of the wanted modules and of their dependencies according to depmod's `modules.dep`; dependencies come
/// first.
pub(super) fn load_order(modules_dep: &str, wanted: &[&str]) -> Vec<String> {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    for line in modules_dep.lines() {
        let Some((path, rest)) = line.split_once(':') else { continue };
        needs.insert(path, rest.split_whitespace().collect());
        paths.insert(module_name(path), path);
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // The modules to visit; `true` if the dependencies of the module are already in the order.
    let mut stack: Vec<(&str, bool)> =
        wanted.iter().rev().filter_map(|name| Some((*paths.get(*name)?, false))).collect();
    while let Some((path, ready)) = stack.pop() {
        if ready {
            order.push(path.to_owned());
        } else if seen.insert(path) {
            stack.push((path, true));
            stack.extend(needs.get(path).into_iter().flatten().map(|need| (*need, false)));
        }
    }
    order
}

/// Builds the archive. `modules` are file names and contents in loading order.
pub(super) fn archive(busybox: &[u8], modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for dir in ["bin", "dev", "modules", "root"] {
        cpio.entry(dir, DIR, (0, 0), &[]);
    }
    cpio.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    cpio.entry("bin/busybox", PROGRAM, (0, 0), busybox);
    cpio.entry("init", PROGRAM, (0, 0), INIT.as_bytes());
    let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    cpio.entry("order", FILE, (0, 0), order.as_bytes());
    for (name, content) in modules {
        cpio.entry(&format!("modules/{name}"), FILE, (0, 0), content);
    }
    cpio.entry("TRAILER!!!", 0, (0, 0), &[]);
    cpio.bytes
}

const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the format that the kernel unpacks (`newc`, Documentation/driver-api/early-userspace/buffer-format).
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    count: u32,
}

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.count += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // Inode, mode, owner, group, links, date, size, device, device of a node, name's length, checksum.
        let fields = [self.count, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "\
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/lib/crc16.ko:
kernel/drivers/char/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz:
rubbish
";

    #[test]
    fn dependencies_come_first() {
        let order = load_order(DEP, &["virtio_rng", "nowhere", "ext4", "crc16"]);
        let names: Vec<_> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["virtio_ring", "virtio", "virtio_rng", "crc16", "mbcache", "jbd2", "ext4"]);
    }

    /// Names, modes and contents, parsed according to the specification of the format.
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let (mut entries, mut at) = (Vec::new(), 0_usize);
        loop {
            let field = |number: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + 8 * number..at + 14 + 8 * number]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[at + 110..at + 109 + name_size].to_vec()).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode, bytes[content..content + size].to_vec()));
            at = (content + size).next_multiple_of(4);
        }
    }

    #[test]
    fn the_archive_reads_back() {
        let modules = [("b.ko".to_owned(), b"12345".to_vec()), ("a.ko".to_owned(), Vec::new())];
        let entries = read(&archive(b"busy", &modules));
        let find = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!((find("bin/busybox").1, find("bin/busybox").2.as_slice()), (PROGRAM, &b"busy"[..]));
        assert_eq!(find("modules/b.ko").2, b"12345");
        assert_eq!(find("order").2, b"b.ko\na.ko\n");
        assert!(find("init").2.starts_with(b"#!/bin/busybox sh\n"));
        assert_eq!(find("dev/console").1, CHARACTER_DEVICE);
    }

    proptest! {
        #[test]
        fn every_list_terminates(lines in prop::collection::vec(("[a-d]", prop::collection::vec("[a-d]", 0..4)), 0..8)) {
            let text: String =
                lines.iter().map(|(path, needs)| format!("{path}.ko: {}\n", needs.iter().map(|n| format!("{n}.ko ")).collect::<String>())).collect();
            let order = load_order(&text, &["a", "b"]);
            let set: BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(set.len(), order.len());
        }
    }
}
