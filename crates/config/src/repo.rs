//! `[repo.NAME]`: repositories under test other than `linux`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{NameError, RepoName};

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section, Value};
use crate::paths::Paths;

/// An invalid repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoError {
    /// Its name.
    #[error(transparent)]
    Name(NameError),
}

impl crate::fault::SectionError for RepoError {}

/// The repositories by name. A value is a path, or a table with the key `path`.
pub(crate) fn read(node: &Node, paths: &Paths) -> Result<BTreeMap<RepoName, PathBuf>, Fault> {
    let mut repos = BTreeMap::new();
    for (key, node) in node.table("repo")? {
        let name = key.parse().map_err(|error| node.fault(Problem::from(RepoError::Name(error))))?;
        let path = match node.value {
            Value::Str(_) => paths.resolve(key, node)?,
            _ => {
                let section = Section::new(node, format!("[repo.{key}]"), &["path"])?;
                paths.resolve("path", section.need("path")?)?
            }
        };
        repos.insert(name, path);
    }
    Ok(repos)
}
