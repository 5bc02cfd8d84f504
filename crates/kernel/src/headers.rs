//! What modules outside the tree are built against, kept beside each kernel that can load modules: one compressed archive, as
//! hardly any test wants it and it is thousands of files.
//!
//! What belongs in it is what the kernel's own packaging (scripts/package) takes: makefiles, headers and scripts of the source, and
//! what was generated for this configuration.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::Arch;
use tar::{Archive, Builder, EntryType, Header};
use walkdir::WalkDir;

use crate::error::BuildError;
use crate::make::Layout;
use crate::store::Kernel;
use crate::toolchain::srcarch;

/// The archive's name in the store.
pub(crate) const ARCHIVE: &str = "headers.tar.zst";
const LEVEL: i32 = 3;
/// The headers of a kernel are 60 MB in 10,000 files; what is far beyond is not theirs.
const BYTES: u64 = 1 << 30;
const FILES: usize = 200_000;

/// Packs the headers of a finished build into a stage.
pub(crate) fn pack(stage: &Path, layout: &Layout, arch: Arch) -> Result<(), BuildError> {
    let path = stage.join(ARCHIVE);
    let write = || -> io::Result<()> {
        let encoder = zstd::stream::write::Encoder::new(File::create(&path)?, LEVEL)?;
        let mut tar = Builder::new(encoder);
        for (name, file) in list(layout, arch) {
            add(&mut tar, &name, &file)?;
        }
        tar.into_inner()?.finish()?;
        Ok(())
    };
    write().map_err(|error| BuildError::io(&path, &error))
}

/// The files by their names in the archive, in order. What was built replaces what the source has of the same name.
fn list(layout: &Layout, arch: Arch) -> std::collections::BTreeMap<PathBuf, PathBuf> {
    let (src, obj) = (&layout.src, &layout.obj);
    let own = format!("arch/{}", srcarch(arch));
    let mut files = std::collections::BTreeMap::new();
    let mut take = |root: &Path, below: &str, wanted: &dyn Fn(&Path) -> bool| {
        for entry in WalkDir::new(root.join(below)).into_iter().filter_map(Result::ok) {
            let path = entry.path();
            let Ok(name) = path.strip_prefix(root) else { continue };
            if entry.file_type().is_file() && wanted(name) {
                files.insert(name.to_path_buf(), path.to_path_buf());
            }
        }
    };
    let any = |_: &Path| true;
    for below in ["Makefile", "include", "scripts"] {
        take(src, below, &any);
    }
    take(src, &own, &|name| {
        let part = |wanted: &str| name.iter().any(|part| part == wanted);
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        part("include") || part("scripts") || (file.starts_with("Makefile") && name.iter().count() == 3)
    });
    // Neither the objects that programs were linked from, nor make's notes on how.
    let lasting = |name: &Path| {
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        !(file.ends_with(".o") || file.ends_with(".cmd") || file.ends_with(".d"))
    };
    for below in ["include", "scripts", &format!("{own}/include"), "Module.symvers", ".config"] {
        take(obj, below, &lasting);
    }
    for below in ["tools/objtool/objtool", "tools/bpf/resolve_btfids/resolve_btfids"] {
        take(obj, below, &lasting);
    }
    // Without modules of its own a kernel has only its own symbols.
    let symbols = obj.join("vmlinux.symvers");
    if symbols.is_file() {
        files.entry("Module.symvers".into()).or_insert(symbols);
    }
    files
}

fn add(tar: &mut Builder<impl io::Write>, name: &Path, file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut opened = File::open(file)?;
    let meta = opened.metadata()?;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(meta.len());
    header.set_mode(if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
    // All of one date: nothing in there is older than what it was made from.
    header.set_mtime(0);
    tar.append_data(&mut header, name, Read::by_ref(&mut opened).take(meta.len()))
}

/// Lays the headers of a kernel out in `dir`, which is made: `make -C DIR M=MODULE` builds against them. The archive may have
/// come from another host: only files and folders below `dir` come of it.
pub fn unpack(kernel: &Kernel, dir: &Path) -> Result<(), BuildError> {
    let Some(archive) = &kernel.headers else {
        let (id, release) = (kernel.id.short(), &kernel.release);
        return Err(BuildError::Source(format!(
            "kernel {id} ({release}): the store has no headers of it; those built here with MODULES=y have them"
        )));
    };
    std::fs::create_dir_all(dir).map_err(|error| BuildError::io(dir, &error))?;
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let read = || -> io::Result<()> {
        let mut tar = Archive::new(zstd::stream::read::Decoder::new(File::open(archive)?)?);
        tar.set_preserve_mtime(true);
        let mut bytes = 0_u64;
        for (at, entry) in tar.entries()?.enumerate() {
            let mut entry = entry?;
            bytes = bytes.saturating_add(entry.size());
            if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Directory) {
                return Err(refuse("holds what is neither file nor folder"));
            }
            if bytes > BYTES || at >= FILES {
                return Err(refuse("holds more than headers"));
            }
            if !entry.unpack_in(dir)? {
                return Err(refuse("holds a path that leads out of it"));
            }
        }
        Ok(())
    };
    read().map_err(|error| BuildError::io(archive, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn kernel(archive: Option<PathBuf>) -> Kernel {
        Kernel {
            id: crate::store::hash_fields(["a"]),
            arch: Arch::X86_64,
            image: "/i".into(),
            image_hash: "0".into(),
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
        }
    }

    #[test]
    fn source_and_what_was_made_lie_in_one_tree() {
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
            write(&obj.join(name), "made");
        }
        let layout = Layout::new(&src, &obj, false);
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
                "Module.symvers made",
                "arch/x86/Makefile.um source",
                "arch/x86/include/c.h source",
                "include/a.h source",
                "include/config/auto.conf made",
                "scripts/b.sh source",
                "scripts/mod/modpost made",
            ]
        );
    }

    #[test]
    fn what_is_no_headers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ARCHIVE);
        let to = dir.path().join("to");
        let link = |header: &mut Header| header.set_entry_type(EntryType::Symlink);
        let away = |header: &mut Header| header.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"../x");
        for bend in [&link as &dyn Fn(&mut Header), &away] {
            let mut header = Header::new_gnu();
            header.set_size(0);
            header.set_path("name").unwrap();
            bend(&mut header);
            header.set_cksum();
            let encoder = zstd::stream::write::Encoder::new(File::create(&path).unwrap(), LEVEL).unwrap();
            let mut tar = Builder::new(encoder);
            tar.append(&header, io::empty()).unwrap();
            tar.into_inner().unwrap().finish().unwrap();
            unpack(&kernel(Some(path.clone())), &to).unwrap_err();
            assert!(!dir.path().join("x").exists());
        }
        std::fs::write(&path, "rubbish").unwrap();
        unpack(&kernel(Some(path)), &to).unwrap_err();
        let error = unpack(&kernel(None), &to).unwrap_err().to_string();
        assert!(error.contains("the store has no headers of it"), "{error}");
    }
}
