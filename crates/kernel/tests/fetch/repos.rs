//! Kernels of repositories in the formats apt, rpm-md and pacman, which the tests make and serve on a loopback port.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::{self, CONFIG, Repository};
use kernel::{Arch, Cache, Kernel, NamedKernel, Store, fetch};
use model::PackageRepo;
use testkit::FileServer;

const FEDORA: &str = "6.14.5-300.fc42.x86_64";
const ARCH: &str = "6.15.1-arch1-1";
const UBUNTU: &str = "6.8.0-45-generic";

type Files<'a> = &'a [(String, &'a [u8])];

/// The content of an rpm: a lead, two empty headers, and a cpio archive.
fn rpm(files: Files<'_>) -> Vec<u8> {
    let mut cpio = Vec::new();
    let end = [("TRAILER!!!".to_owned(), &b""[..])];
    for (name, content) in files.iter().chain(&end) {
        let fields = [1, 0o100_755, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        cpio.extend_from_slice(b"070701");
        fields.iter().for_each(|field| cpio.extend_from_slice(format!("{field:08x}").as_bytes()));
        for part in [format!("{name}\0").as_bytes(), content] {
            cpio.extend_from_slice(part);
            cpio.resize(cpio.len().next_multiple_of(4), 0);
        }
    }
    let mut rpm = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
    rpm.resize(96, 0);
    rpm[79] = 5;
    for _ in 0..2 {
        rpm.extend_from_slice(&[0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    rpm.extend(zstd::encode_all(cpio.as_slice(), 1).unwrap());
    rpm
}

fn tar(files: Files<'_>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap()
}

struct Place {
    dir: tempfile::TempDir,
    server: FileServer,
    debian: Repository,
}

impl Place {
    /// `None` if a program is missing.
    fn new() -> Option<Self> {
        let found = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if support::missing() || !["bsdtar", "bwrap"].into_iter().all(found) {
            eprintln!("SKIPPED: bsdtar or bwrap is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let server = FileServer::new(dir.path());
        let mut debian = Repository::new();
        debian.add("busybox-static", "1", "", &[("bin/busybox", b"busy")]);
        Some(Self { dir, server, debian })
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn cache(&self) -> Cache {
        Cache { dir: self.debian.path("cache") }
    }

    async fn fetch(&self, name: &str, settings: &str) -> Result<Kernel, String> {
        let wanted = named(name, &settings.replace("URL", self.server.url()));
        let mirror = self.debian.mirror();
        let fetched = fetch::fetch(&wanted, &mirror, &self.cache(), &mut |_| {}).await;
        fetched.map_err(|error| error.to_string())
    }

    /// The files of the kernel's headers.
    fn headers(&self, kernel: &Kernel) -> Vec<String> {
        let dir = self.debian.path("headers");
        kernel::headers::unpack(kernel, &dir).unwrap();
        support::files(&dir)
    }

    /// A repository as Fedora's. The modules are in a package of their own.
    fn make_fedora(&self, image: &[u8]) {
        let modules = format!("./lib/modules/{FEDORA}");
        let core = rpm(&[
            (format!("{modules}/vmlinuz"), image),
            (format!("{modules}/config"), CONFIG),
            (format!("{modules}/modules.builtin"), b""),
        ]);
        let parts = rpm(&[(format!("{modules}/modules.order"), b"")]);
        let source = format!("./usr/src/kernels/{FEDORA}");
        let devel = rpm(&[
            (format!("{source}/Makefile"), b"makefile"),
            (format!("{source}/.config"), CONFIG),
            (format!("{source}/scripts/mod/modpost"), b"modpost"),
        ]);
        let mut list = String::from("<metadata>");
        for (name, content) in [("kernel-core", core), ("kernel-modules", parts), ("kernel-devel", devel)] {
            let (file, hash) = (format!("Packages/{name}.rpm"), fsx::digest::sha256_hex(&content));
            list += &format!(
                "<package><name>{name}</name><arch>x86_64</arch><version epoch=\"0\" ver=\"6.14.5\" rel=\"300.fc42\"/>\
                 <checksum type=\"sha256\">{hash}</checksum><size package=\"{}\"/><location href=\"{file}\"/></package>",
                content.len()
            );
            self.put(&format!("42/{file}"), content);
        }
        let list = zstd::encode_all(format!("{list}</metadata>").as_bytes(), 1).unwrap();
        let hash = fsx::digest::sha256_hex(&list);
        self.put("42/repodata/primary.xml.zst", list);
        let index = format!(
            "<repomd><data type=\"primary\"><checksum type=\"sha256\">{hash}</checksum>\
             <location href=\"repodata/primary.xml.zst\"/></data></repomd>"
        );
        self.put("42/repodata/repomd.xml", index);
    }
}

fn named(name: &str, settings: &str) -> NamedKernel {
    let repo: PackageRepo = settings.parse().unwrap();
    NamedKernel::parse(&name.parse().unwrap(), [&repo], Arch::X86_64).unwrap()
}

const RPM_MD: &str = "fedora,format=rpm-md,url=URL/{suite},unsigned=true";

#[tokio::test]
async fn a_kernel_of_an_rpm_repository() {
    let Some(place) = Place::new() else { return };
    place.make_fedora(b"image");
    let kernel = place.fetch("fedora/42", RPM_MD).await.unwrap();
    assert_eq!(kernel.release, FEDORA);
    assert_eq!(std::fs::read(&kernel.image).unwrap(), b"image");
    assert_eq!(std::fs::read(&kernel.config).unwrap(), CONFIG);
    let initrd = std::fs::read(kernel.initrd.as_ref().unwrap()).unwrap();
    assert!(initrd.windows(4).any(|window| window == b"busy"));
    assert!(kernel.modules.as_ref().unwrap().join("lib/modules").join(FEDORA).join("modules.dep").is_file());
    assert_eq!(place.headers(&kernel), [".config", "Makefile", "scripts/mod/modpost"]);

    // The name is that of one repository: with another one, the kernel is not taken from the store.
    let store = Store::of(&place.cache());
    let settings = RPM_MD.replace("URL", place.server.url());
    assert_eq!(store.named(&named("fedora/42", &settings)).unwrap().id, kernel.id);
    assert_eq!(store.named(&named("fedora/42", &settings.replace("42", "41").replace("{suite}", "x"))), None);
    assert_eq!(store.with_name(&"fedora/42/x86_64".parse().unwrap()).unwrap().id, kernel.id);
    assert_eq!(store.names(), [("fedora/42/x86_64".parse().unwrap(), kernel.id)]);
}

#[tokio::test]
async fn a_package_that_is_not_the_one_in_the_index_is_refused() {
    let Some(place) = Place::new() else { return };
    place.make_fedora(b"image");
    let path = place.dir.path().join("42/Packages/kernel-modules.rpm");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = place.fetch("fedora/42", RPM_MD).await.unwrap_err();
    assert!(error.contains("kernel-modules.rpm: its checksum differs from the index"), "{error}");
    bytes.push(0);
    std::fs::write(&path, bytes).unwrap();
    let error = place.fetch("fedora/42", RPM_MD).await.unwrap_err();
    assert!(error.contains("kernel-modules.rpm: larger than"), "{error}");
    place.put("42/repodata/primary.xml.zst", "another");
    let error = place.fetch("fedora/42", RPM_MD).await.unwrap_err();
    assert!(error.contains("primary.xml.zst: its checksum differs"), "{error}");
}

#[tokio::test]
async fn a_missing_kernel_is_named_and_a_server_that_fails_is_not_final() {
    let Some(place) = Place::new() else { return };
    let missing = format!("kernel fedora/42/x86_64 {}: ", model::KERNEL_NOT_FOUND);
    let error = place.fetch("fedora/42", RPM_MD).await.unwrap_err();
    assert!(error.starts_with(&missing) && error.contains("check url and suite"), "{error}");
    place.make_fedora(b"image");
    let error = place.fetch("fedora/42", &format!("{RPM_MD},package=kernel-rt")).await.unwrap_err();
    assert!(error.starts_with(&missing) && error.contains("no package kernel-rt"), "{error}");
    let error = place.fetch("fedora/42", &RPM_MD.replace("URL", "http://127.0.0.1:1")).await.unwrap_err();
    assert!(!error.starts_with("kernel ") && error.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn the_index_is_signed_by_the_key_of_the_operator() {
    let Some(place) = Place::new() else { return };
    place.make_fedora(b"image");
    let home = place.put("gnupg/x", "").parent().unwrap().to_owned();
    let gpg = |args: &[&str]| {
        let mut cmd = Command::new("gpg");
        cmd.args(["--batch", "--yes", "--quiet", "--passphrase", "", "--homedir"]).arg(&home).args(args);
        cmd.current_dir(place.dir.path()).stderr(Stdio::null()).output()
    };
    if !gpg(&["--quick-gen-key", "a@example.org", "ed25519"]).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: gpg does not make a key");
        return;
    }
    gpg(&["--export", "--output", "key.gpg"]).unwrap();
    let signed = format!("fedora,format=rpm-md,url=URL/{{suite}},key={}/key.gpg", place.dir.path().display());
    let error = place.fetch("fedora/42", &signed).await.unwrap_err();
    assert!(error.contains("no repomd.xml.asc"), "{error}");
    gpg(&["--detach-sign", "--armor", "42/repodata/repomd.xml"]).unwrap();
    assert_eq!(place.fetch("fedora/42", &signed).await.unwrap().release, FEDORA);
    let index = place.dir.path().join("42/repodata/repomd.xml");
    std::fs::OpenOptions::new().append(true).open(index).unwrap().write_all(b"\n").unwrap();
    let error = place.fetch("fedora/42", &signed).await.unwrap_err();
    assert!(error.contains("not signed by a key in"), "{error}");
    gpg(&["--export", "--armor", "--output", "key.gpg"]).unwrap();
    let error = place.fetch("fedora/42", &signed).await.unwrap_err();
    assert!(error.contains("gpg --dearmor"), "{error}");
    let _ = Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]).output();
}

#[tokio::test]
async fn a_kernel_of_a_pacman_repository() {
    let Some(place) = Place::new() else { return };
    let modules = format!("usr/lib/modules/{ARCH}");
    let linux = tar(&[
        (format!("{modules}/vmlinuz"), b"image"),
        (format!("{modules}/modules.order"), b""),
        (format!("{modules}/modules.builtin"), b""),
        (format!("{modules}/pkgbase"), b"linux"),
    ]);
    let headers = tar(&[
        (format!("{modules}/build/.config"), CONFIG),
        (format!("{modules}/build/Makefile"), b"makefile"),
        (format!("{modules}/build/include/a.h"), b"header"),
    ]);
    let mut descriptions = Vec::new();
    for (name, content) in [("linux", linux), ("linux-headers", headers)] {
        let file = format!("{name}-6.15.1.arch1-1-x86_64.pkg.tar.zst");
        let desc = format!(
            "%FILENAME%\n{file}\n\n%NAME%\n{name}\n\n%VERSION%\n6.15.1.arch1-1\n\n%CSIZE%\n{}\n\n%ARCH%\nx86_64\n\n\
             %SHA256SUM%\n{}\n",
            content.len(),
            fsx::digest::sha256_hex(&content)
        );
        descriptions.push((format!("{name}-6.15.1.arch1-1/desc"), desc));
        place.put(&format!("os/{file}"), content);
    }
    let entries: Vec<(String, &[u8])> =
        descriptions.iter().map(|(name, text)| (name.clone(), text.as_bytes())).collect();
    place.put("os/core.db", tar(&entries));
    let kernel = place.fetch("arch", "arch,format=pacman,url=URL/os,unsigned=true").await.unwrap();
    assert_eq!((kernel.release.as_str(), std::fs::read(&kernel.image).unwrap()), (ARCH, b"image".to_vec()));
    assert_eq!(std::fs::read(&kernel.config).unwrap(), CONFIG);
    // The guest mounts the headers there; the files are in the archive only.
    let build = kernel.modules.as_ref().unwrap().join("lib/modules").join(ARCH).join("build");
    assert_eq!(std::fs::read_dir(build).unwrap().count(), 0);
    assert_eq!(place.headers(&kernel), [".config", "Makefile", "include/a.h"]);
}

#[tokio::test]
async fn a_kernel_of_an_apt_repository() {
    let Some(place) = Place::new() else { return };
    let mut ubuntu = Repository::new();
    let (image, modules) = (format!("linux-image-{UBUNTU}"), format!("lib/modules/{UBUNTU}"));
    ubuntu.add_paths(
        &image,
        "1",
        &format!("linux-modules-{UBUNTU}"),
        &[(format!("boot/vmlinuz-{UBUNTU}"), b"image")],
    );
    let files = [
        (format!("boot/config-{UBUNTU}"), CONFIG),
        (format!("{modules}/modules.order"), &b""[..]),
        (format!("{modules}/modules.builtin"), b""),
    ];
    ubuntu.add_paths(&format!("linux-modules-{UBUNTU}"), "1", "", &files);
    let extra = [(format!("{modules}/kernel/extra"), &b"not a module"[..])];
    ubuntu.add_paths(&format!("linux-modules-extra-{UBUNTU}"), "1", "", &extra);
    ubuntu.add(
        "linux-image-generic",
        "1",
        &format!("{image}, linux-modules-extra-{UBUNTU}, linux-firmware"),
        &[],
    );
    let common = "usr/src/linux-headers-6.8.0-45";
    let files =
        [(format!("{common}/Makefile"), &b"makefile"[..]), (format!("{common}/include/a.h"), b"common")];
    ubuntu.add_paths("linux-headers-6.8.0-45", "1", "", &files);
    let own = [(format!("usr/src/linux-headers-{UBUNTU}/.config"), CONFIG)];
    ubuntu.add_paths(&format!("linux-headers-{UBUNTU}"), "1", "linux-headers-6.8.0-45, libc6", &own);
    let index = std::fs::read_to_string(ubuntu.path("Packages")).unwrap();
    let index = index.replace("Filename: ./", "Filename: pool/");
    place.put("dists/noble/main/binary-amd64/Packages", index);
    for file in support::files(ubuntu.dir.path()).iter().filter(|file| file.ends_with(".deb")) {
        place.put(&format!("pool/{file}"), std::fs::read(ubuntu.path(file)).unwrap());
    }
    let kernel = place.fetch("ubuntu/noble", "ubuntu,format=apt,url=URL,unsigned=true").await.unwrap();
    assert_eq!((kernel.release.as_str(), std::fs::read(&kernel.image).unwrap()), (UBUNTU, b"image".to_vec()));
    assert!(kernel.modules.as_ref().unwrap().join(&modules).join("kernel/extra").is_file());
    assert_eq!(place.headers(&kernel), [".config", "Makefile", "include/a.h"]);

    // Without `unsigned`, apt refuses an index that no key of this host has signed.
    let error = place.fetch("ubuntu/noble", "ubuntu,format=apt,url=URL").await.unwrap_err();
    assert!(error.contains("linux-image-"), "{error}");
}

/// A hostile package is unpacked in the sandbox, and only its regular files below the tree are written.
#[tokio::test]
async fn a_package_cannot_write_outside_the_tree() {
    let Some(place) = Place::new() else { return };
    place.make_fedora(b"image");
    let evil = rpm(&[("../../../../evil".to_owned(), b"x")]);
    let list = place.dir.path().join("42/repodata/primary.xml.zst");
    let text =
        String::from_utf8(zstd::decode_all(std::fs::read(&list).unwrap().as_slice()).unwrap()).unwrap();
    let old = std::fs::read(place.dir.path().join("42/Packages/kernel-devel.rpm")).unwrap();
    let text = text.replace(&fsx::digest::sha256_hex(&old), &fsx::digest::sha256_hex(&evil));
    let text = text.replace(&format!("\"{}\"", old.len()), &format!("\"{}\"", evil.len()));
    let new = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let index = std::fs::read_to_string(place.dir.path().join("42/repodata/repomd.xml")).unwrap();
    let index = index
        .replace(&fsx::digest::sha256_hex(std::fs::read(&list).unwrap()), &fsx::digest::sha256_hex(&new));
    place.put("42/repodata/primary.xml.zst", new);
    place.put("42/repodata/repomd.xml", index);
    place.put("42/Packages/kernel-devel.rpm", evil);
    let error = place.fetch("fedora/42", RPM_MD).await.unwrap_err();
    assert!(error.contains("leads outside"), "{error}");
    let below = support::files(place.debian.dir.path());
    assert!(!below.iter().any(|file: &String| Path::new(file).ends_with("evil")), "{below:?}");
}
