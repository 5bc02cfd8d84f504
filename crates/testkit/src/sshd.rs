//! A real sshd on a loopback address, with its own keys, for the user that runs the test.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spawn::{Child, Cmd, Limits, Stream};
use tempfile::TempDir;

/// An sshd. Dropping it stops it.
#[derive(Debug)]
pub struct Sshd {
    dir: TempDir,
    address: String,
    port: u16,
    child: Option<Child>,
}

fn sshd() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

impl Sshd {
    /// Starts an sshd on `address` (127.0.0.N). If sshd or ssh is not installed, prints a message and returns `None`.
    /// Call it in a runtime with threads that live longer than the sshd.
    pub async fn start(address: &str) -> Option<Self> {
        let keygen = Cmd::new("ssh-keygen").arg("-h").output(Limits::seconds(10)).await;
        if sshd().is_none() || keygen.is_err() {
            eprintln!("SKIPPED: no sshd here; apt-get install openssh-server openssh-client");
            return None;
        }
        // sshd requires this directory if it runs as root.
        let _ = std::fs::create_dir_all("/run/sshd");
        let dir = tempfile::tempdir().expect("a temporary directory");
        for key in ["host", "user"] {
            let output = Cmd::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
                .arg(dir.path().join(key))
                .output(Limits::seconds(30))
                .await;
            assert!(output.is_ok_and(|output| output.exit.success()), "ssh-keygen works");
        }
        let free = TcpListener::bind((address, 0)).expect("a loopback address");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let mut sshd = Self { dir, address: address.into(), port, child: None };
        sshd.configure();
        sshd.up().await;
        Some(sshd)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("it was written")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the directory is writable");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    }

    fn configure(&self) {
        let dir = self.dir.path().display();
        let (address, port) = (&self.address, self.port);
        self.write("authorized_keys", &self.read("user.pub"));
        self.write(
            "sshd_config",
            &format!(
                "ListenAddress {address}:{port}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized_keys\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n\
                 MaxSessions 100\nLogLevel ERROR\n"
            ),
        );
        self.write("known_hosts", &format!("[{address}]:{port} {}", self.read("host.pub")));
        self.write(
            "ssh_config",
            &format!(
                "Host *\n HostName {address}\n Port {port}\n IdentityFile {dir}/user\n IdentitiesOnly yes\n \
                 UserKnownHostsFile {dir}/known_hosts\n GlobalKnownHostsFile /dev/null\n"
            ),
        );
    }

    /// Starts or restarts it and waits until it listens.
    pub async fn up(&mut self) {
        let program = sshd().expect("it was there");
        let child = Cmd::new(program)
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .streams(Stream::Null, Stream::Null, Stream::Null)
            .start();
        self.child = Some(child.expect("sshd starts"));
        let began = Instant::now();
        while tokio::net::TcpStream::connect((self.address.as_str(), self.port)).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "sshd listens");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it; open connections remain.
    pub fn down(&mut self) {
        self.child = None;
    }

    /// The path of an ssh configuration that maps every host name to this sshd.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.path("ssh_config")
    }

    /// Replaces the known host key with a wrong one.
    pub fn replace_host_key(&self) {
        let user = self.read("user.pub");
        self.write("known_hosts", &format!("[{}]:{} {user}", self.address, self.port));
    }
}

/// The other processes with a command line that contains `text`; zombies have no command line.
#[must_use]
pub fn processes(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("there is /proc").filter_map(Result::ok);
    let has = |dir: &Path| {
        let line = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    let own = std::process::id().cast_signed();
    let with = entries.filter(|entry| has(&entry.path()));
    with.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| *pid != own).collect()
}
