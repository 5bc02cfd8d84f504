//! Checks a host and sets it up: `ktest host check`, `ktest host setup`.

use std::path::Path;
use std::time::Duration;

use model::build::version;
use serde::{Deserialize, Serialize};
use spawn::{Limits, Stream};
use tokio::io::{AsyncWriteExt, BufReader};

use crate::error::HostError;
use crate::frame::{self, Hello, PROTOCOL};
use crate::link::Link;

/// The script that sets up a Debian or Ubuntu machine as a worker.
pub const SETUP: &str = include_str!("../../../packaging/host-setup");

/// The maximum size of a `ktest` binary that is sent, in bytes.
const BINARY_BYTES: u64 = 1 << 30;

/// The result of one check, in the format of `ktest doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked.
    pub what: String,
    /// `ok`, `weak` or `missing`.
    pub health: String,
    /// The result, in one line.
    pub found: String,
    /// The action to take; empty if the result is ok.
    #[serde(default)]
    pub remedy: String,
}

fn finding(what: &str, health: &str, found: String, remedy: &str) -> Finding {
    Finding { what: what.into(), health: health.into(), found, remedy: remedy.into() }
}

/// Checks a host: connection, version, disk space, clock, and the results of `ktest doctor` on the host.
pub async fn check(link: &Link) -> Vec<Finding> {
    let target = link.target();
    if let Err(error) = link.up_now().await {
        let error = error.to_string();
        let remedy = match error.contains("Permission denied") {
            true => {
                format!(
                    "authorize this account's key: ktest host setup root@{} --key FILE.pub",
                    target.address
                )
            }
            false => format!("try it manually: {}", target.manual_command()),
        };
        return vec![finding("connection", "missing", error, &remedy)];
    }
    let mut findings = vec![finding("connection", "ok", target.destination(), "")];
    match hello(link).await {
        Ok(hello) => findings.extend(check_hello(&hello, fsx::clock::unix_seconds())),
        Err(error) => {
            let remedy = format!("`ktest host setup root@{}` installs it", target.address);
            findings.push(finding("ktest", "missing", error.to_string(), &remedy));
            return findings;
        }
    }
    // Exit code 1 means that a finding has the health "missing".
    let limits = Limits { time: Duration::from_secs(120), bytes: 1 << 20 };
    let doctor = link.ktest(&["doctor", "--json"]).output(limits).await;
    match doctor.map(|output| (serde_json::from_slice::<Vec<Finding>>(&output.stdout), output)) {
        Ok((Ok(more), _)) => findings.extend(more),
        Ok((Err(_), output)) => findings.push(finding("doctor", "missing", output.error_line(), "")),
        Err(error) => findings.push(finding("doctor", "missing", error.to_string(), "")),
    }
    findings
}

async fn hello(link: &Link) -> Result<Hello, HostError> {
    let host = link.target().name.to_string();
    let mut child =
        link.ktest(&["host", "serve"]).streams(Stream::Pipe, Stream::Pipe, Stream::Pipe).start()?;
    let stdout = child.take_stdout().expect("the stream is a pipe");
    let stderr = child.take_stderr().expect("the stream is a pipe");
    let (sender, mut messages) = tokio::sync::mpsc::channel(64);
    tokio::spawn(spawn::lines::send(stderr, sender));
    let error = match frame::read_hello(&mut BufReader::new(stdout)).await {
        Ok(hello) => return Ok(hello),
        Err(error) => error,
    };
    // For example, the command does not exist.
    let mut last = String::new();
    let rest = async {
        while let Some(line) = messages.recv().await {
            last = line;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
    let problem = match last.trim() {
        "" => error.to_string(),
        last => format!("{error} ({last})"),
    };
    Err(HostError::Unfit { host, problem })
}

/// Checks the greeting of a host. `now` is the time of this machine, in Unix seconds.
#[must_use]
pub fn check_hello(hello: &Hello, now: i64) -> Vec<Finding> {
    let same = (hello.protocol, hello.version.as_str()) == (PROTOCOL, version());
    let found = format!("{} ({})", hello.version, hello.arch);
    let free = format!("{}: {} GiB free", hello.cache.display(), hello.free >> 30);
    let off = hello.unix.abs_diff(now);
    vec![
        match same {
            true => finding("ktest", "ok", found, ""),
            false => finding(
                "ktest",
                "missing",
                found,
                &format!("this is {}; `ktest host setup` installs it", version()),
            ),
        },
        match hello.free >> 30 {
            16.. => finding("disk", "ok", free, ""),
            _ => finding(
                "disk",
                "weak",
                free,
                "free some disk space: a kernel tree, its objects and an image need 8 GiB",
            ),
        },
        match off {
            0..=60 => finding("clock", "ok", format!("off by {off} s"), ""),
            _ => finding("clock", "weak", format!("off by {off} s"), "apt-get install systemd-timesyncd"),
        },
    ]
}

/// Sends the set-up script and this `ktest` to the host, and runs the script. `on_line` is called with its output.
pub async fn setup(
    link: &Link,
    binary: Option<&Path>,
    args: &[(&str, &str)],
    on_line: &mut dyn FnMut(&str),
) -> Result<(), HostError> {
    link.up_now().await?;
    let mut script = spawn::Cmd::new("sh").args(["-s", "--"]);
    if let Some(binary) = binary {
        let bytes = fsx::own::read(binary, BINARY_BYTES)?;
        let upload = link.remote("umask 077 && cat > .ktest-upload").input(bytes);
        let output = upload.output(Limits { time: Duration::from_secs(1800), bytes: 1 << 20 }).await?;
        if !output.exit.success() {
            return Err(unfit(link, &output.error_line()));
        }
        script = script.args(["--binary", ".ktest-upload"]);
    }
    for (key, value) in args {
        script = script.arg(key).arg(value);
    }
    let mut child =
        link.remote(&script.to_string()).streams(Stream::Pipe, Stream::Pipe, Stream::Pipe).start()?;
    if let Some(mut stdin) = child.take_stdin() {
        stdin.write_all(SETUP.as_bytes()).await.map_err(|error| unfit(link, &error.to_string()))?;
    }
    let (sender, mut lines) = tokio::sync::mpsc::channel(64);
    if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
        tokio::spawn(spawn::lines::send(stdout, sender.clone()));
        tokio::spawn(spawn::lines::send(stderr, sender));
    }
    while let Some(line) = lines.recv().await {
        on_line(&line);
    }
    match child.wait().await? {
        exit if exit.success() => Ok(()),
        exit => Err(unfit(link, &format!("the setup script failed ({exit}); see its output above"))),
    }
}

fn unfit(link: &Link, problem: &str) -> HostError {
    HostError::Unfit { host: link.target().name.to_string(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_of_a_host_is_checked() {
        let hello = |version: &str, unix: i64, free: u64| Hello {
            protocol: PROTOCOL,
            version: version.into(),
            arch: "x86_64".into(),
            unix,
            cache: "/c".into(),
            free,
        };
        let health = |hello: &Hello| {
            let all = check_hello(hello, 1_000_000_000);
            all.iter().map(|finding| finding.health.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(health(&hello(version(), 1_000_000_003, 99 << 30)), "ok ok ok");
        assert_eq!(health(&hello("0.0.9", 3, 1 << 30)), "missing weak weak");
    }
}
