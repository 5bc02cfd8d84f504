//! The root images that ktest makes, by name.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, as_text, bad};

/// A root image that ktest makes, without additional packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ShippedImage {
    /// The programs of the test contract and the tools of the file systems.
    #[default]
    Standard,
    /// In addition, what tests need that build programs and kernel modules in the guest, or run loads.
    Full,
}

/// (image, its name).
const SHIPPED: [(ShippedImage, &str); 2] =
    [(ShippedImage::Standard, "standard"), (ShippedImage::Full, "full")];

impl ShippedImage {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        SHIPPED[self as usize].1
    }
}

impl fmt::Display for ShippedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ShippedImage {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = SHIPPED.iter().find(|(_, name)| *name == text).map(|(image, _)| *image);
        found.ok_or_else(|| bad("a root image", text, "use standard or full"))
    }
}

as_text!(ShippedImage);

/// The root image of a run, as the user names it. A file in the current directory with the name of a shipped image is
/// written with its directory: `./full`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootImage {
    /// One that ktest makes.
    Shipped(ShippedImage),
    /// An image file.
    File(PathBuf),
}

impl RootImage {
    /// Its text on a command line.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        match self {
            Self::Shipped(image) => image.name().as_ref(),
            Self::File(path) => path.as_os_str(),
        }
    }

    /// The shipped image.
    #[must_use]
    pub fn shipped(&self) -> Option<ShippedImage> {
        match self {
            Self::Shipped(image) => Some(*image),
            Self::File(_) => None,
        }
    }

    /// The same image, valid in any directory.
    #[must_use]
    pub fn absolute(&self) -> Self {
        match self {
            Self::File(path) => Self::File(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            shipped @ Self::Shipped(_) => shipped.clone(),
        }
    }
}

impl From<OsString> for RootImage {
    fn from(text: OsString) -> Self {
        match text.to_str().and_then(|name| name.parse().ok()) {
            Some(image) => Self::Shipped(image),
            None => Self::File(text.into()),
        }
    }
}

impl AsRef<Path> for RootImage {
    fn as_ref(&self) -> &Path {
        Path::new(self.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files() {
        for (image, name) in SHIPPED {
            assert_eq!((name.parse::<ShippedImage>().unwrap(), image.to_string().as_str()), (image, name));
            assert_eq!(RootImage::from(OsString::from(name)), RootImage::Shipped(image));
        }
        for file in ["./full", "full.ext4", "/srv/full", "Full"] {
            let image = RootImage::from(OsString::from(file));
            assert_eq!(image, RootImage::File(file.into()));
            assert_eq!((image.as_os_str(), image.shipped()), (file.as_ref(), None));
        }
        assert_eq!(
            "fulll".parse::<ShippedImage>().unwrap_err().to_string(),
            r#""fulll" is not a root image: use standard or full"#
        );
        assert!(
            matches!(RootImage::File("a".into()).absolute(), RootImage::File(path) if path.is_absolute())
        );
    }
}
