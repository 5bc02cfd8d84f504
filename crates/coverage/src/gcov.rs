//! What `gcov --json-format --stdout` prints: a JSON document a line, one for each object (gcov(1)).

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::{Coverage, Function};

/// Why gcov's output cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("gcov printed something else than its JSON: {0}")]
pub struct GcovError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Document {
    files: Vec<File>,
    #[serde(default)]
    current_working_directory: String,
    #[serde(default)]
    data_file: String,
}

#[derive(Deserialize)]
struct File {
    file: String,
    #[serde(default)]
    lines: Vec<Line>,
    #[serde(default)]
    functions: Vec<Called>,
}

#[derive(Deserialize)]
struct Line {
    line_number: u32,
    count: u64,
}

#[derive(Deserialize)]
struct Called {
    name: String,
    start_line: u32,
    execution_count: u64,
}

impl Coverage {
    /// Adds one document. `source` says what a file is called below the root of the source, given its name in full;
    /// `None`: it is none of the source.
    pub fn add_gcov(
        &mut self,
        document: &str,
        source: impl Fn(&Path) -> Option<String>,
    ) -> Result<(), GcovError> {
        let document: Document = serde_json::from_str(document)?;
        let place = Path::new(&document.current_working_directory);
        for file in document.files {
            let Some(name) = source(&plain(&place.join(&file.file))) else { continue };
            let into = self.files.entry(name).or_default();
            for line in file.lines {
                into.ran(line.line_number, line.count);
            }
            for Called { name, start_line, execution_count } in file.functions {
                into.called(name, Function { line: start_line, calls: execution_count });
            }
        }
        Ok(())
    }
}

/// The folder of the source, where a document shows it: the object `fs/ext4/inode` was compiled from
/// `<folder>/fs/ext4/inode.c`.
#[must_use]
pub fn source_root(document: &str, unit: &Path) -> Option<PathBuf> {
    let document: Document = serde_json::from_str(document).ok()?;
    let place = Path::new(&document.current_working_directory);
    let wanted = unit.with_extension("c");
    document.files.iter().find_map(|file| {
        let full = plain(&place.join(&file.file));
        let depth = wanted.components().count();
        full.ends_with(&wanted).then(|| full.ancestors().nth(depth).map(Path::to_path_buf))?
    })
}

/// The data file that a document is about.
#[must_use]
pub fn data_file(document: &str) -> Option<PathBuf> {
    serde_json::from_str::<Document>(document).ok().map(|document| document.data_file.into())
}

/// Without `.` and `x/..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
