//! The protocol between the two ends of a run: JSON lines, some of which are followed by a given number of bytes.
//!
//! The other end is untrusted: reading a message takes bounded memory and bounded time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{
    CommitId, Env, PackageName, RootImage, RunOrder, ShippedImage, StoreKernel, SubtestName, SuiteOrder,
    TestOrder, TestPath,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The version of the protocol between `ktest host run` and `ktest host serve`.
pub const PROTOCOL: u32 = 4;

/// The prefix of a host's first frame. Lines printed by a login shell before it are skipped.
pub const GREETING: &str = "ktest-host ";
/// The maximum length of a line, in bytes.
const LINE: u64 = 8 << 20;
/// Each end sends a message at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// If no message arrives for this time, the other end is considered lost.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The greeting of a host: its first frame, which describes the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The [`PROTOCOL`] of the host.
    pub protocol: u32,
    /// The [`model::build::version`] of the host. Both ends must have the same build, so that verdicts do not depend on
    /// the host.
    pub version: String,
    /// The architecture, as in `uname -m`.
    pub arch: String,
    /// The host's clock, in Unix seconds.
    pub unix: i64,
    /// The cache directory.
    pub cache: PathBuf,
    /// The free space of the cache directory, in bytes.
    pub free: u64,
}

/// A message from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The first frame.
    Hello(Hello),
    /// The reply to [`Order::Prepare`].
    Ready {
        /// Whether the mirror has the commit.
        commit: bool,
        /// Whether the host has the tests.
        tests: bool,
        /// The commits of suites that the mirror does not have.
        missing_suites: Vec<CommitId>,
        /// The repository to push commits to.
        mirror: PathBuf,
    },
    /// The tests were received.
    TestsReceived,
    /// A heartbeat.
    Alive,
    /// A line of the run's standard output: an event.
    Line(String),
    /// A line of the run's standard error.
    Message(String),
    /// A file of the run's output directory; `size` bytes follow.
    File {
        /// The path below the output directory.
        path: PathBuf,
        /// The number of bytes.
        size: u64,
    },
    /// The exit code of the run; `None` if a signal killed it. This is the last frame.
    Exit(Option<i32>),
    /// The request failed, with the reason. This is the last frame.
    Refused(String),
}

/// A message to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Announces a run.
    Prepare {
        /// The name of the run. An older run with the same name is stopped.
        slot: String,
        /// The commit.
        commit: Option<CommitId>,
        /// The commits of the suites.
        suites: Vec<CommitId>,
        /// The hash of the test tree.
        tests: String,
    },
    /// The tests; a tar archive of `size` bytes follows.
    Tests {
        /// The number of bytes.
        size: u64,
    },
    /// Starts the run.
    Run(Box<RemoteOrder>),
    /// The reply to the event `kernel_wanted`: either the kernel is now in the store, or the host must build it.
    Kernel,
    /// A heartbeat.
    Alive,
    /// Ends the run.
    Stop,
}

/// A run on another host, as data that is validated when it is received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteOrder {
    /// The commit to build the kernel from; `None` if the run uses `kernel`.
    pub commit: Option<CommitId>,
    /// A kernel of the store.
    pub kernel: Option<StoreKernel>,
    /// The test file.
    pub test: TestPath,
    /// The subtests; empty means all.
    pub subtests: Vec<SubtestName>,
    /// The test files that share the kernel.
    pub merge: Vec<TestPath>,
    /// Kernel options with a requirement that may stay unmet.
    pub tolerate: Vec<String>,
    /// The root image.
    #[serde(default)]
    pub image: ShippedImage,
    /// Packages of the root image in addition to its own.
    pub packages: Vec<PackageName>,
    /// The variables that the test group sets.
    pub env: Env,
    /// The test suites, each with a repository that contains its commit: on this machine, or for a host its mirror.
    #[serde(default)]
    pub suites: Vec<SuiteOrder>,
    /// The guest's architecture if the test file does not declare one.
    pub arch: Option<model::Arch>,
    /// The trust domain of the branch.
    #[serde(default)]
    pub trust_domain: Option<model::TrustDomain>,
    /// One in this number of kernels is compared with a clean build; 0 disables this.
    #[serde(default)]
    pub verify_builds: u32,
    /// The package repositories of `kernel`.
    #[serde(default)]
    pub kernel_repos: Vec<model::PackageRepo>,
}

impl RemoteOrder {
    /// The order for `ktest run` on a host with the test tree `tree` and the kernel repository `repo`, for the given
    /// subtests.
    #[must_use]
    pub fn run_order<'a>(
        &self,
        repo: &Path,
        tree: &Path,
        out: &Path,
        subtests: impl IntoIterator<Item = &'a SubtestName>,
    ) -> RunOrder {
        let file = |test: &TestPath| tree.join("tests").join(test.file());
        let kernel = match (&self.commit, &self.kernel) {
            (None, Some(kernel)) => kernel.to_string(),
            _ => repo.to_string_lossy().into_owned(),
        };
        let test = TestOrder {
            kernel,
            commit: self.commit.as_ref().map(ToString::to_string),
            tests_dir: Some(tree.into()),
            out: out.into(),
            tolerate: self.tolerate.clone(),
            merge: self.merge.iter().map(file).collect(),
            arch: self.arch,
            image: Some(self.image).filter(|image| *image != ShippedImage::default()).map(RootImage::Shipped),
            packages: self.packages.clone(),
            env: self.env.vars(),
            suites: self.suites.clone(),
            trust_domain: self.trust_domain.clone(),
            verify_builds: self.verify_builds,
            kernel_repos: self.kernel_repos.clone(),
            ..TestOrder::of(&file(&self.test), subtests)
        };
        RunOrder { events: true, ..test.into() }
    }
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection ended.
    #[error("the connection ended")]
    End,
    /// No message arrived before the time limit.
    #[error("no message for {} s", TIMEOUT.as_secs())]
    TimeOut,
    /// The message is not valid.
    #[error("it sent an invalid message: {0:?}")]
    Invalid(String),
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the next message.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin)) -> Result<T, ReadError> {
    let mut bytes = Vec::new();
    let line = async { from.take(LINE).read_until(b'\n', &mut bytes).await };
    match tokio::time::timeout(TIMEOUT, line).await {
        Err(_) => return Err(ReadError::TimeOut),
        Ok(Err(error)) => return Err(error.into()),
        Ok(Ok(_)) => {}
    }
    if bytes.last() != Some(&b'\n') {
        return Err(if bytes.len() as u64 == LINE { invalid(&bytes) } else { ReadError::End });
    }
    serde_json::from_slice(&bytes).map_err(|_| invalid(&bytes))
}

fn invalid(bytes: &[u8]) -> ReadError {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
    ReadError::Invalid(text.trim_end().into())
}

/// Reads the host's first frame, and skips the output of its login shell.
pub async fn read_hello(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Hello, ReadError> {
    let mut skipped = 0;
    let mut last = String::new();
    loop {
        let mut bytes = Vec::new();
        let line = async { from.take(64 << 10).read_until(b'\n', &mut bytes).await };
        match tokio::time::timeout(TIMEOUT, line).await {
            Err(_) => return Err(ReadError::TimeOut),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(0)) if last.is_empty() => return Err(ReadError::End),
            Ok(Ok(0)) => return Err(ReadError::Invalid(last)),
            Ok(Ok(_)) => {}
        }
        if let Some(rest) = bytes.strip_prefix(GREETING.as_bytes()) {
            return match serde_json::from_slice(rest) {
                Ok(Frame::Hello(hello)) => Ok(hello),
                _ => Err(invalid(rest)),
            };
        }
        skipped += bytes.len();
        if skipped > 256 << 10 {
            return Err(invalid(&bytes));
        }
        last = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).trim_end().into();
    }
}

/// Copies the bytes that follow a message.
pub async fn copy(
    from: &mut (impl AsyncBufRead + Unpin),
    mut size: u64,
    mut to: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReadError> {
    while size > 0 {
        let available = match tokio::time::timeout(TIMEOUT, from.fill_buf()).await {
            Err(_) => return Err(ReadError::TimeOut),
            Ok(available) => available?,
        };
        if available.is_empty() {
            return Err(ReadError::End);
        }
        let count = available.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        to(&available[..count])?;
        from.consume(count);
        size -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_with_bytes_round_trip() {
        let mut stream = serde_json::to_vec(&Frame::File { path: "out/a".into(), size: 3 }).unwrap();
        stream.extend_from_slice(b"\nabc\"alive\"\nno json\n");
        let mut reader = &stream[..];
        let Frame::File { size, .. } = read(&mut reader).await.unwrap() else { panic!("a file") };
        let mut content = Vec::new();
        copy(&mut reader, size, |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(content, b"abc");
        assert_eq!(read::<Frame>(&mut reader).await.unwrap(), Frame::Alive);
        assert!(matches!(read::<Frame>(&mut reader).await, Err(ReadError::Invalid(_))));
        assert!(matches!(read::<Frame>(&mut reader).await, Err(ReadError::End)));
    }

    #[test]
    fn an_order_has_no_paths_outside_the_host_directories() {
        let order = serde_json::json!({
            "commit": null, "kernel": "debian/trixie", "test": "fs/a", "subtests": [], "merge": [], "tolerate": [],
            "packages": ["fio"], "env": {"K": "fs/ext4;$(id)"}, "arch": null,
        });
        let read: RemoteOrder = serde_json::from_value(order.clone()).unwrap();
        let run = read.run_order("/r".as_ref(), "/t".as_ref(), "/o".as_ref(), &read.subtests);
        assert_eq!(
            spawn::Cmd::new("ktest").args(run.to_argv()).to_string(),
            "ktest --events -k debian/trixie --tests-dir /t --out /o --package fio --env 'K=fs/ext4;$(id)' /t/tests/fs/a.ktest"
        );
        for (field, bad) in [
            ("packages", serde_json::json!(["--hook=x"])),
            ("env", serde_json::json!({"K": "/etc/shadow"})),
            ("env", serde_json::json!({"K": "a/../../b"})),
            ("env", serde_json::json!({"K/..": "v"})),
        ] {
            let mut order = order.clone();
            order[field] = bad;
            assert!(serde_json::from_value::<RemoteOrder>(order.clone()).is_err(), "{order}");
        }
    }

    #[tokio::test]
    async fn output_of_the_login_shell_is_skipped() {
        let hello = Hello {
            protocol: 1,
            version: "0".into(),
            arch: "x86_64".into(),
            unix: 0,
            cache: "/c".into(),
            free: 1,
        };
        let frame = serde_json::to_string(&Frame::Hello(hello.clone())).unwrap();
        let input = format!("Welcome!\n\n{GREETING}{frame}\n");
        assert_eq!(read_hello(&mut input.as_bytes()).await.unwrap(), hello);
        let text = |error| format!("{error}");
        assert_eq!(text(read_hello(&mut &b""[..]).await.unwrap_err()), "the connection ended");
        let error = read_hello(&mut &b"bash: ktest: command not found\n"[..]).await.unwrap_err();
        assert_eq!(text(error), r#"it sent an invalid message: "bash: ktest: command not found""#);
        let flood = vec![b'x'; 1 << 20];
        assert!(matches!(read_hello(&mut &flood[..]).await, Err(ReadError::Invalid(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let _ = read::<Frame>(&mut &bytes[..]).await;
                let _ = read_hello(&mut &bytes[..]).await;
            });
        }
    }
}
