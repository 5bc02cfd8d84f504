//! Where a host is and how ssh is asked to go there. Pure.
//!
//! ssh never asks a question, never learns a new host key by itself, and forwards nothing.

use std::path::{Path, PathBuf};

use model::HostName;
use serde::{Deserialize, Serialize};
use spawn::Cmd;

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What the farm calls it.
    pub name: HostName,
    /// Where ssh connects to.
    pub address: HostName,
    /// Who to log in as; ssh's own configuration decides where it is absent.
    pub user: Option<String>,
    /// The configuration file of ssh; its own where it is absent.
    pub ssh_config: Option<PathBuf>,
    /// The `ktest` command over there.
    pub ktest: String,
    /// The cache folder over there; its own default where it is absent.
    pub cache_dir: Option<PathBuf>,
}

/// What holds for every connection.
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

/// How long a connection that nobody uses is kept, in seconds.
const WARM_S: u32 = 900;

impl Target {
    /// A host of that name and address, everything else as ssh and `ktest` have it.
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

    /// What a person types to see what is wrong.
    #[must_use]
    pub fn by_hand(&self) -> String {
        let ssh = Cmd::new("ssh");
        let ssh = match &self.ssh_config {
            Some(config) => ssh.arg("-F").arg(config),
            None => ssh,
        };
        ssh.arg(self.destination()).to_string()
    }

    /// Starts the connection that all others go through; it goes to the background when it is up. What ssh complains
    /// about is in `log`.
    #[must_use]
    pub fn master(&self, socket: &Path, log: &Path) -> Cmd {
        self.ssh(socket)
            .args(["-o", "ControlMaster=yes", "-o"])
            .arg(format!("ControlPersist={WARM_S}"))
            .arg("-E")
            .arg(log)
            .args(["-f", "-N", "--"])
            .arg(self.destination())
    }

    /// Asks the connection something: `check`, `exit`.
    #[must_use]
    pub fn control(&self, socket: &Path, what: &str) -> Cmd {
        self.ssh(socket).arg("-O").arg(what).arg("--").arg(self.destination())
    }

    /// `ktest` over there, with these arguments.
    #[must_use]
    pub fn ktest(&self, socket: &Path, args: &[&str]) -> Cmd {
        let mut there = Cmd::new(&self.ktest);
        if let Some(dir) = &self.cache_dir {
            there = there.arg("--cache-dir").arg(dir);
        }
        // ssh hands one text to the login shell; every word of it is quoted.
        self.remote(socket, &there.args(args).to_string())
    }

    /// A command line for the login shell over there.
    #[must_use]
    pub fn remote(&self, socket: &Path, command: &str) -> Cmd {
        self.ssh(socket).args(["-o", "ControlMaster=no", "--"]).arg(self.destination()).arg(command)
    }

    /// What git is to use as its ssh.
    #[must_use]
    pub fn git_ssh(&self, socket: &Path) -> String {
        self.ssh(socket).args(["-o", "ControlMaster=no"]).to_string()
    }

    /// A repository over there, as git names it.
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
        let mut target = Target::new("farm1".parse().unwrap());
        target.user = Some("ci".into());
        target.ssh_config = Some("/etc/my ssh".into());
        target.cache_dir = Some("/srv/it's".into());
        let socket = Path::new("/run/s");
        insta::assert_snapshot!(target.ktest(socket, &["host", "serve"]), @r"ssh -T -F '/etc/my ssh' -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o LogLevel=ERROR -o ControlPath=/run/s -o ControlMaster=no -- ci@farm1 'ktest --cache-dir '\''/srv/it'\''\'\'''\''s'\'' host serve'");
        insta::assert_snapshot!(target.master(socket, "/l".as_ref()), @r"ssh -T -F '/etc/my ssh' -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o LogLevel=ERROR -o ControlPath=/run/s -o ControlMaster=yes -o ControlPersist=900 -E /l -f -N -- ci@farm1");
        insta::assert_snapshot!(target.git_ssh(socket), @r"ssh -T -F '/etc/my ssh' -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o LogLevel=ERROR -o ControlPath=/run/s -o ControlMaster=no");
        assert_eq!(target.by_hand(), "ssh -F '/etc/my ssh' ci@farm1");
        assert_eq!(target.git_url("/srv/linux.git".as_ref()), "ci@farm1:/srv/linux.git");
    }
}
