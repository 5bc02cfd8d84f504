//! The calls of test files, with small files written for each test.

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

#[tokio::test]
async fn deps_in_the_sandbox_sees_only_its_tree() {
    if sandbox::probe().await.is_err() {
        eprintln!("skipped: deps_in_the_sandbox_sees_only_its_tree: bubblewrap does not work here");
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    let (_dir, path) = tree(&format!(
        r#"mem=64; [[ -e {0}/secret || -n ${{CARGO_MANIFEST_DIR-}} ]] && mem=666
           (: >"$ktest_dir/x") 2>/dev/null && mem=667
           : >"$ktest_deps_dir/cloned" && . "$ktest_dir/tests/lib.sh" && echo "ktest_mem=$mem"; exit 0"#,
        outside.path().display()
    ));
    let file = TestFile::find(&path, None).unwrap();
    std::fs::write(file.ktest_dir.join("tests/lib.sh"), "").unwrap();
    let deps_dir = outside.path().join("deps");
    let env = HostEnv { sandboxed: true, deps_dir: deps_dir.clone(), ..HostEnv::default() };
    assert_eq!(
        file.deps(&[], &env).await.map(|declared| declared.mem_mib).map_err(|e| e.to_string()),
        Ok(64)
    );
    assert!(deps_dir.join("cloned").exists());
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
fn find_accepts_paths_and_names_below_tests() {
    let (dir, file) = tree("");
    let by_tree = TestFile::find(Path::new("fs/x"), Some(dir.path())).unwrap();
    assert_eq!(by_tree, TestFile::find(&file, None).unwrap());
    assert!(matches!(TestFile::find(Path::new("/no/such.ktest"), None), Err(TestFileError::Missing(_))));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(TestFile::find(&file, None), Err(TestFileError::NotExecutable(_))));
}
