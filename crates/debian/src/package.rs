//! Packages: their index entries, their files, and the list of installed ones.

use std::path::Path;

use spawn::{Cmd, Limits};

use crate::error::DebianError;
use crate::stanza::{field, stanzas};

/// A package in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its `Depends` field; empty if it has none.
    pub depends: String,
    /// The SHA-256 of its file in hexadecimal, from the signed index.
    pub sha256: String,
    /// The size of its file in bytes; 0 if the index does not contain it.
    pub size: u64,
}

impl Package {
    /// Parses the first stanza in the output of `apt-cache show`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let stanza = stanzas(text).next()?;
        let field = |name: &str| field(stanza, name).map(String::from);
        Some(Self {
            name: field("Package")?,
            version: field("Version")?,
            depends: field("Depends").unwrap_or_default(),
            sha256: field("SHA256")?,
            size: field("Size").and_then(|size| size.parse().ok()).unwrap_or_default(),
        })
    }

    /// The packages in `Depends`, alternatives included.
    pub fn dependencies(&self) -> impl Iterator<Item = &str> {
        self.depends.split([',', '|']).filter_map(|one| one.split_whitespace().next())
    }

    /// The first package in `Depends` with this prefix.
    #[must_use]
    pub fn dependency(&self, prefix: &str) -> Option<&str> {
        self.dependencies().find(|name| name.starts_with(prefix))
    }
}

/// Unpacks the files of a `.deb` into a directory, without running its scripts.
pub async fn unpack(file: &Path, dir: &Path) -> Result<(), DebianError> {
    let output = Cmd::new("dpkg-deb").arg("-x").args([file, dir]).output(Limits::seconds(600)).await?;
    if output.exit.success() {
        return Ok(());
    }
    Err(DebianError::Unpack { file: file.into(), cause: output.error_line() })
}

/// The packages in a dpkg status file, one `name version` per line.
#[must_use]
pub fn installed_packages(status: &str) -> String {
    let line = |stanza: &str| Some(format!("{} {}\n", field(stanza, "Package")?, field(stanza, "Version")?));
    stanzas(status).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_entries() {
        let text = "Package: linux-image-amd64\nVersion: 6.1.192-2\nDepends: foo (>= 1), linux-image-6.1.0-56-amd64 (= 6.1.192-2)\n\
                    Description: x\n more\nSHA256: 00be\n\nPackage: other\n";
        let package = Package::parse(text).unwrap();
        assert_eq!((package.version.as_str(), package.sha256.as_str()), ("6.1.192-2", "00be"));
        assert_eq!(package.dependency("linux-image-"), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(package.dependency("zfs"), None);
        assert_eq!(Package::parse("Package: x\nVersion: 1\n"), None);
        assert_eq!(Package::parse(""), None);
    }

    #[test]
    fn installed() {
        let status = "Package: acl\nStatus: install ok\nVersion: 2.3.1-3\n\nPackage: broken\n\nPackage: bash\nVersion: 5.2";
        assert_eq!(installed_packages(status), "acl 2.3.1-3\nbash 5.2\n");
    }
}
