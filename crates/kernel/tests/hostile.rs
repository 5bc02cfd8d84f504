//! Builds of hostile branches: a recipe in the Makefile attacks files outside its object directory. Nothing outside is
//! changed or read, and the build ends within seconds with a kernel or a clear reason.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed set-up fails the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::{
    Arch, BuildError, BuildRequest, Cache, Flavor, KconfigBase, Kernel, KernelSource, Requirements, build,
};
use model::CommitId;
use testkit::ScratchRepo;

const MAKEFILE: &str = include_str!("toy/Makefile");
const KCONFIG: &str = include_str!("toy/Kconfig");

/// The time limit of a hostile build.
const LIMIT: Duration = Duration::from_secs(20);

/// Files of the account that runs the build: none of them may be changed or read.
const FILES: [&str; 5] = ["precious", ".ssh/authorized_keys", ".ssh/id_ed25519", ".profile", ".bashrc"];

struct Scene {
    repo: ScratchRepo,
    dir: tempfile::TempDir,
    requirements: Requirements,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            repo: ScratchRepo::new(),
            dir: tempfile::tempdir().unwrap(),
            requirements: Requirements::new(Arch::X86_64),
        };
        for name in FILES {
            let path = scene.home().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, secret(name)).unwrap();
        }
        scene
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A commit whose Makefile has this additional recipe line for `target`. `@HOME@` is replaced with the home
    /// directory.
    fn commit(&self, target: &str, line: &str) -> CommitId {
        let line = line.replace("@HOME@", self.home().to_str().unwrap());
        let rule = MAKEFILE.lines().find(|rule| rule.starts_with(&format!("{target}:"))).unwrap();
        let rest = &MAKEFILE[MAKEFILE.find(rule).unwrap() + rule.len()..];
        let recipe: usize =
            rest[1..].lines().take_while(|line| line.starts_with('\t')).map(|line| line.len() + 1).sum();
        let end = MAKEFILE.len() - rest.len() + 1 + recipe;
        let makefile = format!("{}\t@{line}\n{}", &MAKEFILE[..end], &MAKEFILE[end..]);
        let files =
            [("Makefile", makefile.as_str()), ("Kconfig", KCONFIG), ("fs/a.c", "a\n"), ("fs/b.c", "b\n")];
        self.repo.commit(line.as_str(), &files)
    }

    /// Builds in the sandbox and without it, each with its own cache, and expects the same kind of result. The attacks
    /// target the runner, which processes the results outside the sandbox.
    async fn build(&self, commit: &CommitId) -> Result<Kernel, BuildError> {
        let open = self.build_in(commit, false).await;
        if sandbox::probe().await.is_ok() {
            let confined = self.build_in(commit, true).await;
            assert_eq!(open.is_ok(), confined.is_ok(), "{open:?} {confined:?}");
        }
        open
    }

    async fn build_in(&self, commit: &CommitId, sandbox: bool) -> Result<Kernel, BuildError> {
        let request = BuildRequest {
            source: KernelSource::Commit { repo: self.repo.path().into(), commit: commit.clone() },
            flavor: Flavor::of("toy", &self.requirements),
            jobs: 2,
            sandbox,
            tolerate: Vec::new(),
            trust: None,
            verify_every: 0,
            check_predicted: 0,
            out_log: self.dir.path().join("out/build.log"),
        };
        let cache = Cache { dir: self.dir.path().join("cache").join(sandbox.to_string()) };
        let built = tokio::time::timeout(LIMIT, build(&request, &cache, &mut |_| {})).await;
        let built = built.expect("the build does not end");
        self.assert_untouched();
        built
    }

    /// Builds twice, because an attack may affect the next build of the tree, and expects the same result.
    async fn build_twice(&self, commit: &CommitId) -> Result<Kernel, BuildError> {
        let first = self.build(commit).await;
        let next = self.repo.commit("next", &[("fs/b.c", "B\n")]);
        let second = self.build(&next).await;
        assert_eq!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
        first
    }

    /// Asserts that no file of the kernel stores contains the content of an outside file.
    fn assert_not_copied(&self) {
        for sandboxed in ["false", "true"] {
            let store = self.dir.path().join("cache").join(sandboxed).join("kernels");
            if store.is_dir() {
                assert_not_copied(&store);
            }
        }
    }

    fn assert_untouched(&self) {
        for name in FILES {
            let text = std::fs::read_to_string(self.home().join(name)).unwrap();
            assert_eq!(text, secret(name), "{name} was changed");
        }
        assert!(!self.home().join("other").exists());
    }
}

fn secret(name: &str) -> String {
    format!("the content of {name}\n")
}

/// Asserts that no file below `dir` contains the content of an outside file.
fn assert_not_copied(dir: &Path) {
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let file_type = entry.file_type().unwrap();
            assert!(
                file_type.is_dir() || file_type.is_file(),
                "{:?} is neither a file nor a directory",
                entry.path()
            );
            if file_type.is_dir() {
                directories.push(entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!FILES.iter().any(|name| text.contains(secret(name).trim())), "{:?}", entry.path());
            }
        }
    }
}

fn reason(built: Result<Kernel, BuildError>) -> String {
    match built {
        Err(BuildError::DoesNotBuild { reason, .. }) => reason,
        other => panic!("not a verdict about the source: {other:?}"),
    }
}

#[tokio::test]
async fn b1_a_link_named_like_old_state() {
    let scene = Scene::new();
    let commit = scene.commit("vmlinux", "ln -sfn @HOME@/precious $O/.ktest-complete");
    scene.build_twice(&commit).await.unwrap();
}

#[tokio::test]
async fn b2_a_link_instead_of_the_input_of_kconfig() {
    let mut scene = Scene::new();
    scene.requirements.kconfig_base = Some(KconfigBase::Target("toyconfig".into()));
    let attack = "printf 'ssh-ed25519 AAAA attacker\\n' >$O/.ktest-base; rm -f $O/.ktest-wanted; \
                  ln -sfn @HOME@/.ssh/authorized_keys $O/.ktest-wanted; \
                  ln -sfn @HOME@/.ssh/authorized_keys $O/.ktest-configured";
    let commit = scene.commit("prepare", attack);
    let kernel = scene.build_twice(&commit).await.unwrap();
    assert!(!std::fs::read_to_string(kernel.config).unwrap().contains("attacker"));
}

#[tokio::test]
async fn b2_a_link_instead_of_the_base_configuration() {
    let mut scene = Scene::new();
    scene.requirements.kconfig_base = Some(KconfigBase::Target("toyconfig".into()));
    let attack = "rm -f $(KCONFIG_CONFIG); ln -sfn @HOME@/.ssh/id_ed25519 $(KCONFIG_CONFIG)";
    let commit = scene.commit("toyconfig", attack);
    assert_eq!(
        reason(scene.build_twice(&commit).await),
        "the build left \".ktest-base\": it is a symbolic link"
    );
}

#[tokio::test]
async fn b3_a_link_instead_of_the_list_of_builtin_modules() {
    let scene = Scene::new();
    let commit = scene.commit("vmlinux", "ln -sfn @HOME@/.ssh/id_ed25519 $O/modules.builtin");
    assert_eq!(
        reason(scene.build_twice(&commit).await),
        "the build left \"modules.builtin\": it is a symbolic link"
    );
    scene.assert_not_copied();
}

#[tokio::test]
async fn b4_a_link_instead_of_the_image_and_the_release() {
    for name in ["vmlinux", "include/config/kernel.release"] {
        let scene = Scene::new();
        let attack = format!("rm -f $O/{name}; ln -sfn @HOME@/.ssh/id_ed25519 $O/{name}");
        let commit = scene.commit("vmlinux", &attack);
        assert_eq!(
            reason(scene.build(&commit).await),
            format!("the build left {name:?}: it is a symbolic link")
        );
        scene.assert_not_copied();
    }
}

#[tokio::test]
async fn b5_a_fifo_instead_of_the_configuration() {
    let scene = Scene::new();
    let commit = scene.commit("vmlinux", "rm -f $O/.config; mkfifo $O/.config");
    // This build read the configuration before the attack; the next one replaces it or refuses it.
    let first = scene.build(&commit).await;
    assert!(first.is_ok(), "{first:?}");
    let next = scene.repo.commit("next", &[("fs/b.c", "B\n")]);
    let second = scene.build(&next).await;
    assert!(second.is_ok() || reason(second).contains("it is a FIFO"));
}

#[tokio::test]
async fn b6_an_endless_device_instead_of_the_configuration() {
    let scene = Scene::new();
    let commit = scene.commit("vmlinux", "rm -f $O/.config; ln -s /dev/zero $O/.config");
    let first = scene.build(&commit).await;
    assert!(first.is_ok(), "{first:?}");
    let next = scene.repo.commit("next", &[("fs/b.c", "B\n")]);
    let second = scene.build(&next).await;
    assert!(second.is_ok() || reason(second).contains("it is a symbolic link"));
}

#[tokio::test]
async fn b7_links_in_the_module_directory() {
    let mut scene = Scene::new();
    scene.requirements.require = vec!["MOD_a=m".parse().unwrap()];
    let attack = "ln -sfn @HOME@/.profile $(INSTALL_MOD_PATH)/meta.json; \
                  ln -sfn @HOME@/other $(INSTALL_MOD_PATH)/headers.tar.zst; \
                  ln -sfn @HOME@/.ssh/id_ed25519 $(INSTALL_MOD_PATH)/lib/modules/6.1.0-toy/kernel/key.ko";
    let commit = scene.commit("modules_install", attack);
    let kernel = scene.build_twice(&commit).await.unwrap();
    let modules = kernel.modules.unwrap().join("lib/modules/6.1.0-toy/kernel");
    assert!(modules.join("a.ko").is_file() && !modules.join("key.ko").exists());
    scene.assert_not_copied();
}

/// What one build leaves does not stop the next one: objects without permissions, or more of them than are repaired.
#[tokio::test]
async fn unusable_objects_are_removed() {
    let attacks = [
        "mkdir -p $O/a/b; touch $O/a/b/c; chmod 0 $O/a/b $O/a",
        "rm -f $O/.config; touch $O/.config; chmod 0 $O/.config",
        "chmod 0 $O/include/config/auto.conf; chmod 0 $O/include/config",
        "chmod 0500 $O",
        "chmod 0 $O",
        "cd $O; for i in `seq 300`; do mkdir d; cd d; done",
    ];
    for attack in attacks {
        let scene = Scene::new();
        let commit = scene.commit("vmlinux", attack);
        // It may fail in the sandbox only: root needs no permissions.
        let mut first = vec![scene.build_in(&commit, false).await];
        if sandbox::probe().await.is_ok() {
            first.push(scene.build_in(&commit, true).await);
        }
        // The next build repairs the objects as after an interrupted build.
        for state in walkdir(scene.dir.path()).iter().filter(|path| path.ends_with("state/toy")) {
            std::fs::write(state.join("running"), "").unwrap();
        }
        scene.commit("vmlinux", "true");
        let next = scene.repo.commit("next", &[("fs/b.c", "B\n")]);
        let second = scene.build(&next).await;
        assert!(second.is_ok(), "{attack}: {first:?}, then {second:?}");
        fsx::own::remove_tree(&scene.dir.path().join("cache")).unwrap();
    }
}

/// All directories below `dir` that can be listed.
fn walkdir(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(dir) = found.get(at).cloned() {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| path.is_dir() && !path.is_symlink()));
        at += 1;
    }
    found
}

#[tokio::test]
async fn b10_endless_kconfig_files() {
    let itself = "config NEVER\n\tbool\n\tdepends on NOSUCH\nsource \"Kconfig\"\nsource \"Kconfig\"\n";
    let nested = format!("{}config NEVER\n\tbool\n", "if A\n".repeat(100_000));
    let wide = format!("config NEVER\n\tbool\n{}", "\tdepends on A\n".repeat(200_000));
    let chain = format!("config NEVER\n\tbool\n\tdepends on A{}\n", " && A".repeat(500_000));
    let inherited = format!("{}{}", "if A\n".repeat(40), "config NEVER\n\tbool\n".repeat(200_000));
    for kconfig in [itself.to_owned(), nested, wide, chain, inherited] {
        let mut scene = Scene::new();
        scene.requirements.require = vec!["NEVER=y".parse().unwrap()];
        scene.commit("vmlinux", "true");
        let commit = scene.repo.commit("Kconfig", &[("Kconfig", kconfig.as_str())]);
        let error = scene.build_in(&commit, false).await.unwrap_err();
        assert!(matches!(error, BuildError::Requirements { .. }), "{error}");
        assert!(error.to_string().len() < 3000, "{error}");
    }
}

#[tokio::test]
async fn b10_a_kconfig_file_that_sources_a_device() {
    let mut scene = Scene::new();
    scene.requirements.require = vec!["NEVER=y".parse().unwrap()];
    scene.commit("vmlinux", "true");
    std::os::unix::fs::symlink("/dev/zero", scene.repo.path().join("zero")).unwrap();
    let kconfig =
        "source \"/dev/zero\"\nsource \"zero\"\nsource \"../../../dev/zero\"\nconfig NEVER\n\tbool\n";
    let commit = scene.repo.commit("Kconfig", &[("Kconfig", kconfig)]);
    let error = scene.build_in(&commit, false).await.unwrap_err();
    assert!(matches!(error, BuildError::Requirements { .. }), "{error}");
}

#[tokio::test]
async fn b11_mounts_cannot_be_changed() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("skipped: b11_mounts_cannot_be_changed: {error}");
        return;
    }
    let scene = Scene::new();
    let attack = "mount -o remount,bind,rw /ktest/src; mount -o remount,bind,rw /usr; umount /usr; \
                  (echo x >/ktest/src/written) 2>/dev/null; cat /etc/shadow >$O/seen 2>/dev/null; true";
    let commit = scene.commit("vmlinux", attack);
    scene.build_in(&commit, true).await.unwrap();
    let tree = scene.dir.path().join("cache/true/trees/0");
    assert!(!tree.join("src/written").exists() && !Path::new("/usr/written").exists());
    let seen = std::fs::read_dir(tree.join("obj")).unwrap().next().unwrap().unwrap().path().join("seen");
    assert_eq!(std::fs::read_to_string(seen).unwrap_or_default(), "");
}

/// Names that look like options, contain line feeds or are not UTF-8, many files, and a long message.
#[tokio::test]
async fn b12_unusual_names_and_many_files() {
    let scene = Scene::new();
    scene.commit("vmlinux", "true");
    let base = scene.repo.tip("HEAD");
    let mut stream = format!(
        "commit refs/heads/odd\ncommitter x <x@example.org> 1 +0000\ndata 3000000\n{}\nfrom {base}\n",
        "m".repeat(3_000_000)
    );
    let odd =
        ["-rf", "--help", "fs/a\\nb.c", "fs/\\377.c", "fs/ x ", "fs/$(touch x)", "fs/%s%n", "con", "CON.c "];
    let names = odd.iter().map(|name| (*name).to_owned());
    for name in names.chain((0..5_000).map(|number| format!("many/{}/{number}", number % 100))) {
        stream.push_str(&format!("M 100644 inline \"{name}\"\ndata 1\nx\n"));
    }
    scene.repo.git_fed(["fast-import", "--quiet"], &stream);
    let commit = scene.repo.tip("odd");
    scene.build(&commit).await.unwrap();
}

/// Trees that git itself never writes: names outside the tree or in `.git`, and a link that is also a directory.
#[tokio::test]
async fn b12_trees_that_leave_their_directory() {
    let scene = Scene::new();
    let base = scene.commit("vmlinux", "true");
    let tree = |entries: &str| scene.repo.git_fed(["mktree", "--missing"], entries);
    let blob = scene.repo.git_fed(["hash-object", "-w", "--stdin"], "x\n");
    let link = scene.repo.git_fed(["hash-object", "-w", "--stdin"], scene.home().to_str().unwrap());
    let directory = tree(&format!("100644 blob {blob}\tprecious\n"));
    let listed = scene.repo.git(["ls-tree", base.as_str()]);
    for (entries, is_refused) in [
        (format!("040000 tree {directory}\t.git\n"), true),
        (format!("040000 tree {directory}\t..\n"), true),
        (format!("040000 tree {directory}\t.\n"), true),
        (format!("120000 blob {link}\td\n040000 tree {directory}\td\n"), false),
    ] {
        let tree = tree(&format!("{listed}\n{entries}"));
        let id = scene.repo.git(["commit-tree", "-m", "x", tree.as_str(), "-p", base.as_str()]);
        for sandboxed in [false, sandbox::probe().await.is_ok()] {
            let built = scene.build_in(&id.parse().unwrap(), sandboxed).await;
            match built {
                Err(BuildError::Source(error)) if is_refused => {
                    assert!(
                        error.to_string().contains("its tree cannot be checked out: invalid path"),
                        "{error}"
                    );
                }
                built => assert!(!is_refused && built.is_ok(), "{entries}: {built:?}"),
            }
        }
    }
}

/// Builds for a branch in a trust domain, with a cache that all domains share.
async fn build_of(
    scene: &Scene,
    domain: &str,
    commit: &CommitId,
    verify_every: u32,
) -> Result<Kernel, BuildError> {
    let sandbox = sandbox::probe().await.is_ok();
    let request = BuildRequest {
        source: KernelSource::Commit { repo: scene.repo.path().into(), commit: commit.clone() },
        flavor: Flavor::of("toy", &scene.requirements),
        jobs: 2,
        sandbox,
        tolerate: Vec::new(),
        trust: Some(domain.parse().unwrap()),
        verify_every,
        check_predicted: 0,
        out_log: scene.dir.path().join("out/build.log"),
    };
    let cache = Cache { dir: scene.dir.path().join("cache") };
    tokio::time::timeout(LIMIT, build(&request, &cache, &mut |_| {})).await.expect("the build does not end")
}

#[tokio::test]
async fn b8_objects_do_not_reach_another_trust_domain() {
    let scene = Scene::new();
    let plain = scene.commit("vmlinux", "true");
    let evil = scene.commit("vmlinux", "echo BACKDOOR >$O/fs/a.o; touch -d 2030-01-01 $O/fs/a.o");
    let image = |kernel: Kernel| std::fs::read_to_string(kernel.image).unwrap();
    build_of(&scene, "user/mallory", &evil, 0).await.unwrap();
    // Mallory's own branches are affected, also under the id of the same source: that kernel is visible only to
    // Mallory.
    let hit = build_of(&scene, "user/mallory", &plain, 0).await.unwrap();
    let good = build_of(&scene, "user/alice", &plain, 0).await.unwrap();
    assert_ne!(hit.id, good.id);
    assert_eq!((image(hit).as_str(), image(good).as_str()), ("BACKDOOR\nb\n", "a\nb\n"));
}

#[tokio::test]
async fn b8_a_build_from_damaged_objects_is_reported() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("skipped: b8_a_build_from_damaged_objects_is_reported: {error}");
        return;
    }
    let scene = Scene::new();
    let plain = scene.commit("vmlinux", "true");
    let evil = scene.commit("vmlinux", "echo BACKDOOR >$O/fs/a.o; touch -d 2030-01-01 $O/fs/a.o");
    build_of(&scene, "user/mallory", &evil, 0).await.unwrap();
    let error = build_of(&scene, "user/mallory", &plain, 1).await.unwrap_err();
    assert!(matches!(error, BuildError::Infrastructure(_)), "{error}");
    assert!(error.to_string().starts_with("the cached build differs: flavor "), "{error}");
    // The next attempt builds from scratch.
    let kernel = build_of(&scene, "user/mallory", &plain, 1).await.unwrap();
    assert_eq!(std::fs::read_to_string(kernel.image).unwrap(), "a\nb\n");
}

/// With the real ccache, outside the sandbox: the configuration in the cache directory names a program.
#[tokio::test]
async fn b9_a_configuration_in_the_compiler_cache_is_not_read() {
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !has("ccache") || !has("gcc") {
        eprintln!(
            "skipped: b9_a_configuration_in_the_compiler_cache_is_not_read: ccache or gcc is not installed"
        );
        return;
    }
    let scene = Scene::new();
    let victim = scene.home().join("ran");
    let program = scene.dir.path().join("evil");
    std::fs::write(&program, format!("#!/bin/sh\n: >{}\nexec \"$@\"\n", victim.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // The cache of the domain, or of the developer, may have been written by any build.
    let evil = "c=$${CCACHE_DIR:-/nowhere}; echo 'prefix_command = @EVIL@' >$$c/ccache.conf; echo 'int x;' >$O/x.c; \
                ccache gcc -c $O/x.c -o $O/x.o";
    let commit = scene.commit("vmlinux", &evil.replace("@EVIL@", program.to_str().unwrap()));
    scene.build_in(&commit, false).await.unwrap();
    let conf = scene.dir.path().join("cache/false/ccache/ccache.conf");
    assert!(conf.is_file(), "the attack did not take place");
    assert!(!victim.exists());
}

/// With the real ccache: a recipe replaces the cached results of a compile. The poisoned result is used in its own trust
/// domain and in no other.
#[tokio::test]
async fn b8_poisoned_results_of_the_compiler_cache_stay_in_their_trust_domain() {
    let test = "b8_poisoned_results_of_the_compiler_cache_stay_in_their_trust_domain";
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !has("ccache") || !has("gcc") {
        eprintln!("skipped: {test}: ccache or gcc is not installed");
        return;
    }
    let scene = Scene::new();
    // All recipes compile the same text at the same path, and the object becomes the image.
    let compile = |text: &str| {
        format!(
            "mkdir -p $O/p && cd $O/p && echo 'char text[] = \"{text}\";' >x.c && ccache gcc -c x.c -o x.o && cp x.o $O/vmlinux"
        )
    };
    let results = "find $$CCACHE_DIR -type f -name '*R' ! -path '*/tmp/*'";
    let poison = format!(
        "{good}; {results} >$O/good; {evil}; {results} | grep -vxFf $O/good >$O/evil; \
         for file in $$(cat $O/good); do cp $$(head -n 1 $O/evil) $$file; done",
        good = compile("GENUINE"),
        evil = compile("BACKDOOR"),
    );
    let (poison, plain) = (scene.commit("vmlinux", &poison), scene.commit("vmlinux", &compile("GENUINE")));
    let image = |kernel: Kernel| {
        let bytes = std::fs::read(kernel.image).unwrap();
        let has = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        (has("GENUINE"), has("BACKDOOR"))
    };
    build_of(&scene, "user/mallory", &poison, 0).await.unwrap();
    let hit = image(build_of(&scene, "user/mallory", &plain, 0).await.unwrap());
    assert_eq!(hit, (false, true), "the attack did not take place");
    assert_eq!(image(build_of(&scene, "user/alice", &plain, 0).await.unwrap()), (true, false));
    // A comparison with a clean build finds it in its own domain.
    if sandbox::probe().await.is_ok() {
        let next = scene.repo.commit("next", &[("fs/b.c", "B\n")]);
        let error = build_of(&scene, "user/mallory", &next, 1).await.unwrap_err();
        assert!(error.to_string().starts_with("the cached build differs: flavor "), "{error}");
        assert_eq!(image(build_of(&scene, "user/mallory", &next, 1).await.unwrap()), (true, false));
    }
}

/// With the real ccache: builds of the base fill a cache that the builds of other trust domains read and cannot change.
#[tokio::test]
async fn the_compiler_cache_of_the_base_is_read_only_for_branches() {
    let test = "the_compiler_cache_of_the_base_is_read_only_for_branches";
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !has("ccache") || !has("gcc") || sandbox::probe().await.is_err() {
        eprintln!("skipped: {test}: ccache, gcc or bubblewrap does not work");
        return;
    }
    let scene = Scene::new();
    // The image contains whether the compile was a hit in the cache of the base.
    let compile = |text: &str, env: &str| {
        format!(
            "mkdir -p $O/p && cd $O/p && echo 'char text[] = \"{text}\";' >x.c && rm -f log && \
             {env} CCACHE_LOGFILE=$O/p/log ccache gcc -MD -c x.c -o x.o && cp x.o $O/vmlinux && \
             grep -o 'Result: .*storage_hit' log >>$O/vmlinux; true"
        )
    };
    let image = |kernel: Kernel| {
        let bytes = std::fs::read(kernel.image).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        ["GENUINE", "BACKDOOR", "remote_storage_hit", "local_storage_hit"].map(|word| text.contains(word))
    };
    let plain = scene.commit("vmlinux", &compile("GENUINE", ""));
    let base = image(build_of(&scene, "base", &plain, 0).await.unwrap());
    assert_eq!(base, [true, false, false, false]);
    let dir = scene.dir.path().join("cache/ccache-base");
    let before = contents(&dir);
    assert!(before.len() >= 2, "{before:?}");
    // A hostile branch gets the result of the base. It cannot replace it, with or without ccache.
    let overwrite = "for file in `find /ktest/ccache-base -type f`; do echo BACKDOOR >$$file; rm -f $$file; done; \
                     mount -o remount,rw /ktest/ccache-base; touch /ktest/ccache-base/new; chmod 777 /ktest/ccache-base; ";
    let attack = format!(
        "({overwrite}) 2>/dev/null; {}",
        compile("BACKDOOR", "CCACHE_REMOTE_STORAGE=file:/ktest/ccache-base CCACHE_RECACHE=1")
    );
    let attack = scene.commit("vmlinux", &attack);
    let attacked = image(build_of(&scene, "user/mallory", &attack, 0).await.unwrap());
    assert_eq!(attacked, [false, true, false, false]);
    assert_eq!(contents(&dir), before);
    // Other domains, and the same one, still get the result of the base, from the second build on from their own cache.
    assert_eq!(image(build_of(&scene, "user/alice", &plain, 0).await.unwrap()), [true, false, true, false]);
    scene.commit("vmlinux", &compile("GENUINE", ""));
    let next = scene.repo.commit("next", &[("fs/b.c", "B\n")]);
    assert_eq!(image(build_of(&scene, "user/alice", &next, 0).await.unwrap()), [true, false, false, true]);
}

/// The files below a directory and their contents.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = walkdir(dir).into_iter().flat_map(|dir| std::fs::read_dir(dir).unwrap().flatten());
    let files = files.map(|entry| entry.path()).filter(|path| path.is_file());
    let mut all: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    all.sort();
    all
}
