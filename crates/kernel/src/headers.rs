//! The headers of a kernel, for modules that are built outside its tree. They are stored with each kernel that can load
//! modules, as one compressed archive, because few tests need these thousands of files.
//!
//! The archive contains the same files as the kernel's own packaging (scripts/package): makefiles, headers and scripts
//! of the source, and the files generated for this configuration.

mod distribution;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fsx::own;
use fsx::untrusted::{Dir, EntryType, Problem, Reason, Scratch, UntrustedError};
use model::Arch;
use tar::{Archive, Builder, EntryType as TarType, Header};

use crate::error::{BuildError, CompileError, InfrastructureError, SourceError};
use crate::make::Layout;
use crate::state::OBJECT_LIMITS;
use crate::store::{HEADERS as ARCHIVE, Kernel};
use crate::toolchain::srcarch;

pub(crate) use distribution::pack_distribution;

const LEVEL: i32 = 3;
/// The directory of the store for unpacked headers, by the id of the kernel.
pub(crate) const UNPACKED: &str = ".headers";
/// The limits of an archive: the headers of a kernel are 60 MB in 10,000 files.
const BYTES: u64 = 1 << 30;
const FILES: usize = 200_000;

/// Packs the headers of a finished build into a stage.
pub(crate) fn pack(stage: &Path, layout: &Layout, arch: Arch) -> Result<(), CompileError> {
    let [source, objects] = [Dir::open(&layout.src)?, Dir::open(&layout.obj)?];
    let files = list(&source, &objects, arch)?;
    write_archive(&stage.join(ARCHIVE), &files)
}

/// Writes an archive with these files, by their names in it.
fn write_archive(path: &Path, files: &BTreeMap<PathBuf, PackedFile<'_>>) -> Result<(), CompileError> {
    let archive_error = InfrastructureError::io(path);
    let encoder = zstd::stream::write::Encoder::new(own::create(path)?, LEVEL);
    let mut tar = Builder::new(encoder.map_err(&archive_error)?);
    let mut bytes = 0_u64;
    for (name, PackedFile { dir, path: file }) in files {
        // A file with several links is left out: in a build's output it may be any file of this user.
        let Ok(opened) = dir.open_file(file) else { continue };
        bytes = bytes.saturating_add(opened.metadata().map_or(0, |meta| meta.len()));
        if bytes > BYTES {
            let (dir, reason) = (dir.path().into(), Reason::Refused(Problem::MoreBytesThan(BYTES)));
            return Err(UntrustedError { action: "pack", dir, relative: file.clone(), reason }.into());
        }
        add(&mut tar, name, opened).map_err(&archive_error)?;
    }
    let finished = tar.into_inner().and_then(|encoder| encoder.finish().map(|_| ()));
    Ok(finished.map_err(&archive_error)?)
}

/// A file to pack.
#[derive(Debug)]
struct PackedFile<'a> {
    dir: &'a Dir,
    path: PathBuf,
}

/// The files by their names in the archive, in order. A generated file replaces a source file with the same name.
fn list<'a>(
    source: &'a Dir,
    objects: &'a Dir,
    arch: Arch,
) -> Result<BTreeMap<PathBuf, PackedFile<'a>>, UntrustedError> {
    let own = format!("arch/{}", srcarch(arch));
    let mut files = BTreeMap::new();
    let mut add = |dir: &'a Dir, top: &str, wanted: &dyn Fn(&Path) -> bool| -> Result<(), UntrustedError> {
        for path in regular_files(dir, top)? {
            if wanted(&path) {
                files.insert(path.clone(), PackedFile { dir, path });
            }
        }
        Ok(())
    };
    for top in ["Makefile", "include", "scripts"] {
        add(source, top, &|_| true)?;
    }
    add(source, &own, &|name| {
        let part = |wanted: &str| name.iter().any(|part| part == wanted);
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        part("include") || part("scripts") || (file.starts_with("Makefile") && name.iter().count() == 3)
    })?;
    // Leave out objects and make's dependency files.
    let lasting = |name: &Path| {
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        !(file.ends_with(".o") || file.ends_with(".cmd") || file.ends_with(".d"))
    };
    let arch_include = format!("{own}/include");
    let generated = ["include", "scripts", &arch_include, "Module.symvers", ".config"];
    for top in
        generated.into_iter().chain(["tools/objtool/objtool", "tools/bpf/resolve_btfids/resolve_btfids"])
    {
        add(objects, top, &lasting)?;
    }
    // A kernel without modules exports only its own symbols.
    if !regular_files(objects, "vmlinux.symvers")?.is_empty() {
        let symbols = PackedFile { dir: objects, path: "vmlinux.symvers".into() };
        files.entry("Module.symvers".into()).or_insert(symbols);
    }
    Ok(files)
}

/// The regular files at or below `top`, with their paths relative to `dir`; empty if it does not exist.
fn regular_files(dir: &Dir, top: &str) -> Result<Vec<PathBuf>, UntrustedError> {
    match dir.metadata(top)?.map(|meta| meta.entry_type) {
        Some(EntryType::File) => Ok(vec![top.into()]),
        Some(EntryType::Directory) => {
            let entries = dir.walk(top, OBJECT_LIMITS)?.into_iter();
            let files = entries.filter(|(_, entry_type)| *entry_type == EntryType::File);
            Ok(files.map(|(path, _)| Path::new(top).join(path)).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn add(tar: &mut Builder<impl io::Write>, name: &Path, mut file: std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = file.metadata()?;
    let mut header = Header::new_gnu();
    header.set_entry_type(TarType::Regular);
    header.set_size(meta.len());
    header.set_mode(if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
    // With equal modification times, no file looks older than its sources.
    header.set_mtime(0);
    tar.append_data(&mut header, name, Read::by_ref(&mut file).take(meta.len()))
}

/// Unpacks the headers of a kernel into `dir`, which is created: `make -C DIR M=MODULE` builds against them. The
/// archive may come from another host: only files and directories below `dir` are created.
pub fn unpack(kernel: &Kernel, dir: &Path) -> Result<(), BuildError> {
    let archive = archive_of(kernel)?;
    own::create_dir_all(dir)?;
    let refuse = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let file = own::open(archive)?;
    let read = || -> io::Result<()> {
        let mut tar = Archive::new(zstd::stream::read::Decoder::new(file)?);
        tar.set_preserve_mtime(true);
        let mut bytes = 0_u64;
        for (count, entry) in tar.entries()?.enumerate() {
            let mut entry = entry?;
            bytes = bytes.saturating_add(entry.size());
            if !matches!(entry.header().entry_type(), TarType::Regular | TarType::Directory) {
                return Err(refuse("it contains an entry that is neither a file nor a directory"));
            }
            if bytes > BYTES || count >= FILES {
                return Err(refuse("it contains more than headers"));
            }
            if !entry.unpack_in(dir)? {
                return Err(refuse("it contains a path that leads outside"));
            }
        }
        Ok(())
    };
    read().map_err(|source| InfrastructureError::Io { path: archive.into(), source }.into())
}

fn archive_of(kernel: &Kernel) -> Result<&Path, SourceError> {
    kernel.headers.as_deref().ok_or_else(|| SourceError::NoHeaders {
        id: kernel.id.short().to_string(),
        release: kernel.release.clone(),
    })
}

/// The headers of a kernel, unpacked into the store when they are first needed. All VMs share them read-only.
pub fn shared(kernel: &Kernel) -> Result<PathBuf, BuildError> {
    let store = archive_of(kernel)?.ancestors().nth(2).expect("an archive is in the directory of its kernel");
    let parent = store.join(UNPACKED);
    let dir = parent.join(kernel.id.to_string());
    if !dir.is_dir() {
        own::create_dir_all(&parent)?;
        let stage = Scratch::new_in(&parent, ".stage-").map_err(InfrastructureError::io(&parent))?;
        let unpacked = stage.path().join("headers");
        unpack(kernel, &unpacked)?;
        match own::rename(&unpacked, &dir) {
            // Another process was faster.
            Err(_) if dir.is_dir() => {}
            other => other?,
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ObjectState;
    use crate::tree::ObjectDir;
    use std::fs::File;
    use walkdir::WalkDir;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn kernel(archive: Option<PathBuf>) -> Kernel {
        Kernel {
            id: crate::id::hash_fields(["a"]),
            arch: Arch::X86_64,
            image: "/i".into(),
            image_hash: "0".into(),
            code: None,
            modules: None,
            release: "6.1.0".into(),
            config: "/c".into(),
            initrd: None,
            vmlinux: None,
            headers: archive,
            objects: 0,
            cached: true,
            tolerated: vec![],
            unknown_options: vec![],
            fetched: None,
        }
    }

    #[test]
    fn source_and_generated_files_are_in_one_tree() {
        let dir = tempfile::tempdir().unwrap();
        let (src, obj) = (dir.path().join("src"), dir.path().join("obj"));
        for name in
            ["Makefile", "include/a.h", "scripts/b.sh", "arch/x86/include/c.h", "arch/x86/Makefile.um"]
        {
            write(&src.join(name), "source");
        }
        for name in
            ["arch/x86/kernel/Makefile", "arch/arm64/include/d.h", "fs/e.c", "include/config/auto.conf"]
        {
            write(&src.join(name), "source");
        }
        for name in
            ["include/config/auto.conf", "scripts/mod/modpost", "scripts/mod/modpost.o", "vmlinux.symvers"]
        {
            write(&obj.join(name), "generated");
        }
        let state = ObjectState::new(dir.path().join("state"));
        let layout = Layout::new(&src, &ObjectDir { dir: obj, state }, false);
        pack(dir.path(), &layout, Arch::X86_64).unwrap();
        let once = std::fs::read(dir.path().join(ARCHIVE)).unwrap();
        pack(dir.path(), &layout, Arch::X86_64).unwrap();
        assert!(once == std::fs::read(dir.path().join(ARCHIVE)).unwrap());

        let to = dir.path().join("to");
        unpack(&kernel(Some(dir.path().join(ARCHIVE))), &to).unwrap();
        let files = WalkDir::new(&to).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let files: Vec<_> = files
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                format!("{} {text}", entry.path().strip_prefix(&to).unwrap().display())
            })
            .collect();
        assert_eq!(
            files,
            [
                "Makefile source",
                "Module.symvers generated",
                "arch/x86/Makefile.um source",
                "arch/x86/include/c.h source",
                "include/a.h source",
                "include/config/auto.conf generated",
                "scripts/b.sh source",
                "scripts/mod/modpost generated",
            ]
        );
    }

    #[test]
    fn headers_are_unpacked_once_and_deleted_with_their_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::of(&crate::cache::Cache { dir: dir.path().into() });
        let mut kernel = kernel(None);
        let home = store.path(&kernel.id);
        std::fs::create_dir_all(&home).unwrap();
        kernel.headers = Some(home.join(ARCHIVE));
        let source = dir.path().join("source");
        write(&source.join("include/a.h"), "once");
        let files = BTreeMap::from([("include/a.h".into(), "include/a.h".into())]);
        let source = Dir::open(&source).unwrap();
        let packed =
            files.into_iter().map(|(name, path)| (name, PackedFile { dir: &source, path })).collect();
        write_archive(&home.join(ARCHIVE), &packed).unwrap();
        let first = shared(&kernel).unwrap();
        assert_eq!(std::fs::read_to_string(first.join("include/a.h")).unwrap(), "once");
        std::fs::write(home.join(ARCHIVE), "no archive").unwrap();
        assert_eq!(shared(&kernel).unwrap(), first);
        assert!(store.list().unwrap()[0].bytes >= "no archive".len() as u64 + 4);
        assert!(store.remove(&kernel.id).unwrap());
        assert!(!first.exists());
        shared(&self::kernel(None)).unwrap_err();
    }

    #[test]
    fn other_archives_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ARCHIVE);
        let to = dir.path().join("to");
        let link = |header: &mut Header| header.set_entry_type(TarType::Symlink);
        let outside = |header: &mut Header| header.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"../x");
        for modify in [&link as &dyn Fn(&mut Header), &outside] {
            let mut header = Header::new_gnu();
            header.set_size(0);
            header.set_path("name").unwrap();
            modify(&mut header);
            header.set_cksum();
            let encoder = zstd::stream::write::Encoder::new(File::create(&path).unwrap(), LEVEL).unwrap();
            let mut tar = Builder::new(encoder);
            tar.append(&header, io::empty()).unwrap();
            tar.into_inner().unwrap().finish().unwrap();
            unpack(&kernel(Some(path.clone())), &to).unwrap_err();
            assert!(!dir.path().join("x").exists());
        }
        std::fs::write(&path, "no archive").unwrap();
        unpack(&kernel(Some(path)), &to).unwrap_err();
        let error = unpack(&kernel(None), &to).unwrap_err().to_string();
        assert!(error.contains("the store has no headers of it"), "{error}");
    }
}
