//! Restricts the declarations of test files on a farm. A declaration that accesses a file, a program or a service of
//! the host is refused on a farm, and is carried out and reported in a developer's own run.
//!
//! The rules are allow-lists: everything else is refused.

mod qemu_args;

use std::path::{Path, PathBuf};

use fsx::own;
use kernel::KconfigBase;

use crate::clones::{self, BUILT};
use crate::declare::{Declarations, DeclareError, bad};

/// Who is responsible for the declarations of a test file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// A run for a farm: declarations that access the host are refused.
    Sandboxed,
    /// A developer's own run, which carries out all declarations.
    #[default]
    Own,
}

/// The directories with the files that a test file may use.
#[derive(Debug, Clone, Copy)]
pub struct Roots<'a> {
    /// The tree of the test file.
    pub tree: &'a Path,
    /// The directory of the `require-git` clones.
    pub deps: &'a Path,
}

/// The declarations that a farm refuses, in the order of their variables. Reads the disk to resolve paths; an error is
/// a failure of this host.
pub fn refused(declared: &Declarations, roots: Roots<'_>) -> Result<Vec<DeclareError>, fsx::Error> {
    let qemu = [("ktest_qemu_append", &declared.qemu_append), ("ktest_qemu_prepend", &declared.qemu_prepend)];
    let qemu = qemu.into_iter().filter_map(|(name, args)| {
        let refusal = qemu_args::refused(args)?;
        Some(bad(name, &refusal.argument, format!("a farm refuses it: {}", refusal.why)))
    });
    let images = [("ktest_images", &declared.images), ("ktest_rw_images", &declared.rw_images)];
    let images =
        images.into_iter().flat_map(|(name, files)| files.iter().map(move |file| (name, file.as_path())));
    let base = match &declared.kernel.kconfig_base {
        Some(KconfigBase::File(file)) => Some(("ktest_kconfig_base", file.as_path())),
        Some(KconfigBase::Target(_)) | None => None,
    };
    let images = images.map(|(name, file)| (name, file, OpenedBy::Qemu));
    let base = base.map(|(name, file)| (name, file, OpenedBy::Runner));
    let mut files = Vec::new();
    for (name, file, opened_by) in images.chain(base) {
        if let Err(why) = inside(file, opened_by, roots)? {
            files.push(bad(name, &file.display().to_string(), why));
        }
    }
    let compiler = declared.kernel.compiler.iter().filter(|name| !is_compiler(name)).map(|name| {
        let why =
            "a farm refuses it: use gcc, clang, or one of them with a version or a target, found in PATH";
        bad("ktest_compiler", name, why)
    });
    Ok(compiler.chain(files).chain(qemu).collect())
}

/// Whether the declared QEMU arguments refer to something on the host.
#[must_use]
pub fn reaches_host_through_qemu(declared: &Declarations) -> bool {
    [&declared.qemu_append, &declared.qemu_prepend].into_iter().any(|args| qemu_args::refused(args).is_some())
}

/// The process that opens a declared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenedBy {
    /// QEMU, in its sandbox. A link below the clones, which QEMU sees as a share, leads to no other file of the host.
    Qemu,
    /// This program.
    Runner,
}

/// Replaces the paths of the declared files with their resolved paths.
pub(crate) fn resolve(declared: &mut Declarations, roots: Roots<'_>) {
    let base = match &mut declared.kernel.kconfig_base {
        Some(KconfigBase::File(file)) => Some((file, OpenedBy::Runner)),
        Some(KconfigBase::Target(_)) | None => None,
    };
    let images = declared.images.iter_mut().chain(&mut declared.rw_images);
    for (file, opened_by) in images.map(|file| (file, OpenedBy::Qemu)).chain(base) {
        if let Ok(Ok(real)) = inside(file, opened_by, roots) {
            *file = real;
        }
    }
}

/// The path of a regular file without links, if it is below one of the roots; otherwise the reason why it is refused.
///
/// Sandboxed calls could replace a file below [`BUILT`] with a link between this check and its use. So the path of such
/// a file begins with the directory of the clones as it is shared with the guest, and the runner opens none.
fn inside(file: &Path, opened_by: OpenedBy, roots: Roots<'_>) -> Result<Result<PathBuf, String>, fsx::Error> {
    let Some(real) = own::canonical(file)? else { return Ok(Err("there is no such file".into())) };
    let below = |root: &Path| -> Result<Option<PathBuf>, fsx::Error> {
        let root = if root.is_absolute() { own::canonical(root)? } else { None };
        Ok(root.and_then(|root| real.strip_prefix(root).ok().map(Into::into)))
    };
    let built = roots.deps.join(BUILT);
    let accepted = match below(&built)? {
        Some(name) => (opened_by == OpenedBy::Qemu).then(|| built.join(name)),
        None if below(roots.tree)?.is_some() || below(roots.deps)?.is_some() => Some(real.clone()),
        None => clones::is_linked(roots.deps, &real)?.then(|| real.clone()),
    };
    if let Some(path) = accepted
        && own::is_file(&real)?
    {
        return Ok(Ok(path));
    }
    let (tree, deps) = (roots.tree.display(), roots.deps.display());
    let except = match opened_by {
        OpenedBy::Qemu => String::new(),
        OpenedBy::Runner => format!(", and not below {deps}/{BUILT}"),
    };
    Ok(Err(format!("a farm refuses it: it must be a file below {tree} or {deps}{except}")))
}

/// True for gcc and clang, also with a version (`gcc-13`) or a target (`aarch64-linux-gnu-gcc`).
fn is_compiler(name: &str) -> bool {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let version = |text: &str| {
        text.is_empty()
            || text.strip_prefix('-').is_some_and(|version| {
                !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            })
    };
    if let Some(rest) = name.strip_prefix("clang") {
        return version(rest);
    }
    let Some((target, rest)) = name.split_once("gcc") else { return false };
    let target = target.is_empty()
        || target.strip_suffix("-linux-gnu-").is_some_and(word)
        || target.strip_suffix("-linux-gnueabihf-").is_some_and(word);
    target && version(rest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use model::Arch;

    use super::*;
    use crate::declare::Variables;

    fn declared(name: &str, value: &str, dir: &Path) -> Declarations {
        let variables: Variables =
            [("ktest_mem", "64"), (name, value)].map(|(k, v)| (k.to_string(), vec![v.to_string()])).into();
        Declarations::from_variables(&variables, Arch::X86_64, dir).unwrap()
    }

    #[test]
    fn a_compiler_is_a_name_and_not_a_path() {
        for name in [
            "gcc",
            "gcc-13",
            "gcc-4.9",
            "clang",
            "clang-19",
            "aarch64-linux-gnu-gcc",
            "x86_64-linux-gnu-gcc-12",
        ] {
            assert!(is_compiler(name), "{name}");
        }
        for name in [
            "",
            "/bin/gcc",
            "tests/evil/gcc",
            "evilgcc",
            "gcc;id",
            "gcc-",
            "clang+",
            "-gcc",
            "../gcc",
            "a/b-linux-gnu-gcc",
        ] {
            assert!(!is_compiler(name), "{name}");
        }
    }

    #[test]
    fn files_are_below_the_tree_or_the_clones() {
        let temp = tempfile::tempdir().unwrap();
        let (tree, deps, secret) =
            (temp.path().join("tree"), temp.path().join("deps"), temp.path().join("secret"));
        for dir in [&tree, &deps] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("disk.img"), "x").unwrap();
        }
        std::fs::create_dir(deps.join("built")).unwrap();
        std::fs::write(deps.join("built/disk.img"), "x").unwrap();
        symlink(&secret, deps.join("built/out")).unwrap();
        std::fs::write(&secret, "x").unwrap();
        symlink(&secret, tree.join("out")).unwrap();
        symlink("disk.img", tree.join("in")).unwrap();
        rustix_fifo(&tree.join("fifo"));
        let roots = Roots { tree: &tree, deps: &deps };
        for name in ["ktest_images", "ktest_rw_images", "ktest_kconfig_base"] {
            let check = |file: &Path| refused(&declared(name, file.to_str().unwrap(), &tree), roots).unwrap();
            for file in [tree.join("disk.img"), deps.join("disk.img"), tree.join("in")] {
                assert_eq!(check(&file), [], "{name} {}", file.display());
            }
            for file in [
                secret.clone(),
                tree.join("out"),
                tree.join("../secret"),
                tree.join("fifo"),
                tree.join("none"),
                deps.join("built/out"),
                tree.clone(),
                "/dev/zero".into(),
            ] {
                assert_eq!(check(&file).len(), 1, "{name} {}", file.display());
            }
            // A sandboxed call could replace it with a link. The runner would follow it.
            let built = usize::from(name == "ktest_kconfig_base");
            assert_eq!(check(&deps.join("built/disk.img")).len(), built, "{name}");
        }
        let error =
            refused(&declared("ktest_images", "/dev/zero", &tree), roots).unwrap().remove(0).to_string();
        let place = temp.path().display().to_string();
        assert_eq!(
            error.replace(&place, "DIR"),
            "declares ktest_images=\"/dev/zero\": a farm refuses it: it must be a file below DIR/tree or DIR/deps"
        );
        let mut one = declared("ktest_images", tree.join("in").to_str().unwrap(), &tree);
        resolve(&mut one, roots);
        assert_eq!(one.images, [tree.canonicalize().unwrap().join("disk.img")]);
    }

    fn rustix_fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }
}
