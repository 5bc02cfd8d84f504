//! Tests of the directory of clones.

use std::os::unix::fs::symlink;

use super::*;

fn names(dir: &Path) -> Vec<String> {
    own::list(dir).unwrap().iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
}

#[test]
fn each_domain_and_each_listing_has_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let cache = Cache { dir: temp.path().into() };
    let domain = |name: &str| Some(name.parse::<TrustDomain>().unwrap());
    let listing = |value: &str| of_listing(&cache, &[("ktest_tool".into(), value.into())]).unwrap();
    let mut dirs: Vec<PathBuf> = [None, domain("user/a"), domain("user/b"), domain("base")]
        .iter()
        .map(|trust| of_domain(&cache, trust.as_ref()).unwrap())
        .collect();
    assert_eq!(dirs[0], temp.path().join("deps"));
    dirs.extend([listing("https://a"), listing("https://b"), of_listing(&cache, &[]).unwrap()]);
    for (at, one) in dirs.iter().enumerate() {
        assert!(dirs[at + 1..].iter().all(|two| !one.starts_with(two) && !two.starts_with(one)));
    }
    assert_eq!(listing("https://a"), dirs[4]);
}

#[test]
fn what_the_operator_placed_is_in_each_domain() {
    let temp = tempfile::tempdir().unwrap();
    let (cache, outside) = (Cache { dir: temp.path().join("cache") }, temp.path().join("suite"));
    let operator = cache.clones(None);
    for dir in [operator.join("tool"), operator.join("built"), operator.join(".clone-1"), outside.clone()] {
        own::create_dir_all(&dir).unwrap();
    }
    own::write(&operator.join("tool/check"), "operator").unwrap();
    symlink(&outside, operator.join("suite")).unwrap();
    symlink("nowhere", operator.join("dangling")).unwrap();
    let trust: TrustDomain = "user/a".parse().unwrap();
    let dir = of_domain(&cache, Some(&trust)).unwrap();
    assert_eq!(names(&dir), ["suite", "tool"]);
    assert_eq!(own::read_to_string(&dir.join("tool/check"), 10).unwrap(), "operator");
    assert_eq!(placed(&dir).unwrap(), Some(operator.clone()));
    assert!(is_linked(&dir, &outside.join("x")).unwrap());
    assert!(!is_linked(&dir, &temp.path().join("x")).unwrap());
    // A link follows the operator's changes; a clone of the domain and a link of its operator stay.
    own::remove_tree(&operator.join("tool")).unwrap();
    own::create_dir_all(&dir.join("own")).unwrap();
    symlink(&outside, dir.join("linked")).unwrap();
    own::create_dir_all(&operator.join("own")).unwrap();
    of_domain(&cache, Some(&trust)).unwrap();
    assert_eq!(names(&dir), ["linked", "own", "suite"]);
    assert!(own::read_link(&dir.join("own")).is_err());
    assert_eq!(placed(&operator).unwrap(), None);
    // A directory that cannot be read is an error, not one without clones.
    own::write(&temp.path().join("file"), "").unwrap();
    assert!(
        links(&temp.path().join("file")).is_err() && links(&temp.path().join("none")).unwrap().is_empty()
    );
}

#[test]
fn the_version_of_a_suite_changes_with_its_commit_and_its_cases() {
    let (dir, suite) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (placed, source) = (dir.path().join("deps"), suite.path().join("xfstests"));
    let run = |args: &[&str]| {
        let output = std::process::Command::new("git").arg("-C").arg(&source).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let commit = |name: &str| {
        std::fs::create_dir_all(source.join("tests/generic")).unwrap();
        std::fs::write(source.join("tests/generic").join(name), "").unwrap();
        run(&["add", "-A"]);
        run(&["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", name]);
    };
    assert_eq!(versions(&placed), Vec::<String>::new(), "no directory");
    std::fs::create_dir_all(placed.join(BUILT)).unwrap();
    assert_eq!(versions(&placed), Vec::<String>::new());
    std::fs::create_dir_all(&source).unwrap();
    run(&["init", "-q"]);
    std::os::unix::fs::symlink(&source, placed.join("xfstests")).unwrap();
    let mut seen = vec![versions(&placed)];
    assert!(seen[0].len() == 1 && seen[0][0].starts_with("xfstests - "), "{seen:?}");
    for name in ["001", "002"] {
        commit(name);
        seen.push(versions(&placed));
    }
    assert_eq!(seen[2], versions(&placed), "nothing changed");
    // A case that is not committed.
    std::fs::write(source.join("tests/generic/003"), "").unwrap();
    seen.push(versions(&placed));
    std::fs::remove_file(placed.join("xfstests")).unwrap();
    seen.push(versions(&placed));
    for (at, version) in seen.iter().enumerate() {
        assert!(!seen[..at].contains(version), "{at}: {seen:?}");
    }
}
