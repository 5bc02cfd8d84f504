//! The machine that the tests use: the smallest one, without devices, shares and sockets.

use model::{Arch, StorageBus};

use super::{Accel, Machine};

/// A minimal machine; each test modifies what it tests.
pub(crate) fn machine() -> Machine {
    Machine {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        cpus: 1,
        mem_mib: 1024,
        kernel: "/k/bzImage".into(),
        initrd: None,
        append: vec![],
        root: "/i/root.ext4".into(),
        bus: StorageBus::VirtioBlk,
        disks: vec![],
        hotplug: None,
        pmem: vec![],
        shares: vec![],
        sockets: None,
        kgdb: false,
        serial_log: None,
        early_console: false,
        core: false,
        network: None,
        qemu_prepend: vec![],
        qemu_append: vec![],
    }
}
