//! The storage buses that a test file can declare. One table contains all names.

use std::fmt;
use std::str::FromStr;

use crate::names::NameError;

/// The bus of the scratch devices and images. The root disk always uses virtio-blk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageBus {
    /// One PCI device per disk: `/dev/vdX`.
    #[default]
    VirtioBlk,
    /// One virtio SCSI controller: `/dev/sdX`.
    VirtioScsi,
    /// One AHCI controller per 6 disks: `/dev/sdX`.
    Ahci,
    /// One NVMe controller per disk: `/dev/nvmeXn1`.
    Nvme,
    /// The IDE controller of the PIIX4, at most 4 disks.
    Piix4Ide,
    /// An LSI SCSI controller, at most 7 disks.
    Lsi,
}

/// (bus, its name, other accepted names, maximum number of disks).
const TABLE: [(StorageBus, &str, &[&str], usize); 6] = [
    (StorageBus::VirtioBlk, "virtio-blk", &["", "virtio-blk-pci"], 120),
    (StorageBus::VirtioScsi, "virtio-scsi-pci", &["virtio-scsi"], 250),
    (StorageBus::Ahci, "ahci", &[], 60),
    (StorageBus::Nvme, "nvme", &[], 120),
    (StorageBus::Piix4Ide, "piix4-ide", &[], 4),
    (StorageBus::Lsi, "lsi", &[], 7),
];

impl StorageBus {
    /// The name, as in `ktest_storage_bus`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The maximum number of disks on the bus.
    #[must_use]
    pub fn capacity(self) -> usize {
        TABLE[self as usize].3
    }
}

impl fmt::Display for StorageBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StorageBus {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        TABLE
            .iter()
            .find(|(_, name, others, _)| text == *name || others.contains(&text))
            .map(|(bus, ..)| *bus)
            .ok_or_else(|| NameError {
                kind: "a storage bus",
                text: text.chars().take(60).collect(),
                reason: "use virtio-blk, virtio-scsi-pci, ahci, nvme, piix4-ide or lsi",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_enum_order() {
        for (at, (bus, name, ..)) in TABLE.into_iter().enumerate() {
            assert_eq!(bus as usize, at);
            assert_eq!(name.parse(), Ok(bus));
        }
        assert_eq!("".parse(), Ok(StorageBus::VirtioBlk));
        assert!("usb".parse::<StorageBus>().is_err());
    }
}
