//! The reserve file: disk space that is released when the disk is full, so that the status snapshot can report it.

use std::path::{Path, PathBuf};

use fsx::own;

/// The size in bytes, which is larger than a snapshot.
const SIZE: usize = 1 << 20;
const FILE: &str = "reserve";
/// The name of the file in versions before 0.2.
const OLD_FILE: &str = "ballast";

/// The file that reserves the space.
#[derive(Debug)]
pub struct ReserveFile {
    path: PathBuf,
    present: bool,
}

impl ReserveFile {
    /// The reserve file in `dir`. An earlier daemon may have written it.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let path = dir.join(FILE);
        // The file usually does not exist.
        let _ = own::rename(&dir.join(OLD_FILE), &path);
        let present = own::metadata(&path).is_ok_and(|data| data.len() == SIZE as u64);
        Self { path, present }
    }

    /// Releases the space. Returns false if there was none.
    pub fn release(&mut self) -> bool {
        std::mem::take(&mut self.present) && own::remove_file(&self.path).is_ok()
    }

    /// Reserves the space again, if twice that much is free.
    pub fn reserve(&mut self) {
        if self.present {
            return;
        }
        self.present = self.write().is_ok();
        if !self.present {
            let _ = own::remove_file(&self.path);
        }
    }

    fn write(&self) -> std::io::Result<()> {
        if let Some(dir) = self.path.parent() {
            own::create_dir_all(dir)?;
        }
        own::write(&self.path, vec![b'.'; 2 * SIZE])?;
        let file = own::open_with(&self.path, std::fs::File::options().write(true))?;
        file.set_len(SIZE as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_reserved_released_and_reused() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = ReserveFile::new(dir.path());
        assert!(!reserve.release());
        reserve.reserve();
        let mut next = ReserveFile::new(dir.path());
        assert!(next.release() && !next.release());
        assert!(!dir.path().join(FILE).exists());
    }
}
