//! The git command, made harmless: it asks nothing, reads nobody's configuration but the repository's, runs no hooks,
//! starts nothing that outlives it.

use std::path::Path;

use spawn::Cmd;

/// Variables that would make git look at another repository than the one it is told.
const FOREIGN: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
];

/// `git` in the repository `git_dir`, which may belong to another user: whoever configured it here trusts it.
pub(crate) fn git(git_dir: &Path) -> Cmd {
    let mut cmd = Cmd::new("git")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C");
    for name in FOREIGN {
        cmd = cmd.env_remove(name);
    }
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        cmd = cmd.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=15");
    }
    for setting in [
        "safe.directory=*",
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.attributesFile=/dev/null",
        "credential.helper=",
        "gc.auto=0",
        "maintenance.auto=false",
        "submodule.recurse=false",
    ] {
        cmd = cmd.arg("-c").arg(setting);
    }
    cmd.arg("--git-dir").arg(git_dir)
}

/// What git complains about: its first `fatal:` or `error:` line, without that word; the lines after it are advice
/// about other situations than a daemon's.
pub(crate) fn complaint(output: &spawn::Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let worst = |word| text.lines().find_map(|line| line.trim().strip_prefix(word));
    match worst("fatal: ").or_else(|| worst("error: ")) {
        // "Could not read from remote repository." is what git says when ssh said why before.
        Some(line)
            if line.starts_with("Could not read from remote") || line.contains("the remote end hung up") =>
        {
            let before =
                text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("fatal: "));
            before.unwrap_or(line).to_owned()
        }
        Some(line) => line.to_owned(),
        None => format!("{} ({})", output.complaint(), output.exit),
    }
}
