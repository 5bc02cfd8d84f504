//! `[repo.NAME]`: repositories under test other than `linux`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Fault, What};
use crate::node::{Node, Section, Value};
use crate::paths::Paths;
use crate::top::name;

/// What is wrong with a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoError {
    /// Its name cannot be used.
    #[error(
        "{0:?} is not a repository name; it is letters, digits and . _ + - and does not begin with . or -"
    )]
    Name(String),
}

/// The repositories by name; a value is a path, or a table that holds `path`.
pub(crate) fn read(node: &Node, paths: &Paths) -> Result<BTreeMap<String, PathBuf>, Fault> {
    let mut repos = BTreeMap::new();
    for (key, node) in node.table("repo")? {
        if name("repo", key).is_err() {
            return Err(node.fault(What::from(RepoError::Name(key.clone()))));
        }
        let path = match node.value {
            Value::Str(_) => paths.resolve(key, node)?,
            _ => {
                let section = Section::new(node, format!("[repo.{key}]"), &["path"])?;
                paths.resolve("path", section.need("path")?)?
            }
        };
        repos.insert(key.clone(), path);
    }
    Ok(repos)
}
