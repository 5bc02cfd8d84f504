//! The core of a guest that crashed or hung: moves it from the directory of the VM to that of the subtest.
//!
//! If a core cannot be saved, this is reported and changes no verdict.

use std::io::BufReader;
use std::path::Path;

use vm::core_dump::{DumpError, FILE};

use super::error::RunError;
use super::vm_dir::{VmDir, open_written};
use crate::out::{Out, make_dir};

/// The maximum number of cores of a run on a farm, which publishes them, and the maximum size of each, in bytes.
const FARM_CORES: u32 = 3;
const FARM_BYTES: u64 = 128 << 20;

/// Whether a VM of this run saves a core, and of which size.
#[derive(Debug, Clone, Copy)]
pub(super) struct CorePolicy {
    /// The maximum size in bytes; 0 for none.
    pub bytes: u64,
    pub for_farm: bool,
}

impl CorePolicy {
    /// The maximum size in bytes of the core of the next VM, after `saved` cores of the run; 0 for none.
    pub(super) fn next(self, saved: u32) -> u64 {
        match self.for_farm {
            false => self.bytes,
            true if saved < FARM_CORES => self.bytes.min(FARM_BYTES),
            true => 0,
        }
    }
}

/// The cores of a VM.
#[derive(Debug)]
pub(super) struct Cores<'a> {
    dir: &'a VmDir,
    policy: CorePolicy,
    /// The core that belongs to the next failed subtest.
    last: Option<Result<(), DumpError>>,
    /// The number of kept cores.
    pub kept: u32,
}

impl<'a> Cores<'a> {
    pub(super) fn new(policy: CorePolicy, dir: &'a VmDir) -> Self {
        Self { dir, policy, last: None, kept: 0 }
    }

    /// Notes that a core was saved, or why not.
    pub(super) fn add(&mut self, saved: Result<(), DumpError>) {
        self.last = Some(saved);
    }

    /// Moves the last core into this directory of the output. Returns a note if there is something to report.
    pub(super) fn keep(&mut self, out: &Out, directory: &Path) -> Option<String> {
        let kept = self.last.take()?.map_err(|error| error.to_string()).and_then(|()| {
            copy(&self.dir.path().join(FILE), out, directory, self.policy.bytes)
                .map_err(|error| error.to_string())
        });
        match kept {
            Ok(()) => {
                self.kept += 1;
                let path = out.dir().join(directory).display().to_string();
                // The log of a farm's run is read on other hosts.
                let note = || format!("core saved; to look into it: ktest core {}", spawn::quote(&path));
                (!self.policy.for_farm).then(note)
            }
            Err(error) => Some(format!("core not saved: {error}")),
        }
    }
}

/// Copies the core in the format that programs read at any offset, and removes the original.
fn copy(from: &Path, out: &Out, directory: &Path, max: u64) -> Result<(), RunError> {
    let core = open_written(from).map_err(RunError::infrastructure)?;
    make_dir(out.handle(), directory).map_err(RunError::infrastructure)?;
    let file = out.handle().new_file(directory.join(FILE)).map_err(RunError::infrastructure)?;
    vmcore::copy(BufReader::new(core), file.as_file(), max).map_err(RunError::infrastructure)?;
    file.publish().map_err(RunError::infrastructure)?;
    fsx::own::remove_file(from).map_err(RunError::infrastructure)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core without pages.
    fn header() -> Vec<u8> {
        let mut core = vec![0; 3 * 4096];
        core[..8].copy_from_slice(b"KDUMP   ");
        core[428..432].copy_from_slice(&4096_u32.to_le_bytes());
        core
    }

    #[test]
    fn a_core_moves_to_the_subtest() {
        let cache = tempfile::tempdir().unwrap();
        let vm_dir = VmDir::create(cache.path()).unwrap();
        let out = Out::create(&cache.path().join("out"), &"a".parse().unwrap(), &[]).unwrap();
        let core = vm_dir.path().join(FILE);
        std::fs::write(&core, header()).unwrap();
        let mut cores = Cores::new(CorePolicy { bytes: 1 << 20, for_farm: false }, &vm_dir);
        assert_eq!(cores.keep(&out, Path::new("out/a.w")), None);
        cores.add(Ok(()));
        let note = cores.keep(&out, Path::new("out/a.x")).unwrap();
        assert!(note.starts_with("core saved; to look into it: ktest core /"), "{note}");
        assert_eq!(std::fs::read(out.dir().join("out/a.x/vmcore")).unwrap(), header());
        assert!(!core.exists());

        cores.add(Ok(()));
        let note = cores.keep(&out, Path::new("out/a.y")).unwrap();
        assert!(note.starts_with("core not saved: "), "{note}");
        cores.add(Err(DumpError::TooLarge { max: 64 << 20 }));
        let note = cores.keep(&out, Path::new("out/a.y")).unwrap();
        assert_eq!(note, "core not saved: it is larger than the limit of 64 MiB");
        assert_eq!(cores.kept, 1);
    }

    #[test]
    fn a_farm_saves_few_cores_of_limited_size() {
        let policy = CorePolicy { bytes: FARM_BYTES + 1, for_farm: true };
        assert_eq!((policy.next(FARM_CORES - 1), policy.next(FARM_CORES)), (FARM_BYTES, 0));
        assert_eq!(CorePolicy { for_farm: false, ..policy }.next(100), FARM_BYTES + 1);
    }
}
