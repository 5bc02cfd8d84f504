//! `[host.NAME]`: the hosts of the farm.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use model::{Arch, HostName};

use crate::fault::{Fault, Problem};
use crate::nearest::{Hint, nearest};
use crate::node::{Node, Section};
use crate::paths::Paths;

/// How batches run on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostKind {
    /// On the machine of the daemon.
    Local,
    /// Over OpenSSH.
    Ssh,
    /// As jobs of a Slurm cluster.
    Slurm,
}

const KINDS: [(HostKind, &str); 3] =
    [(HostKind::Local, "local"), (HostKind::Ssh, "ssh"), (HostKind::Slurm, "slurm")];

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(KINDS[*self as usize].1)
    }
}

/// A host of the farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The key of its section.
    pub name: HostName,
    /// The kind. The default is `local` for a host named `local` or `localhost`, and `ssh` for others.
    pub kind: HostKind,
    /// Its architecture; the default is the one of this machine.
    pub arch: Arch,
    /// The number of slots, at least 1.
    pub slots: u32,
    /// ssh: the login name; the default is that of the ssh configuration.
    pub user: Option<String>,
    /// ssh: the address; the default is the host name.
    pub address: HostName,
    /// ssh: the ssh configuration file.
    pub ssh_config: Option<PathBuf>,
    /// ssh, slurm: the `ktest` command on the host; the default is `ktest`.
    pub ktest: String,
    /// ssh, slurm: the cache directory on the host; the default is that of `ktest`.
    pub cache_dir: Option<PathBuf>,
    /// slurm: the partition; the default is that of the cluster.
    pub partition: Option<String>,
    /// slurm: the account.
    pub account: Option<String>,
    /// slurm: the argument of `sbatch --constraint`; the default is the architecture.
    pub constraint: Option<String>,
}

/// An invalid host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its name.
    #[error(transparent)]
    Name(model::NameError),
    /// An unknown kind.
    #[error("{text:?} is not a kind of host{hint}")]
    Kind {
        /// The text.
        text: String,
        /// The nearest valid name.
        hint: Hint,
    },
    /// A login name that ssh could parse as an option.
    #[error("user: {0:?} is not a login name")]
    User(String),
    /// A setting that belongs to another kind of host.
    #[error("{key} does not apply to a {kind} host; remove it or set kind = \"{other}\"")]
    NotFor {
        /// The key.
        key: &'static str,
        /// The kind of the host.
        kind: HostKind,
        /// The kind that has this setting.
        other: HostKind,
    },
    /// A word that a command could parse as an option or as several words.
    #[error("{key}: {text:?} is not a single word")]
    Word {
        /// The key.
        key: &'static str,
        /// The text.
        text: String,
    },
}

impl crate::fault::SectionError for HostError {}

const KEYS: &[&str] = &[
    "kind",
    "arch",
    "slots",
    "user",
    "address",
    "ssh_config",
    "ktest",
    "cache_dir",
    "partition",
    "account",
    "constraint",
];

/// The keys that only certain kinds of host have.
const ONLY: [(&str, &[HostKind]); 8] = [
    ("user", &[HostKind::Ssh]),
    ("address", &[HostKind::Ssh]),
    ("ssh_config", &[HostKind::Ssh]),
    ("ktest", &[HostKind::Ssh, HostKind::Slurm]),
    ("cache_dir", &[HostKind::Ssh, HostKind::Slurm]),
    ("partition", &[HostKind::Slurm]),
    ("account", &[HostKind::Slurm]),
    ("constraint", &[HostKind::Slurm]),
];

pub(crate) fn read(node: &Node, paths: &Paths) -> Result<BTreeMap<HostName, Host>, Fault> {
    let entries = node.table("host")?.iter();
    entries
        .map(|(key, node)| {
            let name: HostName =
                key.parse().map_err(|error| node.fault(Problem::from(HostError::Name(error))))?;
            let section = Section::new(node, format!("[host.{key}]"), KEYS)?;
            Ok((name.clone(), one(&section, name, paths)?))
        })
        .collect()
}

fn one(section: &Section<'_>, name: HostName, paths: &Paths) -> Result<Host, Fault> {
    let local = matches!(name.as_str(), "local" | "localhost");
    let kind = match section.get("kind") {
        Some(node) => kind(node)?,
        None if local => HostKind::Local,
        None => HostKind::Ssh,
    };
    for (key, kinds) in ONLY {
        if let Some(node) = section.get(key)
            && !kinds.contains(&kind)
        {
            return Err(node.fault(HostError::NotFor { key, kind, other: kinds[0] }));
        }
    }
    let word = |key: &'static str| section.get(key).map(|node| word(node, key)).transpose();
    let path = |key: &'static str| section.get(key).map(|node| paths.resolve(key, node)).transpose();
    let slots = section.get("slots").map_or(Ok(1), |node| node.int("slots", 1, 4096))?;
    Ok(Host {
        kind,
        arch: section
            .get("arch")
            .map_or(Ok(Arch::native().unwrap_or(Arch::X86_64)), |node| node.parse("arch"))?,
        slots: u32::try_from(slots).unwrap_or(1),
        user: section.get("user").map(login).transpose()?,
        address: section.get("address").map_or(Ok(name.clone()), |node| node.parse("address"))?,
        ssh_config: path("ssh_config")?,
        ktest: word("ktest")?.unwrap_or_else(|| "ktest".into()),
        // A path on the host, relative to the home directory.
        cache_dir: word("cache_dir")?.map(PathBuf::from),
        partition: word("partition")?,
        account: word("account")?,
        constraint: word("constraint")?,
        name,
    })
}

fn kind(node: &Node) -> Result<HostKind, Fault> {
    let text = node.str("kind")?;
    KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind).ok_or_else(|| {
        let hint = nearest(text, KINDS.map(|(_, name)| name));
        node.fault(HostError::Kind { text: text.into(), hint })
    })
}

fn word(node: &Node, key: &'static str) -> Result<String, Fault> {
    let text = node.str(key)?;
    let ok = !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+/~@&|=".contains(c));
    if ok { Ok(text.into()) } else { Err(node.fault(HostError::Word { key, text: text.into() })) }
}

fn login(node: &Node) -> Result<String, Fault> {
    let text = node.str("user")?;
    let ok = !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    if ok { Ok(text.into()) } else { Err(node.fault(HostError::User(text.into()))) }
}
