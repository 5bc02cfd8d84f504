//! Unpacks packages of any format. A program in the sandbox turns the package into a tar archive on a pipe; this module
//! writes its regular files below a new directory. Links, devices and paths that lead outside are never created.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fsx::own;
use sandbox::Sandbox;
use spawn::Stream;
use tar::{Archive, EntryType};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;
use tokio::runtime::Handle;

use crate::error::RepoError;

/// The limits of one package. Kernels with their modules are about 1 GB in 10,000 files.
const BYTES: u64 = 4 << 30;
const FILES: usize = 200_000;
/// The time limit of the program after it closed its output.
const GRACE: Duration = Duration::from_secs(10);
/// The file in the sandbox.
const INSIDE: &str = "/tmp/package";
/// The directories with the files of kernels; others are left out.
const WANTED: [&str; 5] = ["boot", "lib/modules", "usr/lib/modules", "usr/src", "usr/lib"];
/// The only directories of `usr/lib` that are needed: the build tools of Debian.
const TOOLS: &str = "linux-kbuild-";
/// The places of a busybox.
const PROGRAMS: [&str; 2] = ["bin/busybox", "usr/bin/busybox"];

/// The format of a package file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageFormat {
    /// `.deb`.
    Deb,
    /// `.rpm` or a pacman package.
    Other,
}

/// Unpacks the regular files of a package into `tree`, without running its scripts.
pub async fn unpack(file: &Path, format: PackageFormat, tree: &Path) -> Result<(), RepoError> {
    let (program, package, args) = match format {
        PackageFormat::Deb => ("dpkg-deb", "dpkg", ["--fsys-tarfile", INSIDE].as_slice()),
        PackageFormat::Other => {
            ("bsdtar", "libarchive-tools", ["-c", "-f", "-", "--format=pax", "@/tmp/package"].as_slice())
        }
    };
    debian::programs::find_program(program).ok_or(RepoError::Missing { program, package })?;
    sandbox::probe().await?;
    let cmd = Sandbox::new()
        .read_only(file, INSIDE)
        .env("PATH", debian::programs::SYSTEM_PATH)
        .env("LC_ALL", "C.UTF-8");
    let cmd = cmd.command(program).args(args).streams(Stream::Null, Stream::Pipe, Stream::Pipe);
    let mut child = cmd.start()?;
    let failed = |cause: String| RepoError::Unpack { file: file.into(), cause };
    let (Some(stdout), Some(mut stderr)) = (child.take_stdout(), child.take_stderr()) else {
        return Err(failed("no pipe".into()));
    };
    let (to, runtime) = (tree.to_owned(), Handle::current());
    let writing = tokio::task::spawn_blocking(move || write_files(BlockingPipe(stdout, runtime), &to));
    let errors = async {
        let mut text = Vec::new();
        let _ = (&mut stderr).take(1 << 16).read_to_end(&mut text).await;
        text
    };
    let (written, errors) = tokio::join!(writing, errors);
    let exit = child.stop(GRACE).await?;
    written.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    if exit.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&errors);
    Err(failed(format!("{program}: {}", errors.lines().last().unwrap_or("failed").trim())))
}

/// Reads a pipe of the runtime in a thread that may block.
struct BlockingPipe(ChildStdout, Handle);

impl Read for BlockingPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.block_on(self.0.read(buffer))
    }
}

fn write_files(mut from: impl Read, tree: &Path) -> io::Result<()> {
    let mut archive = Archive::new(&mut from);
    let mut bytes = 0_u64;
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        bytes = bytes.saturating_add(entry.size());
        if bytes > BYTES || count >= FILES {
            return Err(refused("it has more files or bytes than a kernel"));
        }
        let Some(path) = inside(&entry.path()?)? else { continue };
        if !wanted(&path) {
            continue;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                let mode = if entry.header().mode()? & 0o100 == 0 { 0o644 } else { 0o755 };
                write_file(&mut entry, &tree.join(path), mode)?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.map(|target| inside(&target)).transpose()?.flatten();
                let target = tree.join(target.ok_or_else(|| refused("a hard link without a target"))?);
                if own::is_file(&target)? {
                    let mode = own::metadata(&target)?.permissions().mode() & 0o777;
                    write_file(&mut own::open(&target)?, &tree.join(path), mode)?;
                }
            }
            _ => {}
        }
    }
    // The program must not be killed by a closed pipe before its end.
    io::copy(&mut from.take(BYTES), &mut io::sink())?;
    Ok(())
}

fn write_file(from: &mut impl Read, path: &Path, mode: u32) -> io::Result<()> {
    own::create_dir_all(path.parent().unwrap_or(path))?;
    let mut to = own::create_new(path)?;
    io::copy(from, &mut to)?;
    to.set_permissions(std::fs::Permissions::from_mode(mode))
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The path of an entry below the root; `None` for the root itself.
fn inside(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused("it contains a path that leads outside"));
            }
        }
    }
    Ok(Some(parts).filter(|parts| !parts.as_os_str().is_empty()))
}

fn wanted(path: &Path) -> bool {
    if PROGRAMS.iter().any(|program| path == Path::new(program)) {
        return true;
    }
    match WANTED.iter().find(|dir| path.starts_with(dir)) {
        Some(&"usr/lib") => path.iter().nth(2).is_some_and(|name| name.to_string_lossy().starts_with(TOOLS)),
        found => found.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    type Item<'a> = (&'a str, EntryType, &'a str, &'a [u8]);

    fn archive(items: &[Item<'_>]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (name, kind, target, content) in items {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o4755);
            // The builder refuses the names that a hostile package has.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if !target.is_empty() {
                header.set_link_name_literal(target).unwrap();
            }
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn unpacked(items: &[Item<'_>]) -> (tempfile::TempDir, io::Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let result = write_files(archive(items).as_slice(), &dir.path().join("tree"));
        (dir, result)
    }

    #[test]
    fn only_regular_files_are_written() {
        let (dir, result) = unpacked(&[
            ("./boot/vmlinuz", EntryType::Regular, "", b"image"),
            ("usr/src/a", EntryType::Symlink, "/etc", b""),
            ("usr/src/a/passwd", EntryType::Regular, "", b"below a directory, not a link"),
            ("usr/src/same", EntryType::Link, "boot/vmlinuz", b""),
            ("usr/src/gone", EntryType::Link, "usr/bin/x", b""),
            ("usr/src/fifo", EntryType::Fifo, "", b""),
            ("etc/passwd", EntryType::Regular, "", b"not of a kernel"),
            ("usr/lib/linux-kbuild-7/modpost", EntryType::Regular, "", b"tool"),
            ("usr/lib/x", EntryType::Regular, "", b""),
        ]);
        result.unwrap();
        let tree = dir.path().join("tree");
        let read = |name: &str| std::fs::read(tree.join(name)).unwrap_or_default();
        assert_eq!((read("boot/vmlinuz"), read("usr/src/same")), (b"image".to_vec(), b"image".to_vec()));
        assert!(!tree.join("usr/src/a").is_symlink() && tree.join("usr/src/a/passwd").is_file());
        assert_eq!(
            std::fs::metadata(tree.join("boot/vmlinuz")).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        for name in ["usr/src/gone", "usr/src/fifo", "etc", "usr/lib/x"] {
            assert!(!tree.join(name).exists(), "{name}");
        }
        assert!(tree.join("usr/lib/linux-kbuild-7/modpost").is_file());
    }

    #[test]
    fn paths_that_lead_outside_are_refused() {
        for (name, kind, target) in [
            ("../x", EntryType::Regular, ""),
            ("boot/../../x", EntryType::Regular, ""),
            ("boot/x", EntryType::Link, "../../etc/passwd"),
        ] {
            let (dir, result) = unpacked(&[(name, kind, target, b"")]);
            assert!(result.unwrap_err().to_string().contains("leads outside"), "{name}");
            assert!(!dir.path().join("x").exists());
        }
        // A second file with the same name does not follow what the first one is.
        let twice = ("boot/x", EntryType::Regular, "", &b"1"[..]);
        assert!(unpacked(&[twice, twice]).1.is_err());
    }
}
