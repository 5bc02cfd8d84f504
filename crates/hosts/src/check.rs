//! Is a host fit for work, and making it so: `ktest host check`, `ktest host setup`.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spawn::{Limits, Stream};
use tokio::io::{AsyncWriteExt, BufReader};

use crate::frame::{self, Hello};
use crate::link::{Link, unix_now};
use crate::{HostError, PROTOCOL};

/// The script that makes a Debian or Ubuntu machine a worker.
pub const SETUP: &str = include_str!("../../../packaging/host-setup");

/// One thing that was looked at, as `ktest doctor --json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// `ok`, `weak` or `missing`.
    pub health: String,
    /// What was found, in one line.
    pub found: String,
    /// What to do about it; empty where it is well.
    #[serde(default)]
    pub remedy: String,
}

fn finding(what: &str, health: &str, found: String, remedy: &str) -> Finding {
    Finding { what: what.into(), health: health.into(), found, remedy: remedy.into() }
}

/// Looks at a host: connection, version, space, clock, and what `ktest doctor` says over there.
pub async fn check(link: &Link) -> Vec<Finding> {
    let target = link.target();
    if let Err(error) = link.up_now().await {
        let error = error.to_string();
        let remedy = match error.contains("Permission denied") {
            true => {
                format!("let this account's key in: ktest host setup root@{} --key FILE.pub", target.address)
            }
            false => format!("try it by hand: {}", target.by_hand()),
        };
        return vec![finding("connection", "missing", error, &remedy)];
    }
    let mut findings = vec![finding("connection", "ok", target.destination(), "")];
    match hello(link).await {
        Ok(hello) => findings.extend(of_hello(&hello, unix_now())),
        Err(error) => {
            let remedy = format!("`ktest host setup root@{}` installs it", target.address);
            findings.push(finding("ktest", "missing", error.to_string(), &remedy));
            return findings;
        }
    }
    // Exit code 1 says that something is missing, which the findings say as well.
    let limits = Limits { time: Duration::from_secs(120), bytes: 1 << 20 };
    let doctor = link.ktest(&["doctor", "--json"]).output(limits).await;
    match doctor.map(|output| (serde_json::from_slice::<Vec<Finding>>(&output.stdout), output)) {
        Ok((Ok(more), _)) => findings.extend(more),
        Ok((Err(_), output)) => findings.push(finding("doctor", "missing", output.complaint(), "")),
        Err(error) => findings.push(finding("doctor", "missing", error.to_string(), "")),
    }
    findings
}

async fn hello(link: &Link) -> Result<Hello, HostError> {
    let host = link.target().name.to_string();
    let mut child =
        link.ktest(&["host", "serve"]).streams(Stream::Pipe, Stream::Pipe, Stream::Pipe).start()?;
    let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) else {
        return Err(HostError::Here("no pipes to ssh".into()));
    };
    let (to, mut complaints) = tokio::sync::mpsc::channel(64);
    tokio::spawn(spawn::lines::send(stderr, to));
    let error = match frame::read_hello(&mut BufReader::new(stdout)).await {
        Ok(hello) => return Ok(hello),
        Err(error) => error,
    };
    // Such as that there is no such command.
    let mut last = String::new();
    let rest = async {
        while let Some(line) = complaints.recv().await {
            last = line;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
    let what = match last.trim() {
        "" => error.to_string(),
        last => format!("{error} ({last})"),
    };
    Err(HostError::Unfit { host, what })
}

/// What a host says of itself, judged. `now` is Unix seconds here.
#[must_use]
pub fn of_hello(hello: &Hello, now: i64) -> Vec<Finding> {
    let same = (hello.protocol, hello.version.as_str()) == (PROTOCOL, model::build::version());
    let version = format!("{} ({})", hello.version, hello.arch);
    let free = format!("{}: {} GiB free", hello.cache.display(), hello.free >> 30);
    let off = hello.unix.abs_diff(now);
    vec![
        match same {
            true => finding("ktest", "ok", version, ""),
            false => finding(
                "ktest",
                "missing",
                version,
                &format!("this is {}; `ktest host setup` installs it", model::build::version()),
            ),
        },
        match hello.free >> 30 {
            16.. => finding("disk", "ok", free, ""),
            _ => finding("disk", "weak", free, "a kernel tree, its objects and an image take 8 GiB"),
        },
        match off {
            0..=60 => finding("clock", "ok", format!("off by {off} s"), ""),
            _ => finding("clock", "weak", format!("off by {off} s"), "apt-get install systemd-timesyncd"),
        },
    ]
}

/// Sends the set-up script and this `ktest`, and runs the script; its output goes to `say`.
pub async fn setup(
    link: &Link,
    binary: Option<&Path>,
    args: &[(&str, &str)],
    say: &mut dyn FnMut(&str),
) -> Result<(), HostError> {
    link.up_now().await?;
    let mut script = spawn::Cmd::new("sh").args(["-s", "--"]);
    if let Some(binary) = binary {
        let bytes = std::fs::read(binary).map_err(|error| HostError::io(binary, &error))?;
        let upload = link.remote("umask 077 && cat > .ktest-upload").input(bytes);
        let output = upload.output(Limits { time: Duration::from_secs(1800), bytes: 1 << 20 }).await?;
        if !output.exit.success() {
            return Err(unfit(link, &output.complaint()));
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
    let (to, mut lines) = tokio::sync::mpsc::channel(64);
    if let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) {
        tokio::spawn(spawn::lines::send(stdout, to.clone()));
        tokio::spawn(spawn::lines::send(stderr, to));
    }
    while let Some(line) = lines.recv().await {
        say(&line);
    }
    match child.wait().await? {
        exit if exit.success() => Ok(()),
        exit => Err(unfit(link, &format!("the set-up failed ({exit}); it says why above"))),
    }
}

fn unfit(link: &Link, what: &str) -> HostError {
    HostError::Unfit { host: link.target().name.to_string(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_judged() {
        let hello = |version: &str, unix: i64, free: u64| Hello {
            protocol: PROTOCOL,
            version: version.into(),
            arch: "x86_64".into(),
            unix,
            cache: "/c".into(),
            free,
        };
        let health = |hello: &Hello| {
            let all = of_hello(hello, 1_000_000_000);
            all.iter().map(|finding| finding.health.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(health(&hello(model::build::version(), 1_000_000_003, 99 << 30)), "ok ok ok");
        assert_eq!(health(&hello("0.0.9", 3, 1 << 30)), "missing weak weak");
    }
}
