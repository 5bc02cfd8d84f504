//! Finds a [`TestFile`] from the path that a user enters: the file, the root of its tree and its name below `tests/`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fsx::own;

use crate::{TestFile, TestFileError};

impl TestFile {
    /// Finds a test file, with or without its extension. If `tests_dir` is given, the path can also be relative to
    /// `tests_dir/tests`, or to `tests_dir` if it has no `tests` directory.
    pub fn find(file: &Path, tests_dir: Option<&Path>) -> Result<Self, TestFileError> {
        let root = tests_dir.map(root_of).transpose().map_err(host_error)?;
        let found = existing(file, root.as_deref())?.ok_or_else(|| TestFileError::Missing(file.into()))?;
        if found.extension().is_none_or(|extension| extension != "ktest") {
            return Err(TestFileError::NotKtest(found));
        }
        let missing = || TestFileError::Missing(found.clone());
        let path = own::canonical(&found).map_err(host_error)?.ok_or_else(missing)?;
        let meta = own::existing(&path).map_err(host_error)?.ok_or_else(missing)?;
        if meta.permissions().mode() & 0o111 == 0 {
            return Err(TestFileError::NotExecutable(found));
        }
        let root = root.map(|root| own::canonical(&root)).transpose().map_err(host_error)?.flatten();
        let root = match root {
            Some(root) if path.starts_with(&root) => root,
            _ => path
                .ancestors()
                .find(|dir| dir.file_name().is_some_and(|name| name == "tests"))
                .ok_or_else(|| TestFileError::Outside(found.clone()))?
                .to_path_buf(),
        };
        let below = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        let ktest_dir = root.parent().unwrap_or(&root).to_path_buf();
        Ok(Self { test: below.parse()?, ktest_dir, path })
    }
}

/// The directory of the test files in a tree.
fn root_of(tests_dir: &Path) -> Result<PathBuf, fsx::Error> {
    let tests = tests_dir.join("tests");
    Ok(if own::is_dir(&tests)? { tests } else { tests_dir.into() })
}

fn host_error(error: fsx::Error) -> TestFileError {
    TestFileError::Host { file: error.path, problem: error.source.to_string() }
}

/// The first path that exists: below `root`, then as given; each is also tried with the extension appended.
fn existing(file: &Path, root: Option<&Path>) -> Result<Option<PathBuf>, TestFileError> {
    let bases = root.map(|root| root.join(file)).into_iter().chain([file.to_path_buf()]);
    let candidates =
        bases.flat_map(|base| [PathBuf::from(format!("{}.ktest", base.display())), base].into_iter().rev());
    for path in candidates {
        if own::is_file(&path).map_err(host_error)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
