//! Access to a guest over ssh: a port of this host, and keys that are created once in the cache directory.
//!
//! The keys give access to test guests only. A guest is reachable only from this host, by users who can read the cache.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use fsx::lock::Lock;
use fsx::own;
use fsx::publish::{self, Durability};
use spawn::{Cmd, Limits};
use vm::guest::SshKeys;

/// The host name that ssh uses for all test guests.
const HOST_ALIAS: &str = "ktest-guest";

/// The maximum size of a key file, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// The parameters for reaching a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The port of 127.0.0.1.
    pub port: u16,
    /// The keys for the guest.
    pub keys: SshKeys,
    /// The private key for the login.
    pub identity: PathBuf,
    /// The known_hosts file with the guest's key.
    pub known_hosts: PathBuf,
}

impl Access {
    /// Picks a free port, and creates the keys in `cache` if they do not exist.
    pub async fn new(cache: &Path) -> std::io::Result<Self> {
        let dir = cache.join("ssh");
        own::create_dir_all(&dir)?;
        let _lock = Lock::acquire(&dir.join("lock"), "ktest: create ssh keys", |_| {}).await?;
        let identity = key(&dir, "id").await?;
        let host = key(&dir, "host").await?;
        let public = |name: &str| own::read_to_string(&dir.join(format!("{name}.pub")), MAX_KEY);
        let known_hosts = dir.join("known_hosts");
        let known = format!("{HOST_ALIAS} {}", public("host")?);
        if own::read_to_string(&known_hosts, MAX_KEY).unwrap_or_default() != known {
            publish::file(&known_hosts, known, Durability::Cached)?;
        }
        let keys = SshKeys { authorized: public("id")?, host: own::read_to_string(&host, MAX_KEY)? };
        Ok(Self { port: free_port()?, keys, identity, known_hosts })
    }
}

/// The private key with this name; the public key is next to it.
async fn key(dir: &Path, name: &str) -> std::io::Result<PathBuf> {
    let path = dir.join(name);
    if path.is_file() && path.with_extension("pub").is_file() {
        return Ok(path);
    }
    let _ = own::remove_file(&path);
    let cmd = Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", HOST_ALIAS, "-f"]);
    let output = cmd.arg(&path).output(Limits::seconds(60)).await.map_err(std::io::Error::other)?;
    if output.exit.success() {
        return Ok(path);
    }
    Err(std::io::Error::other(format!("ssh-keygen: {}", output.error_line())))
}

/// A port that is currently free. If another process takes it first, QEMU fails and the next attempt uses another port.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The arguments of ssh, up to the command.
#[must_use]
pub fn ssh_args(port: u16, identity: &Path, known_hosts: &Path) -> Vec<String> {
    let options = [
        format!("UserKnownHostsFile={}", quoted(known_hosts)),
        format!("IdentityFile={}", quoted(identity)),
        format!("HostKeyAlias={HOST_ALIAS}"),
        "IdentitiesOnly=yes".into(),
        "StrictHostKeyChecking=yes".into(),
        "ConnectTimeout=60".into(),
        "LogLevel=ERROR".into(),
    ];
    let mut args: Vec<String> = vec!["-F".into(), "/dev/null".into(), "-p".into(), port.to_string()];
    args.extend(options.into_iter().flat_map(|option| ["-o".into(), option]));
    args.push("root@127.0.0.1".into());
    args
}

/// Quotes a value: ssh splits it at white space and expands percent signs.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_created_once() {
        let cache = tempfile::tempdir().unwrap();
        let Ok(first) = Access::new(cache.path()).await else {
            println!("skipped: no ssh-keygen here");
            return;
        };
        assert!(first.keys.authorized.starts_with("ssh-ed25519 "), "{first:?}");
        assert!(first.keys.host.contains("PRIVATE KEY"));
        let again = Access::new(cache.path()).await.unwrap();
        assert_eq!((again.keys, again.identity), (first.keys, first.identity));
    }

    #[test]
    fn ssh_trusts_only_this_guest() {
        let args = ssh_args(2222, Path::new("/c/ssh/id"), Path::new("/c d/known"));
        insta::assert_snapshot!(args.join(" "), @r#"-F /dev/null -p 2222 -o UserKnownHostsFile="/c d/known" -o IdentityFile="/c/ssh/id" -o HostKeyAlias=ktest-guest -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=60 -o LogLevel=ERROR root@127.0.0.1"#);
    }
}
