//! `[repo.NAME]`: repositories to test, other than `linux`.

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

/// The repositories by name. A value is a path, or a table with the key `path`. The keys `url` and `path_url` belong to
/// the previous system, which clones the repository from there; they have no effect.
pub(crate) fn read(node: &Node, paths: &Paths) -> Result<BTreeMap<RepoName, PathBuf>, Fault> {
    let mut repos = BTreeMap::new();
    for (key, node) in node.table("repo")? {
        let name = key.parse().map_err(|error| node.fault(Problem::from(RepoError::Name(error))))?;
        let path = match node.value {
            Value::Str(_) => paths.resolve(key, node)?,
            _ => {
                let section = Section::new(node, format!("[repo.{key}]"), &["path", "url", "path_url"])?;
                for key in ["url", "path_url"] {
                    section.get(key).map(|node| node.str(key)).transpose()?;
                }
                paths.resolve("path", section.need("path")?)?
            }
        };
        repos.insert(name, path);
    }
    Ok(repos)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use crate::load::load;

    /// Loads a complete main file with these lines prepended.
    fn loaded(dir: &Path, lines: &str) -> Result<PathBuf, String> {
        let path = dir.join("ci.toml");
        let text = format!(
            "linux_repo = \"linux.git\"\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"kim\"\n{lines}"
        );
        std::fs::write(&path, text).unwrap();
        let config = load(&path).map_err(|error| error.to_string())?;
        Ok(config.repos.into_values().next().unwrap_or_default())
    }

    #[test]
    fn the_keys_of_the_previous_system_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let table = "ktest_url = \"https://example.org/ktest.git\"\n[repos.tools]\npath = \"/srv/tools.git\"\n\
                     url = \"https://example.org/tools.git\"\npath_url = \"https://example.org/cgit/tools\"\n";
        assert_eq!(loaded(dir.path(), table).unwrap(), PathBuf::from("/srv/tools.git"));
        assert!(loaded(dir.path(), "[repos.tools]\npath = \"/a\"\nurl = 5\n").is_err());
        assert!(loaded(dir.path(), "ktest_url = 5\n").is_err());
        assert!(loaded(dir.path(), "[repos.tools]\npath = \"/a\"\nurll = \"x\"\n").is_err());
    }
}
