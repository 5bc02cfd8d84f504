//! A farm of hosts on loopback addresses: each with a real sshd, the real remote side, and a fake `ktest run`.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hosts::HostError;
use hosts::frame::RemoteOrder;
use hosts::kernels::Kernels;
use hosts::link::Link;
use hosts::run::{Output, RemoteJob};
use hosts::serve::ServeOptions;
use hosts::target::SshTarget;
use model::CommitId;
use tempfile::TempDir;
use testkit::{ScratchRepo, Sshd};

const FAKE_KTEST: &str = include_str!("fake-ktest.bash");
/// The name of the test that acts as the command.
pub const COMMAND: &str = "the_command_itself";
const ARGS: &str = "HOSTS_TEST_ARGS";

/// Acts as `ktest host serve` or a similar command if this process was started for that. The arguments are the cache
/// directory, the fake `ktest`, and the command.
pub fn act_as_the_command() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let args: Vec<&str> = args.split('\n').collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = PathBuf::from(args[0]);
    let done = runtime.block_on(async {
        match args[2..] {
            ["serve"] => {
                let serve = ServeOptions { cache, ktest: vec![args[1].into()] };
                hosts::serve::serve(&serve).await.unwrap_or(false)
            }
            ["kernel-send", id] => hosts::transfer::send_kernel(&cache, &id.parse().unwrap()).is_ok(),
            ["kernel-receive", id] => {
                hosts::transfer::receive_kernel(&cache, &id.parse().unwrap()).await.is_ok()
            }
            ["slurm-job", spool] => {
                hosts::slurm::work(spool.as_ref(), &cache, &[args[1].into()]).await.is_ok()
            }
            _ => false,
        }
    });
    std::process::exit(i32::from(!done));
}

pub struct Host {
    pub sshd: Sshd,
    pub dir: TempDir,
    pub name: String,
}

/// Creates `ktest`, and the fake that it runs, in a directory.
pub fn install(dir: &Path) {
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("fake-ktest", FAKE_KTEST);
    let test = std::env::current_exe().unwrap();
    // The test harness prints output before and after that of the command.
    write(
        "ktest",
        &format!(
            "#!/bin/bash\ncache=$2\nshift 3\nprintf -v {ARGS} '%s\\n' \"$cache\" {fake} \"$@\"\n\
             export {ARGS}=${{{ARGS}%?}}\n\
             exec {test} --exact {COMMAND} --ignored --nocapture --test-threads=1 2>/dev/null\n",
            fake = dir.join("fake-ktest").display(),
            test = test.display(),
        ),
    );
}

impl Host {
    pub async fn start(number: u8) -> Option<Self> {
        let sshd = Sshd::start(&format!("127.0.0.{}", number + 1)).await?;
        let host = Self { sshd, dir: tempfile::tempdir().unwrap(), name: format!("farm{number}") };
        install(host.dir.path());
        Some(host)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An executable file.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    pub fn builds(&self) -> usize {
        std::fs::read_to_string(self.path("builds")).unwrap_or_default().lines().count()
    }

    pub fn target(&self) -> SshTarget {
        SshTarget {
            ssh_config: Some(self.sshd.ssh_config()),
            ktest: self.path("ktest").display().to_string(),
            cache_dir: Some(self.path("cache")),
            ..SshTarget::new(self.name.parse().unwrap())
        }
    }

    /// The processes of the fake and of the remote side.
    pub fn processes(&self) -> Vec<i32> {
        let mut all = testkit::processes(&self.path("fake-ktest").display().to_string());
        all.extend(environments(&self.path("fake-ktest").display().to_string()));
        all
    }
}

impl Drop for Host {
    /// Closes the connections that ssh keeps open.
    fn drop(&mut self) {
        let config = self.sshd.ssh_config().display().to_string();
        for pid in testkit::processes(&config) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The processes that have `text` in their environment.
fn environments(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let has = |dir: &Path| {
        let env = std::fs::read(dir.join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&env).contains(&format!("{ARGS}="))
            && String::from_utf8_lossy(&env).contains(text)
    };
    entries
        .filter(|entry| has(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The local side: the repository, the tests, the cache.
pub struct Here {
    pub dir: TempDir,
    pub repo: ScratchRepo,
    pub commit: CommitId,
}

impl Here {
    pub fn new() -> Self {
        let repo = ScratchRepo::new();
        let commit = repo.commit("first", &[("mode", "x")]);
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("tests/t/one.ktest", "#!/bin/bash\n"), ("lib/common.sh", "")] {
            let path = dir.path().join("kt").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { dir, repo, commit }
    }

    pub fn out(&self, host: &Host) -> PathBuf {
        self.dir.path().join("out").join(&host.name)
    }

    pub fn job(&self, host: &Host, subtests: &str) -> RemoteJob {
        let cache = self.dir.path().join("cache");
        let out = self.out(host);
        std::fs::create_dir_all(&out).unwrap();
        RemoteJob {
            link: Link::new(host.target(), &cache).unwrap(),
            slot: "test-0".into(),
            linux_repo: self.repo.path().into(),
            tests_dir: self.dir.path().join("kt"),
            out,
            order: RemoteOrder {
                commit: Some(self.commit.clone()),
                kernel: None,
                test: "t/one".parse().unwrap(),
                subtests: subtests.split(' ').map(|name| name.parse().unwrap()).collect(),
                merge: vec!["t/one".parse().unwrap()],
                tolerate: vec!["RUST".into()],
                image: model::ShippedImage::default(),
                packages: Vec::new(),
                env: model::Env::default(),
                suites: Vec::new(),
                arch: None,
                trust_domain: None,
                verify_builds: 0,
                kernel_repos: Vec::new(),
            },
            kernels: Kernels::of(&cache),
            arch: None,
        }
    }
}

/// The output of a run, collected while it runs.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn push(&self, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }

    pub fn has(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    pub async fn run(&self, job: &RemoteJob) -> Result<Option<i32>, HostError> {
        let heard = self.0.clone();
        hosts::run::run(job, &mut |output| {
            let (Output::Event(line) | Output::Message(line)) = output;
            heard.lock().unwrap().push(line.into());
        })
        .await
    }
}

/// Waits until a condition is true.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
