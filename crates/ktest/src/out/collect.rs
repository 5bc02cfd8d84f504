//! The artifacts that a test leaves for a subtest: `OUT/files/artifacts/SUBTEST.NAME`. When the verdict falls, they are moved
//! to `OUT/out/FILE.SUBTEST/artifacts/NAME`.

use std::path::{Path, PathBuf};

use fsx::untrusted::{EntryType, UntrustedError};
use model::{ArtifactName, SubtestName};

use super::{FILES, Out, make_dir};

/// The maximum number of entries of a directory that is searched.
const MAX_ENTRIES: u64 = 100_000;
/// The limits for a subtest: files, and bytes.
const MAX_FILES: usize = 64;
const MAX_BYTES: u64 = 64 << 20;
/// The limit for a run, in bytes.
const MAX_RUN_BYTES: u64 = 1 << 30;

/// What becomes of the artifacts of a subtest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// They are moved to its directory.
    Yes,
    /// They are removed.
    No,
}

/// The artifacts of a subtest.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Those that are in its directory now, sorted.
    pub kept: Vec<ArtifactName>,
    /// The number of those that stay in the directory of the tests, because of the limits.
    pub excess: usize,
}

impl Out {
    /// The limits, for a message.
    #[must_use]
    pub fn collect_limits() -> String {
        let (mib, gib) = (MAX_BYTES >> 20, MAX_RUN_BYTES >> 30);
        format!("the limits are {MAX_FILES} files and {mib} MiB for a subtest, {gib} GiB for a run")
    }

    /// Moves the artifacts of a subtest to its directory, or removes them.
    pub fn collect(&mut self, subtest: &SubtestName, keep: Keep) -> Result<Collected, UntrustedError> {
        let found = self.artifacts(subtest)?;
        let mut collected = Collected::default();
        let to = self.relative(subtest).join(ArtifactName::DIR);
        let mut bytes = 0;
        for (path, name, size) in found {
            if keep == Keep::No {
                self.dir.remove_file(path)?;
                continue;
            }
            let is_excess = collected.kept.len() == MAX_FILES
                || bytes + size > MAX_BYTES
                || self.collected + bytes + size > MAX_RUN_BYTES;
            if is_excess {
                collected.excess += 1;
                continue;
            }
            make_dir(&self.dir, &to)?;
            self.dir.rename(path, to.join(name.as_str()))?;
            bytes += size;
            collected.kept.push(name);
        }
        self.collected += bytes;
        Ok(collected)
    }

    /// The files that have the name of the subtest, with the names and sizes of the artifacts.
    fn artifacts(&self, subtest: &SubtestName) -> Result<Vec<(PathBuf, ArtifactName, u64)>, UntrustedError> {
        let below = Path::new(FILES).join(ArtifactName::DIR).join(subtest.as_str());
        let (Some(dir), Some(last)) = (below.parent(), below.file_name()) else { return Ok(Vec::new()) };
        let entries = match self.dir.list(dir, MAX_ENTRIES) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let prefix = format!("{}.", last.to_string_lossy());
        let mut found = Vec::new();
        for entry in entries {
            let Ok(file) = entry.name.into_string() else { continue };
            let name = file.strip_prefix(&prefix).and_then(|name| name.parse::<ArtifactName>().ok());
            let Some(name) = name.filter(ArtifactName::is_of_test) else { continue };
            let path = dir.join(&file);
            match self.dir.metadata(&path)? {
                Some(data) if data.entry_type == EntryType::File && data.links == 1 => {
                    found.push((path, name, data.len));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(collected: &Collected) -> Vec<&str> {
        collected.kept.iter().map(ArtifactName::as_str).collect()
    }

    #[test]
    fn files_with_the_name_of_a_subtest_become_its_artifacts() {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Out::create(dir.path(), &"a".parse().unwrap(), &[]).unwrap();
        let artifacts = out.files().join(ArtifactName::DIR);
        std::fs::create_dir_all(artifacts.join("generic")).unwrap();
        let subtest: SubtestName = "generic/001".parse().unwrap();
        let files = ["001.full", "001.out.bad", "001.log", "001.crash", "001.a b", "0010.full", "002.full"];
        for file in files {
            std::fs::write(artifacts.join("generic").join(file), file).unwrap();
        }
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), artifacts.join("generic/001.link")).unwrap();
        std::fs::create_dir(artifacts.join("generic/001.dir")).unwrap();

        let collected = out.collect(&subtest, Keep::Yes).unwrap();
        assert_eq!((names(&collected), collected.excess), (vec!["full", "out.bad"], 0));
        let kept = out.subtest_dir(&subtest).join(ArtifactName::DIR);
        assert_eq!(std::fs::read_to_string(kept.join("out.bad")).unwrap(), "001.out.bad");
        assert_eq!(out.collect(&subtest, Keep::Yes).unwrap(), Collected::default());

        let other: SubtestName = "generic/002".parse().unwrap();
        assert_eq!(out.collect(&other, Keep::No).unwrap(), Collected::default());
        assert!(!artifacts.join("generic/002.full").exists());
        assert!(artifacts.join("generic/0010.full").exists());
    }

    #[test]
    fn what_exceeds_the_limits_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Out::create(dir.path(), &"a".parse().unwrap(), &[]).unwrap();
        let artifacts = out.files().join(ArtifactName::DIR);
        std::fs::create_dir(&artifacts).unwrap();
        let subtest: SubtestName = "x".parse().unwrap();
        for at in 0..MAX_FILES + 3 {
            std::fs::write(artifacts.join(format!("x.{at:03}")), "").unwrap();
        }
        let large = std::fs::File::create(artifacts.join("x.large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        let collected = out.collect(&subtest, Keep::Yes).unwrap();
        assert_eq!((collected.kept.len(), collected.excess), (MAX_FILES, 4));
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let mut out = Out::create(dir.path(), &"a".parse().unwrap(), &[]).unwrap();
        std::fs::write(outside.path().join("x.full"), "secret").unwrap();
        std::os::unix::fs::symlink(outside.path(), out.files().join(ArtifactName::DIR)).unwrap();
        assert!(out.collect(&"x".parse().unwrap(), Keep::Yes).is_err());
        assert!(outside.path().join("x.full").exists());
    }
}
