//! `ci-status artifacts`: the files that a test left behind at a commit, listed or copied.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use results::json::ArtifactRow;
use serde::Serialize;

use super::logs::Place;
use super::{Answer, to_json};
use crate::problem::{Choices, Problem};
use crate::source::Source;
use crate::text::{self, Cell, Table};

/// A test's files.
#[derive(Debug, Serialize)]
pub struct Artifacts {
    commit: String,
    test: String,
    artifacts: Vec<ArtifactRow>,
    /// Where they were copied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_to: Option<PathBuf>,
}

/// Finds them; those of `names` only, if any are named; copies them to below `to`, if it is given.
pub fn run(
    source: &Source,
    commit: &str,
    test: &str,
    names: &[String],
    to: Option<&Path>,
) -> Result<Artifacts, Problem> {
    let Place { commit, key, .. } = Place::find(source, commit, test)?;
    let mut artifacts = source.results.artifacts(&commit, &key)?;
    if let Some(name) = names.iter().find(|name| !artifacts.iter().any(|row| row.name == **name)) {
        let choices = Choices::new(artifacts.iter().map(|row| &row.name));
        return Err(Problem::NoArtifact { key, commit, name: name.clone(), choices });
    }
    artifacts.retain(|row| names.is_empty() || names.contains(&row.name));
    if let Some(to) = to {
        let folder = to.join(key.as_str());
        for row in &artifacts {
            // The names are another machine's: they stay below the folder.
            let name = Path::new(&row.name);
            if !name.components().all(|part| matches!(part, Component::Normal(_))) {
                continue;
            }
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            std::fs::write(&path, source.results.artifact(&commit, &key, &row.name)?)?;
        }
    }
    let copied_to = to.map(|to| to.join(key.as_str()));
    Ok(Artifacts { commit: commit.to_string(), test: key.to_string(), artifacts, copied_to })
}

impl Answer for Artifacts {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.artifacts.is_empty() {
            return writeln!(out, "no files");
        }
        let mut table = Table::default();
        for row in &self.artifacts {
            table.row([Cell::right(text::bytes(row.bytes)), Cell::left(&row.name)]);
        }
        write!(out, "{table}")?;
        match &self.copied_to {
            Some(folder) => writeln!(out, "copied to {}", text::clean(&folder.display().to_string())),
            None => Ok(()),
        }
    }
}
