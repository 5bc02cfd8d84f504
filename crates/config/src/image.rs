//! `[image.NAME]`: root images with additional packages. Each host builds an image when a test needs it.

use std::collections::BTreeMap;

use model::{ImageName, NameError, PackageName, ShippedImage};

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section};

/// The root images of the configuration.
pub type Images = BTreeMap<ImageName, ImageRecipe>;

/// How a root image is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageRecipe {
    /// The image that it extends.
    pub base: ShippedImage,
    /// The additional packages.
    pub packages: Vec<PackageName>,
}

/// An invalid image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its name cannot be part of a result key.
    #[error(transparent)]
    Name(NameError),
    /// It has no packages, so it would equal the image that it extends.
    #[error("image {0:?} has no packages; list some, or leave the image out of the test group")]
    NoPackages(ImageName),
    /// ktest makes an image with this name.
    #[error("image \"{0}\" is one that ktest makes; use another name, with base = \"{0}\" to extend it")]
    Shipped(ShippedImage),
}

impl crate::fault::SectionError for ImageError {}

pub(crate) fn read(node: &Node) -> Result<Images, Fault> {
    let mut images = Images::new();
    for (key, node) in node.table("image")? {
        let name: ImageName =
            key.parse().map_err(|error| node.fault(Problem::from(ImageError::Name(error))))?;
        if let Ok(shipped) = key.parse() {
            return Err(node.fault(Problem::from(ImageError::Shipped(shipped))));
        }
        let section = Section::new(node, format!("[image.{key}]"), &["base", "packages"])?;
        let base = section.get("base").map(|base| base.parse("base")).transpose()?.unwrap_or_default();
        let packages = section.names("packages")?.unwrap_or_default();
        if packages.is_empty() {
            return Err(node.fault(Problem::from(ImageError::NoPackages(name))));
        }
        images.insert(name, ImageRecipe { base, packages });
    }
    Ok(images)
}

/// The image with this name: one of the configuration, or one that ktest makes.
#[must_use]
pub fn recipe(images: &Images, name: &str) -> Option<ImageRecipe> {
    let own = images.iter().find(|(image, _)| image.as_str() == name).map(|(_, recipe)| recipe.clone());
    own.or_else(|| Some(ImageRecipe { base: name.parse().ok()?, packages: Vec::new() }))
}
