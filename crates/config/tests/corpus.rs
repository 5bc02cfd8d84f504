//! Invalid configurations with their error messages, and valid ones with their values.

use std::path::{Path, PathBuf};

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A message without the path of the checkout.
fn relative(text: &str) -> String {
    text.replace(&format!("{}/", dir("").display()).replace("//", "/"), "")
}

#[test]
fn every_invalid_file_has_its_message() {
    let mut files: Vec<_> =
        std::fs::read_dir(dir("broken")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut report = String::new();
    for file in files {
        let error = config::load(&file).expect_err(&file.display().to_string()).to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        report += &format!("{}\n", relative(&error));
    }
    insta::assert_snapshot!(report);
}

#[test]
fn the_values_of_a_valid_configuration() {
    let (config, problems) = config::load_lenient(&dir("good/ci.toml")).unwrap();
    insta::assert_snapshot!(relative(&format!("{config:#?}\n")));
    let problems: Vec<String> = problems.iter().map(|problem| relative(&problem.to_string())).collect();
    assert_eq!(
        problems,
        [r#"good/users/sloppy.toml:1: unknown key "brnch"; did you mean "branch"?"#],
        "an invalid file affects one user only"
    );
    assert!(config.broken_users.contains("sloppy"));
    assert!(config::load(&dir("good/ci.toml")).is_err(), "load refuses it");
}

#[test]
fn groups_and_branches_are_resolved() {
    let (config, _) = config::load_lenient(&dir("good/ci.toml")).unwrap();
    let branch = config.branch(&"tytso/dev".parse().unwrap()).unwrap();
    let groups: Vec<_> = config.groups_of(branch).map(|group| (group.name.as_str(), group.nice)).collect();
    assert_eq!(groups, [("ext4", 2), ("ext4-debian", 2), ("bcachefs", 0)]);
    assert_eq!(config.tests_of(branch).len(), 3);
    assert_eq!(branch.local_ref(), "refs/ktest/tytso/dev");
    assert_eq!(config.repo(&model::RepoName::linux()), Some(Path::new("/srv/ci/linux.git")));
    assert_eq!(config.slots(), 82);
    assert!(config.weight(&"kmo".parse().unwrap()) < config.weight(&"tytso".parse().unwrap()));
    let group = config.test_group(&"tytso".parse().unwrap(), &"ext4".parse().unwrap()).unwrap();
    assert_eq!(
        (group.nice_of(11, 0, 130), group.nice_of(11, 1, 0), group.nice_of(0, 0, 0)),
        (2 + 10 + 2, 2, 2)
    );
}

#[test]
fn a_file_of_the_previous_system_is_accepted() {
    let (config, problems) = config::load_lenient(&dir("good/existing.json5")).unwrap();
    assert_eq!(config.hosts.len(), 2);
    assert_eq!(config.hosts["farm2"].kind, config::HostKind::Ssh);
    assert_eq!(config.repo(&"bcachefs-tools".parse().unwrap()), Some(Path::new("/home/ci/bcachefs-tools")));
    assert_eq!(problems.len(), 1, "users_dir does not exist: {problems:?}");
}

#[test]
fn a_users_file_sets_variables_of_tests_only() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("ci.toml");
    let text = std::fs::read_to_string(self::dir("good/ci.toml")).unwrap();
    std::fs::write(&main, text).unwrap();
    std::fs::create_dir(dir.path().join("users")).unwrap();
    let problem = |env: &str| {
        let text = format!("[test_group.g]\ntests = [\"boot.ktest\"]\nenv = {{ {env} = \"x\" }}\n");
        std::fs::write(dir.path().join("users/eve.toml"), text).unwrap();
        let (_, problems) = config::load_lenient(&main).unwrap();
        problems.iter().map(ToString::to_string).collect::<String>()
    };
    // VARIANT is set by a group in the main file.
    for name in ["ktest_flavor", "ktest_arch", "VARIANT"] {
        assert!(!problem(name).contains("must not set"), "{name}: {}", problem(name));
    }
    for name in [
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "HOME",
        "BASH_ENV",
        "ENV",
        "IFS",
        "SHELLOPTS",
        "GIT_SSH_COMMAND",
        "MAKEFLAGS",
        "KTEST_CACHE_DIR",
        "PYTHONPATH",
        "TMPDIR",
        "X",
    ] {
        let problem = problem(name);
        assert!(
            problem
                .contains(&format!("users/eve.toml:1: env: a user's file must not set {name}; use a name")),
            "{problem}"
        );
    }
}

#[test]
fn a_users_file_has_no_suites() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("ci.toml");
    std::fs::write(&main, std::fs::read_to_string(self::dir("good/ci.toml")).unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("users")).unwrap();
    let text = "[suite.xfstests]\nrepo = \"https://git.example.org/x.git\"\n";
    std::fs::write(dir.path().join("users/eve.toml"), text).unwrap();
    let (config, problems) = config::load_lenient(&main).unwrap();
    let problems: String = problems.iter().map(ToString::to_string).collect();
    assert!(problems.contains("users/eve.toml:1: unknown key \"suite\""), "{problems}");
    assert_eq!(config.suites["xfstests"].remote.as_str(), "https://git.example.org/xfstests.git");
}

#[test]
fn a_users_file_does_not_open_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("ci.toml");
    std::fs::write(&main, std::fs::read_to_string(self::dir("good/ci.toml")).unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("users")).unwrap();
    for (setting, accepted) in [
        ("network = true", false),
        ("network = false", true),
        ("env = { ktest_network = \"true\" }", false),
        ("env = { ktest_network = \"false\" }", false),
    ] {
        let text = format!("[test_group.g]\ntests = [\"boot.ktest\"]\n{setting}\n");
        std::fs::write(dir.path().join("users/eve.toml"), text).unwrap();
        let (_, problems) = config::load_lenient(&main).unwrap();
        let problems: String = problems.iter().map(ToString::to_string).collect();
        let refused = problems.contains("users/eve.toml:1: network is allowed in the main file only");
        assert_eq!(refused, !accepted, "{setting}: {problems}");
    }
}

#[test]
fn a_users_file_disables_only_itself() {
    use std::os::unix::fs::symlink;
    let top = tempfile::tempdir().unwrap();
    let (main, users) = (top.path().join("ci.toml"), top.path().join("users"));
    let limits = "[users]\nmax_branches = 2\nmax_fetches = 3\nmax_workers = 5\nmax_disk = \"10G\"\n";
    let head = std::fs::read_to_string(dir("good/ci.toml")).unwrap();
    std::fs::write(&main, format!("{head}\n{limits}")).unwrap();
    std::fs::create_dir(&users).unwrap();
    let branch = |name: &str, remote: &str| {
        format!("[branch.{name}]\nremote = {remote:?}\ntest_groups = [\"bcachefs\"]\n")
    };
    let public = "https://git.example.org/linux.git";
    let text = |name: &str, text: String| std::fs::write(users.join(format!("{name}.toml")), text).unwrap();
    text("good", branch("next", public));
    text("key", branch("next", public) + "bse = \"v6.1\"\n");
    text("cache", branch("next", public) + "base_cache = true\n");
    text("path", branch("next", "/srv/ci/linux.git"));
    text("home", branch("next", "./linux.git"));
    text("file", branch("next", "file:///srv/ci/linux.git"));
    text("intranet", branch("next", "https://192.168.1.1/linux.git"));
    text("ssh", branch("next", "git@git.example.org:linux.git"));
    text("many", ["a", "b", "c"].map(|name| branch(name, public)).concat());
    symlink("/dev/zero", users.join("zero.toml")).unwrap();
    symlink("good.toml", users.join("link.toml")).unwrap();
    std::fs::create_dir(users.join("dir.toml")).unwrap();
    std::fs::File::create(users.join("huge.toml")).unwrap().set_len(1 << 40).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(users.join("fifo.toml")).status().unwrap();
    assert!(fifo.success());
    let began = std::time::Instant::now();
    let (config, problems) = config::load_lenient(&main).unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    assert!(config.branch(&"good/next".parse().unwrap()).is_some());
    assert_eq!((config.users.max_fetches, config.users.max_workers), (3, Some(5)));
    let problems: Vec<String> = problems
        .iter()
        .map(|problem| problem.to_string().replace(&format!("{}/", users.display()), ""))
        .collect();
    insta::assert_snapshot!(problems.join("\n"));
    assert_eq!(config.broken_users.len(), problems.len());
    assert!(!config.all_branches().any(|branch| config.broken_users.contains(&branch.name.user)));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(toml: bool, text in "((test_group|branch|host|repos)?[\\[\\]{}:.=,\"'a-z 0-9\n]{0,12}){0,5}") {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(if toml { "a.toml" } else { "a.json5" });
        std::fs::write(&path, text).unwrap();
        assert!(config::load(&path).is_err());
    }
}
