//! Runs make: maps the directories of a build from the host to make, builds the command line, and reads make's output.
//!
//! The environment is cleared and the build settings are fixed, so that the same source gives the same image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use debian::programs::{SYSTEM_PATH, search_path};
use fsx::own;
use sandbox::Sandbox;
use spawn::{Cmd, Exit, Limits, Output, SpawnError, Stream};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use crate::error::{BuildError, InfrastructureError};
use crate::state::{FRAGMENT, ObjectState};
use crate::toolchain::Toolchain;
use crate::tree::ObjectDir;

/// The path of the source in the sandbox, which is also the path in debug information.
pub const SANDBOX_SRC: &str = "/ktest/src";
/// The paths of the object directory, its state, the compiler cache and the output directory in the sandbox.
const SANDBOX_OBJ: &str = "/ktest/obj";
const SANDBOX_STATE: &str = "/ktest/state";
const SANDBOX_CCACHE: &str = "/ktest/ccache";
const SANDBOX_BASE_CCACHE: &str = "/ktest/ccache-base";
const SANDBOX_OUT: &str = "/ktest/out";

/// The size limit of the compiler cache of the base builds, for ccache.
const BASE_CCACHE_SIZE: &str = "10G";

/// The directories of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The source on the host.
    pub src: PathBuf,
    /// The object directory on the host.
    pub obj: PathBuf,
    /// The state of the object directory, on the host.
    pub state: ObjectState,
    /// The path of the source for make.
    pub make_src: PathBuf,
    /// The path of the object directory for make.
    pub make_obj: PathBuf,
    /// The path, for make, of the options that Kconfig reads.
    pub make_fragment: PathBuf,
}

impl Layout {
    /// In the sandbox, the paths for make are the same in every build tree ([`SANDBOX_SRC`]), so that the trees share
    /// the compiler cache. Outside the sandbox, they are those of the host.
    #[must_use]
    pub fn new(src: &Path, objects: &ObjectDir, sandboxed: bool) -> Self {
        let (make_src, make_obj, make_fragment) = match sandboxed {
            true => (SANDBOX_SRC.into(), SANDBOX_OBJ.into(), Path::new(SANDBOX_STATE).join(FRAGMENT)),
            false => (src.into(), objects.dir.clone(), objects.state.fragment()),
        };
        let ObjectDir { dir: obj, state } = objects.clone();
        Self { src: src.into(), obj, state, make_src, make_obj, make_fragment }
    }

    /// The host path of a path in make's files, which is absolute or relative to the object directory. The result may
    /// be anywhere on the host: do not open it.
    #[must_use]
    pub fn on_host(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        if let Ok(rest) = path.strip_prefix(&self.make_obj) {
            self.obj.join(rest)
        } else if let Ok(rest) = path.strip_prefix(&self.make_src) {
            self.src.join(rest)
        } else {
            self.obj.join(path)
        }
    }
}

/// The compiler cache that is shared by all trust domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCcache {
    /// The directory on the host.
    pub dir: PathBuf,
    /// Whether this build may write to it.
    pub writable: bool,
}

/// How make is run for one build.
#[derive(Debug, Clone)]
pub struct Make {
    /// The directories.
    pub layout: Layout,
    /// The tool chain.
    pub toolchain: Toolchain,
    /// The number of parallel compilers.
    pub jobs: usize,
    /// The arguments of the test files.
    pub append: Vec<String>,
    /// The sandbox, without the directories of this build; `None` if make runs without a sandbox.
    pub sandbox: Option<Sandbox>,
    /// The compiler cache on the host.
    pub ccache: PathBuf,
    /// The compiler cache of the base builds.
    pub base_ccache: Option<BaseCcache>,
    /// Whether compilers use the compiler cache, if the tool chain has it.
    pub use_ccache: bool,
    /// An additional host directory that make may write to, in which modules are installed.
    pub out: Option<PathBuf>,
}

impl Make {
    /// The path of the output directory for make.
    #[must_use]
    pub fn make_out(&self) -> Option<PathBuf> {
        let out = self.out.clone()?;
        Some(if self.sandbox.is_some() { SANDBOX_OUT.into() } else { out })
    }

    fn env(&self) -> Vec<(&'static str, OsString)> {
        let mut path = OsString::new();
        for dir in &self.toolchain.dirs {
            path.push(if dir.ends_with("bin") { dir.clone() } else { dir.join("bin") });
            path.push(":");
        }
        let host = search_path();
        path.push(if self.sandbox.is_some() { OsStr::new(SYSTEM_PATH) } else { &host });
        let ccache = if self.sandbox.is_some() { SANDBOX_CCACHE.into() } else { self.ccache.clone() };
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
            // Builds can write to the directory: a configuration file in it could name programs to run.
            env.push(("CCACHE_CONFIGPATH", "/dev/null".into()));
            if !self.use_ccache {
                env.push(("CCACHE_DISABLE", "1".into()));
            }
            // Avoids a second run of the preprocessor: on a cache miss, a compile takes hardly longer than without
            // ccache.
            env.push(("CCACHE_DEPEND", "true".into()));
            env.extend(self.base_ccache_env());
        }
        env
    }

    /// Variables for the compiler cache of the base builds. The second name is that of ccache 4.4 to 4.6.
    fn base_ccache_env(&self) -> Vec<(&'static str, OsString)> {
        let Some(base) = &self.base_ccache else { return Vec::new() };
        let dir = if self.sandbox.is_some() { Path::new(SANDBOX_BASE_CCACHE) } else { &base.dir };
        // These characters have a meaning in the value.
        let Some(dir) = dir.to_str().filter(|dir| !dir.contains([' ', '|', '%', '?', '#'])) else {
            return Vec::new();
        };
        let storage =
            OsString::from(format!("file:{dir}{}", if base.writable { "" } else { "|read-only=true" }));
        let mut env = vec![("CCACHE_REMOTE_STORAGE", storage.clone()), ("CCACHE_SECONDARY_STORAGE", storage)];
        if base.writable {
            // The builds of the base use no other cache, so that they do not write everything twice.
            env.push(("CCACHE_REMOTE_ONLY", "true".into()));
        }
        env
    }

    /// Limits the size of the compiler cache of the base builds, if this build writes to it: the files that were not
    /// used for the longest time are removed.
    pub async fn trim_base_ccache(&self) {
        let Some(base) = self.base_ccache.as_ref().filter(|base| base.writable) else { return };
        let dir = if self.sandbox.is_some() { Path::new(SANDBOX_BASE_CCACHE) } else { &base.dir };
        let args =
            ["--trim-max-size", BASE_CCACHE_SIZE, "--trim-dir", &dir.to_string_lossy()].map(String::from);
        match self.program("ccache", &args).output(Limits::seconds(600)).await {
            Ok(output) if output.exit.success() => {}
            Ok(output) => tracing::warn!(error = output.error_line(), "cannot trim the compiler cache"),
            Err(error) => tracing::warn!(%error, "cannot trim the compiler cache"),
        }
    }

    /// The command of a program in make's environment and sandbox.
    #[must_use]
    pub fn program(&self, program: &str, args: &[String]) -> Cmd {
        let env = self.env();
        let cmd = match &self.sandbox {
            Some(sandbox) => {
                let sandbox = self.mounts(sandbox.clone()).dir(&self.layout.make_obj);
                env.iter().fold(sandbox, |sandbox, (key, value)| sandbox.env(key, value)).command(program)
            }
            None => {
                let cmd = Cmd::new(program).env_clear().dir(&self.layout.obj);
                env.iter().fold(cmd, |cmd, (key, value)| cmd.env(key, value))
            }
        };
        cmd.args(args)
    }

    /// The command of make with these targets and variables.
    #[must_use]
    pub fn cmd(&self, args: &[&str]) -> Cmd {
        let Layout { make_src, make_obj, .. } = &self.layout;
        let mut output = OsString::from("O=");
        output.push(make_obj);
        self.program("make", &["--no-print-directory".into(), format!("-j{}", self.jobs.max(1)), "-C".into()])
            .arg(make_src)
            .arg(output)
            .args(&self.toolchain.make_args)
            .arg("LOCALVERSION=")
            .args(&self.append)
            .args(args)
    }

    fn mounts(&self, sandbox: Sandbox) -> Sandbox {
        let layout = &self.layout;
        let dirs = self.toolchain.dirs.iter();
        let mut sandbox = dirs
            .fold(sandbox, |sandbox, dir| sandbox.read_only(dir, dir))
            .read_only(&layout.src, &layout.make_src)
            .writable(&layout.obj, &layout.make_obj)
            .read_only(layout.state.dir(), SANDBOX_STATE);
        if self.toolchain.ccache {
            sandbox = sandbox.writable(&self.ccache, SANDBOX_CCACHE);
            sandbox = match &self.base_ccache {
                Some(base) if base.writable => sandbox.writable(&base.dir, SANDBOX_BASE_CCACHE),
                Some(base) => sandbox.read_only(&base.dir, SANDBOX_BASE_CCACHE),
                None => sandbox,
            };
        }
        match &self.out {
            Some(out) => sandbox.writable(out, SANDBOX_OUT),
            None => sandbox,
        }
    }

    /// Runs make and captures its output.
    pub async fn capture(&self, args: &[&str], limit: Duration) -> Result<Output, BuildError> {
        Ok(self.cmd(args).output(Limits { time: limit, bytes: 256 << 20 }).await?)
    }

    /// Runs make and passes on each line of its output immediately. To cancel, drop the future: make and its child
    /// processes are killed.
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
                Ok(())
            };
            // Without its output, a failure of make is not a statement about the source.
            let read = tokio::try_join!(stdout, stderr, pass_on);
            read.map_err(|source| SpawnError::Io { program: "make".into(), source })?;
            child.wait().await
        };
        match tokio::time::timeout(limit, work).await {
            Ok(exit) => Ok(exit?),
            Err(_) => Err(InfrastructureError::MakeTimeOut(limit.as_secs()).into()),
        }
    }
}

/// The maximum length of a line that is passed on, in bytes; the rest of a longer line is dropped.
const LINE_BYTES: usize = 16 << 10;

async fn read_lines(stream: Option<impl AsyncRead + Unpin>, to: mpsc::Sender<String>) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match reader.fill_buf().await? {
            [] => break,
            bytes => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let part = &bytes[..end.unwrap_or(bytes.len())];
                line.extend_from_slice(&part[..part.len().min(LINE_BYTES.saturating_sub(line.len()))]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        reader.consume(used);
        if ended {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if to.send(text).await.is_err() {
                return Ok(());
            }
        }
    }
    if !line.is_empty() {
        let _ = to.send(String::from_utf8_lossy(&line).into_owned()).await;
    }
    Ok(())
}

/// The maximum size of a build log, in bytes.
const LOG_BYTES: usize = 64 << 20;

/// The log of a build: the output of make, up to a limit.
#[derive(Debug)]
pub struct Log {
    file: std::io::BufWriter<File>,
    path: PathBuf,
    left: usize,
}

impl Log {
    /// Creates the log, or truncates an existing one.
    pub fn create(path: &Path) -> Result<Self, BuildError> {
        if let Some(dir) = path.parent() {
            own::create_dir_all(dir)?;
        }
        let file = std::io::BufWriter::new(own::create(path)?);
        Ok(Self { file, path: path.into(), left: LOG_BYTES })
    }

    /// Adds a line.
    pub fn line(&mut self, text: &str) {
        if self.left == 0 {
            return;
        }
        let written = if self.left > text.len() {
            self.left -= text.len() + 1;
            writeln!(self.file, "{text}")
        } else {
            self.left = 0;
            writeln!(self.file, "[the log is too long: the rest is omitted]")
        };
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the build log");
            self.left = 0;
        }
    }

    /// Writes buffered lines to the file.
    pub fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the build log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Arch;

    fn layout(sandbox: bool) -> Layout {
        let objects = ObjectDir { dir: "/c/obj".into(), state: ObjectState::new("/c/state".into()) };
        Layout::new(Path::new("/c/src"), &objects, sandbox)
    }

    fn make(sandbox: bool) -> Make {
        Make {
            layout: layout(sandbox),
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
            sandbox: sandbox.then(Sandbox::new),
            ccache: "/c/ccache".into(),
            base_ccache: Some(BaseCcache { dir: "/c/ccache-base".into(), writable: false }),
            use_ccache: true,
            out: Some("/c/out".into()),
        }
    }

    #[test]
    fn the_command() {
        insta::assert_snapshot!(make(false).cmd(&["vmlinux"]), @"make --no-print-directory -j2 -C /c/src O=/c/obj ARCH=x86_64 'CC=ccache gcc' LOCALVERSION= 'KCFLAGS=-g -O1' vmlinux");
        let sandboxed = make(true).cmd(&["modules_install"]).to_string();
        let from = sandboxed.find("--ro-bind /opt").unwrap();
        let to = sandboxed.find("-- /usr/bin/prlimit").unwrap();
        insta::assert_snapshot!(sandboxed[from..to].replace(" --", "\n--"), @r"
        --ro-bind /opt/cross /opt/cross
        --ro-bind /c/src /ktest/src
        --bind /c/obj /ktest/obj
        --ro-bind /c/state /ktest/state
        --bind /c/ccache /ktest/ccache
        --ro-bind /c/ccache-base /ktest/ccache-base
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
        --setenv CCACHE_CONFIGPATH /dev/null
        --setenv CCACHE_DEPEND true
        --setenv CCACHE_REMOTE_STORAGE 'file:/ktest/ccache-base|read-only=true'
        --setenv CCACHE_SECONDARY_STORAGE 'file:/ktest/ccache-base|read-only=true'
        --remount-ro /proc
        --remount-ro /dev
        --remount-ro /
        --seccomp FD
        --chdir /ktest/obj
        ");
        let make = "-- make --no-print-directory -j2 -C /ktest/src O=/ktest/obj ARCH=x86_64 'CC=ccache gcc' \
                    LOCALVERSION= 'KCFLAGS=-g -O1' modules_install";
        assert!(sandboxed.ends_with(make), "{sandboxed}");
    }

    #[test]
    fn host_paths_of_makes_paths() {
        let layout = layout(true);
        assert_eq!(layout.on_host("/ktest/src/fs/x.c"), Path::new("/c/src/fs/x.c"));
        assert_eq!(layout.on_host("/ktest/obj/y.h"), Path::new("/c/obj/y.h"));
        assert_eq!(layout.on_host("include/y.h"), Path::new("/c/obj/include/y.h"));
        assert_eq!(layout.on_host("/usr/include/y.h"), Path::new("/usr/include/y.h"));
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let (sender, mut receiver) = mpsc::channel(100);
        let long = "x".repeat(LINE_BYTES + 5000);
        let input = format!("a\n\nb\u{e9}\n{long}\nlast");
        let mut bytes = input.into_bytes();
        bytes.insert(1, 0xff);
        read_lines(Some(bytes.as_slice()), sender).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[4].as_str()), ("a\u{fffd}", "", "last"));
        assert_eq!(lines[3].len(), LINE_BYTES);
    }

    #[test]
    fn the_size_of_a_log_is_limited() {
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
            "12345\n[the log is too long: the rest is omitted]\n"
        );
    }
}
