//! The first arguments of a batch's command line for each kind of host. Pure.

use std::collections::BTreeMap;

use config::{Config, Host, HostKind};
use model::HostName;

/// How `ktest` runs on each host. A host without an entry is this machine.
pub type HostCommands = BTreeMap<HostName, HostCommand>;

/// How `ktest` runs on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// The first arguments; the number of the slot is appended to the last one.
    pub args: Vec<String>,
    /// The kind of the host.
    pub kind: HostKind,
}

impl HostCommand {
    /// The arguments for a slot. With `alone`, a job of Slurm gets nodes that it does not share; other hosts are reserved by
    /// the daemon.
    #[must_use]
    pub fn for_slot(&self, slot: u32, alone: bool) -> Vec<String> {
        let mut args = self.args.clone();
        if let Some(last) = args.last_mut() {
            last.push_str(&format!("-{slot}"));
        }
        if alone && self.kind == HostKind::Slurm {
            args.push("--exclusive".into());
        }
        args
    }
}

/// The commands for all hosts of a configuration. `node` is the host name of this machine.
#[must_use]
pub fn host_commands(config: &Config, node: &str) -> HostCommands {
    let farm = farm_name(config, node);
    let away = config.hosts.values().filter(|host| host.kind != HostKind::Local);
    let command = |host| HostCommand { args: first_args(host, &farm), kind: host.kind };
    away.map(|host| (host.name.clone(), command(host))).collect()
}

/// A name that distinguishes the slots of this daemon on a host from those of other daemons.
fn farm_name(config: &Config, node: &str) -> String {
    let text = format!("{node} {}", config.top.output_dir.display());
    fsx::digest::sha256_hex(text)[..8].to_owned()
}

fn first_args(host: &Host, farm: &str) -> Vec<String> {
    let mut args = vec!["host".to_owned()];
    match host.kind {
        HostKind::Slurm => args.push("slurm".into()),
        _ => {
            args.push("run".into());
            args.push(match &host.user {
                Some(user) => format!("{user}@{}", host.address),
                None => host.address.to_string(),
            });
        }
    }
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            args.extend([name.to_owned(), value]);
        }
    };
    option("--name", Some(host.name.to_string()));
    option("--host-arch", Some(host.arch.to_string()));
    option("--ssh-config", host.ssh_config.as_ref().map(|path| path.display().to_string()));
    option("--remote-ktest", Some(host.ktest.clone()).filter(|ktest| ktest != "ktest"));
    option("--remote-cache-dir", host.cache_dir.as_ref().map(|path| path.display().to_string()));
    option("--partition", host.partition.clone());
    option("--account", host.account.clone());
    option("--constraint", host.constraint.clone());
    option("--slot", Some(farm.into()));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_arguments() {
        let text = r#"
[host.here]
kind = "local"
[host.farm1]
arch = "aarch64"
user = "ktest"
address = "10.0.0.7"
ssh_config = "/etc/farm/ssh"
cache_dir = "/srv/ktest"
[host.big]
kind = "slurm"
partition = "kernel"
arch = "x86_64"
"#;
        let commands = host_commands(&crate::executor::config_of(text), "ci");
        let shown: Vec<String> =
            commands.iter().map(|(host, command)| format!("{host}: {}", command.args.join(" "))).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        big: host slurm --name big --host-arch x86_64 --partition kernel --slot bb19bd5b
        farm1: host run ktest@10.0.0.7 --name farm1 --host-arch aarch64 --ssh-config /etc/farm/ssh --remote-cache-dir /srv/ktest --slot bb19bd5b
        ");
        let last = |host: &str| {
            let command = &commands[&host.parse::<HostName>().unwrap()];
            let args = command.for_slot(3, true);
            (args[args.len() - 2].clone(), args[args.len() - 1].clone())
        };
        assert_eq!(last("big"), ("bb19bd5b-3".to_owned(), "--exclusive".to_owned()));
        assert_eq!(last("farm1"), ("--slot".to_owned(), "bb19bd5b-3".to_owned()));
    }
}
