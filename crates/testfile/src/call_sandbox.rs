//! The sandbox for `list-tests` and `deps`. From the host, only the programs, the tree of the test file and the clones
//! of `require-git` are visible. There is no network: repositories requested with `require-git` are cloned outside the
//! sandbox, and the call is repeated.
//!
//! Only the subdirectory `built` of the clone directory is writable, for test suites that are built once
//! (lib/suite.sh). A call that tries to write to its tree is repeated with a copy of it in memory: the existing system
//! creates the group files of xfstests there when it lists them.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::own;
use fsx::untrusted::Scratch;
use model::Remote;
use sandbox::{Resources, Sandbox};
use spawn::{Cmd, Output};

use crate::HostEnv;
use crate::clones::{self, BUILT};

/// The path in the sandbox to which the file writes its requests.
const REQUESTS_SEEN: &str = "/ktest/git-requests";
/// The directory in the sandbox with the commands that replace those of the host, which `git.bash` names too.
const COMMANDS: &str = "/ktest/bin";
/// PATH in the sandbox.
const PATH: &str = "/ktest/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// The path in the sandbox of the directory that a call has a copy of.
const ORIGINAL: &str = "/ktest/tree";
/// Copies it to `$0`, and runs the call.
const COPY: &str = r#"cp -dR --preserve=mode,timestamps /ktest/tree/. "$0/" && exec "$@""#;
/// The command `git`.
const GIT: &str = include_str!("git.bash");
/// The maximum size of the requests of one call, in bytes.
const REQUESTS_BYTES: u64 = 64 << 10;
/// The time limit of one clone.
const CLONE_LIMIT: Duration = Duration::from_secs(600);

/// The limits of `list-tests`.
pub(crate) fn small() -> Resources {
    Resources {
        memory: Some(4 << 30),
        total_memory: Some(4 << 30),
        processes: 512,
        file_size: 64 << 20,
        tmp: 256 << 20,
    }
}

/// A repository that a test file requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitRequest {
    url: Remote,
    /// The name of its directory.
    name: String,
}

/// Why the requests of a call cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The test file requests something that is never cloned, or that is too large to be checked out.
    #[error("{0}")]
    Refused(String),
    /// The clone failed, or a file of this host could not be accessed.
    #[error("{0}")]
    Failed(String),
}

/// The requests of one call. The sandboxed program can only write the content of this file.
pub(crate) struct GitRequests {
    requests: PathBuf,
    /// The command `git` of the sandbox.
    git: PathBuf,
    _dir: Scratch,
}

impl GitRequests {
    pub(crate) fn new() -> std::io::Result<Self> {
        let dir = Scratch::temporary()?;
        let (requests, git) = (dir.path().join("requests"), dir.path().join("git"));
        own::write(&requests, "")?;
        own::write(&git, GIT)?;
        std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { requests, git, _dir: dir })
    }

    /// Reads and validates the requests.
    pub(crate) fn read(&self) -> Result<Vec<GitRequest>, RequestError> {
        let text =
            own::read_to_string(&self.requests, REQUESTS_BYTES).map_err(|error| match error.kind() {
                ErrorKind::FileTooLarge | ErrorKind::InvalidData => RequestError::Refused(error.to_string()),
                _ => RequestError::Failed(error.to_string()),
            })?;
        parse(&text).map_err(RequestError::Refused)
    }
}

/// Parses `URL NUL NAME NUL ...`.
fn parse(text: &str) -> Result<Vec<GitRequest>, String> {
    let mut fields = text.split('\0');
    let mut requests = Vec::new();
    while let (Some(url), Some(name)) = (fields.next(), fields.next()) {
        let wrong = |why: &str| format!("require-git {url:?} {name:?}: {why}");
        let sound = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && name.len() <= 100
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
            && name != BUILT;
        if !sound {
            return Err(wrong(
                "the directory must be a name of letters, digits and _ . + -, other than built",
            ));
        }
        let url = url.parse().map_err(|error: model::NameError| wrong(&error.to_string()))?;
        requests.push(GitRequest { url, name: name.into() });
    }
    Ok(requests)
}

impl GitRequest {
    /// Clones the repository into `deps_dir`, outside the sandbox.
    pub(crate) async fn carry_out(&self, deps_dir: &Path) -> Result<(), RequestError> {
        let message = |error: &dyn std::fmt::Display| format!("require-git {}: {error}", self.url.as_str());
        let failed = |error: &dyn std::fmt::Display| RequestError::Failed(message(error));
        gitio::is_public(&self.url).map_err(|error| RequestError::Refused(message(&error)))?;
        own::create_dir_all(deps_dir).map_err(|error| failed(&error))?;
        let stage = Scratch::new_in(deps_dir, ".clone-");
        let stage = stage.map_err(|error| failed(&error))?;
        let new = stage.path().join("tree");
        gitio::clone_public(&self.url, &new, CLONE_LIMIT).await.map_err(|error| match error {
            gitio::GitError::InvalidTree { .. } => RequestError::Refused(message(&error)),
            error => failed(&error),
        })?;
        let to = deps_dir.join(&self.name);
        match own::rename(&new, &to) {
            // Another slot has cloned it in the meantime.
            Err(error) if !to.exists() => Err(failed(&error)),
            _ => Ok(()),
        }
    }
}

/// Whether a call tried to write to its tree.
pub(crate) fn wants_copy(output: &Output) -> bool {
    output.error_text().contains("Read-only file system")
}

/// The directory at the top of a tree with a file of it: `tests` in most trees. `None` for files at the top.
pub(crate) fn top_of(ktest_dir: &Path, file: &Path) -> Option<PathBuf> {
    let mut names = file.strip_prefix(ktest_dir).ok()?.components();
    let (first, below) = (names.next()?, names.next());
    below.map(|_| ktest_dir.join(first))
}

/// The command of a call. It has its own copy of the directory `copy`.
pub(crate) fn command(sandbox: &Sandbox, argv: &[OsString], copy: Option<&Path>) -> Cmd {
    match copy {
        None => sandbox.command(&argv[0]).args(&argv[1..]),
        Some(dir) => sandbox.command("bash").args(["--norc", "-c", COPY]).arg(dir).args(argv),
    }
}

/// The sandbox for a call, without the variables of the contract. Reads the disk.
pub(crate) fn of_call(
    ktest_dir: &Path,
    env: &HostEnv,
    requests: &GitRequests,
    copy: Option<&Path>,
) -> Result<Sandbox, fsx::Error> {
    let mut sandbox = Sandbox::new().read_only(ktest_dir, ktest_dir).dir(ktest_dir);
    if let Some(dir) = copy {
        sandbox = sandbox.read_only(dir, ORIGINAL).memory(dir);
    }
    let deps_dir = &env.deps_dir;
    let built = deps_dir.join(BUILT);
    if deps_dir.is_absolute() && own::create_dir_all(&built).is_ok() {
        sandbox = clones::show(sandbox, deps_dir)?.writable(&built, &built).env("ktest_build_dir", &built);
    }
    for (dir, _) in env.suites.iter().filter_map(|suite| suite.found.as_ref()) {
        sandbox = sandbox.read_only(dir, dir);
    }
    Ok(sandbox
        .writable(&requests.requests, REQUESTS_SEEN)
        .read_only(&requests.git, Path::new(COMMANDS).join("git"))
        .env("PATH", PATH)
        .env("ktest_git_requests", REQUESTS_SEEN)
        // lib/suite.sh does not start its own sandbox inside this one.
        .env("ktest_sandboxed", "true")
        .env("HOME", "/tmp")
        .env("LANG", "C.UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_a_directory_and_a_remote() {
        let good = parse("https://example.org/tool.git\0tool\0git://h/x\0x-1\0").unwrap();
        assert_eq!(good.len(), 2);
        assert_eq!((good[0].url.as_str(), good[0].name.as_str()), ("https://example.org/tool.git", "tool"));
        for bad in [
            "https://h/x\0../x\0",
            "https://h/x\0a/b\0",
            "https://h/x\0.git\0",
            "https://h/x\0built\0",
            "https://h/x\0\0",
            "--upload-pack=x\0x\0",
            "ext::sh -c x\0x\0",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse("").unwrap(), []);
    }

    #[tokio::test]
    async fn a_failed_clone_is_not_an_error_of_the_test_file() {
        let dir = tempfile::tempdir().unwrap();
        // No server listens on port 1.
        let request = GitRequest { url: "git://127.0.0.1:1/x".parse().unwrap(), name: "x".into() };
        let error = request.carry_out(dir.path()).await.unwrap_err();
        let RequestError::Failed(error) = error else { panic!("{error}") };
        assert!(error.starts_with("require-git git://127.0.0.1:1/x: cannot fetch from"), "{error}");
    }

    #[tokio::test]
    async fn files_of_the_host_are_not_cloned() {
        let dir = tempfile::tempdir().unwrap();
        for url in ["/etc", "file:///etc", "host:path", "ssh://host/path"] {
            let request = GitRequest { url: url.parse().unwrap(), name: "x".into() };
            let error = request.carry_out(dir.path()).await.unwrap_err();
            let RequestError::Refused(error) = error else { panic!("{url}: {error}") };
            assert!(error.contains("the URL does not begin with https://"), "{error}");
        }
        assert_eq!(own::list(dir.path()).unwrap().len(), 0);
    }
}
