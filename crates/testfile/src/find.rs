//! Finds a [`TestFile`] from the path that a user enters: the file, the root of its tree and its name below `tests/`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fsx::own;

use crate::{TestFile, TestFileError};

impl TestFile {
    /// Finds a test file, with or without its extension. If `tests_dir` is given, the path can also be relative to
    /// `tests_dir/tests`, or to `tests_dir`. A file that is not below `tests` is named relative to the root of its tree.
    pub fn find(file: &Path, tests_dir: Option<&Path>) -> Result<Self, TestFileError> {
        let tree = tests_dir.map(Tree::of).transpose().map_err(host_error)?;
        let found = existing(file, tree.as_ref())?.ok_or_else(|| TestFileError::Missing(file.into()))?;
        if found.extension().is_none_or(|extension| extension != "ktest") {
            return Err(TestFileError::NotKtest(found));
        }
        let missing = || TestFileError::Missing(found.clone());
        let path = own::canonical(&found).map_err(host_error)?.ok_or_else(missing)?;
        let meta = own::existing(&path).map_err(host_error)?.ok_or_else(missing)?;
        if meta.permissions().mode() & 0o111 == 0 {
            return Err(TestFileError::NotExecutable(found));
        }
        let given = tree.map(|tree| tree.canonical()).transpose().map_err(host_error)?.flatten();
        let tree = match given.filter(|tree| path.starts_with(&tree.root)) {
            Some(tree) => tree,
            None => Tree::around(&path)
                .map_err(host_error)?
                .ok_or_else(|| TestFileError::Outside(found.clone()))?,
        };
        let dir = if path.starts_with(&tree.tests) { &tree.tests } else { &tree.root };
        let below = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
        Ok(Self { test: below.parse()?, ktest_dir: tree.root, path })
    }
}

/// A tree of test files.
struct Tree {
    root: PathBuf,
    /// The directory `tests` in it, or the root itself if there is none.
    tests: PathBuf,
}

impl Tree {
    /// The tree that the user names: its root, or its directory `tests`.
    fn of(dir: &Path) -> Result<Self, fsx::Error> {
        let tests = dir.join("tests");
        if own::is_dir(&tests)? {
            return Ok(Self { root: dir.into(), tests });
        }
        let root = match dir.parent() {
            Some(parent) if dir.file_name().is_some_and(|name| name == "tests") => parent,
            _ => dir,
        };
        Ok(Self { root: root.into(), tests: dir.into() })
    }

    /// The tree of a file: its nearest directory `tests`, or one next to the file.
    fn around(path: &Path) -> Result<Option<Self>, fsx::Error> {
        let tests = path.ancestors().skip(1).find(|dir| dir.file_name().is_some_and(|name| name == "tests"));
        if let Some(tests) = tests {
            let root = tests.parent().unwrap_or(tests);
            return Ok(Some(Self { root: root.into(), tests: tests.into() }));
        }
        let Some(root) = path.parent() else { return Ok(None) };
        let tests = root.join("tests");
        Ok(own::is_dir(&tests)?.then(|| Self { root: root.into(), tests }))
    }

    fn canonical(&self) -> Result<Option<Self>, fsx::Error> {
        // An empty path is the current directory.
        let dir = |path: &Path| own::canonical(if path.as_os_str().is_empty() { ".".as_ref() } else { path });
        Ok(dir(&self.root)?.zip(dir(&self.tests)?).map(|(root, tests)| Self { root, tests }))
    }
}

fn host_error(error: fsx::Error) -> TestFileError {
    TestFileError::Host { file: error.path, problem: error.source.to_string() }
}

/// The first path that exists: below the tree, then as given; each is also tried with the extension appended. A path below
/// `tests` also names a file at the root, as a test's name does.
fn existing(file: &Path, tree: Option<&Tree>) -> Result<Option<PathBuf>, TestFileError> {
    let inside = tree.iter().flat_map(|tree| [tree.tests.join(file), tree.root.join(file)]);
    let at_root = tree.and_then(|tree| Some(tree.root.join(file.strip_prefix(&tree.tests).ok()?)));
    let bases = inside.chain([file.to_path_buf()]).chain(at_root);
    let candidates =
        bases.flat_map(|base| [PathBuf::from(format!("{}.ktest", base.display())), base].into_iter().rev());
    for path in candidates {
        if own::is_file(&path).map_err(host_error)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
