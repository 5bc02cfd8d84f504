//! The owners of test files: `owners.json` of the output directory. ci-daemon writes it from the test files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fsx::publish::Durability;
use model::{Owner, ResultKey, TestPath};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The file, in the output directory.
const FILE: &str = "owners.json";
/// The maximum size of the file, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// The owners of the test files that declare some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owners(BTreeMap<TestPath, Vec<Owner>>);

impl FromIterator<(TestPath, Vec<Owner>)> for Owners {
    fn from_iter<I: IntoIterator<Item = (TestPath, Vec<Owner>)>>(files: I) -> Self {
        Self(files.into_iter().filter(|(_, owners)| !owners.is_empty()).collect())
    }
}

fn path(output_dir: &Path) -> PathBuf {
    output_dir.join(FILE)
}

impl Owners {
    /// The owners of the test file of a result: of the file with the longest name that the key begins with.
    #[must_use]
    pub fn of(&self, key: &ResultKey) -> &[Owner] {
        let key = key.as_str();
        let is_of = |test: &&TestPath| {
            key.strip_prefix(&test.dotted()).is_some_and(|rest| rest.starts_with(['.', '@']))
        };
        let longest = self.0.keys().filter(is_of).max_by_key(|test| test.dotted().len());
        longest.and_then(|test| self.0.get(test)).map_or(&[], Vec::as_slice)
    }

    /// Reads the file; none if it does not exist.
    pub(crate) fn read(output_dir: &Path) -> Result<Self> {
        let path = path(output_dir);
        let bytes = match fsx::own::read(&path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(Error::damaged(&path, error)),
        };
        serde_json::from_slice(&bytes).map_err(|reason| Error::damaged(&path, reason))
    }

    /// Publishes the owners.
    pub fn publish(&self, output_dir: &Path) -> std::io::Result<()> {
        fsx::publish::file(&path(output_dir), serde_json::to_vec(self)?, Durability::Cached)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_test_file_has_the_result() {
        let owners = |name: &str| vec![name.parse().unwrap()];
        let all: Owners = [("fs/a", owners("A")), ("fs/a/b", owners("B")), ("fs/c", Vec::new())]
            .into_iter()
            .map(|(test, owners)| (test.parse().unwrap(), owners))
            .collect();
        let of =
            |key: &str| all.of(&key.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("fs.a.x"), ["A"]);
        assert_eq!(of("fs.a.b.x"), ["B"]);
        assert_eq!(of("fs.a.b@K=v.x"), ["B"]);
        assert_eq!(of("fs.ab.x"), [""; 0]);
        assert_eq!(of("fs.c.x"), [""; 0]);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Owners::read(dir.path()).unwrap(), Owners::default());
        all.publish(dir.path()).unwrap();
        assert_eq!(Owners::read(dir.path()).unwrap(), all);
        std::fs::write(dir.path().join(FILE), r#"{"fs/a":["a\nb"]}"#).unwrap();
        assert!(Owners::read(dir.path()).unwrap_err().to_string().contains("control characters"));
    }
}
