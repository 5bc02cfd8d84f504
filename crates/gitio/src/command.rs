//! The `git` command line. No other code in the workspace starts git.
//!
//! A repository's configuration, attributes and hooks may have been written by another user. No call runs a program
//! that they name, reads the configuration of this user or host, prompts for input, or leaves a process behind.

use std::path::Path;
use std::time::Duration;

use spawn::{Cmd, Limits, Output};

use crate::error::GitError;
use crate::repo::Repo;

/// The environment variables of git that are passed on: they affect how a remote is reached. All others could select
/// another repository, another configuration or a program to run.
const INHERITED: [&str; 6] =
    ["GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_CERT", "GIT_SSL_KEY"];

/// Settings that override those of the repository.
const SETTINGS: [&str; 9] = [
    "safe.directory=*",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.alternateRefsCommand=true",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
];

/// A short local operation.
pub(crate) const QUICK: Limits = Limits { time: Duration::from_secs(60), bytes: 16 << 20 };

/// `git` without a repository.
pub(crate) fn git_alone() -> Cmd {
    let mut cmd = Cmd::new("git");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GIT_") && !INHERITED.contains(&text.as_ref()) {
            cmd = cmd.env_remove(name);
        }
    }
    let settings = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
    let cmd = cmd
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env("GIT_OPTIONAL_LOCKS", "0")
        // Overrides protocol.*.allow and disables remote helpers.
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        // Overrides core.gitProxy, which is a program.
        .env("GIT_PROXY_COMMAND", "")
        .env("LC_ALL", "C")
        .args(settings);
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        return cmd.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=15");
    }
    cmd
}

/// `git` in the repository `git_dir`, which may belong to another user.
pub(crate) fn git(git_dir: &Path) -> Cmd {
    git_alone().arg("--git-dir").arg(git_dir)
}

impl Repo {
    /// Arguments that disable the filters that the repository configures. Without them, a checkout or an archive would
    /// run the programs that the configuration names for the attributes of the commit.
    pub(crate) async fn without_filters(&self) -> Result<Vec<String>, GitError> {
        let names = self.settings(r"^filter\.").await?;
        Ok(names.iter().filter_map(|name| disabled(name)).flatten().collect())
    }

    /// The names of the settings of the repository that match a regular expression.
    pub(crate) async fn settings(&self, pattern: &str) -> Result<Vec<String>, GitError> {
        let list = git(self.git_dir()).args(["config", "--null", "--name-only", "--get-regexp", pattern]);
        let output = list.output(QUICK).await?;
        // Exit code 1 means none.
        let names = output.text();
        Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Runs `git ARGS` in the repository. An exit code other than 0 is an error.
    pub(crate) async fn run(
        &self,
        action: &'static str,
        cmd: Cmd,
        limits: Limits,
    ) -> Result<Output, GitError> {
        succeeded(action, self.path(), cmd.output(limits).await?)
    }
}

/// The arguments that override one setting of a filter; `None` if the name is not one.
fn disabled(name: &str) -> Option<[String; 2]> {
    let value = match name.rsplit_once('.')?.1 {
        "required" => "false",
        "clean" | "smudge" | "process" => "",
        _ => return None,
    };
    Some(["-c".into(), format!("{name}={value}")])
}

/// Converts an exit code other than 0 to an error.
pub(crate) fn succeeded(action: &'static str, repo: &Path, output: Output) -> Result<Output, GitError> {
    if output.exit.success() {
        return Ok(output);
    }
    Err(GitError::Command { action, repo: repo.into(), message: error_message(&output) })
}

/// The message of git's first `fatal:` or `error:` line. The following lines are advice for interactive use.
pub(crate) fn error_message(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let find = |prefix| text.lines().find_map(|line| line.trim().strip_prefix(prefix));
    match find("fatal: ").or_else(|| find("error: ")) {
        // ssh printed the cause before.
        Some(line)
            if line.starts_with("Could not read from remote") || line.contains("the remote end hung up") =>
        {
            let before =
                text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("fatal: "));
            before.unwrap_or(line).to_owned()
        }
        Some(line) => line.to_owned(),
        None => format!("{} ({})", output.error_line(), output.exit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_of_a_filter_is_disabled() {
        let arguments = |name| disabled(name).map(|[_, setting]| setting);
        assert_eq!(arguments("filter.a.b.smudge").as_deref(), Some("filter.a.b.smudge="));
        assert_eq!(arguments("filter.lfs.process").as_deref(), Some("filter.lfs.process="));
        assert_eq!(arguments("filter.lfs.required").as_deref(), Some("filter.lfs.required=false"));
        assert_eq!(arguments("filter.lfs.other"), None);
    }
}
