//! Commits that change no file that is part of the build have the kernel of another commit. Uses the real make, git and
//! sandbox, and a toy source tree.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]
#![expect(clippy::print_stderr, reason = "skipped tests are reported")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kernel::{Arch, BuildRequest, Cache, Flavor, Kernel, KernelSource, Progress, Requirements, build};
use model::CommitId;
use testkit::ScratchRepo;

const KCONFIG: &str = include_str!("toy/Kconfig");
/// Never checks a prediction.
const NEVER: u32 = u32::MAX;
/// Checks each one.
const ALWAYS: u32 = 1;

/// The toy's makefile, with the `.cmd` files that kbuild writes.
fn makefile() -> String {
    let plain = include_str!("toy/Makefile");
    let compile = "\t@cp $< $@\n$O/%.ko";
    assert!(plain.contains(compile));
    let cmd = "\t@echo 'savedcmd_$*.o := cc -c $(CURDIR)/$<' >$O/fs/.$(notdir $*).o.cmd\n";
    plain.replace(compile, &format!("{cmd}{compile}"))
}

/// Damages the directory of an entry.
type Damage = fn(&Path);

struct Scene {
    repo: ScratchRepo,
    dir: tempfile::TempDir,
}

impl Scene {
    /// `None` without a sandbox: nothing is predicted then.
    async fn new(makefile: &str) -> Option<(Self, CommitId)> {
        if let Err(error) = sandbox::probe().await {
            eprintln!("skipped: {error}");
            return None;
        }
        let repo = ScratchRepo::new();
        let files = [
            ("Makefile", makefile),
            ("Kconfig", KCONFIG),
            ("fs/a.c", "a\n"),
            ("fs/b.c", "b\n"),
            ("fs/c.c", "c\n"),
        ];
        let first = repo.commit("toy", &files);
        Some((Self { repo, dir: tempfile::tempdir().unwrap() }, first))
    }

    fn cache(&self) -> Cache {
        Cache { dir: self.dir.path().join("cache") }
    }

    fn request(&self, commit: &CommitId, check_predicted: u32) -> BuildRequest {
        BuildRequest {
            source: KernelSource::Commit { repo: self.repo.path().into(), commit: commit.clone() },
            flavor: Flavor::of("toy", &Requirements::new(Arch::X86_64)),
            jobs: 2,
            sandbox: true,
            tolerate: Vec::new(),
            trust: None,
            verify_every: 0,
            check_predicted,
            out_log: self.dir.path().join("out/build.log"),
        }
    }

    /// Builds. Returns the kernel, and whether it was predicted.
    async fn run(&self, request: &BuildRequest) -> (Kernel, bool) {
        let mut predicted = false;
        let mut on = |progress| predicted |= matches!(progress, Progress::Predicted { checked: false, .. });
        let kernel = build(request, &self.cache(), &mut on).await.unwrap();
        (kernel, predicted)
    }

    async fn build(&self, commit: &CommitId, check_predicted: u32) -> (Kernel, bool) {
        self.run(&self.request(commit, check_predicted)).await
    }

    fn entry(&self, kernel: &Kernel) -> PathBuf {
        self.cache().kernels().join(kernel.id.as_str())
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_commit_outside_the_build_needs_none() {
    let Some((scene, first)) = Scene::new(&makefile()).await else { return };
    let (built, predicted) = scene.build(&first, NEVER).await;
    assert!(!predicted);
    assert_eq!(read(scene.entry(&built).join("closure")), "fs/a.c\nfs/b.c\n");

    let outside = scene.repo.commit("outside", &[("fs/c.c", "C\n"), ("Documentation/a.rst", "text\n")]);
    let (same, predicted) = scene.build(&outside, NEVER).await;
    assert!(predicted && same.cached);
    assert_ne!(same.id, built.id);
    assert_eq!((&same.image_hash, &same.release), (&built.image_hash, &built.release));
    let inode = |kernel: &Kernel| std::fs::metadata(&kernel.image).unwrap().ino();
    assert_eq!(inode(&same), inode(&built), "the files are not copied");
    assert!(read(scene.entry(&same).join("meta.json")).contains(&format!("\"same_as\": \"{}\"", built.id)));

    // The next one is compared with the predicted one, too, when the other kernel is gone.
    std::fs::remove_dir_all(scene.entry(&built)).unwrap();
    let next = scene.repo.commit("outside again", &[("Documentation/a.rst", "other text\n")]);
    let (next, predicted) = scene.build(&next, NEVER).await;
    assert!(predicted);
    assert_eq!(read(&next.image), "a\nb\n");

    let inside = scene.repo.commit("inside", &[("fs/a.c", "A\n")]);
    let (other, predicted) = scene.build(&inside, NEVER).await;
    assert!(!predicted && !other.cached);
    assert_eq!(read(&other.image), "A\nb\n");

    // A commit with the source that an older kernel has, and another text: the older kernel is found.
    let back = scene.repo.commit("back", &[("fs/a.c", "a\n"), ("Documentation/a.rst", "third text\n")]);
    let (back, predicted) = scene.build(&back, NEVER).await;
    assert!(predicted);
    assert_eq!(read(&back.image), "a\nb\n");
}

#[tokio::test]
async fn each_input_of_the_build_ends_the_prediction() {
    let Some((scene, first)) = Scene::new(&makefile()).await else { return };
    scene.build(&first, NEVER).await;
    let changes = [
        ("fs/b.c", "B\n"),
        ("fs/Kconfig", "\n"),
        ("fs/Makefile", "\n"),
        ("scripts/x.sh", "\n"),
        ("kernel/x.bc", "\n"),
        ("x", "\n"),
    ];
    for (path, text) in changes {
        scene.repo.git(["reset", "--hard", "-q", first.as_str()]);
        let commit = scene.repo.commit(path, &[(path, text)]);
        assert!(!scene.build(&commit, NEVER).await.1, "{path}");
    }
    // Others do not use it: another configuration, a trust domain, a build outside the sandbox.
    scene.repo.git(["reset", "--hard", "-q", first.as_str()]);
    let outside = scene.repo.commit("outside", &[("fs/c.c", "C\n")]);
    let mut flavor = Requirements::new(Arch::X86_64);
    flavor.require = vec!["GDB_SCRIPTS".parse().unwrap()];
    let request = scene.request(&outside, NEVER);
    let others = [
        BuildRequest { flavor: Flavor::of("other", &flavor), ..request.clone() },
        BuildRequest { trust: Some("user/mallory".parse().unwrap()), ..request.clone() },
        BuildRequest { sandbox: false, ..request.clone() },
        BuildRequest { check_predicted: 0, ..request.clone() },
    ];
    for (place, other) in others.iter().enumerate() {
        assert!(!scene.run(other).await.1, "{place}");
    }
}

#[tokio::test]
async fn a_wrong_prediction_is_the_last_one() {
    // This build reads a file that no .cmd file names.
    let makefile =
        makefile().replace("\t@cat $(addprefix $O/,$(objects))", "\t@cat $(addprefix $O/,$(objects)) fs/c.c");
    let Some((scene, first)) = Scene::new(&makefile).await else { return };
    let (built, _) = scene.build(&first, NEVER).await;
    let text = scene.repo.commit("text", &[("Documentation/a.rst", "text\n")]);
    let (checked, predicted) = scene.build(&text, ALWAYS).await;
    assert!(!predicted && !checked.cached);
    assert_eq!(checked.image_hash, built.image_hash);

    let changed = scene.repo.commit("read after all", &[("fs/c.c", "C\n")]);
    let (checked, predicted) = scene.build(&changed, ALWAYS).await;
    assert!(!predicted);
    assert_eq!(read(&checked.image), "a\nb\nC\n");
    let other = scene.repo.commit("other text", &[("Documentation/a.rst", "other text\n")]);
    assert!(!scene.build(&other, NEVER).await.1);
}

#[tokio::test]
async fn damaged_entries_are_not_compared() {
    let Some((scene, first)) = Scene::new(&makefile()).await else { return };
    let outside = scene.repo.commit("outside", &[("fs/c.c", "C\n")]);
    let damage: [(&str, Damage); 4] = [
        ("no list", |entry| std::fs::remove_file(entry.join("closure")).unwrap()),
        ("an empty list", |entry| std::fs::write(entry.join("closure"), "").unwrap()),
        ("no image", |entry| std::fs::remove_file(entry.join("vmlinux")).unwrap()),
        ("another source", |entry| {
            let meta = read(entry.join("meta.json"));
            let tree = meta.lines().find(|line| line.contains("source_tree")).unwrap();
            std::fs::write(
                entry.join("meta.json"),
                meta.replace(tree, "\"source_tree\": \"--output=/tmp/x\","),
            )
            .unwrap();
        }),
    ];
    for (what, damage) in damage {
        let _ = std::fs::remove_dir_all(scene.cache().kernels());
        let (built, _) = scene.build(&first, NEVER).await;
        damage(&scene.entry(&built));
        assert!(!scene.build(&outside, NEVER).await.1, "{what}");
    }
}
