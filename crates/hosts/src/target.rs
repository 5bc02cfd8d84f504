//! The address of a host, and the command lines of ssh. Pure.
//!
//! ssh never prompts, never accepts an unknown host key, and forwards nothing.

use std::path::{Path, PathBuf};

use model::HostName;
use serde::{Deserialize, Serialize};
use spawn::Cmd;

/// A host that is reached over ssh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshTarget {
    /// Its name in the farm.
    pub name: HostName,
    /// The address for ssh.
    pub address: HostName,
    /// The login name; the default is that of the ssh configuration.
    pub user: Option<String>,
    /// The ssh configuration file; the default is the user's.
    pub ssh_config: Option<PathBuf>,
    /// The `ktest` command on the host.
    pub ktest: String,
    /// The cache directory on the host; the default is that of `ktest`.
    pub cache_dir: Option<PathBuf>,
}

/// The options of all connections.
const OPTIONS: [&str; 11] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
];

/// The time for which an unused connection is kept, in seconds.
const PERSIST_S: u32 = 900;

impl SshTarget {
    /// A host with this name and address, and the defaults of ssh and `ktest`.
    #[must_use]
    pub fn new(name: HostName) -> Self {
        let address = name.clone();
        Self { name, address, user: None, ssh_config: None, ktest: "ktest".into(), cache_dir: None }
    }

    /// `user@address`.
    #[must_use]
    pub fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.address),
            None => self.address.to_string(),
        }
    }

    fn ssh(&self, socket: &Path) -> Cmd {
        let mut cmd = Cmd::new("ssh").arg("-T");
        if let Some(config) = &self.ssh_config {
            cmd = cmd.arg("-F").arg(config);
        }
        for option in OPTIONS {
            cmd = cmd.arg("-o").arg(option);
        }
        cmd.arg("-o").arg(format!("ControlPath={}", socket.display()))
    }

    /// The command with which a user connects manually.
    #[must_use]
    pub fn manual_command(&self) -> String {
        let ssh = Cmd::new("ssh");
        let ssh = match &self.ssh_config {
            Some(config) => ssh.arg("-F").arg(config),
            None => ssh,
        };
        ssh.arg(self.destination()).to_string()
    }

    /// Starts the shared connection. It moves to the background when it is established. `log` receives its errors.
    #[must_use]
    pub fn master(&self, socket: &Path, log: &Path) -> Cmd {
        self.ssh(socket)
            .args(["-o", "ControlMaster=yes", "-o"])
            .arg(format!("ControlPersist={PERSIST_S}"))
            .arg("-E")
            .arg(log)
            .args(["-f", "-N", "--"])
            .arg(self.destination())
    }

    /// Sends a control command to the shared connection: `check`, `exit`.
    #[must_use]
    pub fn control(&self, socket: &Path, command: &str) -> Cmd {
        self.ssh(socket).arg("-O").arg(command).arg("--").arg(self.destination())
    }

    /// `ktest` on the host, with these arguments.
    #[must_use]
    pub fn ktest(&self, socket: &Path, args: &[&str]) -> Cmd {
        let mut command = Cmd::new(&self.ktest);
        if let Some(dir) = &self.cache_dir {
            command = command.arg("--cache-dir").arg(dir);
        }
        // ssh passes one string to the login shell: every word is quoted.
        self.remote(socket, &command.args(args).to_string())
    }

    /// A command line for the login shell of the host.
    #[must_use]
    pub fn remote(&self, socket: &Path, command: &str) -> Cmd {
        self.ssh(socket).args(["-o", "ControlMaster=no", "--"]).arg(self.destination()).arg(command)
    }

    /// The ssh command for git.
    #[must_use]
    pub fn git_ssh(&self, socket: &Path) -> String {
        self.ssh(socket).args(["-o", "ControlMaster=no"]).to_string()
    }

    /// The URL of a repository on the host.
    #[must_use]
    pub fn git_url(&self, path: &Path) -> String {
        format!("{}:{}", self.destination(), path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let mut target = SshTarget::new("farm1".parse().unwrap());
        target.user = Some("ci".into());
        target.ssh_config = Some("/etc/my ssh".into());
        target.cache_dir = Some("/srv/it's".into());
        let socket = Path::new("/run/s");
        insta::assert_snapshot!(target.ktest(socket, &["host", "serve"]), @r"ssh -T -F '/etc/my ssh' -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o LogLevel=ERROR -o ControlPath=/run/s -o ControlMaster=no -- ci@farm1 'ktest --cache-dir '\''/srv/it'\''\'\'''\''s'\'' host serve'");
        insta::assert_snapshot!(target.master(socket, "/l".as_ref()), @r"ssh -T -F '/etc/my ssh' -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o LogLevel=ERROR -o ControlPath=/run/s -o ControlMaster=yes -o ControlPersist=900 -E /l -f -N -- ci@farm1");
        insta::assert_snapshot!(target.git_ssh(socket), @r"ssh -T -F '/etc/my ssh' -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o LogLevel=ERROR -o ControlPath=/run/s -o ControlMaster=no");
        assert_eq!(target.manual_command(), "ssh -F '/etc/my ssh' ci@farm1");
        assert_eq!(target.git_url("/srv/linux.git".as_ref()), "ci@farm1:/srv/linux.git");
    }
}
