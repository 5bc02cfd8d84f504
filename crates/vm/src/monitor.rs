//! What a guest may ask of the QEMU monitor: to unplug its own disks, and to plug them in again. Nothing else.
//!
//! A request is compared whole with what this machine would be told; it is never passed on in part.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::machine::{Machine, device, drive, socket};

/// How long QEMU may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether `command` is one of those that this machine's guest may ask for.
#[must_use]
pub fn allowed(machine: &Machine, command: &str) -> bool {
    let words = command.split_whitespace().collect::<Vec<_>>();
    let disk = |is: &dyn Fn(usize) -> bool| machine.unpluggable() && (0..machine.disks.len()).any(is);
    match words[..] {
        ["device_del", id] => disk(&|at| id == format!("dev{at}")),
        ["device_add", what] => disk(&|at| what == device(machine, at)),
        ["drive_add", number, what] => {
            let number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            number && disk(&|at| drive(machine, at).is_ok_and(|drive| what == drive))
        }
        _ => false,
    }
}

/// Carries out a request if it is allowed; what became of it, for the log.
pub async fn request(machine: &Machine, command: &str) -> String {
    let shown: String = command.chars().take(300).collect();
    if !allowed(machine, command) {
        return format!("ktest: monitor request refused: {shown}");
    }
    let Some(sockets) = &machine.sockets else {
        return format!("ktest: this machine has no monitor: {shown}");
    };
    let began = Instant::now();
    let mut answer = self::command(sockets, command).await;
    // The guest sees a disk go before the machine has let go of it.
    while answer.as_ref().is_ok_and(|said| said.contains("Duplicate")) && began.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = self::command(sockets, command).await;
    }
    match answer {
        Ok(answer) if answer.is_empty() => format!("ktest: monitor: {shown}: done"),
        Ok(answer) => format!("ktest: monitor: {shown}: {answer}"),
        Err(error) => format!("ktest: monitor: {shown}: {error}"),
    }
}

/// Carries out a command of QEMU's human monitor in the machine whose sockets are in `sockets`; the answer, which is
/// empty for most.
pub async fn command(sockets: &Path, command: &str) -> std::io::Result<String> {
    let late = |_| std::io::Error::other(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, ask(&sockets.join(socket::QMP), command)).await.map_err(late)?
}

/// One connection, one command: greeting, capabilities, the command in the human monitor's language.
async fn ask(socket: &Path, command: &str) -> std::io::Result<String> {
    let stream = UnixStream::connect(socket).await?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    lines.next_line().await?;
    write.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").await?;
    answer(&mut lines).await?;
    let arguments = serde_json::json!({ "command-line": command });
    let request = serde_json::json!({ "execute": "human-monitor-command", "arguments": arguments });
    write.write_all(format!("{request}\n").as_bytes()).await?;
    answer(&mut lines).await
}

/// The next answer, events skipped.
async fn answer<R: tokio::io::AsyncBufRead + Unpin>(
    lines: &mut tokio::io::Lines<R>,
) -> std::io::Result<String> {
    while let Some(line) = lines.next_line().await? {
        let value: serde_json::Value = serde_json::from_str(&line).map_err(std::io::Error::other)?;
        if let Some(answer) = value.get("return") {
            return Ok(answer.as_str().unwrap_or_default().replace('\r', "").trim().to_string());
        }
        if let Some(error) = value.get("error") {
            return Err(std::io::Error::other(error.to_string()));
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Accel, Disk, Hotplug, StorageBus};

    fn machine(hotplug: bool) -> Machine {
        let disk = Disk { file: "/r/d0".into(), readonly: false, snapshot: false, iops: None, bps: None };
        Machine {
            arch: model::Arch::X86_64,
            accel: Accel::Tcg,
            cpus: 1,
            mem_mib: 256,
            kernel: "/k".into(),
            initrd: None,
            append: vec![],
            root: "/i".into(),
            bus: StorageBus::VirtioBlk,
            disks: vec![disk],
            hotplug: hotplug.then_some(Hotplug::Native),
            pmem: vec![],
            shares: vec![],
            sockets: None,
            kgdb: false,
            serial_log: None,
            early_console: false,
            network: None,
            qemu_prepend: vec![],
            qemu_append: vec![],
        }
    }

    #[test]
    fn a_fixed_list() {
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
    async fn refusals_are_told() {
        let told = request(&machine(true), "quit").await;
        assert_eq!(told, "ktest: monitor request refused: quit");
    }
}
