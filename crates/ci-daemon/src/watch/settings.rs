//! The configuration in effect: reread in every cycle. While the file is invalid, the last good configuration stays in
//! effect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Config, ConfigError};
use model::UserName;

/// The configuration in effect, and the problems of its files.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    config: Arc<Config>,
    problems: Vec<String>,
}

impl Settings {
    /// Reads the configuration at the start, when there is no last good one.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (config, problems) = config::load_lenient(path)?;
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Self { path: path.into(), config: Arc::new(config), problems })
    }

    /// Reads the files again. An invalid main file changes nothing. An invalid user's file leaves that user's branches
    /// and groups unchanged.
    pub fn reload(&mut self) {
        match config::load_lenient(&self.path) {
            Ok((config, problems)) => {
                let config = keep_broken_users(config, &self.config);
                if config != *self.config {
                    tracing::info!(config = %self.path.display(), "the configuration changed");
                    self.config = Arc::new(config);
                }
                let texts: Vec<_> = problems
                    .iter()
                    .map(|problem| {
                        format!("configuration: {problem}; {}", consequence(problem, &self.config))
                    })
                    .collect();
                self.set_problems(texts);
            }
            Err(error) => {
                self.set_problems([format!(
                    "configuration: {error}; the last good configuration stays in force"
                )]);
            }
        }
    }

    fn set_problems(&mut self, problems: impl IntoIterator<Item = String>) {
        let problems: Vec<String> = problems.into_iter().collect();
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.problems = problems;
    }

    /// The configuration in force.
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

/// The consequence of an invalid user's file, given the configuration in effect.
fn consequence(problem: &ConfigError, in_force: &Config) -> &'static str {
    let file = problem.file();
    if file.is_some() && file == in_force.users_dir.as_deref() {
        return "the branches of its users are not tested";
    }
    let user = file.and_then(Path::file_stem).and_then(|stem| stem.to_str()?.parse::<UserName>().ok());
    if user.is_some_and(|user| in_force.branches.keys().any(|name| name.user == user)) {
        "the last good configuration of this user stays in force"
    } else {
        "the branches of this file are not tested"
    }
}

fn keep_broken_users(mut new: Config, old: &Config) -> Config {
    for user in &new.broken_users {
        let branches = old.branches.iter().filter(|(name, _)| name.user == *user);
        new.branches.extend(branches.map(|(name, branch)| (name.clone(), branch.clone())));
        if let Some(groups) = old.user_groups.get(user) {
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

    #[test]
    fn the_last_good_configuration_stays_in_effect() {
        let dir = tempfile::tempdir().unwrap();
        let (path, anna) = (dir.path().join("ci.toml"), dir.path().join("users/anna.toml"));
        std::fs::create_dir(dir.path().join("users")).unwrap();
        std::fs::write(&path, MAIN).unwrap();
        std::fs::write(&anna, ANNA).unwrap();
        let mut settings = Settings::load(&path).unwrap();
        let branches = |settings: &Settings| {
            let names = settings.config().all_branches().map(|branch| branch.name.to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(branches(&settings), "anna/fix kmo/next");
        // An invalid main file changes nothing.
        std::fs::write(&path, MAIN.replace("[branch.next]", "[branch.next")).unwrap();
        settings.reload();
        assert_eq!(branches(&settings), "anna/fix kmo/next");
        assert!(
            settings.problems()[0].ends_with("the last good configuration stays in force"),
            "{:?}",
            settings.problems()
        );
        // An invalid user's file changes nothing either; the change of the main file takes effect.
        std::fs::write(&path, MAIN.replace("next", "testing")).unwrap();
        std::fs::write(&anna, ANNA.replace("\"g\"", "\"gg\"")).unwrap();
        settings.reload();
        assert_eq!(branches(&settings), "anna/fix kmo/testing");
        assert_eq!(settings.problems().len(), 1);
        assert!(settings.problems()[0].ends_with("of this user stays in force"), "{:?}", settings.problems());
        // A file that was never valid has no last good configuration.
        let new = dir.path().join("users/new.toml");
        std::fs::write(&new, "colour = 1\n").unwrap();
        settings.reload();
        assert!(settings.problems()[1].ends_with("the branches of this file are not tested"));
        std::fs::remove_file(new).unwrap();
        // The user's file is valid again, with one more branch.
        std::fs::write(&anna, format!("{ANNA}{}", ANNA.replace("fix", "more"))).unwrap();
        settings.reload();
        assert_eq!(branches(&settings), "anna/fix anna/more kmo/testing");
        assert!(settings.problems().is_empty());
    }
}
