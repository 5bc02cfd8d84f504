//! Whatever a build leaves under any name in its object and module directories, nothing outside is read or changed, and
//! each call that processes these directories returns within seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fsx::untrusted::Dir;
use model::Arch;
use proptest::prelude::*;
use testkit::Trap;

use crate::boot_image::image_of;
use crate::compile::{Compiled, remove_special_files};
use crate::configured;
use crate::dotconfig::DotConfig;
use crate::make::Layout;
use crate::progress::outdated;
use crate::state::ObjectState;
use crate::tree::{ObjectDir, copy_objects};
use crate::{headers, pack};

/// The time limit for all calls together.
const LIMIT: Duration = Duration::from_secs(5);
const SECRET: &str = "the content of an outside file\n";
const CONFIG: &str = "CONFIG_MODULES=y\nCONFIG_GCOV_KERNEL=y\nCONFIG_MOD_a=m\n";
const RELEASE: &str = "6.1.0-toy";

/// All names below the object directory that the runner opens, and their parent directories.
const OBJECTS: [&str; 24] = [
    ".config",
    ".ktest-base",
    "arch",
    "arch/x86",
    "arch/x86/boot/bzImage",
    "arch/x86/include/generated/a.h",
    "fs",
    "fs/.a.o.cmd",
    "fs/a.gcno",
    "fs/a.o",
    "include",
    "include/config",
    "include/config/auto.conf",
    "include/config/auto.conf.cmd",
    "include/config/kernel.release",
    "include/generated/autoconf.h",
    "Module.symvers",
    "scripts",
    "scripts/gdb/linux/constants.py",
    "scripts/mod/modpost",
    "tools/bpf/resolve_btfids/resolve_btfids",
    "tools/objtool/objtool",
    "vmlinux",
    "vmlinux.symvers",
];

/// The same for the module directory.
const MODULES: [&str; 8] = [
    "headers.tar.zst",
    "lib",
    "lib/modules",
    "lib/modules/6.1.0-toy",
    "lib/modules/6.1.0-toy/kernel",
    "lib/modules/6.1.0-toy/kernel/a.ko",
    "lib/modules/6.1.0-toy/modules.order",
    "meta.json",
];

/// Creates a trap at a path.
fn set(trap: Trap, path: &Path, outside: &Path) {
    let (parent, name) = (path.parent().unwrap(), path.file_name().unwrap());
    // A parent directory may be an earlier trap.
    if parent.is_dir() && parent.canonicalize().unwrap() == parent {
        Dir::open(parent).unwrap().remove_tree(name).unwrap();
        trap.set(path, outside);
    }
}

struct Scene {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let scene = Self { dir, root };
        let put = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(scene.path("outside/secret"), SECRET);
        put(scene.path("src/Kconfig"), "config A\n\tbool\n");
        put(scene.path("src/scripts/gdb/vmlinux-gdb.py"), "main\n");
        put(scene.path("state/fragment"), "");
        for name in OBJECTS {
            let path = scene.path("obj").join(name);
            if Path::new(name).extension().is_some() || !OBJECTS.iter().any(|other| below(other, name)) {
                let text = match name {
                    ".config" => CONFIG,
                    "include/config/kernel.release" => RELEASE,
                    "include/config/auto.conf.cmd" => "deps_config := \\\n\tKconfig \\\n\n",
                    "fs/.a.o.cmd" => "source_fs/a.o := /etc/passwd\n\ndeps_fs/a.o := \\\n  /etc/group \\\n\n",
                    _ => "x",
                };
                put(path, text);
            }
        }
        put(scene.path("modules/lib/modules/6.1.0-toy/kernel/a.ko"), "a");
        put(scene.path("modules/lib/modules/6.1.0-toy/modules.order"), "a");
        scene
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// All calls of a build that process the two directories, in their order. Errors are expected.
    fn handle(&self) {
        let state = ObjectState::new(self.path("state"));
        let objects = ObjectDir { dir: self.path("obj"), state: state.clone() };
        let layout = Layout::new(&self.path("src"), &objects, false);
        if let Ok(dir) = Dir::open(&layout.obj) {
            let _ = outdated(&dir, &|path| layout.on_host(path));
        }
        let _ = configured::record(&state, "", "", CONFIG, SystemTime::now());
        let _ = configured::up_to_date(&layout, "", "");
        let stage = self.path("stage");
        fs::create_dir_all(&stage).unwrap();
        let config = DotConfig::parse(CONFIG);
        let (image, path) = image_of(Arch::X86_64, &config);
        let compiled = Compiled {
            config,
            config_text: CONFIG.into(),
            unmet: Vec::new(),
            unknown: Vec::new(),
            objects: 0,
        };
        let _ = pack::copy_files(&stage, &layout, &compiled, (image, path));
        let _ = pack::copy_modules(&stage, &self.path("modules"), RELEASE);
        let _ = headers::pack(&stage, &layout, Arch::X86_64);
        let _ = copy_objects(&self.path("obj"), &self.path("copy"));
        // The next build.
        let dir = Dir::open(&layout.obj).unwrap();
        let _ = remove_special_files(&dir);
        fs::write(self.path("state/running"), "").unwrap();
        let _ = state.begin(&dir);
        let _ = dir.remove_tree(".ktest-base");
        self.assert_nothing_leaked();
    }

    fn assert_nothing_leaked(&self) {
        assert_eq!(fs::read_to_string(self.path("outside/secret")).unwrap(), SECRET);
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1);
        for entry in walkdir::WalkDir::new(self.path("stage")) {
            let entry = entry.unwrap();
            let file_type = entry.file_type();
            assert!(file_type.is_file() || file_type.is_dir(), "{:?}", entry.path());
            if file_type.is_file() && entry.file_name() != headers_name() {
                assert!(entry.metadata().unwrap().len() < 1 << 20, "{:?}", entry.path());
                let bytes = fs::read(entry.path()).unwrap();
                assert!(!String::from_utf8_lossy(&bytes).contains(SECRET.trim()), "{:?}", entry.path());
            }
        }
    }
}

fn headers_name() -> &'static str {
    crate::store::HEADERS
}

fn below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn check(traps: &[(&str, &str, Trap)]) {
    let scene = Scene::new();
    for (directory, name, trap) in traps {
        set(*trap, &scene.path(directory).join(name), &scene.path("outside"));
    }
    let begun = Instant::now();
    scene.handle();
    assert!(begun.elapsed() < LIMIT, "{traps:?} took {:?}", begun.elapsed());
    // The directory may lack permissions.
    fsx::own::remove_tree(scene.dir.path()).unwrap();
}

#[test]
fn each_trap_at_each_path_of_the_objects() {
    for (trap, name) in Trap::ALL.into_iter().flat_map(|trap| OBJECTS.map(|name| (trap, name))) {
        check(&[("obj", name, trap)]);
    }
}

#[test]
fn each_trap_at_each_path_of_the_modules() {
    for (trap, name) in Trap::ALL.into_iter().flat_map(|trap| MODULES.map(|name| (trap, name))) {
        check(&[("modules", name, trap)]);
    }
}

fn any_trap() -> impl Strategy<Value = (&'static str, &'static str, Trap)> {
    let object = proptest::sample::select(&OBJECTS[..]).prop_map(|name| ("obj", name));
    let module = proptest::sample::select(&MODULES[..]).prop_map(|name| ("modules", name));
    (prop_oneof![3 => object, 1 => module], proptest::sample::select(&Trap::ALL[..]))
        .prop_map(|((directory, name), trap)| (directory, name, trap))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn several_traps_at_once(traps in proptest::collection::vec(any_trap(), 1..5)) {
        check(&traps);
    }
}
