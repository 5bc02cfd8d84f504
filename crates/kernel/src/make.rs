//! Calls make: where source and objects lie, as the host and as make see them, and how its output is read.
//!
//! The environment is cleared and the build settings are fixed, so that the same source gives the same image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use debian::programs::{SYSTEM_PATH, search_path};
use spawn::{Cmd, Exit, Limits, Output, Stream};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use crate::error::BuildError;
use crate::sandbox::{self, Mount, RootEntry};
use crate::toolchain::Toolchain;

/// Where a sandboxed make sees the source: what debug information names.
pub const SRC_SEEN: &str = "/ktest/src";
/// Where the sandbox has the object folder, the compiler cache and the output folder.
const OBJ_SEEN: &str = "/ktest/obj";
const CCACHE_SEEN: &str = "/ktest/ccache";
const OUT_SEEN: &str = "/ktest/out";

/// Where things lie for one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The source on the host.
    pub src: PathBuf,
    /// The object folder on the host.
    pub obj: PathBuf,
    /// The source as make sees it.
    pub src_seen: PathBuf,
    /// The object folder as make sees it.
    pub obj_seen: PathBuf,
}

impl Layout {
    /// In the sandbox make sees the same paths whatever tree it works in ([`SRC_SEEN`]), so that compiles of one tree
    /// serve another; outside it sees those of the host.
    #[must_use]
    pub fn new(src: &Path, obj: &Path, sandboxed: bool) -> Self {
        let (src_seen, obj_seen) =
            if sandboxed { (SRC_SEEN.into(), OBJ_SEEN.into()) } else { (src.into(), obj.into()) };
        Self { src: src.into(), obj: obj.into(), src_seen, obj_seen }
    }

    /// Where the host has a path that make names, be it absolute or relative to the object folder.
    #[must_use]
    pub fn on_host(&self, seen: &str) -> PathBuf {
        let seen = Path::new(seen);
        if let Ok(rest) = seen.strip_prefix(&self.obj_seen) {
            self.obj.join(rest)
        } else if let Ok(rest) = seen.strip_prefix(&self.src_seen) {
            self.src.join(rest)
        } else {
            self.obj.join(seen)
        }
    }
}

/// How make is called for one build.
#[derive(Debug, Clone)]
pub struct Make {
    /// Where things lie.
    pub layout: Layout,
    /// With what.
    pub toolchain: Toolchain,
    /// How many compiles at once.
    pub jobs: usize,
    /// The test files' own arguments.
    pub append: Vec<String>,
    /// The host's root folder, where the build is sandboxed.
    pub sandbox: Option<Vec<RootEntry>>,
    /// The compiler cache on the host.
    pub ccache: PathBuf,
    /// The one further folder that make may write, on the host: where modules are installed.
    pub out: Option<PathBuf>,
}

impl Make {
    /// The output folder as make sees it.
    #[must_use]
    pub fn out_seen(&self) -> Option<PathBuf> {
        let out = self.out.clone()?;
        Some(if self.sandbox.is_some() { OUT_SEEN.into() } else { out })
    }

    fn env(&self) -> Vec<(&'static str, OsString)> {
        let mut path = OsString::new();
        for dir in &self.toolchain.dirs {
            path.push(if dir.ends_with("bin") { dir.clone() } else { dir.join("bin") });
            path.push(":");
        }
        let host = search_path();
        path.push(if self.sandbox.is_some() { OsStr::new(SYSTEM_PATH) } else { &host });
        let ccache = if self.sandbox.is_some() { CCACHE_SEEN.into() } else { self.ccache.clone() };
        let mut env = vec![
            ("PATH", path),
            ("LC_ALL", "C".into()),
            ("HOME", "/nonexistent".into()),
            ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970".into()),
            ("KBUILD_BUILD_USER", "ktest".into()),
            ("KBUILD_BUILD_HOST", "ktest".into()),
            ("KBUILD_BUILD_VERSION", "1".into()),
            ("SOURCE_DATE_EPOCH", "0".into()),
        ];
        if self.toolchain.ccache {
            env.push(("CCACHE_DIR", ccache.into()));
            // Without a second run of the preprocessor: on a miss a compile costs hardly more than without ccache.
            env.push(("CCACHE_DEPEND", "true".into()));
        }
        env
    }

    /// Any program, in the surroundings that make has.
    #[must_use]
    pub fn program(&self, program: &str, args: &[String]) -> Cmd {
        let env = self.env();
        let cmd = match &self.sandbox {
            Some(root) => {
                let argv = sandbox::argv(root, &self.mounts(), &env, &self.layout.obj_seen);
                Cmd::new(&argv[0]).args(&argv[1..]).arg(program)
            }
            None => {
                let cmd = Cmd::new(program).env_clear().dir(&self.layout.obj);
                env.iter().fold(cmd, |cmd, (key, value)| cmd.env(key, value))
            }
        };
        cmd.args(args)
    }

    /// The whole command for these targets and variables.
    #[must_use]
    pub fn cmd(&self, args: &[&str]) -> Cmd {
        let Layout { src_seen, obj_seen, .. } = &self.layout;
        let mut output = OsString::from("O=");
        output.push(obj_seen);
        self.program("make", &["--no-print-directory".into(), format!("-j{}", self.jobs.max(1)), "-C".into()])
            .arg(src_seen)
            .arg(output)
            .args(&self.toolchain.make_args)
            .arg("LOCALVERSION=")
            .args(&self.append)
            .args(args)
    }

    fn mounts(&self) -> Vec<Mount> {
        let layout = &self.layout;
        let mount =
            |host: &Path, seen: &Path, writable| Mount { host: host.into(), seen: seen.into(), writable };
        let mut mounts: Vec<Mount> = self.toolchain.dirs.iter().map(|dir| mount(dir, dir, false)).collect();
        mounts.push(mount(&layout.src, &layout.src_seen, false));
        mounts.push(mount(&layout.obj, &layout.obj_seen, true));
        if self.toolchain.ccache {
            mounts.push(mount(&self.ccache, Path::new(CCACHE_SEEN), true));
        }
        if let Some(out) = &self.out {
            mounts.push(mount(out, Path::new(OUT_SEEN), true));
        }
        mounts
    }

    /// Runs make to its end with its output captured.
    pub async fn capture(&self, args: &[&str], limit: Duration) -> Result<Output, BuildError> {
        Ok(self.cmd(args).output(Limits { time: limit, bytes: 256 << 20 }).await?)
    }

    /// Runs make to its end, each line of its output passed on as it comes. Safe to cancel: make dies with all it
    /// started.
    pub async fn run(
        &self,
        args: &[&str],
        limit: Duration,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Exit, BuildError> {
        let cmd = self.cmd(args).streams(Stream::Null, Stream::Pipe, Stream::Pipe);
        tracing::debug!(%cmd, "make");
        let mut child = cmd.start()?;
        let (sender, mut receiver) = mpsc::channel(256);
        let stdout = read_lines(child.take_stdout(), sender.clone());
        let stderr = read_lines(child.take_stderr(), sender);
        let work = async {
            let pass_on = async {
                while let Some(text) = receiver.recv().await {
                    line(&text);
                }
            };
            tokio::join!(stdout, stderr, pass_on);
            child.wait().await
        };
        match tokio::time::timeout(limit, work).await {
            Ok(exit) => Ok(exit?),
            Err(_) => {
                let text = format!("make: killed, it ran longer than {} s", limit.as_secs());
                Err(BuildError::Infrastructure(text))
            }
        }
    }
}

/// Longest line that is passed on, in bytes; what is beyond is dropped.
const LONGEST: usize = 16 << 10;

async fn read_lines(stream: Option<impl AsyncRead + Unpin>, to: mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let part = &bytes[..end.unwrap_or(bytes.len())];
                line.extend_from_slice(&part[..part.len().min(LONGEST.saturating_sub(line.len()))]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        reader.consume(used);
        if ended {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if to.send(text).await.is_err() {
                return;
            }
        }
    }
    if !line.is_empty() {
        let _ = to.send(String::from_utf8_lossy(&line).into_owned()).await;
    }
}

/// The log of a build: everything make prints, up to a size.
#[derive(Debug)]
pub struct Log {
    file: std::io::BufWriter<File>,
    path: PathBuf,
    left: usize,
}

impl Log {
    /// Starts it anew.
    pub fn create(path: &Path) -> Result<Self, BuildError> {
        if let Some(dir) = path.parent() {
            crate::cache::make_dir(dir)?;
        }
        let file = File::create(path).map_err(|error| BuildError::io(path, &error))?;
        Ok(Self { file: std::io::BufWriter::new(file), path: path.into(), left: 64 << 20 })
    }

    /// One line.
    pub fn line(&mut self, text: &str) {
        if self.left == 0 {
            return;
        }
        let written = if self.left > text.len() {
            self.left -= text.len() + 1;
            writeln!(self.file, "{text}")
        } else {
            self.left = 0;
            writeln!(self.file, "[the rest is not kept: the log is too long]")
        };
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "build log");
            self.left = 0;
        }
    }

    /// All so far is on its way to the disk.
    pub fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            tracing::warn!(path = %self.path.display(), %error, "build log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Arch;

    fn make(sandbox: bool) -> Make {
        Make {
            layout: Layout::new(Path::new("/c/src"), Path::new("/c/obj"), sandbox),
            toolchain: Toolchain {
                arch: Arch::X86_64,
                make_args: vec!["ARCH=x86_64".into(), "CC=ccache gcc".into()],
                compiler: "gcc".into(),
                version: "gcc 12".into(),
                ccache: true,
                dirs: vec!["/opt/cross".into()],
            },
            jobs: 2,
            append: vec!["KCFLAGS=-g -O1".into()],
            sandbox: sandbox.then(|| vec![RootEntry::Dir("/usr".into())]),
            ccache: "/c/ccache".into(),
            out: Some("/c/out".into()),
        }
    }

    #[test]
    fn the_command() {
        insta::assert_snapshot!(make(false).cmd(&["vmlinux"]), @"make --no-print-directory -j2 -C /c/src O=/c/obj ARCH=x86_64 'CC=ccache gcc' LOCALVERSION= 'KCFLAGS=-g -O1' vmlinux");
        let sandboxed = make(true).cmd(&["modules_install"]).to_string();
        let from = sandboxed.find("--tmpfs").unwrap();
        insta::assert_snapshot!(sandboxed[from..].replace(" --", "\n--"), @r"
        --tmpfs /tmp
        --ro-bind /opt/cross /opt/cross
        --ro-bind /c/src /ktest/src
        --bind /c/obj /ktest/obj
        --bind /c/ccache /ktest/ccache
        --bind /c/out /ktest/out
        --setenv PATH /opt/cross/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
        --setenv LC_ALL C
        --setenv HOME /nonexistent
        --setenv KBUILD_BUILD_TIMESTAMP 'Thu Jan  1 00:00:00 UTC 1970'
        --setenv KBUILD_BUILD_USER ktest
        --setenv KBUILD_BUILD_HOST ktest
        --setenv KBUILD_BUILD_VERSION 1
        --setenv SOURCE_DATE_EPOCH 0
        --setenv CCACHE_DIR /ktest/ccache
        --setenv CCACHE_DEPEND true
        --chdir /ktest/obj
        -- make
        --no-print-directory -j2 -C /ktest/src O=/ktest/obj ARCH=x86_64 'CC=ccache gcc' LOCALVERSION= 'KCFLAGS=-g -O1' modules_install
        ");
    }

    #[test]
    fn paths_that_make_sees() {
        let layout = Layout::new(Path::new("/c/src"), Path::new("/c/obj"), true);
        assert_eq!(layout.on_host("/ktest/src/fs/x.c"), Path::new("/c/src/fs/x.c"));
        assert_eq!(layout.on_host("/ktest/obj/y.h"), Path::new("/c/obj/y.h"));
        assert_eq!(layout.on_host("include/y.h"), Path::new("/c/obj/include/y.h"));
        assert_eq!(layout.on_host("/usr/include/y.h"), Path::new("/usr/include/y.h"));
    }

    #[tokio::test]
    async fn lines_of_any_kind() {
        let (sender, mut receiver) = mpsc::channel(100);
        let long = "x".repeat(LONGEST + 5000);
        let input = format!("a\n\nb\u{e9}\n{long}\nlast");
        let mut bytes = input.into_bytes();
        bytes.insert(1, 0xff);
        read_lines(Some(bytes.as_slice()), sender).await;
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[4].as_str()), ("a\u{fffd}", "", "last"));
        assert_eq!(lines[3].len(), LONGEST);
    }

    #[test]
    fn a_log_ends_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/log");
        let mut log = Log::create(&path).unwrap();
        log.left = 10;
        for _ in 0..5 {
            log.line("12345");
        }
        log.flush();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "12345\n[the rest is not kept: the log is too long]\n"
        );
    }
}
