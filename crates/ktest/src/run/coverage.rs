//! The coverage of a run: merges the data that guests wrote to `OUT/files/gcov.N` into `OUT/out/coverage.info`.
//!
//! gcov combines the data with the notes that the compiler wrote during the build, which are in the kernel store. If
//! coverage cannot be read, this is reported in a note and changes no verdict.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use coverage::Coverage;
use fsx::untrusted::{Dir, Entry, EntryType, Scratch, Special, TreeLimits, UntrustedError};
use kernel::Kernel;
use sandbox::Sandbox;
use spawn::{Cmd, Limits};

use super::results::Results;
use crate::out::Out;

/// The name of the file in `OUT/out`.
const FILE: &str = "coverage.info";
/// The directory of the compiler's notes, next to a kernel of the store.
const NOTES: &str = "gcno";
/// The number of objects per invocation of gcov.
const OBJECTS: usize = 100;
/// The maximum number of entries in the output directory for which it is searched.
const MAX_ENTRIES: u64 = 100_000;
/// The limits of the data of one guest.
const LIMITS: TreeLimits = TreeLimits { entries: 1_000_000, bytes: 4 << 30, depth: 64 };
/// The limits of one invocation of gcov.
const OUTPUT_BYTES: usize = 512 << 20;
const LIMIT_S: u64 = 600;

/// Must be called before the VMs start: removes the coverage of an earlier run and returns the existing data
/// directories.
pub(super) fn begin(out: &Out) -> BTreeSet<PathBuf> {
    let _ = out.handle().remove_tree(Path::new("out").join(FILE));
    data_dirs(&out.files())
}

/// The names of the data directories. The guest writes there, so anything that is not a directory is ignored.
fn data_dirs(files: &Path) -> BTreeSet<PathBuf> {
    let entries = Dir::open(files).and_then(|files| files.list(".", MAX_ENTRIES)).unwrap_or_default();
    let is_data = |entry: &Entry| {
        let number = entry.name.to_str().and_then(|name| name.strip_prefix("gcov."));
        number.is_some_and(|number| number.parse::<u32>().is_ok()) && entry.entry_type == EntryType::Directory
    };
    entries.into_iter().filter(is_data).map(|entry| entry.name.into()).collect()
}

/// Reads the data directories that are not in `before`.
pub(super) async fn gather(kernel: &Kernel, before: &BTreeSet<PathBuf>, results: &mut Results<'_>) {
    let new: Vec<PathBuf> = data_dirs(&results.out.files()).difference(before).cloned().collect();
    if new.is_empty() {
        return;
    }
    match read(kernel, &results.out.files(), &new).await {
        Ok(coverage) => {
            let totals = coverage.totals();
            if let Err(error) = results.out.file(FILE, coverage.to_string().as_bytes()) {
                results.reporter.note(&format!("cannot write the coverage: {error}"));
                return;
            }
            let share = totals.lines_hit.saturating_mul(100).checked_div(totals.lines).unwrap_or(0);
            results.reporter.note(&format!(
                "coverage: {} of {} lines ({share} %) in {} files; {}",
                totals.lines_hit,
                totals.lines,
                coverage.files.len(),
                results.out.dir().join("out").join(FILE).display()
            ));
        }
        Err(reason) => results.reporter.note(&format!("cannot read the coverage: {reason}")),
    }
}

/// Why coverage data cannot be read.
#[derive(Debug, thiserror::Error)]
enum CoverageError {
    #[error("{0}: the kernel has no compiler notes (*.gcno)")]
    NoNotes(PathBuf),
    #[error("{0}: no data for this kernel")]
    OtherKernel(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Data(#[from] UntrustedError),
    #[error("{0}; gcov is part of gcc")]
    Spawn(#[from] spawn::SpawnError),
    #[error("gcov: {0}")]
    Gcov(String),
    #[error(transparent)]
    Document(#[from] coverage::GcovError),
}

async fn read(kernel: &Kernel, files: &Path, names: &[PathBuf]) -> Result<Coverage, CoverageError> {
    let home = kernel.config.parent().unwrap_or(Path::new("/"));
    let notes = [home.join(NOTES), home.to_path_buf()].into_iter().find(|dir| has_notes(dir));
    let notes = notes.ok_or_else(|| CoverageError::NoNotes(home.into()))?;
    let mut all = Coverage::default();
    for name in names {
        all.merge(read_one(files, name, &notes, kernel).await?);
    }
    Ok(all)
}

fn has_notes(dir: &Path) -> bool {
    walkdir::WalkDir::new(dir).into_iter().flatten().any(|entry| is(entry.path(), "gcno"))
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Reads the data of one guest.
async fn read_one(
    files: &Path,
    name: &Path,
    notes: &Path,
    kernel: &Kernel,
) -> Result<Coverage, CoverageError> {
    let temp =
        || Scratch::temporary().map_err(|source| CoverageError::Io { path: std::env::temp_dir(), source });
    let (copy, work) = (temp()?, temp()?);
    Dir::open(files)?.copy_tree(name, &Dir::open(copy.path())?, LIMITS, Special::Skip)?;
    let units = link_units(copy.path(), notes, work.path())?;
    if units.is_empty() {
        return Err(CoverageError::OtherKernel(files.join(name)));
    }
    run_gcov(kernel, &units, work.path(), &[copy.path(), work.path(), notes]).await
}

/// Links each data file that has notes, and its notes, into `work`. Returns the names of the pairs, without extension.
fn link_units(directory: &Path, notes: &Path, work: &Path) -> Result<Vec<PathBuf>, CoverageError> {
    let mut units = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten() {
        if !entry.file_type().is_file() || !is(entry.path(), "gcda") {
            continue;
        }
        // The guest names data after the object's absolute path at compile time; the notes are relative to their root.
        let below = entry.path().strip_prefix(directory).unwrap_or(entry.path());
        let mut rest = below.components();
        let unit = loop {
            let unit = rest.as_path().with_extension("");
            if unit.as_os_str().is_empty() || notes.join(&unit).with_extension("gcno").is_file() {
                break unit;
            }
            rest.next();
        };
        if unit.as_os_str().is_empty() {
            continue;
        }
        let to = work.join(&unit);
        let linked = fsx::own::create_dir_all(to.parent().unwrap_or(work))
            .map_err(Into::into)
            .and_then(|()| std::os::unix::fs::symlink(entry.path(), to.with_extension("gcda")))
            .and_then(|()| {
                std::os::unix::fs::symlink(
                    notes.join(&unit).with_extension("gcno"),
                    to.with_extension("gcno"),
                )
            });
        linked.map_err(|source| CoverageError::Io { path: to, source })?;
        units.push(unit);
    }
    Ok(units)
}

/// gcov in `work`. Its input is untrusted: the guest writes the data, and the branch's Makefile the notes. So gcov runs in
/// the sandbox, in which it can read `visible`. A host without a sandbox builds only its own kernels.
async fn gcov_in(kernel: &Kernel, work: &Path, visible: &[&Path]) -> Cmd {
    let sandbox = visible.iter().fold(Sandbox::new().dir(work), |sandbox, dir| sandbox.read_only(dir, dir));
    match sandbox::probe().await {
        Ok(()) => sandbox.env("LC_ALL", "C").command(gcov(kernel)),
        Err(_) => Cmd::new(gcov(kernel)).dir(work),
    }
}

async fn run_gcov(
    kernel: &Kernel,
    units: &[PathBuf],
    work: &Path,
    visible: &[&Path],
) -> Result<Coverage, CoverageError> {
    let gcov = gcov_in(kernel, work, visible).await;
    let mut coverage = Coverage::default();
    let mut root = None;
    for units in units.chunks(OBJECTS) {
        let data = units.iter().map(|unit| OsString::from(unit.with_extension("gcda")));
        let cmd = gcov.clone().args(["--json-format", "--stdout"]).args(data);
        let output = cmd.output(Limits { bytes: OUTPUT_BYTES, ..Limits::seconds(LIMIT_S) }).await?;
        if !output.exit.success() {
            return Err(CoverageError::Gcov(output.error_line()));
        }
        let text = output.text();
        for document in text.lines().filter(|line| !line.trim().is_empty()) {
            if root.is_none() {
                let unit = coverage::data_file(document).unwrap_or_default().with_extension("");
                root = coverage::source_root(document, &unit);
            }
            let source = |path: &Path| {
                let below = path.strip_prefix(root.as_ref()?).ok()?;
                below.to_str().map(str::to_owned)
            };
            coverage.add_gcov(document, source)?;
        }
    }
    Ok(coverage)
}

/// The gcov of the compiler for this architecture.
fn gcov(kernel: &Kernel) -> String {
    if model::Arch::native() == Some(kernel.arch) {
        return "gcov".into();
    }
    format!("{}-linux-gnu-gcov", kernel.arch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A program compiled in another directory, with its data below the name of that directory, as in a guest.
    #[tokio::test]
    async fn guest_data_is_read_with_the_notes_of_its_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("build");
        let kernel_dir = dir.path().join("kernel");
        for directory in [place.join("fs"), kernel_dir.join("gcno/fs")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(
            place.join("fs/a.c"),
            "int main(int c, char **v)\n{\n\tif (c > 9)\n\t\treturn v[0][0];\n\treturn 0;\n}\n",
        )
        .unwrap();
        let run = |program: &str, args: &[&str]| {
            Command::new(program)
                .args(args)
                .current_dir(&place)
                .status()
                .ok()
                .filter(std::process::ExitStatus::success)
        };
        let source = place.join("fs/a.c").display().to_string();
        if run("gcc", &["--coverage", "-O0", "-c", &source, "-o", "fs/a.o"]).is_none() {
            eprintln!("skipped: gcc is not installed");
            return;
        }
        run("gcc", &["--coverage", "fs/a.o", "-o", "a"]).unwrap();
        run("./a", &[]).unwrap();
        let guest = dir.path().join("out/gcov.0");
        let named = guest.join(place.strip_prefix("/").unwrap()).join("fs");
        std::fs::create_dir_all(&named).unwrap();
        std::fs::copy(place.join("fs/a.gcda"), named.join("a.gcda")).unwrap();
        std::fs::copy(place.join("fs/a.gcno"), kernel_dir.join("gcno/fs/a.gcno")).unwrap();
        let kernel = crate::run::kernel_in(&kernel_dir);
        let found: Vec<_> = data_dirs(&dir.path().join("out")).into_iter().collect();
        assert_eq!(found, [PathBuf::from("gcov.0")]);
        let coverage = read(&kernel, &dir.path().join("out"), &found).await.unwrap();
        assert_eq!(coverage.files.keys().collect::<Vec<_>>(), ["fs/a.c"]);
        assert_eq!(coverage.files["fs/a.c"].missed(), [4..=4]);
        if sandbox::probe().await.is_ok() {
            let line = gcov_in(&kernel, &guest, &[&guest, &kernel_dir]).await.to_string();
            assert!(line.starts_with("bwrap ") && !line.contains(" --bind "), "{line}");
        }
        std::fs::remove_dir_all(kernel_dir.join("gcno")).unwrap();
        let error = read(&kernel, &dir.path().join("out"), &found).await.unwrap_err().to_string();
        assert!(error.ends_with("has no compiler notes (*.gcno)"), "{error}");
    }
}
