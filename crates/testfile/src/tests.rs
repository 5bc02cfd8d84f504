//! The calls of test files, on small files that each test writes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use model::SubtestName;

use super::*;

pub(super) fn tree(script: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tests/fs/x.ktest");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("#!/bin/bash\nset -o nounset\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, file)
}

async fn deps(script: &str) -> Result<Declarations, String> {
    let (dir, file) = tree(script);
    let file = TestFile::find(&file, None).unwrap();
    let real = std::fs::canonicalize(dir.path()).unwrap().display().to_string();
    file.deps(&[], &HostEnv::default()).await.map_err(|error| error.to_string().replace(&real, "DIR"))
}

#[tokio::test]
async fn declarations_are_evaluated_by_bash() {
    let script = r#"[ "$1" = deps ] && echo "ktest_mem=$((512*2)); ktest_kernel_append=('a b' c=\"\$ktest_mem\")" && exit 0"#;
    let declared = deps(script).await.unwrap();
    assert_eq!(declared.mem_mib, 1024);
    assert_eq!(declared.kernel_append, ["a b", "c=1024"]);
}

#[tokio::test]
async fn invalid_deps_output_is_a_one_line_error() {
    let error = deps("echo 'hello world, no assignments'").await.unwrap_err();
    assert!(error.starts_with("DIR/tests/fs/x.ktest deps: exit code "), "{error}");
    assert!(error.contains("hello: command not found"), "{error}");
    let error = deps("echo").await.unwrap_err();
    assert_eq!(error, "DIR/tests/fs/x.ktest declares no ktest_mem; add config-mem 1G");
    let error = deps("echo 'ktest_mem=('").await.unwrap_err();
    assert!(error.contains("unexpected EOF"), "{error}");
    let error = deps("echo oops >&2; exit 3").await.unwrap_err();
    assert_eq!(error, "DIR/tests/fs/x.ktest deps: exit code 3: oops");
}

/// Prints a line and returns true if the sandbox does not work here.
async fn no_sandbox(test: &str) -> bool {
    let probed = sandbox::probe().await;
    if let Err(error) = &probed {
        eprintln!("skipped: {test}: {error}");
    }
    probed.is_err()
}

fn sandboxed(deps_dir: &Path) -> HostEnv {
    HostEnv { sandboxed: true, deps_dir: deps_dir.into(), ..HostEnv::default() }
}

#[tokio::test]
async fn deps_in_the_sandbox_sees_only_its_tree() {
    if no_sandbox("deps_in_the_sandbox_sees_only_its_tree").await {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    let deps_dir = outside.path().join("deps");
    let linked = tempfile::tempdir().unwrap();
    std::fs::write(linked.path().join("check"), "x").unwrap();
    std::fs::create_dir(&deps_dir).unwrap();
    std::os::unix::fs::symlink(linked.path(), deps_dir.join("suite")).unwrap();
    let (_dir, path) = tree(&format!(
        r#"mem=64; [[ -e {0}/secret || -n ${{CARGO_MANIFEST_DIR-}} ]] && mem=666
           for dir in /home /root /run /srv /var /etc/shadow /etc/hostname; do [[ ! -e $dir ]] || mem=667; done
           for dir in "$ktest_dir" "$ktest_deps_dir" / /dev; do (: >"$dir/x") 2>/dev/null && mem=668; done
           [[ $(grep -c : /proc/net/dev) = 1 && -e $ktest_deps_dir/suite/check ]] || mem=669
           : >"$ktest_build_dir/disk" && . "$ktest_dir/tests/lib.sh" && echo "ktest_mem=$mem"; exit 0"#,
        outside.path().display()
    ));
    let file = TestFile::find(&path, None).unwrap();
    std::fs::write(file.ktest_dir.join("tests/lib.sh"), "").unwrap();
    let mut env = sandboxed(&deps_dir);
    // These variables take effect in the sandbox, not on bubblewrap.
    env.env =
        [("LD_PRELOAD", "tests/evil.so"), ("BASH_ENV", "/nowhere")].map(|(k, v)| (k.into(), v.into())).into();
    let mem = file.deps(&[], &env).await.map(|declared| declared.mem_mib).map_err(|e| e.to_string());
    assert_eq!(mem, Ok(64));
    assert!(deps_dir.join("built/disk").exists());
}

#[tokio::test]
async fn the_source_of_a_suite_is_read_only() {
    if no_sandbox("the_source_of_a_suite_is_read_only").await {
        return;
    }
    let (source, deps_dir) = (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("check"), "x").unwrap();
    let (_dir, path) = tree(
        r#"mem=64; [[ -e $ktest_suite_xfstests/check && $ktest_suite_blktests = none ]] || mem=666
           (: >"$ktest_suite_xfstests/check") 2>/dev/null && mem=667
           (: >"$ktest_suite_xfstests/x") 2>/dev/null && mem=668
           [[ $(ls -A "${ktest_suite_xfstests%/*}") = "${ktest_suite_xfstests##*/}" ]] || mem=669
           echo "ktest_mem=$mem"; exit 0"#,
    );
    let file = TestFile::find(&path, None).unwrap();
    let name: model::SuiteName = "xfstests".parse().unwrap();
    let version = model::SuiteVersion { name: name.clone(), commit: "1".repeat(40).parse().unwrap() };
    let env = HostEnv {
        suites: vec![
            suites::SuiteSource { name, found: Some((source.path().into(), version)) },
            suites::SuiteSource { name: "blktests".parse().unwrap(), found: None },
        ],
        ..sandboxed(deps_dir.path())
    };
    let mem = file.deps(&[], &env).await.map(|declared| declared.mem_mib).map_err(|e| e.to_string());
    assert_eq!(mem, Ok(64));
}

/// The existing system lists xfstests by writing the group files of its checkout.
#[tokio::test]
async fn a_call_that_writes_to_its_tree_has_a_copy() {
    if no_sandbox("a_call_that_writes_to_its_tree_has_a_copy").await {
        return;
    }
    let deps_dir = tempfile::tempdir().unwrap();
    let (dir, path) = tree(
        r#"cd "$ktest_dir/tests/fs/suite" && echo generic/001 auto >/tmp/new && mv -f /tmp/new group.list
           [[ $1 = deps ]] && echo "ktest_mem=6$(wc -l <group.list)" && exit 0
           [[ -x ../x.ktest && ! -w $ktest_dir && -L link ]] && cat group.list | cut -d' ' -f1"#,
    );
    let suite = dir.path().join("tests/fs/suite");
    std::fs::create_dir(&suite).unwrap();
    std::os::unix::fs::symlink("nowhere", suite.join("link")).unwrap();
    let file = TestFile::find(&path, None).unwrap();
    let listed = file.list_tests(&sandboxed(deps_dir.path())).await.unwrap();
    assert_eq!(listed, ["generic/001".parse::<SubtestName>().unwrap()]);
    assert_eq!(file.deps(&[], &sandboxed(deps_dir.path())).await.unwrap().mem_mib, 61);
    assert!(!suite.join("group.list").exists());
    // A file at the top of its tree has none.
    assert_eq!(call_sandbox::top_of(dir.path(), &dir.path().join("boot.ktest")), None);
}

#[test]
fn a_host_without_a_sandbox_refuses_calls() {
    let (_dir, path) = tree("touch \"$ktest_dir/ran\"; echo one");
    let file = TestFile::find(&path, None).unwrap();
    // Without user namespaces, bubblewrap does not start. The limit applies to this thread's namespace and its
    // children, so the check runs in a child process: this test binary, which runs the test below.
    let test = std::env::current_exe().unwrap();
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" --exact --ignored \
                  tests::in_a_host_without_a_sandbox";
    let unshare =
        ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script];
    let output =
        std::process::Command::new("unshare").args(unshare).arg(test).env("TEST_FILE", &file.path).output();
    let output = output.unwrap();
    if String::from_utf8_lossy(&output.stderr).starts_with("unshare: ") {
        eprintln!("skipped: a_host_without_a_sandbox_refuses_calls: no user namespaces here");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert!(!file.ktest_dir.join("ran").exists());
}

#[tokio::test]
#[ignore = "run by a_host_without_a_sandbox_refuses_calls"]
async fn in_a_host_without_a_sandbox() {
    let file = TestFile::find(Path::new(&std::env::var("TEST_FILE").unwrap()), None).unwrap();
    let error = file.list_tests(&sandboxed(Path::new("/nowhere"))).await.unwrap_err().to_string();
    assert!(error.contains("the sandbox does not start: ") && error.contains("ktest doctor"), "{error}");
}

/// The repository's own shell library, in a tree with one test file.
fn tree_with_library(script: &str) -> (tempfile::TempDir, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (dir, file) = tree(&format!(". \"$ktest_dir/tests/test-libs.sh\"\n{script}\nmain \"$@\""));
    std::fs::create_dir(dir.path().join("lib")).unwrap();
    for name in ["tests/test-libs.sh", "tests/prelude.sh", "lib/common.sh", "lib/ktap.sh"] {
        std::fs::copy(root.join(name), dir.path().join(name)).unwrap();
    }
    (dir, file)
}

/// Serves `dir` with the git protocol until the value is dropped.
async fn git_daemon(dir: &Path) -> (spawn::Child, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base = format!("--base-path={}", dir.display());
    let cmd = spawn::Cmd::new("git").args(["daemon", "--listen=127.0.0.1", "--export-all", "--reuseaddr"]);
    let daemon = cmd.arg(base).arg(format!("--port={port}")).start().unwrap();
    for _ in 0..100 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return (daemon, port);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("git daemon does not listen");
}

/// Repositories with a file `lib.sh` that sets a variable with the name of the repository to 1.
fn repositories(names: &[&str]) -> tempfile::TempDir {
    let served = tempfile::tempdir().unwrap();
    for name in names {
        let git = |args: &[&str]| {
            let ids = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
            let mut cmd = std::process::Command::new("git");
            let cmd = cmd.args(ids).args(args).current_dir(served.path().join(name));
            assert!(cmd.status().unwrap().success());
        };
        std::fs::create_dir(served.path().join(name)).unwrap();
        git(&["init", "-q"]);
        std::fs::write(served.path().join(name).join("lib.sh"), format!("{name}=1\n")).unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "one"]);
    }
    served
}

#[tokio::test]
async fn require_git_clones_outside_the_sandbox() {
    if no_sandbox("require_git_clones_outside_the_sandbox").await {
        return;
    }
    let served = repositories(&["tool", "data"]);
    let (_daemon, port) = git_daemon(served.path()).await;
    let (_dir, path) = tree_with_library(&format!(
        r#"require-git git://127.0.0.1:{port}/tool
        . "$ktest_deps_dir/tool/lib.sh"
        require-git git://127.0.0.1:{port}/data other
        . "$ktest_deps_dir/other/lib.sh"
        list_tests() {{ echo "tool-$tool" "data-$data"; }}"#
    ));
    let file = TestFile::find(&path, None).unwrap();
    let deps = tempfile::tempdir().unwrap();
    let subtests = file.list_tests(&sandboxed(deps.path())).await.map_err(|error| error.to_string()).unwrap();
    assert_eq!(subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>(), ["tool-1", "data-1"]);
    assert!(deps.path().join("tool/lib.sh").is_file() && deps.path().join("other/lib.sh").is_file());

    // Another library clones by itself, continues after a failure, and uses git in other ways.
    let (_dir, path) = tree(&format!(
        r#"for name in tool data; do
            [[ -d $ktest_deps_dir/plain-$name ]] || git clone git://127.0.0.1:{port}/$name $ktest_deps_dir/plain-$name
        done
        cd "$ktest_deps_dir" && for name in plain-*; do [[ -e $name/lib.sh ]] && git --version >&2 && echo $name; done
        git clone -b main git://127.0.0.1:{port}/tool $ktest_deps_dir/part; true"#
    ));
    let file = TestFile::find(&path, None).unwrap();
    let deps = tempfile::tempdir().unwrap();
    let subtests = file.list_tests(&sandboxed(deps.path())).await.map_err(|error| error.to_string()).unwrap();
    assert_eq!(subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>(), ["plain-data", "plain-tool"]);
    assert!(!deps.path().join("part").exists());

    let (_dir, path) = tree_with_library("require-git /etc stolen");
    let file = TestFile::find(&path, None).unwrap();
    let error = file.list_tests(&sandboxed(deps.path())).await.unwrap_err().to_string();
    assert!(
        error.contains("require-git /etc: ") && error.contains("does not begin with https://"),
        "{error}"
    );
    assert!(!deps.path().join("stolen").exists());
}

/// The variables of a test group name the repository, so two users can request different ones under one name.
#[tokio::test]
async fn clones_of_one_domain_do_not_reach_another() {
    if no_sandbox("clones_of_one_domain_do_not_reach_another").await {
        return;
    }
    let served = repositories(&["evil", "good", "operators"]);
    let (_daemon, port) = git_daemon(served.path()).await;
    let (_dir, path) = tree_with_library(
        r#"require-git "$ktest_url" tool
        . "$ktest_deps_dir/tool/lib.sh"
        list_tests() {
            echo "evil-${evil:-0}" "good-${good:-0}" "operators-${operators:-0}"
            ls "$ktest_build_dir" && : >"$ktest_build_dir/left-${evil:-0}${good:-0}"
        }"#,
    );
    let file = TestFile::find(&path, None).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let cache = kernel::Cache { dir: temp.path().into() };
    let variables = |name: &str| vec![("ktest_url".to_owned(), format!("git://127.0.0.1:{port}/{name}"))];
    let listed = async |deps_dir: PathBuf, name: &str| {
        let env = HostEnv { env: variables(name), ..sandboxed(&deps_dir) };
        let subtests = file.list_tests(&env).await.map_err(|error| error.to_string()).unwrap();
        subtests.iter().map(|subtest| subtest.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let of_user = |user: &str| clones::of_domain(&cache, Some(&user.parse().unwrap())).unwrap();
    let of_listing = |name: &str| clones::of_listing(&cache, &variables(name)).unwrap();
    let users = (of_user("user/a"), of_user("user/b"));
    for (evil, good) in [users, (of_listing("evil"), of_listing("good"))] {
        assert_eq!(listed(evil.clone(), "evil").await, "evil-1 good-0 operators-0");
        assert_eq!(listed(evil, "evil").await, "evil-1 good-0 operators-0 left-10");
        assert_eq!(listed(good, "good").await, "evil-0 good-1 operators-0");
    }
    // What the operator placed is used by all, and is not written to.
    let placed = temp.path().join("deps");
    assert!(!placed.exists());
    std::fs::create_dir(&placed).unwrap();
    std::os::unix::fs::symlink(served.path().join("operators"), placed.join("tool")).unwrap();
    assert_eq!(listed(of_user("user/c"), "evil").await, "evil-0 good-0 operators-1");
    assert_eq!(listed(of_user("user/d"), "good").await, "evil-0 good-0 operators-1");
    assert_eq!(listed(of_user("user/b"), "good").await, "evil-0 good-1 operators-0 left-01");
    std::fs::remove_file(placed.join("tool")).unwrap();
    std::fs::create_dir(placed.join("tool")).unwrap();
    std::fs::copy(served.path().join("operators/lib.sh"), placed.join("tool/lib.sh")).unwrap();
    assert_eq!(listed(of_user("user/c"), "evil").await, "evil-0 good-0 operators-1 left-00");
    assert_eq!(std::fs::read_dir(&placed).unwrap().count(), 1);
}

#[tokio::test]
async fn t6_a_long_list_is_fast_and_limited() {
    let (_dir, file) = tree("seq -f s%.0f 40000");
    let file = TestFile::find(&file, None).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(file.list_tests(&HostEnv::default()).await.unwrap().len(), 40_000);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    let (_dir, file) = tree("seq -f s%.0f 480000");
    let file = TestFile::find(&file, None).unwrap();
    let error = file.list_tests(&HostEnv::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("list-tests: it lists more than 50000 subtests; split the file"), "{error}");
}

#[tokio::test]
async fn list_tests_validates_and_deduplicates() {
    let (_dir, file) = tree("echo a generic/001; echo a b");
    let file = TestFile::find(&file, None).unwrap();
    assert_eq!(file.test.as_str(), "fs/x");
    let subtests = file.list_tests(&HostEnv::default()).await.unwrap();
    assert_eq!(subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>(), ["a", "generic/001", "b"]);
    let (_dir, file) = tree("echo ../../etc");
    let error = TestFile::find(&file, None).unwrap().list_tests(&HostEnv::default()).await.unwrap_err();
    assert!(error.to_string().contains("is not a subtest"), "{error}");
}

#[test]
fn files_at_the_root_of_a_tree_and_trees_without_tests() {
    let (dir, file) = tree("");
    let root = dir.path().canonicalize().unwrap();
    let boot = root.join("boot.ktest");
    std::fs::copy(&file, &boot).unwrap();
    for found in [
        TestFile::find(&boot, None),
        TestFile::find(Path::new("boot"), Some(&root)),
        TestFile::find(&boot, Some(&root)),
        // As a farm names it.
        TestFile::find(&root.join("tests/boot.ktest"), Some(&root)),
    ] {
        let found = found.unwrap();
        assert_eq!((found.test.as_str(), &found.ktest_dir, &found.path), ("boot", &root, &boot));
    }
    // The directory of the tests instead of its parent.
    let by_tests = TestFile::find(Path::new("fs/x"), Some(&root.join("tests"))).unwrap();
    assert_eq!(by_tests, TestFile::find(&file, None).unwrap());
    // A tree with its files at the top, and nothing above it.
    let flat = root.join("flat");
    std::fs::create_dir(&flat).unwrap();
    std::fs::copy(&file, flat.join("a.ktest")).unwrap();
    let found = TestFile::find(&flat.join("a.ktest"), Some(&flat)).unwrap();
    assert_eq!((found.test.as_str(), &found.ktest_dir), ("a", &flat));
    assert!(matches!(TestFile::find(&flat.join("a.ktest"), None), Err(TestFileError::Outside(_))));
}

#[test]
fn find_accepts_paths_and_names_below_tests() {
    let (dir, file) = tree("");
    let by_tree = TestFile::find(Path::new("fs/x"), Some(dir.path())).unwrap();
    assert_eq!(by_tree, TestFile::find(&file, None).unwrap());
    assert!(matches!(TestFile::find(Path::new("/no/such.ktest"), None), Err(TestFileError::Missing(_))));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(TestFile::find(&file, None), Err(TestFileError::NotExecutable(_))));
}
