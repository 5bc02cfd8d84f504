//! Packages that the user has as files: tools that the distribution does not have, or not in this version.

use std::io::Read;
use std::path::{Path, PathBuf};

use fsx::own;
use fsx::untrusted::Scratch;

use super::ImageError;

/// How a Debian package begins.
const MAGIC: &[u8] = b"!<arch>\ndebian-binary";

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    path: PathBuf,
    digest: String,
}

impl PackageFile {
    /// Reads a file of a package.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a package.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let mut head = Vec::new();
        own::open(path)?
            .take(MAGIC.len() as u64)
            .read_to_end(&mut head)
            .map_err(|source| ImageError::io("read", path, source))?;
        if head != MAGIC {
            return Err(ImageError::NotAPackage(path.into()));
        }
        Ok(Self { path: path.into(), digest: fsx::digest::file(path)? })
    }

    /// The digest of its contents.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }
}

/// Copies the files to a directory that the users of an installation can read. Returns the copies, as mmdebstrap names
/// packages.
pub(super) fn copy(files: &[PackageFile], to: &Scratch) -> Result<Vec<String>, ImageError> {
    let mut copies = Vec::new();
    for file in files {
        let copy = to.path().join(format!("{}.deb", file.digest));
        own::copy(&file.path, &copy)?;
        std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .map_err(|source| ImageError::io("copy", &copy, source))?;
        copies.push(argument(&copy)?);
    }
    Ok(copies)
}

/// A path as an element of the list that commas separate.
fn argument(path: &Path) -> Result<String, ImageError> {
    let text = path.to_str().ok_or_else(|| ImageError::Path(path.into()))?;
    Ok(text.replace('%', "%25").replace(',', "%2C"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            own::write(&path, bytes).unwrap();
            path
        };
        let good = file("good.deb", b"!<arch>\ndebian-binary   1 0 0 100644 4\n2.0\n");
        let other = file("other.deb", b"!<arch>\ndebian-binary   1 0 0 100644 4\n2.1\n");
        let good = PackageFile::read(&good).unwrap();
        assert_ne!(good.digest(), PackageFile::read(&other).unwrap().digest());
        for (name, bytes) in
            [("empty.deb", &b""[..]), ("rpm.deb", b"\xed\xab\xee\xdb"), ("short.deb", b"!<arch>\n")]
        {
            let error = PackageFile::read(&file(name, bytes)).unwrap_err();
            assert!(matches!(error, ImageError::NotAPackage(_)), "{name}: {error}");
        }
        assert!(PackageFile::read(&dir.path().join("missing.deb")).is_err());
        assert!(PackageFile::read(dir.path()).is_err());

        let to = Scratch::new_in(dir.path(), ".a,b%").unwrap();
        let copies = copy(std::slice::from_ref(&good), &to).unwrap();
        assert!(copies[0].contains("/.a%2Cb%25"), "{copies:?}");
        assert!(copies[0].ends_with(&format!("/{}.deb", good.digest())));
        assert_eq!(own::list(to.path()).unwrap().len(), 1);
    }
}
