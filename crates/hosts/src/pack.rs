//! Folders as tar archives: the tests on their way to a host, by content; a kernel on its way to another.
//!
//! Packing the same files gives the same bytes anywhere. Unpacking makes plain files, folders and links that stay inside
//! the target, whatever the archive says.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};
use walkdir::WalkDir;

use crate::HostError;

/// The tests of one tree may be so large, in bytes.
const TESTS: u64 = 256 << 20;
/// An archive that is unpacked may be so large, in bytes.
const UNPACKED: u64 = 16 << 30;

/// What of a tree with test files goes to a host.
const PARTS: [&str; 3] = ["tests", "lib", "cross.conf"];

/// The tests of a tree as an archive, and its name: the SHA-256 (hex) of the archive.
pub fn tests(ktest_dir: &Path) -> Result<(String, Vec<u8>), HostError> {
    if !ktest_dir.join("tests").is_dir() {
        return Err(HostError::Here(format!("{}: no folder tests in it", ktest_dir.display())));
    }
    let mut bytes = Vec::new();
    pack(ktest_dir, &PARTS, &mut bytes, TESTS).map_err(|error| HostError::io(ktest_dir, &error))?;
    let name = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((name, bytes))
}

/// Packs parts of a folder (`[""]`: all of it): files, folders and relative links, in order of name, without dates and
/// owners.
pub fn pack(dir: &Path, parts: &[&str], to: impl Write, most: u64) -> io::Result<()> {
    pack_open(dir, parts, to, most, false)
}

fn pack_open(dir: &Path, parts: &[&str], to: impl Write, most: u64, mark: bool) -> io::Result<()> {
    let mut archive = Builder::new(to);
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
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let kind = entry.file_type();
            if kind.is_dir() {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, name, io::empty())?;
            } else if kind.is_symlink() {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                let target = std::fs::read_link(entry.path())?;
                if target.is_relative() {
                    archive.append_link(&mut header, name, target)?;
                }
            } else if kind.is_file() {
                let file = File::open(entry.path())?;
                let meta = file.metadata()?;
                total += meta.len();
                if total > most {
                    return Err(io::Error::other(format!("more than {} MiB", most >> 20)));
                }
                header.set_entry_type(EntryType::Regular);
                let executable = meta.permissions().mode() & 0o111 != 0;
                header.set_mode(if executable { 0o755 } else { 0o644 });
                header.set_size(meta.len());
                // A file that grows or shrinks meanwhile does not spoil the archive.
                let content = file.chain(io::repeat(0)).take(meta.len());
                archive.append_data(&mut header, name, content)?;
            }
        }
    }
    if mark {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        archive.append_data(&mut header, WHOLE, io::empty())?;
    }
    archive.into_inner()?.flush()
}

/// The last entry of an archive that must not be taken for whole when it was cut off.
const WHOLE: &str = ".whole";

/// Packs all of a folder, with a mark at its end.
pub fn pack_whole(dir: &Path, mut to: impl Write, most: u64) -> io::Result<()> {
    pack_open(dir, &[""], &mut to, most, true)
}

/// Unpacks what [`pack_whole`] packed; an archive without its end is an error.
pub fn unpack_whole(from: impl Read, dir: &Path) -> io::Result<()> {
    unpack(from, dir)?;
    std::fs::remove_file(dir.join(WHOLE)).map_err(|_| io::Error::other("the archive was cut off"))
}

fn is_git(name: &[u8]) -> bool {
    name == b".git"
}

/// Unpacks an archive into a folder that is there.
pub fn unpack(from: impl Read, dir: &Path) -> io::Result<()> {
    let mut archive = Archive::new(from.take(UNPACKED));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let bad =
            || io::Error::other(format!("the archive holds {path:?}, which is outside or no plain file"));
        if !inside(&path) {
            return Err(bad());
        }
        let target = dir.join(&path);
        if !stays(dir, &path) {
            return Err(bad());
        }
        match entry.header().entry_type() {
            EntryType::Directory => std::fs::create_dir_all(&target)?,
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
                    std::fs::create_dir_all(parent)?;
                }
                let mut file = File::options().write(true).create_new(true).open(&target)?;
                io::copy(&mut entry, &mut file)?;
                let mode = if entry.header().mode()? & 0o100 == 0 { 0o644 } else { 0o755 };
                file.set_permissions(PermissionsExt::from_mode(mode))?;
            }
            _ => return Err(bad()),
        }
    }
    Ok(())
}

/// Whether a path names something below, and nothing else.
#[must_use]
pub fn inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Whether no folder on the way is a link.
fn stays(dir: &Path, path: &Path) -> bool {
    let mut at = dir.to_path_buf();
    let parents: Vec<Component<'_>> = path.parent().map(|p| p.components().collect()).unwrap_or_default();
    parents.into_iter().all(|part| {
        at.push(part);
        !std::fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_symlink())
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

/// A file's place below a folder, if the path is one that may be written.
#[must_use]
pub fn place(dir: &Path, path: &Path) -> Option<PathBuf> {
    (inside(path) && stays(dir, path)).then(|| dir.join(path))
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
    fn the_same_files_have_the_same_name_and_come_out_again() {
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
    fn hostile_archives_stay_inside() {
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
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let _ = unpack(&bytes[..], dir.path());
        }
    }
}
