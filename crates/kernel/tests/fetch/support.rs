//! A repository of Debian packages in a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use debian::Mirror;

pub const RELEASE: &str = "6.1.0-7-amd64";
pub const SPLIT_RELEASE: &str = "7.2.13+deb14-amd64";
pub const CONFIG: &[u8] = b"CONFIG_EXT4_FS=m\nCONFIG_CC_VERSION_TEXT=\"gcc 12\"\n";

/// A repository without signatures, marked as trusted for the test.
pub struct Repository {
    pub dir: tempfile::TempDir,
    pub index: String,
}

impl Repository {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), index: String::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds a package with these files.
    pub fn add(&mut self, name: &str, version: &str, depends: &str, files: &[(&str, &[u8])]) {
        let tree = self.path("tree");
        let put = |path: &str, content: &[u8]| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: test <test@example.org>\n\
             {depends}Description: a test\n"
        );
        put("DEBIAN/control", control.as_bytes());
        files.iter().for_each(|(path, content)| put(path, content));
        let file = format!("{name}_{version}_amd64.deb");
        let mut make = Command::new("dpkg-deb");
        let made = make.args(["--root-owner-group", "-b"]).arg(&tree).arg(self.path(&file)).output();
        assert!(made.unwrap().status.success());
        std::fs::remove_dir_all(&tree).unwrap();
        let bytes = std::fs::read(self.path(&file)).unwrap();
        let hash = fsx::digest::sha256_hex(&bytes);
        self.index += &format!("{control}Filename: ./{file}\nSize: {}\nSHA256: {hash}\n\n", bytes.len());
        std::fs::write(self.path("Packages"), &self.index).unwrap();
    }

    /// Adds a kernel in one package, as up to Debian 13.
    pub fn add_kernel(&mut self, version: &str, image: &[u8]) {
        let real = format!("linux-image-{RELEASE}");
        let modules = format!("lib/modules/{RELEASE}");
        self.add_paths(
            &real,
            version,
            "",
            &[
                (format!("boot/vmlinuz-{RELEASE}"), image),
                (format!("boot/config-{RELEASE}"), CONFIG),
                (format!("{modules}/modules.order"), b""),
                (format!("{modules}/modules.builtin"), b""),
            ],
        );
        self.add("linux-image-amd64", version, &format!("{real} (= {version})"), &[]);
        self.add_headers(version, RELEASE);
    }

    /// Adds a kernel in several packages, as since kernel 7.0.
    pub fn add_split_kernel(&mut self, version: &str, image: &[u8]) {
        let (release, exactly) = (SPLIT_RELEASE, format!("(= {version})"));
        let modules = format!("usr/lib/modules/{release}");
        let part = |name: &str| format!("linux-{name}-{release}");
        let base = format!("{} {exactly}", part("base"));
        self.add_paths(
            &part("base"),
            version,
            "",
            &[
                (format!("{modules}/config"), CONFIG),
                (format!("{modules}/modules.order"), b""),
                (format!("{modules}/modules.builtin"), b""),
            ],
        );
        self.add_paths(&part("binary"), version, &base, &[(format!("{modules}/vmlinuz"), image)]);
        let builds = [(format!("{modules}/build"), &b"a link in real packages"[..])];
        self.add_paths(&part("modules"), version, &format!("kmod, {base}"), &builds);
        let parts = format!(
            "dracut | initramfs-tools, {base}, {} {exactly}, {} {exactly}",
            part("binary"),
            part("modules")
        );
        self.add(&part("image"), version, &parts, &[]);
        self.add(
            "linux-image-amd64",
            version,
            &format!("linux-base-amd64, {} {exactly}", part("image")),
            &[],
        );
        self.add_headers(version, release);
    }

    pub fn add_headers(&mut self, version: &str, release: &str) {
        let (common, kbuild) = (format!("linux-headers-{release}-common"), format!("linux-kbuild-{release}"));
        let own = format!("usr/src/linux-headers-{release}");
        self.add_paths(
            &common,
            version,
            "",
            &[
                (format!("usr/src/{common}/Makefile"), b"the makefile"),
                (format!("usr/src/{common}/include/a.h"), b"common"),
                (format!("usr/src/{common}/arch/arm64/include/b.h"), b"of another architecture"),
                (format!("usr/src/{common}/arch/x86/Makefile"), b"of this one"),
            ],
        );
        self.add_paths(
            &kbuild,
            version,
            "pahole",
            &[(format!("usr/lib/{kbuild}/scripts/mod/modpost"), b"modpost")],
        );
        self.add_paths(
            &format!("linux-headers-{release}"),
            version,
            &format!("gcc-12, {common} (= {version}), {kbuild}"),
            &[
                (format!("{own}/Makefile"), b"includes the other by its path"),
                (format!("{own}/.config"), CONFIG),
                (format!("{own}/.kernelvariables"), b"CC = gcc-99\n"),
                (format!("{own}/Module.symvers"), b"symbols"),
                (format!("{own}/include/generated/c.h"), b"generated"),
                (format!("{own}/vmlinux"), b"BTF"),
            ],
        );
    }

    pub fn add_paths(&mut self, name: &str, version: &str, depends: &str, files: &[(String, &[u8])]) {
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        self.add(name, version, depends, &files);
    }

    pub fn mirror(&self) -> Mirror {
        let line = format!("deb [trusted=yes] file:{} ./", self.dir.path().display());
        Mirror { lines: vec![line], settings: Vec::new() }
    }
}

pub fn missing() -> bool {
    let there = |program: &str| {
        ["/usr/bin", "/usr/sbin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).is_file())
    };
    let missing = ["apt-get", "dpkg-deb", "depmod"].into_iter().find(|program| !there(program));
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing.is_some()
}

/// The files below a directory, in order.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(dir).unwrap().display().to_string()).collect()
}
