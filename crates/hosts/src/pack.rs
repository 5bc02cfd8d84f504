//! Packs directories as tar archives: tests for a host, and kernels for another host.
//!
//! The same files give the same archive on every machine. Archives are untrusted: unpacking creates only regular files,
//! directories, and links that stay inside the target directory.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use fsx::own;
use tar::{Archive, Builder, EntryType, Header};
use walkdir::WalkDir;

use crate::error::{HostError, LocalError};

/// The size limit of a test tree, in bytes.
const MAX_TESTS: u64 = 256 << 20;
/// The size limit of an archive, in bytes.
const MAX_ARCHIVE: u64 = 16 << 30;

/// The parts of a test tree that are sent to a host.
const PARTS: [&str; 3] = ["tests", "lib", "cross.conf"];

/// Packs the tests of a tree. Returns the SHA-256 (hex) of the archive, and the archive.
pub(crate) fn tests(ktest_dir: &Path) -> Result<(String, Vec<u8>), HostError> {
    if !ktest_dir.join("tests").is_dir() {
        return Err(LocalError::NoTests(ktest_dir.into()).into());
    }
    let mut bytes = Vec::new();
    pack(ktest_dir, &PARTS, &mut bytes, MAX_TESTS).map_err(LocalError::io(ktest_dir))?;
    Ok((fsx::digest::sha256_hex(&bytes), bytes))
}

/// Packs parts of a directory (`[""]` for all of it): files, directories and relative links, sorted by name, without
/// dates and owners. More than `max` bytes are an error.
fn pack(dir: &Path, parts: &[&str], to: impl Write, max: u64) -> io::Result<()> {
    let mut archive = Builder::new(to);
    add_parts(&mut archive, dir, parts, max)?;
    archive.into_inner()?.flush()
}

fn add_parts(archive: &mut Builder<impl Write>, dir: &Path, parts: &[&str], max: u64) -> io::Result<()> {
    let mut total = 0;
    for part in parts {
        let root = if part.is_empty() { dir.to_path_buf() } else { dir.join(part) };
        if !root.exists() {
            continue;
        }
        let entries = WalkDir::new(&root).sort_by_file_name().into_iter();
        for entry in
            entries.filter_entry(|entry| entry.depth() == 0 || !is_git(entry.file_name().as_encoded_bytes()))
        {
            let entry = entry?;
            let Ok(name) = entry.path().strip_prefix(dir) else { continue };
            if name.as_os_str().is_empty() {
                continue;
            }
            total += add_entry(archive, &entry, name)?;
            if total > max {
                return Err(io::Error::other(format!("more than {} MiB", max >> 20)));
            }
        }
    }
    Ok(())
}

/// Adds an entry. Returns the size of a file, in bytes.
fn add_entry(archive: &mut Builder<impl Write>, entry: &walkdir::DirEntry, name: &Path) -> io::Result<u64> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let file_type = entry.file_type();
    if file_type.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        archive.append_data(&mut header, name, io::empty())?;
    } else if file_type.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        let target = own::read_link(entry.path())?;
        if target.is_relative() {
            archive.append_link(&mut header, name, target)?;
        }
    } else if file_type.is_file() {
        let file = own::open(entry.path())?;
        let meta = file.metadata()?;
        header.set_entry_type(EntryType::Regular);
        let executable = meta.permissions().mode() & 0o111 != 0;
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_size(meta.len());
        // If the file grows or shrinks during the copy, the archive remains valid.
        let content = file.chain(io::repeat(0)).take(meta.len());
        archive.append_data(&mut header, name, content)?;
        return Ok(meta.len());
    }
    Ok(0)
}

/// The last entry of an archive that must be complete.
const END_MARK: &str = ".whole";

/// Packs a whole directory, followed by an end mark.
pub(crate) fn pack_complete(dir: &Path, to: impl Write, max: u64) -> io::Result<()> {
    let mut archive = Builder::new(to);
    add_parts(&mut archive, dir, &[""], max)?;
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    archive.append_data(&mut header, END_MARK, io::empty())?;
    archive.into_inner()?.flush()
}

/// Unpacks an archive of [`pack_complete`]. An archive without the end mark is an error.
pub(crate) fn unpack_complete(from: impl Read, dir: &Path) -> io::Result<()> {
    unpack(from, dir)?;
    match own::remove_file(&dir.join(END_MARK)) {
        Ok(true) => Ok(()),
        _ => Err(io::Error::other("the archive is incomplete")),
    }
}

fn is_git(name: &[u8]) -> bool {
    name == b".git"
}

/// Unpacks an archive into an existing directory.
pub(crate) fn unpack(from: impl Read, dir: &Path) -> io::Result<()> {
    let mut archive = Archive::new(from.take(MAX_ARCHIVE));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let bad = || io::Error::other(format!("the archive contains {path:?}, which is not allowed"));
        if !inside(&path) {
            return Err(bad());
        }
        let target = dir.join(&path);
        if !below_no_link(dir, &path) {
            return Err(bad());
        }
        match entry.header().entry_type() {
            EntryType::Directory => own::create_dir_all(&target)?,
            EntryType::Symlink => {
                let link = entry.link_name()?.ok_or_else(bad)?.into_owned();
                let leaves = link.is_absolute() || !link_inside(&path, &link);
                if leaves {
                    return Err(bad());
                }
                std::os::unix::fs::symlink(link, &target)?;
            }
            EntryType::Regular => {
                if let Some(parent) = target.parent() {
                    own::create_dir_all(parent)?;
                }
                let mut file = own::create_new(&target)?;
                io::copy(&mut entry, &mut file)?;
                let mode = if entry.header().mode()? & 0o100 == 0 { 0o644 } else { 0o755 };
                file.set_permissions(PermissionsExt::from_mode(mode))?;
            }
            _ => return Err(bad()),
        }
    }
    Ok(())
}

/// Whether a relative path stays inside its directory.
fn inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Whether no parent directory of the path is a link.
fn below_no_link(dir: &Path, path: &Path) -> bool {
    let mut current = dir.to_path_buf();
    let parents: Vec<Component<'_>> = path.parent().map(|p| p.components().collect()).unwrap_or_default();
    parents.into_iter().all(|part| {
        current.push(part);
        !std::fs::symlink_metadata(&current).is_ok_and(|meta| meta.is_symlink())
    })
}

fn link_inside(path: &Path, link: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in link.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::CurDir => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, name: &str, text: &str, mode: u32) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn equal_trees_have_equal_archives_that_unpack_correctly() {
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            put(dir.path(), "tests/fs/a.ktest", "#!/bin/bash\n", 0o755);
            put(dir.path(), "tests/lib.sh", "x", 0o640);
            put(dir.path(), "lib/common.sh", "y", 0o600);
            put(dir.path(), "crates/not-this", "z", 0o644);
            std::os::unix::fs::symlink("a.ktest", dir.path().join("tests/fs/b.ktest")).unwrap();
            dir
        };
        let (one, two) = (make(), make());
        let (name, bytes) = tests(one.path()).unwrap();
        assert_eq!(name, tests(two.path()).unwrap().0);
        put(two.path(), "tests/lib.sh", "changed", 0o640);
        assert_ne!(name, tests(two.path()).unwrap().0);
        let out = tempfile::tempdir().unwrap();
        unpack(&bytes[..], out.path()).unwrap();
        let mode = |name: &str| out.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("tests/fs/a.ktest"), mode("tests/fs/b.ktest"), mode("tests/lib.sh")),
            (0o755, 0o755, 0o644)
        );
        assert!(!out.path().join("crates").exists());
        assert_eq!(tests(out.path()).unwrap().0, name);
        assert!(tests("/nowhere".as_ref()).is_err());
    }

    #[test]
    fn hostile_archives_cannot_write_outside() {
        let entry = |kind: EntryType, name: &[u8], link: &str| {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            if !link.is_empty() {
                header.set_link_name_literal(link).unwrap();
            }
            header.set_cksum();
            header
        };
        for headers in [
            vec![entry(EntryType::Regular, b"../x", "")],
            vec![entry(EntryType::Regular, b"/tmp/x", "")],
            vec![entry(EntryType::Symlink, b"a", "/etc")],
            vec![entry(EntryType::Symlink, b"a", "../..")],
            vec![entry(EntryType::Symlink, b"a", "b"), entry(EntryType::Regular, b"a/x", "")],
            vec![entry(EntryType::Link, b"a", "/etc/passwd")],
            vec![entry(EntryType::Char, b"a", "")],
            vec![entry(EntryType::Regular, b"a", ""), entry(EntryType::Regular, b"a", "")],
        ] {
            let mut archive = Builder::new(Vec::new());
            for header in &headers {
                archive.append(header, io::empty()).unwrap();
            }
            let bytes = archive.into_inner().unwrap();
            let dir = tempfile::tempdir().unwrap();
            assert!(unpack(&bytes[..], dir.path()).is_err(), "{headers:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let _ = unpack(&bytes[..], dir.path());
        }
    }
}
