//! A distribution kernel from a local mirror: real apt and real packages, no network.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use debian::Mirror;
use kernel::{Arch, Cache, DistroKernel, Progress, Store, fetch};

const RELEASE: &str = "6.1.0-7-amd64";
const SPLIT_RELEASE: &str = "7.2.13+deb14-amd64";
const CONFIG: &[u8] = b"CONFIG_EXT4_FS=m\nCONFIG_CC_VERSION_TEXT=\"gcc 12\"\n";

/// A repository without signatures, marked as trusted for the test.
struct Repository {
    dir: tempfile::TempDir,
    index: String,
}

impl Repository {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), index: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds a package with these files.
    fn add(&mut self, name: &str, version: &str, depends: &str, files: &[(&str, &[u8])]) {
        let tree = self.path("tree");
        let put = |path: &str, content: &[u8]| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\n\
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
    fn add_kernel(&mut self, version: &str, image: &[u8]) {
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
    fn add_split_kernel(&mut self, version: &str, image: &[u8]) {
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

    fn add_headers(&mut self, version: &str, release: &str) {
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

    fn add_paths(&mut self, name: &str, version: &str, depends: &str, files: &[(String, &[u8])]) {
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        self.add(name, version, depends, &files);
    }

    fn mirror(&self) -> Mirror {
        let line = format!("deb [trusted=yes] file:{} ./", self.dir.path().display());
        Mirror { lines: vec![line], settings: Vec::new() }
    }
}

fn missing() -> bool {
    let there = |program: &str| {
        ["/usr/bin", "/usr/sbin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).is_file())
    };
    let missing = ["apt-get", "dpkg-deb", "depmod"].into_iter().find(|program| !there(program));
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing.is_some()
}

#[tokio::test]
async fn a_kernel_is_downloaded_once() {
    if missing() {
        return;
    }
    let mut repository = Repository::new();
    repository.add("busybox-static", "1", "", &[("bin/busybox", b"busy")]);
    repository.add_kernel("1", b"image 1");
    let cache = Cache { dir: repository.path("cache") };
    let wanted = DistroKernel::parse(&"debian/bookworm".parse().unwrap(), Arch::X86_64).unwrap();
    assert_eq!(Store::of(&cache).named(&wanted), None);
    let mut reported = Vec::new();
    let get =
        fetch::fetch(&wanted, &repository.mirror(), &cache, &mut |progress| reported.push(progress)).await;
    let first = get.unwrap();
    assert!(matches!(reported.last(), Some(Progress::Publishing)), "{reported:?}");
    assert_eq!((std::fs::read(&first.image).unwrap(), first.cached), (b"image 1".to_vec(), false));
    assert_eq!(first.release, RELEASE);
    let initrd = std::fs::read(first.initrd.as_ref().unwrap()).unwrap();
    assert!(initrd.starts_with(b"070701") && initrd.windows(4).any(|window| window == b"busy"));
    assert!(first.modules.as_ref().unwrap().join("lib/modules").join(RELEASE).join("modules.dep").is_file());

    // The same kernel again, with both forms of its name.
    let again = fetch::fetch(&wanted, &repository.mirror(), &cache, &mut |_| {}).await.unwrap();
    assert_eq!((&again.id, again.cached), (&first.id, true));
    let full_name = DistroKernel::parse(&"debian/bookworm/amd64".parse().unwrap(), Arch::Aarch64).unwrap();
    assert_eq!(Store::of(&cache).named(&full_name).unwrap().id, first.id);

    // A newer kernel gets the name; the older one stays in the store.
    repository.index.clear();
    repository.add("busybox-static", "1", "", &[("bin/busybox", b"busy")]);
    repository.add_kernel("2", b"image 2");
    let second = fetch::fetch(&wanted, &repository.mirror(), &cache, &mut |_| {}).await.unwrap();
    assert_ne!(second.id, first.id);
    assert!(first.image.is_file());
    assert_eq!(Store::of(&cache).names(), [("debian/bookworm/amd64".parse().unwrap(), second.id)]);
}

/// The files below a directory, in order.
fn files(dir: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(dir).unwrap().display().to_string()).collect()
}

#[tokio::test]
async fn a_kernel_in_several_packages_has_all_parts_and_headers() {
    if missing() {
        return;
    }
    let mut repository = Repository::new();
    repository.add("busybox-static", "1", "", &[("bin/busybox", b"busy")]);
    repository.add_split_kernel("7.2.13-1", b"image 7");
    let cache = Cache { dir: repository.path("cache") };
    let wanted = DistroKernel::parse(&"debian/sid".parse().unwrap(), Arch::X86_64).unwrap();
    let kernel = fetch::fetch(&wanted, &repository.mirror(), &cache, &mut |_| {}).await.unwrap();
    assert_eq!(kernel.release, SPLIT_RELEASE);
    assert_eq!(std::fs::read(&kernel.image).unwrap(), b"image 7");
    assert_eq!(std::fs::read(&kernel.config).unwrap(), CONFIG);
    let modules = kernel.modules.as_ref().unwrap().join("lib/modules").join(SPLIT_RELEASE);
    let names = files(&modules);
    assert!(names.iter().any(|name| name == "modules.dep"), "{names:?}");
    let moved = |name: &&str| names.iter().any(|found| found == name);
    assert!(modules.join("build").is_dir());
    assert_eq!(["vmlinuz", "config", "build"].iter().find(|name| moved(name)), None, "{names:?}");

    let headers = repository.path("headers");
    kernel::headers::unpack(&kernel, &headers).unwrap();
    let wanted = [
        ".config",
        ".kernelvariables",
        "Makefile",
        "Module.symvers",
        "arch/x86/Makefile",
        "include/a.h",
        "include/generated/c.h",
        "scripts/mod/modpost",
        "vmlinux",
    ];
    assert_eq!(files(&headers), wanted);
    assert_eq!(std::fs::read(headers.join("Makefile")).unwrap(), b"the makefile");
}

#[tokio::test]
async fn a_missing_package_is_reported_in_one_line() {
    if missing() {
        return;
    }
    let mut repository = Repository::new();
    repository.add("busybox-static", "1", "", &[("bin/busybox", b"busy")]);
    let cache = Cache { dir: repository.path("cache") };
    let wanted = DistroKernel::parse(&"debian/sid".parse().unwrap(), Arch::X86_64).unwrap();
    let error = |mirror: Mirror| {
        let (cache, wanted) = (cache.clone(), wanted.clone());
        async move { fetch::fetch(&wanted, &mirror, &cache, &mut |_| {}).await.unwrap_err().to_string() }
    };
    // The index was read: the daemon pauses the tests on this kernel.
    let wanted =
        "kernel debian/sid/amd64 is not on the mirror: the mirror has no package linux-image-amd64: ";
    let text = error(repository.mirror()).await;
    assert!(text.starts_with(wanted), "{text}");
    let no_suite = Mirror { lines: vec!["deb file:/nowhere ./".into()], settings: Vec::new() };
    let text = error(no_suite).await;
    assert!(text.starts_with(wanted) && text.lines().count() == 1, "{text}");
    // The index could not be read: the batch is tried again.
    let down = Mirror {
        lines: vec!["deb [trusted=yes] http://127.0.0.1:1 sid main".into()],
        settings: vec!["Acquire::Retries \"0\"".into()],
    };
    let text = error(down).await;
    assert!(text.starts_with("the mirror has no package linux-image-amd64: "), "{text}");
}
