//! The threads that write files for the engine, so that no verdict waits for a blob.

use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;

use super::command::{Chore, Command, Files, Pass, PassResult, Written};
use super::pass;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::reader::Reader;

/// Starts a thread of the store.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("results {name}"))
        .spawn(body)
        .map_err(|error| Error::Write(format!("cannot start a thread: {error}")))
}

/// Writes the blobs of each pass.
pub fn publish_loop(disk: &Disk, reader: &Reader, queue: &Receiver<Pass>, engine: &Sender<Command>) {
    for pass in queue {
        let mut failed = Vec::new();
        let mut error = None;
        for publication in pass.publications {
            if let Err(reason) = pass::publish(disk, reader, &publication) {
                error.get_or_insert_with(|| reason.to_string());
                failed.push(publication.subject);
            }
        }
        let outcome = PassResult {
            pass: pass.number,
            upto: pass.upto,
            durations_upto: pass.durations_upto,
            failed,
            error,
            waiters: pass.waiters,
            files: pass.files,
        };
        if engine.send(Command::Published(outcome)).is_err() {
            return;
        }
    }
}

/// Writes the status files of each pass after its blobs, and syncs the file system on request.
pub fn files_loop(disk: &Disk, reader: &Reader, queue: &Receiver<Chore>, engine: &Sender<Command>) {
    for chore in queue {
        let Files { pass, upto, files, waiters, mut error } = match chore {
            Chore::Files(files) => files,
            Chore::SyncAll { floor } => {
                let dir = reader.output_dir();
                let error = disk.sync_all(dir).map_err(Error::io("sync", dir)).err();
                let error = error.map(|error| error.to_string());
                if engine.send(Command::Synced { floor, error }).is_err() {
                    return;
                }
                continue;
            }
        };
        let mut failed = Vec::new();
        for file in files {
            if let Err(reason) = pass::write_status(disk, &reader.layout, &file) {
                let path = reader.layout.test(&file.commit, &file.key);
                error.get_or_insert_with(|| Error::io("write", &path)(reason).to_string());
                failed.push((file.commit, file.key));
            }
        }
        if engine.send(Command::FilesWritten(Written { pass, upto, failed, waiters, error })).is_err() {
            return;
        }
    }
}
