//! Builds of a toy source tree: build trees, store, locks, failures, cancellation. Uses the real make and no real
//! compiler.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::{
    Arch, BuildError, BuildRequest, Cache, Flavor, Kernel, KernelSource, Progress, Requirements, build,
};
use model::CommitId;
use testkit::ScratchRepo;

const MAKEFILE: &str = include_str!("toy/Makefile");
const KCONFIG: &str = include_str!("toy/Kconfig");

struct Toy {
    repo: ScratchRepo,
    dir: tempfile::TempDir,
    requirements: Requirements,
}

impl Toy {
    fn new() -> (Self, CommitId) {
        let repo = ScratchRepo::new();
        let files = [("Makefile", MAKEFILE), ("Kconfig", KCONFIG), ("fs/a.c", "a\n"), ("fs/b.c", "b\n")];
        let first = repo.commit("toy", &files);
        let toy =
            Self { repo, dir: tempfile::tempdir().unwrap(), requirements: Requirements::new(Arch::X86_64) };
        (toy, first)
    }

    fn require(&mut self, options: &[&str]) {
        self.requirements.require = options.iter().map(|text| text.parse().unwrap()).collect();
    }

    fn cache(&self) -> Cache {
        Cache { dir: self.dir.path().join("cache") }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("out/build.log")
    }

    fn request(&self, source: KernelSource) -> BuildRequest {
        BuildRequest {
            source,
            flavor: Flavor::of("toy", &self.requirements),
            jobs: 2,
            sandbox: false,
            tolerate: Vec::new(),
            trust: None,
            verify_every: 0,
            check_predicted: 0,
            out_log: self.log(),
        }
    }

    fn commit(&self, commit: &CommitId) -> BuildRequest {
        self.request(KernelSource::Commit { repo: self.repo.path().into(), commit: commit.clone() })
    }

    async fn build(&self, commit: &CommitId) -> Result<Kernel, BuildError> {
        build(&self.commit(commit), &self.cache(), &mut |_| {}).await
    }

    /// The number of links that make created in all object directories.
    fn links(&self) -> usize {
        let objs = std::fs::read_dir(self.cache().trees().join("0/obj")).into_iter().flatten();
        let runs =
            objs.map(|obj| std::fs::read_to_string(obj.unwrap().path().join("runs")).unwrap_or_default());
        runs.map(|text| text.lines().count()).sum()
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_commit_is_built_once_and_the_next_one_incrementally() {
    let (toy, first) = Toy::new();
    let mut seen = Vec::new();
    let kernel = build(&toy.commit(&first), &toy.cache(), &mut |progress| seen.push(progress)).await.unwrap();
    assert_eq!((read(&kernel.image).as_str(), kernel.objects, kernel.cached), ("a\nb\n", 2, false));
    assert_eq!(kernel.release, "6.1.0-toy");
    assert!(read(&kernel.config).contains("CONFIG_EXT4_FS=y\n"));
    assert_eq!((kernel.id.as_str().len(), kernel.image_hash.len()), (64, 64));
    assert!(kernel.vmlinux.is_some());
    let mut phases: Vec<_> =
        seen.iter().map(|p| format!("{p:?}").split(' ').next().unwrap().to_owned()).collect();
    // A slow compile is reported in between.
    phases.dedup();
    assert_eq!(phases, ["CheckingOut", "Configuring", "Compiling", "Publishing"]);
    assert_eq!(seen[2], Progress::Compiling { done: 0, total: Some(2) });
    assert_eq!(seen[seen.len() - 2], Progress::Compiling { done: 2, total: Some(2) });

    let again = toy.build(&first).await.unwrap();
    assert_eq!((again.id.clone(), again.cached, toy.links()), (kernel.id.clone(), true, 1));

    let second = toy.repo.commit("b", &[("fs/b.c", "B\n")]);
    let other = toy.build(&second).await.unwrap();
    assert_eq!((read(&other.image).as_str(), other.objects), ("a\nB\n", 1));
    assert_ne!((&other.id, &other.image_hash), (&kernel.id, &kernel.image_hash));

    // A commit with the same files gives the same kernel.
    toy.repo.git(["revert", "--no-edit", "HEAD"]);
    let reverted = toy.build(&toy.repo.tip("HEAD")).await.unwrap();
    assert_eq!((reverted.id, reverted.cached), (kernel.id, true));
}

#[tokio::test]
async fn concurrent_requests_build_once() {
    let (toy, _) = Toy::new();
    let slow = toy.repo.commit("slow", &[("slow", "")]);
    let (request, cache) = (toy.commit(&slow), toy.cache());
    let mut waited = Vec::new();
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        build(&toy.commit(&slow), &toy.cache(), &mut |progress| waited.push(progress)).await
    };
    let mut on = |_| {};
    let (one, two) = tokio::join!(build(&request, &cache, &mut on), late);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.cached, two.cached, toy.links()), (false, true, 1));
    assert_eq!(one.id, two.id);
    assert!(
        matches!(waited.as_slice(), [Progress::WaitingForLock { holder }] if holder.contains("builds")),
        "{waited:?}"
    );
}

#[tokio::test]
async fn concurrent_builds_use_the_tree_in_turn() {
    let (toy, first) = Toy::new();
    let second = toy.repo.commit("b", &[("fs/b.c", "B\n"), ("slow", "")]);
    let (one, two) = tokio::join!(toy.build(&second), toy.build(&first));
    assert_eq!((read(one.unwrap().image).as_str(), read(two.unwrap().image).as_str()), ("a\nB\n", "a\nb\n"));
    assert_eq!(toy.links(), 2);
}

#[tokio::test]
async fn a_failed_build_is_a_verdict_and_stored() {
    let (toy, _) = Toy::new();
    let bad = toy.repo.commit("bad", &[("fs/a.c", "broken\n")]);
    for round in 0..2 {
        let Err(BuildError::DoesNotBuild { reason, log }) = toy.build(&bad).await else {
            panic!("it must not build")
        };
        assert_eq!((reason.as_str(), &log), ("fs/a.c:1:5: error: broken", &toy.log()));
        assert!(read(&log).contains("error: broken"), "round {round}");
        std::fs::remove_file(&log).unwrap();
        // The second time nothing runs: a checkout would create the `head` file of the tree.
        std::fs::remove_file(toy.cache().trees().join("0/head")).unwrap_or_default();
        assert!(round == 0 || !toy.cache().trees().join("0/head").exists());
    }
    let fixed = toy.repo.commit("fix", &[("fs/a.c", "fixed\n")]);
    assert_eq!(read(toy.build(&fixed).await.unwrap().image), "fixed\nb\n");
}

#[tokio::test]
async fn a_failure_of_the_host_is_not_a_verdict_and_not_stored() {
    let (toy, _) = Toy::new();
    let full = toy.repo.commit("full", &[("fs/a.c", "full\n")]);
    for _ in 0..2 {
        let error = toy.build(&full).await.unwrap_err();
        assert!(
            matches!(error, BuildError::Infrastructure(_)) && error.to_string().contains("No space left"),
            "{error}"
        );
        assert!(toy.log().exists());
        std::fs::remove_file(toy.log()).unwrap();
    }
}

#[tokio::test]
async fn unmet_requirements_are_explained_or_tolerated() {
    let (mut toy, first) = Toy::new();
    toy.require(&["NEVER", "NOSUCH", "CONFIG_EXT4_FS=y"]);
    let error = toy.build(&first).await.unwrap_err().to_string();
    let unmet = "required options are unmet: NEVER=y is n: unmet dependency: UNLIKELY (Kconfig:3); \
                 to build anyway: --tolerate NEVER";
    assert_eq!(error, unmet);
    let mut request = toy.commit(&first);
    request.tolerate = vec!["CONFIG_NEVER".into()];
    let kernel = build(&request, &toy.cache(), &mut |_| {}).await.unwrap();
    assert_eq!(
        (kernel.tolerated.as_slice(), kernel.unknown_options.as_slice()),
        (&["NEVER=y".into()][..], &["NOSUCH".into()][..])
    );
    // A request that does not tolerate the option does not get the stored kernel.
    assert_eq!(toy.build(&first).await.unwrap_err().to_string(), unmet);
    assert!(build(&request, &toy.cache(), &mut |_| {}).await.unwrap().cached);
}

#[tokio::test]
async fn a_menu_that_is_on_by_default_is_on_for_a_required_option_in_it() {
    let (mut toy, first) = Toy::new();
    assert!(!read(toy.build(&first).await.unwrap().config).contains("CONFIG_MENU=y"));
    toy.require(&["IN_MENU"]);
    let second = toy.repo.commit("second", &[("other", "")]);
    for commit in [first, second] {
        let config = read(toy.build(&commit).await.unwrap().config);
        assert!(config.contains("CONFIG_MENU=y\n") && config.contains("CONFIG_IN_MENU=y\n"), "{config}");
    }
    toy.require(&["IN_MENU", "MENU=n"]);
    let error = toy.build(&toy.repo.commit("third", &[("other", "x")])).await.unwrap_err().to_string();
    assert!(error.contains("IN_MENU=y is n: unmet dependency: MENU (Kconfig:13)"), "{error}");
}

#[tokio::test]
async fn modules_go_into_the_store() {
    let (mut toy, first) = Toy::new();
    toy.require(&["MOD_a=m"]);
    let kernel = toy.build(&first).await.unwrap();
    let headers = toy.dir.path().join("headers");
    kernel::headers::unpack(&kernel, &headers).unwrap();
    assert_eq!(read(headers.join("scripts/module.lds")), "lds\n");
    assert_eq!(read(headers.join("include/config/kernel.release")), "6.1.0-toy\n");
    let modules = kernel.modules.unwrap().join("lib/modules/6.1.0-toy");
    assert_eq!(read(modules.join("kernel/a.ko")), "a\n");
    // The link from modules_install is replaced with an empty directory, at which the guest mounts the headers.
    assert_eq!(std::fs::read_dir(modules.join("build")).unwrap().count(), 0);
    assert_eq!(kernel.objects, 3);
}

#[tokio::test]
async fn a_second_flavor_starts_with_another_flavors_objects() {
    let (mut toy, first) = Toy::new();
    let one = toy.build(&first).await.unwrap();
    toy.require(&["MOD_a=m"]);
    let mut last = None;
    let two = build(&toy.commit(&first), &toy.cache(), &mut |progress| last = Some(progress)).await.unwrap();
    // Both objects are reused; only the module is built, as the dry run predicts after the change of options.
    assert_eq!((one.objects, two.objects, two.cached), (2, 1, false));
    assert!(read(&two.config).contains("CONFIG_MOD_a=m"));
    assert!(!read(&one.config).contains("CONFIG_MOD_a=m"));
    assert_eq!(read(&two.image), read(&one.image));
    assert_eq!(last, Some(Progress::Publishing));
}

#[tokio::test]
async fn a_base_configuration_comes_first() {
    let (mut toy, first) = Toy::new();
    let base = toy.dir.path().join("base.config");
    std::fs::write(&base, "CONFIG_FROM_FILE=y\nCONFIG_EXT4_FS=m\n").unwrap();
    toy.requirements.kconfig_base = Some(kernel::KconfigBase::File(base));
    let config = read(toy.build(&first).await.unwrap().config);
    assert!(config.contains("CONFIG_FROM_FILE=y"), "{config}");
    toy.requirements.kconfig_base = Some(kernel::KconfigBase::Target("toyconfig".into()));
    let config = read(toy.build(&first).await.unwrap().config);
    assert!(config.contains("CONFIG_FROM_TARGET=y") && config.contains("CONFIG_EXT4_FS=y"), "{config}");
    toy.requirements.kconfig_base = Some(kernel::KconfigBase::Target("nosuchconfig".into()));
    assert_eq!(
        toy.build(&first).await.unwrap_err().to_string(),
        "make nosuchconfig: this kernel has no such target"
    );
}

#[tokio::test]
async fn the_build_after_a_cancelled_one_succeeds() {
    let (toy, _) = Toy::new();
    let slow = toy.repo.commit("slow", &[("slow", "")]);
    let cut = tokio::time::timeout(Duration::from_millis(700), toy.build(&slow)).await;
    assert!(cut.is_err() && toy.links() <= 1);
    assert_eq!(read(toy.build(&slow).await.unwrap().image), "a\nb\n");
}

#[tokio::test]
async fn working_trees_are_built_each_time_and_stored_by_result() {
    let (toy, _) = Toy::new();
    let source = toy.repo.path().to_owned();
    let request = toy.request(KernelSource::WorkingTree(source.clone()));
    let one = build(&request, &toy.cache(), &mut |_| {}).await.unwrap();
    let two = build(&request, &toy.cache(), &mut |_| {}).await.unwrap();
    assert_eq!((&one.id, one.cached, two.cached), (&two.id, false, true));
    std::fs::write(source.join("fs/a.c"), "edited\n").unwrap();
    let three = build(&request, &toy.cache(), &mut |_| {}).await.unwrap();
    assert_eq!((read(three.image).as_str(), three.objects), ("edited\nb\n", 1));
    // The older kernel is unchanged.
    assert_eq!(read(one.image), "a\nb\n");
    std::fs::write(source.join("fs/a.c"), "broken\n").unwrap();
    let error = build(&request, &toy.cache(), &mut |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "does not build: fs/a.c:1:5: error: broken");
    std::fs::write(source.join(".config"), "").unwrap();
    let error = build(&request, &toy.cache(), &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("was built in place; run `make mrproper`"), "{error}");
}

#[tokio::test]
async fn a_missing_source_is_reported_in_one_line() {
    let (toy, first) = Toy::new();
    let empty = toy.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = |source| async {
        let error = build(&toy.request(source), &toy.cache(), &mut |_| {}).await.unwrap_err();
        assert!(matches!(error, BuildError::Source(_)), "{error:?}");
        error.to_string().replace(&toy.dir.path().display().to_string(), "DIR")
    };
    assert_eq!(
        error(KernelSource::WorkingTree(empty.clone())).await,
        "DIR/empty: not a kernel source tree; give one with -k"
    );
    let missing: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let text = error(KernelSource::Commit { repo: toy.repo.path().into(), commit: missing }).await;
    assert!(text.contains("no such commit: 0123456789"), "{text}");
    let text = error(KernelSource::Commit { repo: empty, commit: first }).await;
    assert!(text.starts_with("DIR/empty: "), "{text}");
    toy.repo.git(["rm", "-q", "Kconfig"]);
    let bare = toy.repo.commit("no kernel", &[]);
    let text = error(KernelSource::Commit { repo: toy.repo.path().into(), commit: bare.clone() }).await;
    assert_eq!(text, format!("commit {}: not a kernel source tree, it has no Kconfig; see -k", bare.short()));
    let blank = toy.dir.path().join("a b");
    std::fs::create_dir(&blank).unwrap();
    for (name, text) in [("Makefile", MAKEFILE), ("Kconfig", KCONFIG)] {
        std::fs::write(blank.join(name), text).unwrap();
    }
    let text = error(KernelSource::WorkingTree(blank)).await;
    assert!(text.starts_with("DIR/a b: kernels cannot be built at a path with spaces"), "{text}");
}

#[tokio::test]
async fn the_sandbox_gives_the_same_kernel_and_hides_the_host() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let (toy, _) = Toy::new();
    let nosy = toy.repo.commit("nosy", &[("fs/a.c", "nosy\n")]);
    let mut request = toy.commit(&nosy);
    request.sandbox = true;
    let kernel = build(&request, &toy.cache(), &mut |_| {}).await.unwrap();
    assert_eq!(read(&kernel.image), "nosy\nb\n");
    let tree = toy.cache().trees().join("0");
    assert!(!tree.join("src/written").exists());
    assert_eq!(read(tree.join("obj").join(request.flavor.name()).join("fs/a.o.seen")), "");
    let bad = toy.repo.commit("bad", &[("fs/a.c", "broken\n")]);
    let mut request = toy.commit(&bad);
    request.sandbox = true;
    let error = build(&request, &toy.cache(), &mut |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "does not build: fs/a.c:1:5: error: broken");
}

#[tokio::test]
async fn the_image_does_not_depend_on_the_path() {
    let (toy, first) = Toy::new();
    let places: &[bool] = if sandbox::probe().await.is_ok() { &[false, true] } else { &[false] };
    for sandboxed in places {
        let mut images = Vec::new();
        for place in ["one", "two"] {
            let cache = Cache { dir: toy.dir.path().join(place).join(sandboxed.to_string()) };
            let request = BuildRequest { sandbox: *sandboxed, ..toy.commit(&first) };
            let kernel = build(&request, &cache, &mut |_| {}).await.unwrap();
            assert!(!kernel.cached);
            images.push((kernel.id, kernel.image_hash));
        }
        assert_eq!(images[0], images[1], "sandbox: {sandboxed}");
    }
}

#[tokio::test]
async fn an_additional_target_is_built() {
    let (mut toy, first) = Toy::new();
    let plain = toy.build(&first).await.unwrap();
    toy.requirements.kbuild_target = Some("nosuchtarget".into());
    let error = toy.build(&first).await.unwrap_err().to_string();
    assert!(error.contains("No rule to make target") && error.contains("nosuchtarget"), "{error}");
    toy.requirements.kbuild_target = Some("prepare".into());
    assert_ne!(toy.build(&first).await.unwrap().id, plain.id);
}

#[tokio::test]
async fn gdb_scripts_are_next_to_the_symbols() {
    let (mut toy, _) = Toy::new();
    let files = [("scripts/gdb/vmlinux-gdb.py", "main\n"), ("scripts/gdb/linux/cpus.py", "cpus\n")];
    let commit = toy.repo.commit("gdb", &files);
    toy.require(&["GDB_SCRIPTS"]);
    let kernel = toy.build(&commit).await.unwrap();
    let dir = kernel.vmlinux.unwrap().parent().unwrap().to_owned();
    assert_eq!(read(dir.join("vmlinux-gdb.py")), "main\n");
    assert_eq!(read(dir.join("scripts/gdb/linux/cpus.py")), "cpus\n");
    assert_eq!(read(dir.join("scripts/gdb/linux/constants.py")), "LX=1\n");
}
