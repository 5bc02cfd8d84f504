//! A distribution kernel from a local mirror: real apt and real packages, no network.

use super::support::{CONFIG, RELEASE, Repository, SPLIT_RELEASE, files, missing};
use debian::Mirror;
use kernel::{Arch, Cache, NamedKernel, Progress, Store, fetch};

fn debian(name: &str, default: Arch) -> NamedKernel {
    NamedKernel::parse(&name.parse().unwrap(), &[], default).unwrap()
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
    let wanted = debian("debian/bookworm", Arch::X86_64);
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
    let full_name = debian("debian/bookworm/amd64", Arch::Aarch64);
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
async fn a_kernel_in_several_packages_has_all_parts_and_headers() {
    if missing() {
        return;
    }
    let mut repository = Repository::new();
    repository.add("busybox-static", "1", "", &[("bin/busybox", b"busy")]);
    repository.add_split_kernel("7.2.13-1", b"image 7");
    let cache = Cache { dir: repository.path("cache") };
    let wanted = debian("debian/sid", Arch::X86_64);
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
    let wanted = debian("debian/sid", Arch::X86_64);
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
