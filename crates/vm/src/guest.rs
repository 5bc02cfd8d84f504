//! What the guest is handed at boot: a small folder with its init, its environment, what to run, what to mount.
//!
//! The formats are read by `guest/init`; the three text files are the whole interface to it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::SubtestName;

/// The tag of the folder's own share.
pub const TAG: &str = "ktest_guest";
/// Where the host's paths begin in the guest.
pub const HOST: &str = "/host";
/// The guest's init, second stage.
const INIT: &str = include_str!("../guest/init");

/// What is to happen in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The environment, sorted as it is to be set; later wins.
    pub env: Vec<(String, String)>,
    /// The test file, as a path of the guest; None: an interactive boot.
    pub file: Option<String>,
    /// The subtests, in order.
    pub subtests: Vec<SubtestName>,
    /// 9p shares to mount: tag, mount point in the guest, writable.
    pub mounts: Vec<(String, String, bool)>,
    /// Without a test file: the command that is run instead of an interactive shell.
    pub command: Vec<String>,
    /// Who may log in by ssh, and the guest's own key; None: nobody may.
    pub ssh: Option<SshKeys>,
}

/// The keys of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKeys {
    /// Public keys of those that may log in, one a line.
    pub authorized: String,
    /// The guest's private key.
    pub host: String,
}

/// Writes the folder that is shared as [`TAG`].
pub fn write(dir: &Path, errand: &Errand) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("init"), INIT)?;
    std::fs::set_permissions(dir.join("init"), std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(dir.join("env"), env_text(&errand.env))?;
    std::fs::write(dir.join("plan"), plan_text(errand))?;
    std::fs::write(dir.join("shares"), shares_text(&errand.mounts))?;
    if !errand.command.is_empty() {
        std::fs::write(dir.join("command"), command_text(&errand.command))?;
    }
    if let Some(keys) = &errand.ssh {
        std::fs::write(dir.join("authorized_keys"), &keys.authorized)?;
        let path = dir.join("host_key");
        std::fs::write(&path, &keys.host)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// A script of bash's that becomes the command; one word is a line of bash, as with ssh.
fn command_text(command: &[String]) -> String {
    match command {
        [line] => format!("{line}\n"),
        words => {
            let words: Vec<_> = words.iter().map(|word| spawn::quote(word)).collect();
            format!("exec {}\n", words.join(" "))
        }
    }
}

fn env_text(env: &[(String, String)]) -> String {
    env.iter().map(|(name, value)| format!("export {name}={}\n", spawn::quote(value))).collect()
}

fn plan_text(errand: &Errand) -> String {
    let mut text = errand.file.clone().unwrap_or_default();
    text.push('\n');
    for subtest in &errand.subtests {
        text.push_str(subtest.as_str());
        text.push('\n');
    }
    text
}

fn shares_text(mounts: &[(String, String, bool)]) -> String {
    let line = |(tag, at, writable): &(String, String, bool)| {
        format!("{tag} {at} {}\n", if *writable { "rw" } else { "ro" })
    };
    mounts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let errand = Errand {
            env: vec![("ktest_mem".into(), "1024".into()), ("A".into(), "it's $HOME".into())],
            file: Some("/host/t/tests/a.ktest".into()),
            subtests: vec!["one".parse().unwrap(), "generic/001".parse().unwrap()],
            mounts: vec![("ktest_tests".into(), "/host/t".into(), false)],
            command: vec![],
            ssh: None,
        };
        assert_eq!(env_text(&errand.env), "export ktest_mem=1024\nexport A='it'\\''s $HOME'\n");
        assert_eq!(plan_text(&errand), "/host/t/tests/a.ktest\none\ngeneric/001\n");
        assert_eq!(command_text(&["ls /; true".into()]), "ls /; true\n");
        assert_eq!(command_text(&["printf".into(), "a b".into()]), "exec printf 'a b'\n");
        assert_eq!(shares_text(&errand.mounts), "ktest_tests /host/t ro\n");
    }
}
