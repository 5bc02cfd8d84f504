//! `ci-status artifacts`: lists or copies the artifacts of a test at a commit.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use stdio::terminal;

use config::Hint;
use results::json::ArtifactRow;
use serde::Serialize;

use super::logs::TestAtCommit;
use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::text::{self, Cell, Table};

/// The artifacts of a test.
#[derive(Debug, Serialize)]
pub struct Artifacts {
    commit: String,
    test: String,
    artifacts: Vec<ArtifactRow>,
    /// The directory that they were copied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_to: Option<PathBuf>,
}

/// Lists the artifacts, or only those in `names` if it is not empty, and copies them to `to` if it is given.
pub fn run(
    context: &Context,
    commit: &str,
    test: &str,
    names: &[String],
    to: Option<&Path>,
) -> Result<Artifacts, Problem> {
    let TestAtCommit { commit, key, .. } = TestAtCommit::find(context, commit, test)?;
    let mut artifacts = context.backend.artifacts(&commit, &key)?;
    if let Some(name) = names.iter().find(|name| !artifacts.iter().any(|row| row.name == **name)) {
        let nearest = Hint::new("artifacts", name, artifacts.iter().map(|row| &row.name));
        return Err(Problem::NoArtifact { key, commit, name: name.clone(), nearest });
    }
    artifacts.retain(|row| names.is_empty() || names.contains(&row.name));
    if let Some(to) = to {
        let directory = to.join(key.as_str());
        for row in &artifacts {
            // A remote dashboard may send any name; only names inside the directory are copied.
            let name = Path::new(&row.name);
            if !name.components().all(|part| matches!(part, Component::Normal(_))) {
                continue;
            }
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&directory))?;
            std::fs::write(&path, context.backend.artifact(&commit, &key, &row.name)?)?;
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
            return writeln!(out, "no artifacts");
        }
        let mut table = Table::default();
        for row in &self.artifacts {
            table.row([Cell::right(text::bytes(row.bytes)), Cell::left(&row.name)]);
        }
        write!(out, "{table}")?;
        match &self.copied_to {
            Some(directory) => {
                writeln!(out, "copied to {}", terminal::line(&directory.display().to_string()))
            }
            None => Ok(()),
        }
    }
}
