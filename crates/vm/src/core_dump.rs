//! Saves the memory of a guest that crashed: a core in the format of kdump, which drgn, crash and makedumpfile read.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::socket;
use crate::monitor::Qmp;

/// The name of the file in the temporary directory of the VM.
pub const FILE: &str = "vmcore";

/// The time limit. A core of 1 GiB takes about 6 s under TCG.
const LIMIT: Duration = Duration::from_secs(60);
/// The interval between two looks at the progress.
const POLL: Duration = Duration::from_millis(50);
/// The free space, in bytes, that a core leaves on the file system.
const SPARE: u64 = 256 << 20;

/// Why there is no core.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file system has no room for the largest core that is allowed.
    #[error("{dir}: only {free_mib} MiB are free")]
    Space {
        /// The directory of the file.
        dir: std::path::PathBuf,
        /// The free space.
        free_mib: u64,
    },
    /// It would be larger than allowed.
    #[error("it is larger than the limit of {} MiB", max >> 20)]
    TooLarge {
        /// The limit in bytes.
        max: u64,
    },
    /// QEMU cannot write it.
    #[error("QEMU: {0}")]
    Qemu(String),
    /// It takes too long.
    #[error("QEMU did not write it within {} s", LIMIT.as_secs())]
    Time,
    /// QEMU cannot be reached.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Stops the guest and writes its memory to `file`. Without success, no file is left. The guest does not continue.
pub async fn save(sockets: &Path, file: &Path, max: u64) -> Result<(), DumpError> {
    has_room(file, max)?;
    let saved = tokio::time::timeout(LIMIT, write(&sockets.join(socket::QMP), file, max)).await;
    let saved = saved.unwrap_or(Err(DumpError::Time));
    if saved.is_err() {
        // QEMU may still write, but it is killed next, and the directory is removed with the VM.
        let _ = fsx::own::remove_file(file);
    }
    saved
}

fn has_room(file: &Path, max: u64) -> Result<(), DumpError> {
    let dir = file.parent().unwrap_or(file);
    let free = fsx::own::free_bytes(dir).map_err(|error| error.source)?;
    match free.checked_sub(SPARE) {
        Some(room) if room >= max => Ok(()),
        _ => Err(DumpError::Space { dir: dir.into(), free_mib: free >> 20 }),
    }
}

async fn write(socket: &Path, file: &Path, max: u64) -> Result<(), DumpError> {
    let path = file.to_str().ok_or_else(|| io::Error::other("the path of the core is not UTF-8"))?;
    let mut qmp = Qmp::connect(socket).await?;
    qmp.execute("stop", json!({})).await?;
    let arguments = json!({
        "paging": false, "protocol": format!("file:{path}"), "format": "kdump-zlib", "detach": true,
    });
    qmp.execute("dump-guest-memory", arguments).await?;
    loop {
        let progress = qmp.execute("query-dump", json!({})).await?;
        let status = progress.get("status").and_then(Value::as_str).unwrap_or_default();
        if fsx::own::metadata(file).is_ok_and(|meta| meta.len() > max) {
            return Err(DumpError::TooLarge { max });
        }
        match status {
            "completed" => return Ok(()),
            "active" => tokio::time::sleep(POLL).await,
            _ => return Err(DumpError::Qemu("it cannot write the file".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;

    /// Answers like QEMU: one reply per request. Returns the requests.
    async fn qemu(listener: UnixListener, replies: Vec<Value>) -> Vec<String> {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"{\"QMP\": {}}\n").await.unwrap();
        let mut requests = Vec::new();
        for reply in [json!({ "return": {} })].into_iter().chain(replies) {
            let Some(request) = lines.next_line().await.unwrap() else { break };
            let request: Value = serde_json::from_str(&request).unwrap();
            requests.push(request["execute"].as_str().unwrap().to_owned());
            write.write_all(b"{\"event\": \"STOP\"}\n").await.unwrap();
            write.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
        }
        requests
    }

    async fn saved(replies: Vec<Value>, bytes: usize) -> (Result<(), DumpError>, Vec<String>, bool) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, vec![0; bytes]).unwrap();
        let listener = UnixListener::bind(dir.path().join(socket::QMP)).unwrap();
        let (result, requests) = tokio::join!(save(dir.path(), &file, 1 << 20), qemu(listener, replies));
        (result, requests, file.exists())
    }

    #[tokio::test]
    async fn a_core_is_complete_and_not_too_large() {
        let ok = || json!({ "return": {} });
        let status = |status: &str| json!({ "return": { "status": status, "completed": 1, "total": 2 } });
        let (result, requests, exists) =
            saved(vec![ok(), ok(), status("active"), status("completed")], 1 << 20).await;
        assert!(result.is_ok() && exists, "{result:?}");
        assert_eq!(requests[1..], ["stop", "dump-guest-memory", "query-dump", "query-dump"]);

        let (result, _, exists) = saved(vec![ok(), ok(), status("active")], (1 << 20) + 1).await;
        assert_eq!(
            (result.unwrap_err().to_string().as_str(), exists),
            ("it is larger than the limit of 1 MiB", false)
        );

        let (result, _, exists) = saved(vec![ok(), ok(), status("failed")], 1).await;
        assert!(matches!(result, Err(DumpError::Qemu(_))) && !exists, "{result:?}");

        let refused =
            json!({ "error": { "class": "GenericError", "desc": "this feature is not supported" } });
        let (result, _, exists) = saved(vec![ok(), refused], 1).await;
        assert_eq!(result.unwrap_err().to_string(), "this feature is not supported");
        assert!(!exists);
    }

    #[tokio::test]
    async fn without_qemu_there_is_no_core() {
        let dir = tempfile::tempdir().unwrap();
        assert!(save(dir.path(), &dir.path().join(FILE), 1).await.is_err());
        let error = save(dir.path(), &dir.path().join(FILE), u64::MAX).await.unwrap_err();
        assert!(error.to_string().ends_with(" MiB are free"), "{error}");
    }
}
