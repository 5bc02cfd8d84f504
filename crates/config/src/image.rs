//! `[image.NAME]`: root images with more packages than the standard one. Each host makes them when they are first needed.

use std::collections::BTreeMap;

use model::{ImageName, NameError, PackageName};

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section};

/// The packages of each image beside the standard ones, by its name.
pub type Images = BTreeMap<ImageName, Vec<PackageName>>;

/// Problem is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its name cannot be part of a result's name.
    #[error(transparent)]
    Name(NameError),
    /// It is the standard one.
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
