//! `[repo.NAME]`: repositories to test, other than `linux`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{NameError, RepoName};

use crate::commit_url::{self, CommitUrl};
use crate::fault::{Fault, Problem};
use crate::node::{Node, Section, Value};
use crate::paths::Paths;

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its path.
    pub path: PathBuf,
    /// The address of its commits on the web.
    pub commit_url: Option<CommitUrl>,
}

/// An invalid repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoError {
    /// Its name.
    #[error(transparent)]
    Name(NameError),
}

impl crate::fault::SectionError for RepoError {}

/// The repositories by name. A value is a path, or a table with the keys `path` and `commit_url`. The keys `url` and `path_url` belong to
/// the previous system, which clones the repository from there; they have no effect.
pub(crate) fn read(node: &Node, paths: &Paths) -> Result<BTreeMap<RepoName, Repository>, Fault> {
    let mut repos = BTreeMap::new();
    for (key, node) in node.table("repo")? {
        let name = key.parse().map_err(|error| node.fault(Problem::from(RepoError::Name(error))))?;
        let repository = match node.value {
            Value::Str(_) => Repository { path: paths.resolve(key, node)?, commit_url: None },
            _ => {
                let keys = &["path", "commit_url", "url", "path_url"];
                let section = Section::new(node, format!("[repo.{key}]"), keys)?;
                for key in ["url", "path_url"] {
                    section.get(key).map(|node| node.str(key)).transpose()?;
                }
                let path = paths.resolve("path", section.need("path")?)?;
                Repository { path, commit_url: commit_url::read(&section)? }
            }
        };
        repos.insert(name, repository);
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
        Ok(config.repos.into_values().next().map(|repo| repo.path).unwrap_or_default())
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
