use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use proptest::prelude::*;
use rustix::fs::makedev;

use super::*;

/// The largest file that the tests read.
const MAX: u64 = 1000;
const LIMITS: TreeLimits = TreeLimits { entries: 100, bytes: 10_000, depth: 8 };

impl Dir {
    fn by_components(mut self) -> Self {
        self.resolver = Resolver::Components;
        self
    }
}

/// What untrusted code creates at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    LinkToFile,
    LinkToDirectory,
    DanglingLink,
    Fifo,
    Socket,
    Device,
    Directory,
    FilledDirectory,
    SparseFile,
    LargeFile,
    HardLink,
    LockedDirectory,
}

const TRAPS: [Trap; 12] = [
    Trap::LinkToFile,
    Trap::LinkToDirectory,
    Trap::DanglingLink,
    Trap::Fifo,
    Trap::Socket,
    Trap::Device,
    Trap::Directory,
    Trap::FilledDirectory,
    Trap::SparseFile,
    Trap::LargeFile,
    Trap::HardLink,
    Trap::LockedDirectory,
];

impl Trap {
    /// Returns false if this user cannot create it.
    fn set(self, path: &Path, outside: &Path) -> bool {
        Dir::open(path.parent().unwrap()).unwrap().remove_tree(path.file_name().unwrap()).unwrap();
        match self {
            Self::LinkToFile => symlink(outside.join("secret"), path).unwrap(),
            Self::LinkToDirectory => symlink(outside, path).unwrap(),
            Self::DanglingLink => symlink(outside.join("new"), path).unwrap(),
            Self::Fifo => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            Self::Socket => rustix::fs::mknodat(CWD, path, FileType::Socket, Mode::RWXU, 0).unwrap(),
            // /dev/zero.
            Self::Device => {
                let zero = makedev(1, 5);
                return rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RWXU, zero).is_ok();
            }
            Self::Directory => std::fs::create_dir(path).unwrap(),
            Self::FilledDirectory => {
                std::fs::create_dir_all(path.join("a/b")).unwrap();
                symlink(outside, path.join("a/link")).unwrap();
                symlink(outside.join("secret"), path.join("file")).unwrap();
            }
            Self::SparseFile => File::create(path).unwrap().set_len(1 << 40).unwrap(),
            Self::LargeFile => std::fs::write(path, vec![b'x'; 100_000]).unwrap(),
            Self::HardLink => std::fs::hard_link(outside.join("secret"), path).unwrap(),
            Self::LockedDirectory => {
                std::fs::create_dir_all(path.join("a")).unwrap();
                std::fs::write(path.join("a/file"), "").unwrap();
                std::fs::set_permissions(path.join("a"), Permissions::from_mode(0o500)).unwrap();
                std::fs::set_permissions(path, Permissions::from_mode(0o0)).unwrap();
            }
        }
        true
    }
}

/// A directory with regular files, the outside with a secret, and a place to copy to.
struct Scene {
    _root: tempfile::TempDir,
    inside: PathBuf,
    outside: PathBuf,
    copies: PathBuf,
}

const NAMES: [&str; 4] = ["file", "sub", "sub/file", "sub/deep/file"];

impl Scene {
    fn new() -> Self {
        // Use tmpfs if it exists: the tests create and remove some thousand trees.
        let memory = Path::new("/dev/shm");
        let root = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let at = |name: &str| root.path().join(name);
        let (inside, outside, copies) = (at("inside"), at("outside"), at("copies"));
        std::fs::create_dir_all(inside.join("sub/deep")).unwrap();
        std::fs::create_dir(&copies).unwrap();
        std::fs::create_dir_all(outside.join("folder")).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        std::fs::write(outside.join("folder/file"), "secret").unwrap();
        std::fs::write(outside.join("file"), "secret").unwrap();
        for name in ["file", "sub/file", "sub/deep/file"] {
            std::fs::write(inside.join(name), "content").unwrap();
        }
        Self { _root: root, inside, outside, copies }
    }

    fn assert_outside_unchanged(&self) {
        let mut names: Vec<String> = walkdir(&self.outside);
        names.sort();
        assert_eq!(names, ["file", "folder", "folder/file", "secret"]);
        for name in ["file", "folder/file", "secret"] {
            assert_eq!(std::fs::read(self.outside.join(name)).unwrap(), b"secret", "{name}");
        }
    }

    /// Asserts that no file in the destination directory contains the secret.
    fn assert_nothing_disclosed(&self) {
        for name in walkdir(&self.copies) {
            let path = self.copies.join(&name);
            let kind = path.symlink_metadata().unwrap().file_type();
            assert!(kind.is_file() || kind.is_dir(), "{name}");
            assert!(kind.is_dir() || std::fs::read(&path).unwrap() != b"secret", "{name}");
        }
    }
}

/// The names below a directory, read with the standard library.
fn walkdir(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![top.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            found.push(entry.path().strip_prefix(top).unwrap().to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// Calls function number `operation` of [`Dir`] with `name`.
fn call(operation: usize, dir: &Dir, name: &Path, copies: &Dir) {
    match operation {
        0 => assert_ne!(dir.read(name, MAX).unwrap_or_default(), b"secret"),
        1 => assert_ne!(dir.read_start(name, MAX).unwrap_or_default().0, b"secret"),
        2 => drop(dir.open_file(name)),
        3 => drop(dir.write(name, "written")),
        4 => drop(dir.create_new(name)),
        5 => drop(dir.create_dir_all(name)),
        6 => drop(dir.list(name, 100)),
        7 => drop(dir.walk(".", LIMITS)),
        8 => drop(dir.copy_tree(".", copies, LIMITS, Special::Skip)),
        9 => drop(dir.copy_tree(".", copies, LIMITS, Special::Refuse)),
        10 => drop(dir.remove_file(name)),
        11 => assert!(dir.remove_tree(name).is_ok() || dir.metadata(name).is_err()),
        12 => drop(dir.rename(name, "renamed")),
        13 => drop(dir.rename("sub/deep/file", name)),
        14 => drop(dir.new_file(name)),
        15 => drop(dir.metadata(name)),
        16 => drop(dir.dir(name)),
        17 => drop(dir.create_dir_all(name.join("below"))),
        18 => drop(dir.write(name.join("below"), "written")),
        19 => assert_ne!(dir.read(name.join("file"), MAX).unwrap_or_default(), b"secret"),
        20 => drop(dir.remove_tree(name.join("folder"))),
        _ => drop(crate::lock::Lock::try_acquire_in(dir, name, "test")),
    }
}
const OPERATIONS: usize = 22;

/// Sets one trap and calls one function.
fn one_trap(trap: Trap, name: &str, operation: usize, by_components: bool) {
    let scene = Scene::new();
    if !trap.set(&scene.inside.join(name), &scene.outside) {
        return;
    }
    let open = |path: &Path| match Dir::open(path).unwrap() {
        dir if by_components => dir.by_components(),
        dir => dir,
    };
    let begun = Instant::now();
    call(operation, &open(&scene.inside), Path::new(name), &open(&scene.copies));
    assert!(begun.elapsed() < Duration::from_secs(5), "{trap:?} at {name}: {operation}");
    scene.assert_outside_unchanged();
    scene.assert_nothing_disclosed();
    // Anything can be removed.
    Dir::open(&scene.inside).unwrap().clear().unwrap();
    assert!(walkdir(&scene.inside).is_empty());
    scene.assert_outside_unchanged();
}

#[test]
fn every_trap_at_every_name_in_every_call() {
    for trap in TRAPS {
        for name in NAMES {
            for operation in 0..OPERATIONS {
                for by_components in [false, true] {
                    one_trap(trap, name, operation, by_components);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several traps and several calls in a row.
    #[test]
    fn traps_change_nothing_outside(
        steps in proptest::collection::vec((0..TRAPS.len(), 0..NAMES.len(), 0..OPERATIONS, 0..NAMES.len()), 1..8),
        by_components: bool,
    ) {
        let scene = Scene::new();
        let open = |path: &Path| match Dir::open(path).unwrap() {
            dir if by_components => dir.by_components(),
            dir => dir,
        };
        let (dir, copies) = (open(&scene.inside), open(&scene.copies));
        for (trap, place, operation, name) in steps {
            let path = scene.inside.join(NAMES[place]);
            // Only if the parents are real directories: the test itself must not follow a link.
            if dir.open_raw(Path::new(NAMES[place]).parent().unwrap(), OFlags::DIRECTORY, Mode::empty()).is_ok() {
                TRAPS[trap].set(&path, &scene.outside);
            }
            let begun = Instant::now();
            call(operation, &dir, Path::new(NAMES[name]), &copies);
            prop_assert!(begun.elapsed() < Duration::from_secs(5));
            scene.assert_outside_unchanged();
            scene.assert_nothing_disclosed();
        }
    }
}

#[test]
fn errors_name_the_path_and_what_is_wrong() {
    let scene = Scene::new();
    let dir = Dir::open(&scene.inside).unwrap();
    let text = |error: UntrustedError| {
        error.to_string().replace(&scene.inside.parent().unwrap().display().to_string(), "ROOT")
    };
    let mut seen = Vec::new();
    for trap in TRAPS {
        if trap == Trap::Device && !trap.set(&scene.inside.join("probe"), &scene.outside) {
            seen.push("cannot read ROOT/inside/file: it is a character device".into());
            continue;
        }
        if trap == Trap::LockedDirectory {
            continue;
        }
        trap.set(&scene.inside.join("file"), &scene.outside);
        seen.push(text(dir.read("file", MAX).unwrap_err()));
    }
    seen.dedup();
    assert_eq!(
        seen,
        [
            "cannot read ROOT/inside/file: it is a symbolic link",
            "cannot read ROOT/inside/file: it is a FIFO",
            "cannot read ROOT/inside/file: it is a socket",
            "cannot read ROOT/inside/file: it is a character device",
            "cannot read ROOT/inside/file: it is a directory",
            "cannot read ROOT/inside/file: it is larger than 1000 bytes",
            "cannot read ROOT/inside/file: it has 2 links",
        ]
    );
    for outside in ["../outside/secret", "/etc/passwd", "sub/../file"] {
        let error = dir.read(outside, MAX).unwrap_err();
        assert_eq!(error.problem(), Some(Problem::Outside), "{error}");
    }
    Trap::LinkToDirectory.set(&scene.inside.join("sub"), &scene.outside);
    for dir in [Dir::open(&scene.inside).unwrap(), Dir::open(&scene.inside).unwrap().by_components()] {
        let below = dir.read("sub/file", MAX).unwrap_err();
        assert_eq!(text(below), "cannot read ROOT/inside/sub/file: it is below a symbolic link");
        assert_eq!(
            text(dir.list("sub", 10).unwrap_err()),
            "cannot list ROOT/inside/sub: it is a symbolic link"
        );
        assert!(dir.read("missing", MAX).unwrap_err().is_not_found());
        assert_eq!(dir.metadata("missing").unwrap(), None);
    }
    std::fs::remove_file(scene.inside.join("sub")).unwrap();
}

/// An ordinary user cannot use what lacks permissions, and can remove it. Root can do both.
#[test]
fn missing_permissions_are_a_problem_of_the_entry() {
    let scene = Scene::new();
    let is_root = rustix::process::getuid().is_root();
    let lock = |name: &str| {
        std::fs::set_permissions(scene.inside.join(name), Permissions::from_mode(0o0)).unwrap();
    };
    let dir = Dir::open(&scene.inside).unwrap();
    let refused = |result: Result<Vec<u8>, UntrustedError>| {
        let problem = result.err().and_then(|error| error.problem());
        assert_eq!(problem, (!is_root).then_some(Problem::NoPermission));
    };
    lock("file");
    refused(dir.read("file", MAX));
    lock("sub/deep");
    refused(dir.read("sub/deep/file", MAX));
    lock("");
    refused(dir.read("sub/file", MAX));
    dir.make_accessible().unwrap();
    dir.read("sub/file", MAX).unwrap();
    lock("");
    dir.clear().unwrap();
    assert_eq!(dir.list(".", 10).unwrap(), []);
    lock("");
    assert!(crate::own::remove_tree(&scene.inside).unwrap());
}

#[test]
fn regular_files_are_read_written_listed_and_copied() {
    let scene = Scene::new();
    let dir = Dir::open(&scene.inside).unwrap();
    assert_eq!(dir.read("sub/file", 7).unwrap(), b"content");
    assert_eq!(dir.read_start("sub/file", 3).unwrap(), (b"con".to_vec(), true));
    dir.create_dir_all("new/deep").unwrap().write("file", "one").unwrap();
    dir.write("new/deep/file", "two").unwrap();
    assert_eq!(dir.read_to_string("new/deep/file", MAX).unwrap(), "two");
    let of = |entry: &str, entry_type| Entry { name: entry.into(), entry_type };
    assert_eq!(
        dir.list(".", 3).unwrap(),
        [of("file", EntryType::File), of("new", EntryType::Directory), of("sub", EntryType::Directory)]
    );
    let too_many = dir.list(".", 2).unwrap_err();
    assert_eq!(too_many.problem(), Some(Problem::MoreEntriesThan(2)));
    let metadata = dir.metadata("file").unwrap().unwrap();
    assert_eq!((metadata.entry_type, metadata.len, metadata.links), (EntryType::File, 7, 1));
    assert!(metadata.modified.elapsed().unwrap() < Duration::from_secs(60));

    std::fs::set_permissions(scene.inside.join("file"), Permissions::from_mode(0o4777)).unwrap();
    let copies = Dir::open(&scene.copies).unwrap();
    let copied = dir.copy_tree(".", &copies, LIMITS, Special::Refuse).unwrap();
    assert_eq!(copied, Copied { files: 4, bytes: 24, skipped: 0 });
    assert_eq!(copies.read("sub/deep/file", MAX).unwrap(), b"content");
    assert_eq!(copies.metadata("file").unwrap().unwrap().mode, 0o755);
    assert_eq!(dir.walk(".", LIMITS).unwrap(), copies.walk(".", LIMITS).unwrap());
}

#[test]
fn limits_end_walks_and_copies() {
    let scene = Scene::new();
    let dir = Dir::open(&scene.inside).unwrap();
    let problem = |limits| {
        let copies = Dir::open(&scene.copies).unwrap();
        let copied = dir.copy_tree(".", &copies, limits, Special::Skip).map(|_| ());
        let walked = dir.walk(".", limits).map(|_| ());
        (walked.err().and_then(|error| error.problem()), copied.err().and_then(|error| error.problem()))
    };
    let exact = TreeLimits { entries: 5, bytes: 21, depth: 2 };
    assert_eq!(problem(exact), (None, None));
    let entries = Some(Problem::MoreEntriesThan(4));
    assert_eq!(problem(TreeLimits { entries: 4, ..exact }), (entries, entries));
    assert_eq!(problem(TreeLimits { bytes: 20, ..exact }), (None, Some(Problem::MoreBytesThan(20))));
    let depth = Some(Problem::DeeperThan(1));
    assert_eq!(problem(TreeLimits { depth: 1, ..exact }), (depth, depth));
}

#[test]
fn a_tree_deeper_than_any_path_is_removed() {
    let scene = Scene::new();
    let dir = Dir::open(&scene.inside).unwrap();
    let mut deepest = dir.create_dir_all("top").unwrap();
    for _ in 0..5000 {
        mkdirat(&deepest.fd, "d", Mode::RWXU).unwrap();
        deepest = Dir { path: PathBuf::new(), ..deepest.dir("d").unwrap() };
    }
    deepest.write("file", "").unwrap();
    assert!(dir.walk("top", LIMITS).is_err());
    assert!(dir.remove_tree("top").unwrap());
    assert!(!dir.remove_tree("top").unwrap());
    assert_eq!(dir.list(".", 10).unwrap().len(), 2);
}

/// Runs itself in namespaces in which it can mount, if the host permits them.
#[test]
fn nothing_below_a_mount_point_is_removed() {
    const INSIDE: &str = "FSX_TEST_TREE";
    let Some(tree) = std::env::var_os(INSIDE) else {
        let scene = Scene::new();
        std::fs::create_dir_all(scene.inside.join("tree/mnt")).unwrap();
        std::fs::create_dir_all(scene.inside.join("source/kept")).unwrap();
        let script = r#"mount --bind "$0/source" "$0/tree/mnt" && exec "$@""#;
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&scene.inside);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", "--nocapture"]);
        command.arg("untrusted::tests::nothing_below_a_mount_point_is_removed").env(INSIDE, &scene.inside);
        let permitted = ["--user", "--map-root-user", "--mount", "true"];
        if std::process::Command::new("unshare").args(permitted).status().is_ok_and(|status| status.success())
        {
            assert!(command.status().unwrap().success());
        }
        assert!(scene.inside.join("source/kept").exists());
        return;
    };
    let dir = Dir::open(Path::new(&tree)).unwrap();
    for path in ["tree", "tree/mnt"] {
        let error = dir.remove_tree(path).unwrap_err().to_string();
        assert!(error.contains("busy"), "{error}");
    }
    assert!(Path::new(&tree).join("source/kept").exists());
}

#[test]
fn published_files_have_several_names_and_stay_below() {
    let top = tempfile::tempdir().unwrap();
    let results = top.path().join("results");
    std::fs::create_dir_all(results.join("commit")).unwrap();
    let at = |name: &str| results.join("commit").join(name);
    std::fs::write(top.path().join("secret"), "secret").unwrap();
    std::fs::write(at("log"), "log").unwrap();
    std::fs::hard_link(at("log"), at("hard")).unwrap();
    symlink("log", at("inside")).unwrap();
    symlink("../../secret", at("relative")).unwrap();
    symlink(top.path().join("secret"), at("absolute")).unwrap();
    symlink("/proc/self/environ", at("proc")).unwrap();
    symlink("loop", at("loop")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    symlink("fifo", at("to-fifo")).unwrap();
    let dir = Dir::open(&results).unwrap();
    let read = |dir: &Dir, name: &str| {
        let file = dir.open_published(Path::new("commit").join(name)).ok()?;
        Some(std::io::read_to_string(file).unwrap())
    };
    for name in ["log", "hard", "inside"] {
        assert_eq!(read(&dir, name).as_deref(), Some("log"), "{name}");
    }
    for name in ["relative", "absolute", "proc", "loop", "fifo", "to-fifo", "missing", ".", "../../secret"] {
        assert_eq!(read(&dir, name), None, "{name}");
    }
    // Without openat2 no link is followed.
    let dir = dir.by_components();
    assert_eq!(read(&dir, "hard").as_deref(), Some("log"));
    for name in ["inside", "relative", "absolute", "fifo"] {
        assert_eq!(read(&dir, name), None, "{name}");
    }
}
