//! A little room on the disk that is given up when there is no other, so that the status snapshot can still say so.

use std::path::{Path, PathBuf};

/// More than a snapshot takes, in bytes.
const SIZE: usize = 1 << 20;
const FILE: &str = "ballast";

/// The file that takes up the room.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    there: bool,
}

impl Ballast {
    /// A ballast in `dir`, perhaps left by an earlier daemon.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let there = std::fs::metadata(&path).is_ok_and(|data| data.len() == SIZE as u64);
        Self { path, there }
    }

    /// Gives the room up; false if there was none.
    pub fn drop_it(&mut self) -> bool {
        std::mem::take(&mut self.there) && std::fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room, unless it has it, if there is twice as much.
    pub fn take_in(&mut self) {
        if self.there {
            return;
        }
        // Twice: what is left is for others.
        let written = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written =
            written.and_then(|()| std::fs::write(&self.path, vec![b'.'; 2 * SIZE])).and_then(|()| {
                let file = std::fs::File::options().write(true).open(&self.path)?;
                file.set_len(SIZE as u64)
            });
        self.there = written.is_ok();
        if !self.there {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_given_up_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::new(dir.path());
        assert!(!ballast.drop_it());
        ballast.take_in();
        let mut next = Ballast::new(dir.path());
        assert!(next.drop_it() && !next.drop_it());
        assert!(!dir.path().join(FILE).exists());
    }
}
