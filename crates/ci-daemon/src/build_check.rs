//! Whether the `ktest` command is of the same build as this daemon: an upgrade replaces the file while the daemon runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use spawn::{Cmd, Limits};
use tokio::sync::watch;

/// The interval between two checks.
const EVERY: Duration = Duration::from_secs(60);

/// Checks regularly until the receiver is dropped. The value is the problem, if there is one.
pub fn start(ktest: PathBuf) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        while !sender.is_closed() {
            if let Ok(output) = Cmd::new(&ktest).arg("--version").output(Limits::seconds(10)).await {
                sender.send_replace(difference(&ktest, &output.text(), model::build::version()));
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = sender.closed() => {}
            }
        }
    });
    receiver
}

/// The problem if the output of `ktest --version` names another build than `own`.
fn difference(ktest: &Path, printed: &str, own: &str) -> Option<String> {
    let version = printed.lines().next()?.strip_prefix("ktest ")?;
    (version != own).then(|| {
        let ktest = ktest.display();
        format!("{ktest} is {version}, this daemon is {own}; install the same version and restart the daemon")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn another_build_is_a_problem() {
        let problem = |printed| difference(Path::new("/usr/bin/ktest"), printed, "0.1.0 (0123456789ab)");
        assert_eq!(problem("ktest 0.1.0 (0123456789ab)\n"), None);
        assert_eq!(
            problem("ktest 0.1.0 (ffff56789abc)\n").as_deref(),
            Some(
                "/usr/bin/ktest is 0.1.0 (ffff56789abc), this daemon is 0.1.0 (0123456789ab); \
                 install the same version and restart the daemon"
            )
        );
        assert_eq!(problem("usage: ktest"), None);
    }

    #[tokio::test]
    async fn the_command_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let ktest = dir.path().join("ktest");
        std::fs::write(&ktest, "#!/bin/sh\necho ktest 9.9.9\n").unwrap();
        std::fs::set_permissions(&ktest, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut problem = start(ktest);
        let found = problem.wait_for(Option::is_some).await.unwrap().clone();
        assert!(found.unwrap().contains("is 9.9.9, this daemon is "));
    }
}
