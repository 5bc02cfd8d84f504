//! The directory that the guest gets at boot: its init, its environment, its subtests and its mounts.
//!
//! `guest/init` reads these files; they are its only interface to the host.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fsx::own;
use model::SubtestName;

use crate::supervise::Token;

/// The 9p tag of this directory.
pub const TAG: &str = "ktest_guest";
/// The mount point of the host's directories in the guest.
pub const HOST: &str = "/host";
/// The maximum size of a file that [`write_reboot`] reads back.
const PLAN_BYTES: u64 = 64 << 20;
/// The guest's init, second stage.
pub const INIT: &str = include_str!("../guest/init");

/// What the guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSpec {
    /// The environment, in the order of assignment: a later value replaces an earlier one.
    pub env: Vec<(String, String)>,
    /// The path of the test file in the guest; `None` for an interactive boot.
    pub file: Option<String>,
    /// The subtests, in order.
    pub subtests: Vec<SubtestName>,
    /// The 9p shares to mount.
    pub mounts: Vec<GuestMount>,
    /// Without a test file: the command to run instead of an interactive shell.
    pub command: Vec<String>,
    /// The token of this boot.
    pub token: Token,
    /// The ssh keys; `None` if logins are disabled.
    pub ssh: Option<SshKeys>,
}

/// A 9p share as the guest mounts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestMount {
    /// Its tag.
    pub tag: String,
    /// The mount point in the guest.
    pub path: String,
    /// What the guest's writes do.
    pub writes: Writes,
}

/// What a guest's writes to a share do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They fail.
    Refused,
    /// They change the directory of the host.
    Kept,
    /// They go to a layer that is discarded with the guest. In a kernel without overlayfs they fail.
    Layered,
}

/// The ssh keys of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKeys {
    /// The public keys that may log in, one per line.
    pub authorized: String,
    /// The guest's private key.
    pub host: String,
}

/// Writes the directory that is shared as [`TAG`].
pub fn write(dir: &Path, spec: &GuestSpec) -> io::Result<()> {
    own::create_dir_all(dir)?;
    own::write(&dir.join("init"), INIT)?;
    std::fs::set_permissions(dir.join("init"), std::fs::Permissions::from_mode(0o755))?;
    own::write(&dir.join("env"), env_text(&spec.env))?;
    own::write(&dir.join("plan"), plan_text(spec))?;
    own::write(&dir.join("token"), format!("{}\n", spec.token.as_str()))?;
    own::write(&dir.join("shares"), shares_text(&spec.mounts))?;
    if !spec.command.is_empty() {
        own::write(&dir.join("command"), command_text(&spec.command))?;
    }
    if let Some(keys) = &spec.ssh {
        own::write(&dir.join("authorized_keys"), &keys.authorized)?;
        let path = dir.join("host_key");
        own::write(&path, &keys.host)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Changes the directory for a guest that continues after a reset: the subtests that are left, of which the first one runs
/// again, and the number of resets.
pub fn write_reboot(dir: &Path, subtests: &[SubtestName], reboots: u32) -> io::Result<()> {
    let plan = own::read_to_string(&dir.join("plan"), PLAN_BYTES)?;
    let mut text = format!("{}\n", plan.lines().next().unwrap_or_default());
    subtests.iter().for_each(|subtest| text.push_str(&format!("{subtest}\n")));
    own::write(&dir.join("plan"), text)?;
    let env = own::read_to_string(&dir.join("env"), PLAN_BYTES)?;
    own::write(&dir.join("env"), format!("{env}export NR_REBOOTS={reboots}\n"))?;
    Ok(())
}

/// The command as a bash script. A single word is interpreted as a shell command line, as ssh does.
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

fn plan_text(spec: &GuestSpec) -> String {
    let mut text = spec.file.clone().unwrap_or_default();
    text.push('\n');
    for subtest in &spec.subtests {
        text.push_str(subtest.as_str());
        text.push('\n');
    }
    text
}

fn shares_text(mounts: &[GuestMount]) -> String {
    let line = |GuestMount { tag, path, writes }: &GuestMount| {
        let mode = match writes {
            Writes::Refused => "ro",
            Writes::Kept => "rw",
            Writes::Layered => "layer",
        };
        format!("{tag} {path} {mode}\n")
    };
    mounts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let spec = GuestSpec {
            env: vec![("ktest_mem".into(), "1024".into()), ("A".into(), "it's $HOME".into())],
            file: Some("/host/t/tests/a.ktest".into()),
            subtests: vec!["one".parse().unwrap(), "generic/001".parse().unwrap()],
            mounts: vec![
                GuestMount { tag: "ktest_tests".into(), path: "/host/t".into(), writes: Writes::Layered },
                GuestMount { tag: "ktest_out".into(), path: "/host/o".into(), writes: Writes::Kept },
            ],
            command: vec![],
            token: Token::random(),
            ssh: None,
        };
        assert_eq!(env_text(&spec.env), "export ktest_mem=1024\nexport A='it'\\''s $HOME'\n");
        assert_eq!(plan_text(&spec), "/host/t/tests/a.ktest\none\ngeneric/001\n");
        assert_eq!(command_text(&["ls /; true".into()]), "ls /; true\n");
        assert_eq!(command_text(&["printf".into(), "a b".into()]), "exec printf 'a b'\n");
        assert_eq!(shares_text(&spec.mounts), "ktest_tests /host/t layer\nktest_out /host/o rw\n");
    }
}
