//! A distribution kernel from a local mirror: real apt and real packages, no network.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use debian::Mirror;
use kernel::{Arch, Cache, DistroKernel, Progress, Store, fetch};

const RELEASE: &str = "6.1.0-7-amd64";

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

    fn add_kernel(&mut self, version: &str, image: &[u8]) {
        let real = format!("linux-image-{RELEASE}");
        let modules = format!("lib/modules/{RELEASE}");
        let files = [
            (format!("boot/vmlinuz-{RELEASE}"), image),
            (format!("boot/config-{RELEASE}"), &b"CONFIG_EXT4_FS=m\nCONFIG_CC_VERSION_TEXT=\"gcc 12\"\n"[..]),
            (format!("{modules}/modules.order"), b""),
            (format!("{modules}/modules.builtin"), b""),
        ];
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        self.add(&real, version, "", &files);
        self.add("linux-image-amd64", version, &format!("{real} (= {version})"), &[]);
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
    let text = error(repository.mirror()).await;
    assert!(text.starts_with("the mirror has no package linux-image-amd64: "), "{text}");
    let text = error(Mirror { lines: vec!["deb file:/nowhere ./".into()], settings: Vec::new() }).await;
    assert!(
        text.starts_with("the mirror has no package linux-image-amd64: ") && text.lines().count() == 1,
        "{text}"
    );
}
