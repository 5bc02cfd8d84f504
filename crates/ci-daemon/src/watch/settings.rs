//! The configuration in effect: reread in every cycle. While the file is invalid, the last good
//! configuration stays in effect.
//!
//! A branch is removed only if two successive reads agree. So no branch is lost while an editor replaces a file or a
//! directory is not mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{Branch, Config, ConfigError};
use model::UserName;
use tokio::task::JoinHandle;

/// The time limit for reading the files. A network file system can hang.
const ANSWER: Duration = Duration::from_secs(10);
/// The time between two reads if branches have disappeared.
const SETTLE: Duration = Duration::from_secs(1);
/// The maximum number of reads per cycle.
const READINGS: usize = 3;

type Loaded = Result<(Config, Vec<ConfigError>), ConfigError>;

/// The configuration in effect, and the problems of its files.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    config: Arc<Config>,
    problems: Vec<String>,
    /// A read that did not end within the time limit.
    hanging: Option<JoinHandle<Loaded>>,
}

impl Settings {
    /// Reads the configuration at the start, when there is no last good one.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (config, problems) = config::load_lenient(path)?;
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Self { path: path.into(), config: Arc::new(config), problems, hanging: None })
    }

    /// Reads the files again. An invalid main file changes nothing. An invalid user's file keeps that user's branches
    /// and groups unchanged, and an unreadable directory those of all users.
    pub async fn reload(&mut self) {
        let (path, answer) = (self.path.clone(), ANSWER);
        self.reload_with(move || config::load_lenient(&path), answer, SETTLE).await;
    }

    async fn reload_with<F>(&mut self, read: F, answer: Duration, settle: Duration)
    where
        F: Fn() -> Loaded + Clone + Send + 'static,
    {
        let mut previous = None;
        for _ in 0..READINGS {
            let (config, problems) = match self.read(read.clone(), answer).await {
                Some(Ok(loaded)) => self.merge(loaded),
                Some(Err(error)) => return self.stay(&error.to_string()),
                None => {
                    let seconds = answer.as_secs();
                    return self.stay(&format!("its files cannot be read within {seconds} s"));
                }
            };
            let lost = self.config.branches.keys().any(|name| !config.branches.contains_key(name));
            if !lost || previous.as_ref() == Some(&config) {
                return self.accept(config, problems);
            }
            previous = Some(config);
            tokio::time::sleep(settle).await;
        }
        self.stay("its files change while they are read");
    }

    /// Reads the files on a blocking thread; `None` if that takes too long. There is at most one such thread.
    async fn read<F>(&mut self, read: F, answer: Duration) -> Option<Loaded>
    where
        F: Fn() -> Loaded + Send + 'static,
    {
        if self.hanging.take_if(|reading| reading.is_finished()).is_none() && self.hanging.is_some() {
            return None;
        }
        let mut reading = tokio::task::spawn_blocking(read);
        match tokio::time::timeout(answer, &mut reading).await {
            Ok(Ok(loaded)) => Some(loaded),
            Ok(Err(error)) => {
                tracing::error!("the configuration cannot be read: {error}");
                None
            }
            Err(_) => {
                self.hanging = Some(reading);
                None
            }
        }
    }

    /// The configuration that was read, with the parts of the last one that stay in effect, and the problems of its files.
    fn merge(&self, (config, problems): (Config, Vec<ConfigError>)) -> (Config, Vec<String>) {
        let old = &self.config;
        let dir = config.top.users_dir.clone();
        let is_unread = dir.is_some() && problems.iter().any(|problem| problem.file() == dir.as_deref());
        // Like a mount point without a mounted file system.
        let is_empty = !is_unread && config.files.len() == 1 && has_users(old);
        let emptied = dir.filter(|dir| is_empty && old.top.users_dir.as_ref() == Some(dir));
        let (broken, all) = (config.broken_users.clone(), is_unread || emptied.is_some());
        let config = keep_users(config, old, |user| all || broken.contains(user));
        let text =
            |problem: &ConfigError| format!("configuration: {problem}; {}", consequence(problem, &config));
        let mut texts: Vec<String> = problems.iter().map(text).collect();
        texts.extend(emptied.map(|dir| {
            format!(
                "configuration: {}: all files are gone; {ALL_STAY}; to drop them, remove users_dir from {}",
                dir.display(),
                self.path.display()
            )
        }));
        (config, texts)
    }

    fn accept(&mut self, config: Config, problems: Vec<String>) {
        if config != *self.config {
            tracing::info!(config = %self.path.display(), "the configuration changed");
            self.config = Arc::new(config);
        }
        self.set_problems(problems);
    }

    fn stay(&mut self, problem: &str) {
        self.set_problems(vec![format!(
            "configuration: {problem}; the last good configuration stays in force"
        )]);
    }

    fn set_problems(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.problems = problems;
    }

    /// The configuration in effect.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The problems of the files.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}
/// The consequence of an unreadable directory of users.
const ALL_STAY: &str = "the last good configuration of its users stays in force";

/// Whether there are branches of users' files.
fn has_users(config: &Config) -> bool {
    config.branches.keys().any(|name| config.has_limits(&name.user))
}

/// The consequence of an invalid user's file, given the configuration in effect.
fn consequence(problem: &ConfigError, in_force: &Config) -> &'static str {
    let file = problem.file();
    if file.is_some() && file == in_force.top.users_dir.as_deref() {
        return if has_users(in_force) { ALL_STAY } else { "the branches of its users are not tested" };
    }
    let user = file.and_then(Path::file_stem).and_then(|stem| stem.to_str()?.parse::<UserName>().ok());
    if user.is_some_and(|user| in_force.branches.keys().any(|name| name.user == user)) {
        "the last good configuration of this user stays in force"
    } else {
        "the branches of this file are not tested"
    }
}

/// Adds the previous groups and branches of these users, within the limits of the new main file: an invalid user's file
/// does not keep a remote that the operator no longer allows.
fn keep_users(mut new: Config, old: &Config, keep: impl Fn(&UserName) -> bool) -> Config {
    let is_kept = |new: &Config, user: &UserName| keep(user) && old.has_limits(user) && new.has_limits(user);
    let mut branches: BTreeMap<&UserName, Vec<Branch>> = BTreeMap::new();
    for (name, branch) in old.branches.iter().filter(|(name, _)| is_kept(&new, &name.user)) {
        if let Ok(remote_host) = new.users.check(&branch.remote) {
            branches.entry(&name.user).or_default().push(Branch { remote_host, ..branch.clone() });
        }
    }
    for branch in branches.into_values().flat_map(|of_user| of_user.into_iter().take(new.users.max_branches))
    {
        new.branches.insert(branch.name.clone(), branch);
    }
    for (user, groups) in &old.user_groups {
        if is_kept(&new, user) {
            new.user_groups.insert(user.clone(), groups.clone());
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = r#"
linux_repo = "/srv/linux.git"
output_dir = "/srv/out"
ktest_dir = "/srv/ktest"
user = "kmo"
users_dir = "users"
[test_group.g]
tests = ["boot.ktest"]
[branch.next]
remote = "https://git.example.org/linux.git"
test_groups = ["g"]
"#;
    const ANNA: &str =
        "[branch.fix]\nremote = \"https://git.example.org/linux.git\"\ntest_groups = [\"g\"]\n";

    /// A main file, a user's file of anna, and the resulting settings.
    struct Files {
        dir: tempfile::TempDir,
        settings: Settings,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("users")).unwrap();
            std::fs::write(dir.path().join("ci.toml"), MAIN).unwrap();
            std::fs::write(dir.path().join("users/anna.toml"), ANNA).unwrap();
            let settings = Settings::load(&dir.path().join("ci.toml")).unwrap();
            Self { dir, settings }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        async fn reload(&mut self) -> String {
            let path = self.path("ci.toml");
            self.reload_with(move || config::load_lenient(&path)).await
        }

        /// The branches in effect, and the end of each problem.
        async fn reload_with(&mut self, read: impl Fn() -> Loaded + Clone + Send + 'static) -> String {
            let (answer, settle) = (Duration::from_millis(500), Duration::from_millis(50));
            self.settings.reload_with(read, answer, settle).await;
            let names = self.settings.config().all_branches().map(|branch| branch.name.to_string());
            let ends = self.settings.problems().iter().filter_map(|problem| problem.rsplit("; ").next());
            names.chain(ends.map(|end| format!("[{end}]"))).collect::<Vec<_>>().join(" ")
        }
    }

    const ALL: &str = "anna/fix kmo/next";
    const STAYS: &str = "anna/fix kmo/next [the last good configuration stays in force]";
    const USERS_STAY: &str = "anna/fix kmo/next [the last good configuration of its users stays in force]";

    #[tokio::test]
    async fn the_last_good_configuration_stays_in_effect() {
        let mut files = Files::new();
        assert_eq!(files.reload().await, ALL);
        // An invalid main file changes nothing.
        files.write("ci.toml", &MAIN.replace("[branch.next]", "[branch.next"));
        assert_eq!(files.reload().await, STAYS);
        std::fs::remove_file(files.path("ci.toml")).unwrap();
        assert_eq!(files.reload().await, STAYS);
        // An invalid user's file changes nothing either; the change of the main file takes effect.
        files.write("ci.toml", &MAIN.replace("next", "testing"));
        for broken in [ANNA.replace("\"g\"", "\"gg\""), ANNA[..30].into(), String::new(), "\n \n".into()] {
            files.write("users/anna.toml", &broken);
            assert_eq!(
                files.reload().await,
                "anna/fix kmo/testing [the last good configuration of this user stays in force]",
                "{broken:?}"
            );
        }
        // A file that was never valid has no last good configuration.
        files.write("users/new.toml", "colour = 1\n");
        assert!(files.reload().await.ends_with("[the branches of this file are not tested]"));
        std::fs::remove_file(files.path("users/new.toml")).unwrap();
        // The user's file is valid again, with one more branch.
        files.write("users/anna.toml", &format!("{ANNA}{}", ANNA.replace("fix", "more")));
        assert_eq!(files.reload().await, "anna/fix anna/more kmo/testing");
    }

    #[tokio::test]
    async fn an_unreadable_directory_of_users_drops_no_branch() {
        let mut files = Files::new();
        let (users, away) = (files.path("users"), files.path("away"));
        std::fs::rename(&users, &away).unwrap();
        assert_eq!(files.reload().await, USERS_STAY);
        std::fs::write(&users, "not a directory").unwrap();
        assert_eq!(files.reload().await, USERS_STAY);
        std::fs::remove_file(&users).unwrap();
        // A mount point without its file system. The operator can drop all users.
        std::fs::create_dir(&users).unwrap();
        let without = MAIN.replace("users_dir = \"users\"", "");
        let to_drop = format!("[to drop them, remove users_dir from {}]", files.path("ci.toml").display());
        assert_eq!(files.reload().await, format!("{ALL} {to_drop}"));
        assert_eq!(files.reload().await, format!("{ALL} {to_drop}"), "also in the next cycle");
        files.write("ci.toml", &without);
        assert_eq!(files.reload().await, "kmo/next");
        // One of several files is removed intentionally.
        std::fs::remove_dir(&users).unwrap();
        std::fs::rename(&away, &users).unwrap();
        files.write("ci.toml", MAIN);
        files.write("users/bob.toml", ANNA);
        assert_eq!(files.reload().await, "anna/fix bob/fix kmo/next");
        std::fs::remove_file(files.path("users/anna.toml")).unwrap();
        assert_eq!(files.reload().await, "bob/fix kmo/next");
    }

    #[tokio::test]
    async fn an_unreadable_directory_at_the_start_has_no_last_good_configuration() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ci.toml"), MAIN).unwrap();
        let settings = Settings::load(&dir.path().join("ci.toml")).unwrap();
        let mut files = Files { dir, settings };
        assert_eq!(files.reload().await, "kmo/next [the branches of its users are not tested]");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_for_a_moment_drops_no_branch() {
        let mut files = Files::new();
        files.write("users/bob.toml", ANNA);
        assert_eq!(files.reload().await, "anna/fix bob/fix kmo/next");
        let (main, anna) = (files.path("ci.toml"), files.path("users/anna.toml"));
        // An editor that removes the old file before it writes the new one.
        let read = move || {
            let (_, loaded) = (std::fs::remove_file(&anna), config::load_lenient(&main));
            std::fs::write(&anna, ANNA).unwrap();
            loaded
        };
        let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let path = files.path("ci.toml");
        let once = move || match first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => read(),
            false => config::load_lenient(&path),
        };
        assert_eq!(files.reload_with(once).await, "anna/fix bob/fix kmo/next");
        // A file that changes between all reads.
        let (main, count) = (files.path("ci.toml"), std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::new(count);
        let changing = move || {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::fs::write(&main, MAIN.replace("next", &format!("next{n}"))).unwrap();
            config::load_lenient(&main)
        };
        assert_eq!(
            files.reload_with(changing).await,
            "anna/fix bob/fix kmo/next [the last good configuration stays in force]"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_system_that_hangs_changes_nothing() {
        let mut files = Files::new();
        let (main, (go, wait)) = (files.path("ci.toml"), std::sync::mpsc::channel::<()>());
        let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
        let hangs = move || {
            let _ = wait.lock().unwrap().recv();
            config::load_lenient(&main)
        };
        assert_eq!(files.reload_with(hangs.clone()).await, STAYS);
        // There is no second thread, and the next cycle does not wait again.
        let began = std::time::Instant::now();
        assert_eq!(files.reload_with(hangs.clone()).await, STAYS);
        assert!(began.elapsed() < Duration::from_millis(400));
        drop(go);
        while files.reload_with(hangs.clone()).await != ALL {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_broken_file_keeps_nothing_that_the_operator_no_longer_allows() {
        let mut files = Files::new();
        files.write("users/anna.toml", &format!("{ANNA}{}", ANNA.replace("fix", "more")));
        assert_eq!(files.reload().await, "anna/fix anna/more kmo/next");
        files.write("users/anna.toml", "colour = 1\n");
        files.write("ci.toml", &format!("{MAIN}\n[users]\nmax_branches = 1\n"));
        assert!(files.reload().await.starts_with("anna/fix kmo/next ["));
        files.write("ci.toml", &format!("{MAIN}\n[users]\nallow_remotes = [\"https://git.kernel.org/*\"]\n"));
        assert!(files.reload().await.starts_with("kmo/next ["));
    }
}
