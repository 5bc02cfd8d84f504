//! `[image.NAME]`: root images with additional packages. Each host builds an image when a test needs it.

use std::collections::BTreeMap;

use model::{ImageName, NameError, PackageName};

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section};

/// The additional packages of each image.
pub type Images = BTreeMap<ImageName, Vec<PackageName>>;

/// An invalid image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its name cannot be part of a result key.
    #[error(transparent)]
    Name(NameError),
    /// It has no packages, so it would equal the standard image.
    #[error("image {0:?} has no packages; list some, or leave the image out of the test group")]
    NoPackages(ImageName),
}

impl crate::fault::SectionError for ImageError {}

pub(crate) fn read(node: &Node) -> Result<Images, Fault> {
    let mut images = Images::new();
    for (key, node) in node.table("image")? {
        let name: ImageName =
            key.parse().map_err(|error| node.fault(Problem::from(ImageError::Name(error))))?;
        let section = Section::new(node, format!("[image.{key}]"), &["packages"])?;
        let packages = section.names("packages")?.unwrap_or_default();
        if packages.is_empty() {
            return Err(node.fault(Problem::from(ImageError::NoPackages(name))));
        }
        images.insert(name, packages);
    }
    Ok(images)
}
