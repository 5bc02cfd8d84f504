//! Requests of a guest to the QEMU monitor. It may unplug its own disks and plug them in again, and nothing else.
//!
//! A request is compared as a whole with the commands that this machine accepts; no part of it is interpreted.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::machine::{Machine, device, drive, socket};

/// The time limit of a monitor command.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether the guest of this machine may send `command`.
#[must_use]
fn allowed(machine: &Machine, command: &str) -> bool {
    let words = command.split_whitespace().collect::<Vec<_>>();
    let disk =
        |matches: &dyn Fn(usize) -> bool| machine.unpluggable() && (0..machine.disks.len()).any(matches);
    match words[..] {
        ["device_del", id] => disk(&|index| id == format!("dev{index}")),
        ["device_add", options] => disk(&|index| options == device(machine, index)),
        ["drive_add", number, options] => {
            let number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            number && disk(&|index| drive(machine, index).is_ok_and(|drive| options == drive))
        }
        _ => false,
    }
}

/// Carries out a request if it is allowed. Returns the result as a log line.
pub async fn request(machine: &Machine, command: &str) -> String {
    let shown: String = command.chars().take(300).collect();
    if !allowed(machine, command) {
        return format!("ktest: monitor request refused: {shown}");
    }
    let Some(sockets) = &machine.sockets else {
        return format!("ktest: monitor request failed, this machine has no monitor: {shown}");
    };
    let began = Instant::now();
    let mut reply = self::command(sockets, command).await;
    // The guest sees the removal of a disk before QEMU has released its id.
    while reply.as_ref().is_ok_and(|text| text.contains("Duplicate")) && began.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        reply = self::command(sockets, command).await;
    }
    match reply {
        Ok(reply) if reply.is_empty() => format!("ktest: monitor: {shown}: done"),
        Ok(reply) => format!("ktest: monitor: {shown}: {reply}"),
        Err(error) => format!("ktest: monitor: {shown}: {error}"),
    }
}

/// Runs a command of QEMU's human monitor through the sockets in this directory. Returns its output, which is empty for
/// most commands.
pub async fn command(sockets: &Path, command: &str) -> std::io::Result<String> {
    let late =
        |_| std::io::Error::other(format!("QEMU's monitor did not respond within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, execute(&sockets.join(socket::QMP), command)).await.map_err(late)?
}

/// Runs one command of the human monitor over one QMP connection.
async fn execute(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut qmp = Qmp::connect(socket).await?;
    let reply = qmp.execute("human-monitor-command", json!({ "command-line": command })).await?;
    Ok(reply.as_str().unwrap_or_default().replace('\r', "").trim().to_string())
}

/// A connection to QEMU's machine protocol. QEMU serves one at a time.
pub(crate) struct Qmp {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Qmp {
    /// Connects, and ends the negotiation of capabilities.
    pub(crate) async fn connect(socket: &Path) -> std::io::Result<Self> {
        let (read, write) = UnixStream::connect(socket).await?.into_split();
        let mut qmp = Self { lines: BufReader::new(read).lines(), write };
        qmp.lines.next_line().await?;
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command. Events before its reply are skipped.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> std::io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.write.write_all(format!("{request}\n").as_bytes()).await?;
        while let Some(line) = self.lines.next_line().await? {
            let mut value: Value = serde_json::from_str(&line).map_err(std::io::Error::other)?;
            if let Some(reply) = value.get_mut("return") {
                return Ok(reply.take());
            }
            if let Some(error) = value.get("error") {
                let text = error.get("desc").and_then(Value::as_str).map_or(error.to_string(), Into::into);
                return Err(std::io::Error::other(text));
            }
        }
        Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Disk, Hotplug, fixture};

    fn machine(hotplug: bool) -> Machine {
        let disk = Disk { file: "/r/d0".into(), readonly: false, snapshot: false, iops: None, bps: None };
        Machine { disks: vec![disk], hotplug: hotplug.then_some(Hotplug::Native), ..fixture::machine() }
    }

    #[test]
    fn only_disks_of_the_machine_are_allowed() {
        let m = machine(true);
        let (drive, device) = (drive(&m, 0).unwrap(), device(&m, 0));
        for command in
            ["device_del dev0".to_string(), format!("drive_add 0 {drive}"), format!("device_add {device}")]
        {
            assert!(allowed(&m, &command), "{command}");
            assert!(!allowed(&machine(false), &command), "{command}");
        }
        for command in [
            "".to_string(),
            "quit".to_string(),
            "device_del root".to_string(),
            "device_del dev1".to_string(),
            "device_del dev0 dev0".to_string(),
            "drive_add 0 file=/etc/shadow,if=none,id=x".to_string(),
            format!("drive_add 0 {drive},file=/etc/shadow"),
            format!("drive_add -n {drive}"),
            "migrate exec:sh".to_string(),
            format!("device_add {device}\nquit"),
        ] {
            assert!(!allowed(&m, &command), "{command}");
        }
    }

    #[tokio::test]
    async fn a_refused_request_is_logged() {
        let line = request(&machine(true), "quit").await;
        assert_eq!(line, "ktest: monitor request refused: quit");
    }
}
