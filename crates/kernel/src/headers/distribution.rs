//! The headers of a distribution kernel: one tree out of those that its packages install.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fsx::own::{self, OwnEntry};
use fsx::untrusted::{Dir, EntryType};
use model::Arch;

use super::{ARCHIVE, PackedFile, regular_files, write_archive};
use crate::error::{BuildError, CompileError, InfrastructureError};
use crate::toolchain::srcarch;

/// The directories of one kernel's headers. Files of later ones replace those of earlier ones.
struct Places {
    /// Common headers of several configurations.
    common: Vec<PathBuf>,
    /// Build tools.
    tools: Vec<PathBuf>,
    /// The files of this configuration.
    configured: PathBuf,
}

/// Packs the headers into a stage: the common ones, those of the architecture, the build tools, and those of the
/// configuration.
pub(crate) fn pack_distribution(
    stage: &Path,
    root: &Path,
    release: &str,
    arch: Arch,
) -> Result<(), BuildError> {
    let places = places(root, release, arch)?;
    let variables = places.configured.join(".kernelvariables");
    if own::is_file(&variables)? {
        relax_compiler(&variables)?;
    }
    let open = |paths: &[PathBuf]| paths.iter().map(|path| Dir::open(path)).collect::<Result<Vec<_>, _>>();
    let untrusted = InfrastructureError::Untrusted;
    let (common, tools) = (open(&places.common).map_err(untrusted)?, open(&places.tools).map_err(untrusted)?);
    let configured = Dir::open(&places.configured).map_err(untrusted)?;
    let mut files = BTreeMap::new();
    let own = format!("arch/{}", srcarch(arch));
    let mut add = |dir, path: &Path| files.insert(path.to_owned(), PackedFile { dir, path: path.into() });
    for dir in &common {
        for path in tops(dir, true).map_err(untrusted)?.iter().flat_map(|top| files_at(dir, top)) {
            let path = path.map_err(untrusted)?;
            if !path.starts_with("arch") || path.starts_with(&own) {
                add(dir, &path);
            }
        }
    }
    for (dir, top) in tools.iter().flat_map(|dir| [(dir, "scripts"), (dir, "tools")]) {
        for path in regular_files(dir, top).map_err(untrusted)? {
            add(dir, &path);
        }
    }
    // The makefile of a configuration only includes the common one by its path.
    let tops = tops(&configured, common.is_empty()).map_err(untrusted)?;
    for path in tops.iter().flat_map(|top| files_at(&configured, top)) {
        add(&configured, &path.map_err(untrusted)?);
    }
    let archive = stage.join(ARCHIVE);
    write_archive(&archive, &files).map_err(|error| match error {
        CompileError::Other(error) => error,
        CompileError::Failed { reason, .. } => {
            InfrastructureError::io(&archive)(io::Error::other(reason)).into()
        }
    })
}

/// The entries at the top of a tree, with or without its makefile.
fn tops(dir: &Dir, makefile: bool) -> Result<Vec<PathBuf>, fsx::untrusted::UntrustedError> {
    const MAX: u64 = 10_000;
    let names = dir.list("", MAX)?.into_iter().map(|entry| PathBuf::from(entry.name));
    Ok(names.filter(|name| makefile || name != Path::new("Makefile")).collect())
}

fn files_at(dir: &Dir, top: &Path) -> Vec<Result<PathBuf, fsx::untrusted::UntrustedError>> {
    match dir.metadata(top) {
        Ok(Some(meta)) if matches!(meta.entry_type, EntryType::File | EntryType::Directory) => {}
        Ok(_) => return Vec::new(),
        Err(error) => return vec![Err(error)],
    }
    match regular_files(dir, &top.to_string_lossy()) {
        Ok(files) => files.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Finds the headers of a release. Debian and Ubuntu have them in `linux-headers-RELEASE`, Fedora in `kernels`, openSUSE in
/// `linux-VERSION-obj`, Arch next to the modules.
fn places(root: &Path, release: &str, arch: Arch) -> Result<Places, BuildError> {
    let sources = list(&root.join("usr/src"))?;
    let name = |entry: &OwnEntry| entry.name.to_string_lossy().into_owned();
    let own = format!("linux-headers-{release}");
    let objects = sources.iter().filter(|entry| name(entry).ends_with("-obj"));
    let mut found = vec![root.join("usr/src").join(&own), root.join("usr/src/kernels").join(release)];
    for objects in objects {
        let flavors = list(&objects.path.join(arch.as_str()))?;
        found.extend(flavors.into_iter().map(|flavor| flavor.path));
    }
    found.extend(["lib/modules", "usr/lib/modules"].map(|dir| root.join(dir).join(release).join("build")));
    let real = |path: &PathBuf| path.is_dir() && !path.is_symlink();
    let Some(configured) = found.into_iter().find(real) else {
        let missing = "no headers; add the package that has them to the kernel source";
        return Err(InfrastructureError::Package { package: format!("kernel {release}"), missing }.into());
    };
    let is_common = |entry: &&OwnEntry| {
        let name = name(entry);
        name.starts_with("linux-") && name != own && !name.ends_with("-obj") && real(&entry.path)
    };
    let in_sources =
        configured.starts_with(root.join("usr/src")) && !configured.starts_with(root.join("usr/src/kernels"));
    let common = sources.iter().filter(is_common).map(|entry| entry.path.clone());
    let common = if in_sources { common.collect() } else { Vec::new() };
    let tools = list(&root.join("usr/lib"))?.into_iter();
    let tools =
        tools.filter(|entry| name(entry).starts_with("linux-kbuild-")).map(|entry| entry.path).collect();
    Ok(Places { common, tools, configured })
}

/// The entries of a directory; none if it does not exist.
fn list(dir: &Path) -> Result<Vec<OwnEntry>, BuildError> {
    match own::list(dir) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        entries => Ok(entries?),
    }
}

/// Lets make take the default compiler where the one that built the kernel is not installed.
fn relax_compiler(variables: &Path) -> Result<(), BuildError> {
    const LINES: &[u8] = b"ifeq ($(shell command -v $(CC)),)\noverride CROSS_COMPILE =\nCC = gcc\nendif\n";
    let mut text = own::read(variables, 1 << 20)?;
    text.extend_from_slice(LINES);
    Ok(own::write(variables, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A module builds where only another compiler than that of the kernel is installed.
    #[test]
    fn the_compiler_of_the_kernel_is_a_preference() {
        let dir = tempfile::tempdir().unwrap();
        let variables = dir.path().join("variables");
        for (written, wanted) in [("CC = no-such-gcc\n", "gcc"), ("CC = $(X)sh\n", "sh"), ("", "gcc")] {
            std::fs::write(&variables, written).unwrap();
            relax_compiler(&variables).unwrap();
            let makefile = dir.path().join("Makefile");
            let rules = format!("-include {}\nall:\n\t@echo $(CC)\n", variables.display());
            std::fs::write(&makefile, rules).unwrap();
            let mut make = std::process::Command::new("make");
            let output = make.arg("-s").arg("-f").arg(&makefile).env("CC", "none").output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted, "{written}");
        }
    }

    /// A directory of headers that cannot be read is not left out silently.
    #[test]
    fn a_place_that_is_not_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("usr/src/linux-headers-7/include/a.h"), "");
        pack_distribution(dir.path(), dir.path(), "7", Arch::X86_64).unwrap();
        write(&dir.path().join("usr/lib/linux-kbuild-7"), "a file");
        let error = pack_distribution(dir.path(), dir.path(), "7", Arch::X86_64).unwrap_err().to_string();
        assert!(error.contains("linux-kbuild-7"), "{error}");
    }

    #[test]
    fn a_kernel_without_headers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = pack_distribution(dir.path(), dir.path(), "7", Arch::X86_64).unwrap_err().to_string();
        assert!(error.contains("no headers; add the package that has them to the kernel source"), "{error}");
    }
}
