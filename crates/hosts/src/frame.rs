//! The language between the two ends of a run on another host: JSON lines, some followed by a counted number of bytes.
//!
//! Whatever the other end sends, reading it needs bounded memory and bounded time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{CommitId, Env, PackageName, RunOrder, StoreKernel, SubtestName, TestOrder, TestPath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// What stands before the first frame of a host: what a login shell printed before it is skipped.
pub const GREETING: &str = "ktest-host ";
/// The longest line, in bytes.
const LINE: u64 = 8 << 20;
/// Each end says something at least this often.
pub const BEAT: Duration = Duration::from_secs(10);
/// An end that heard nothing for so long takes the other for gone.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// [`model::build::version`]: both ends have the same build, so that a verdict does not depend on the host.
    pub version: String,
    /// As `uname -m` has it.
    pub arch: String,
    /// Its clock, Unix seconds.
    pub unix: i64,
    /// Its cache folder.
    pub cache: PathBuf,
    /// Bytes free there.
    pub free: u64,
}

/// From the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The first.
    Hello(Hello),
    /// The answer to [`Order::Prepare`].
    Ready {
        /// Whether the commit is there.
        commit: bool,
        /// Whether the tests are there.
        tests: bool,
        /// Where commits are to be pushed to.
        mirror: PathBuf,
    },
    /// The tests were received.
    TestsThere,
    /// Nothing else to say.
    Alive,
    /// A line of the run's standard output: an event.
    Line(String),
    /// A line of the run's standard error.
    Complaint(String),
    /// A file of the run's output folder; `size` bytes follow.
    File {
        /// Where, below the output folder.
        path: PathBuf,
        /// How many bytes follow.
        size: u64,
    },
    /// The run ended: its exit code, none if a signal killed it. The last frame.
    Exit(Option<i32>),
    /// What was asked for cannot be done. The last frame.
    Refused(String),
}

/// To the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// What will be needed.
    Prepare {
        /// Who asks: one run at a time has this name; an older one of the same name is ended.
        slot: String,
        /// The commit.
        commit: Option<CommitId>,
        /// The name of the tests' tree, by content.
        tests: String,
    },
    /// The tests; a tar archive of `size` bytes follows.
    Tests {
        /// How many bytes follow.
        size: u64,
    },
    /// Run this.
    Run(Box<RemoteOrder>),
    /// The wanted kernel is in the store now, or is to be built there.
    Kernel,
    /// Nothing else to say.
    Alive,
    /// End the run.
    Stop,
}

/// A run on another host, as data that is validated when it is received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteOrder {
    /// The commit whose kernel is built; with `None` the run uses `kernel`.
    pub commit: Option<CommitId>,
    /// A kernel of the store.
    pub kernel: Option<StoreKernel>,
    /// The test file.
    pub test: TestPath,
    /// The subtests; all if empty.
    pub subtests: Vec<SubtestName>,
    /// The test files that share the kernel.
    pub merge: Vec<TestPath>,
    /// Kernel options whose requirement may stay unmet.
    pub tolerate: Vec<String>,
    /// Packages of the root image in addition to the standard ones.
    pub packages: Vec<PackageName>,
    /// The variables that the test group sets.
    pub env: Env,
    /// The guest's architecture if the test file does not declare one.
    pub arch: Option<model::Arch>,
}

impl RemoteOrder {
    /// The order for `ktest run` on a host with the test tree `tree` and the kernel repository `repo`, for these of the
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
            packages: self.packages.clone(),
            env: self.env.vars(),
            ..TestOrder::of(&file(&self.test), subtests)
        };
        RunOrder { events: true, ..test.into() }
    }
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The line is over.
    #[error("the connection ended")]
    End,
    /// Too long without a word.
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silence,
    /// Not our language.
    #[error("it answers rubbish: {0:?}")]
    Rubbish(String),
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The next message.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin)) -> Result<T, ReadError> {
    let mut bytes = Vec::new();
    let line = async { from.take(LINE).read_until(b'\n', &mut bytes).await };
    match tokio::time::timeout(SILENCE, line).await {
        Err(_) => return Err(ReadError::Silence),
        Ok(Err(error)) => return Err(error.into()),
        Ok(Ok(_)) => {}
    }
    if bytes.last() != Some(&b'\n') {
        return Err(if bytes.len() as u64 == LINE { rubbish(&bytes) } else { ReadError::End });
    }
    serde_json::from_slice(&bytes).map_err(|_| rubbish(&bytes))
}

fn rubbish(bytes: &[u8]) -> ReadError {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
    ReadError::Rubbish(text.trim_end().into())
}

/// The host's first frame, whatever its login shell said before.
pub async fn read_hello(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Hello, ReadError> {
    let mut skipped = 0;
    let mut last = String::new();
    loop {
        let mut bytes = Vec::new();
        let line = async { from.take(64 << 10).read_until(b'\n', &mut bytes).await };
        match tokio::time::timeout(SILENCE, line).await {
            Err(_) => return Err(ReadError::Silence),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(0)) if last.is_empty() => return Err(ReadError::End),
            Ok(Ok(0)) => return Err(ReadError::Rubbish(last)),
            Ok(Ok(_)) => {}
        }
        if let Some(rest) = bytes.strip_prefix(GREETING.as_bytes()) {
            return match serde_json::from_slice(rest) {
                Ok(Frame::Hello(hello)) => Ok(hello),
                _ => Err(rubbish(rest)),
            };
        }
        skipped += bytes.len();
        if skipped > 256 << 10 {
            return Err(rubbish(&bytes));
        }
        last = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).trim_end().into();
    }
}

/// Copies the bytes that follow a message. An end that stalls is taken for gone.
pub async fn copy(
    from: &mut (impl AsyncBufRead + Unpin),
    mut size: u64,
    mut to: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReadError> {
    while size > 0 {
        let there = match tokio::time::timeout(SILENCE, from.fill_buf()).await {
            Err(_) => return Err(ReadError::Silence),
            Ok(there) => there?,
        };
        if there.is_empty() {
            return Err(ReadError::End);
        }
        let count = there.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        to(&there[..count])?;
        from.consume(count);
        size -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_read_back_with_their_bytes() {
        let mut stream = serde_json::to_vec(&Frame::File { path: "out/a".into(), size: 3 }).unwrap();
        stream.extend_from_slice(b"\nabc\"alive\"\nrubbish\n");
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
        assert!(matches!(read::<Frame>(&mut reader).await, Err(ReadError::Rubbish(_))));
        assert!(matches!(read::<Frame>(&mut reader).await, Err(ReadError::End)));
    }

    #[test]
    fn an_order_is_words_of_a_command_line_and_leads_nowhere_else() {
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
    async fn what_a_login_shell_says_is_skipped() {
        let hello = Hello {
            protocol: 1,
            version: "0".into(),
            arch: "x86_64".into(),
            unix: 0,
            cache: "/c".into(),
            free: 1,
        };
        let frame = serde_json::to_string(&Frame::Hello(hello.clone())).unwrap();
        let text = format!("Welcome!\n\n{GREETING}{frame}\n");
        assert_eq!(read_hello(&mut text.as_bytes()).await.unwrap(), hello);
        let said = |error| format!("{error}");
        assert_eq!(said(read_hello(&mut &b""[..]).await.unwrap_err()), "the connection ended");
        let error = read_hello(&mut &b"bash: ktest: command not found\n"[..]).await.unwrap_err();
        assert_eq!(said(error), r#"it answers rubbish: "bash: ktest: command not found""#);
        let flood = vec![b'x'; 1 << 20];
        assert!(matches!(read_hello(&mut &flood[..]).await, Err(ReadError::Rubbish(_))));
    }

    proptest::proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let _ = read::<Frame>(&mut &bytes[..]).await;
                let _ = read_hello(&mut &bytes[..]).await;
            });
        }
    }
}
