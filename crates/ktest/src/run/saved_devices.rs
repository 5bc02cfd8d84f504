//! The saved devices of a failed subtest, for `ktest boot --devices`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fsx::untrusted::Dir;
use model::KernelId;
use serde::{Deserialize, Serialize};
use testfile::Declarations;
use testfile::declare::Variables;

use super::error::RunError;
use crate::pack;

/// The name of the directory of the devices, in the directory of the subtest.
pub(super) const DEVICES: &str = "devices";
/// The name of the file that describes the machine, next to the devices.
pub(super) const RECORD: &str = "machine.json";
/// The version of the record.
pub(super) const VERSION: u32 = 1;

/// The maximum size of the record, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// The machine of the devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// [`VERSION`].
    pub v: u32,
    /// The name of the test file.
    pub test: String,
    /// The subtest.
    pub subtest: String,
    /// The kernel, in the kernel store.
    pub kernel: KernelId,
    /// The declarations of the machine.
    pub declared: BTreeMap<String, Vec<String>>,
}

/// The saved devices of a failed subtest.
#[derive(Debug)]
pub(super) struct SavedDevices {
    /// Their directory.
    pub dir: PathBuf,
    /// The record next to them.
    pub record: Record,
    /// The machine.
    pub declared: Declarations,
}

impl SavedDevices {
    /// Opens `OUT/out/FILE.SUBTEST`, or the directory `devices` in it.
    pub(super) fn open(path: &Path) -> Result<Self, RunError> {
        let dir = if path.join(RECORD).is_file() { path.to_path_buf() } else { path.join(DEVICES) };
        let file = dir.join(RECORD);
        let usage = |what: &str| RunError::Usage(format!("{}: {what}", file.display()));
        let handle = Dir::open(&dir).ok();
        let text = handle.as_ref().and_then(|handle| handle.read_to_string(RECORD, MAX_RECORD).ok());
        let text = text.ok_or_else(|| {
            let path = path.display();
            RunError::Usage(format!(
                "{path}: no saved devices; give the directory of a failed subtest, OUT/out/FILE.SUBTEST"
            ))
        })?;
        let record: Record = serde_json::from_str(&text).map_err(|error| usage(&error.to_string()))?;
        if record.v != VERSION {
            return Err(usage(&format!("version {}, this ktest reads version {VERSION}", record.v)));
        }
        let variables: Variables = record.declared.clone();
        let declared = Declarations::from_variables(&variables, model::Arch::X86_64, &dir)
            .map_err(|error| usage(&error.to_string()))?;
        Ok(Self { dir, record, declared })
    }

    /// Restores a device into `file`, which must have the size of the device.
    pub(super) fn restore(&self, file: &Path) -> Result<(), RunError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}.zst");
        let restore = || -> std::io::Result<()> {
            let packed = Dir::open(&self.dir)?.open_file(&name)?;
            let size = fsx::own::metadata(file)?.len();
            pack::unpack(&packed, &fsx::own::create(file)?, size)
        };
        let path = self.dir.join(&name);
        restore().map_err(|error| RunError::Infrastructure(format!("{}: {error}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_record_is_a_one_line_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = |dir: &Path| {
            SavedDevices::open(dir).unwrap_err().to_string().replace(&dir.display().to_string(), "DIR")
        };
        assert_eq!(
            error(dir.path()),
            "DIR: no saved devices; give the directory of a failed subtest, OUT/out/FILE.SUBTEST"
        );
        std::fs::write(dir.path().join(RECORD), "{}").unwrap();
        assert!(error(dir.path()).starts_with("DIR/machine.json: missing field"), "{}", error(dir.path()));
        let id = "0".repeat(64);
        let record = |v: u32, mem: &str| {
            let declared = format!(r#"{{"ktest_mem":["{mem}"],"ktest_scratch_dev_sizes":["1048576"]}}"#);
            let text =
                format!(r#"{{"v":{v},"test":"a","subtest":"b","kernel":"{id}","declared":{declared}}}"#);
            std::fs::write(dir.path().join(RECORD), text).unwrap();
        };
        record(9, "512");
        assert_eq!(error(dir.path()), "DIR/machine.json: version 9, this ktest reads version 1");
        record(1, "none");
        assert!(error(dir.path()).contains("ktest_mem"));
        record(1, "512");
        assert_eq!(SavedDevices::open(dir.path()).unwrap().declared.scratch, [1 << 20]);
    }
}
