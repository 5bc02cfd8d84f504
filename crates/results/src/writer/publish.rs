//! The threads that write files for the engine, so that no verdict waits for a blob.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::command::{Chore, Command, Files, Pass, PassResult, Written};
use super::packs::{PackTask, pack_loop};
use super::pass;
use super::tree::Backlog;
use super::write_back::write_back_loop;
use crate::db::Database;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::tree::TreeWriter;

/// The threads, and the queues of their tasks.
#[derive(Debug)]
pub struct Workers {
    pub passes: Sender<Pass>,
    pub files: Sender<Chore>,
    pub packs: Sender<PackTask>,
    pub write_back: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub fn start(disk: &Disk, reader: &Reader, db: &Database, engine: &Sender<Command>) -> Result<Self> {
        let common = || (disk.clone(), reader.clone(), engine.clone());
        let (passes, pass_queue) = channel();
        let (files, file_queue) = channel();
        let (packs, pack_queue) = channel();
        let (write_back, log_queue) = channel();
        let (of_passes, of_files, of_packs) = (common(), common(), common());
        let (log, engine) = (db.log_writer()?, engine.clone());
        let threads = vec![
            spawn("publish", move || {
                yield_processor(5);
                publish_loop(&of_passes.0, &of_passes.1, &pass_queue, &of_passes.2);
            })?,
            spawn("status files", move || {
                yield_processor(10);
                files_loop(&of_files.0, &of_files.1, &file_queue, &of_files.2);
            })?,
            spawn("packs", move || pack_loop(&of_packs.0, &of_packs.1.layout, pack_queue, &of_packs.2))?,
            spawn("database log", move || write_back_loop(&log, &log_queue, &engine))?,
        ];
        Ok(Self { passes, files, packs, write_back, threads })
    }

    /// Ends the threads after their tasks.
    pub fn join(self) {
        let Self { passes, files, packs, write_back, threads } = self;
        drop((passes, files, packs, write_back));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// Starts a thread of the store.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("results {name}"))
        .spawn(body)
        .map_err(|error| Error::Write(format!("cannot start a thread: {error}")))
}

/// Makes this thread nicer, so that verdicts are recorded before files are derived from them.
fn yield_processor(by: i32) {
    if let Err(error) = rustix::process::nice(by) {
        tracing::debug!("nice: {error}");
    }
}

/// Writes the blobs of each pass.
fn publish_loop(disk: &Disk, reader: &Reader, queue: &Receiver<Pass>, engine: &Sender<Command>) {
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

/// Writes the directories of tests: those of each pass after its blobs, others when there is no pass. Syncs the file
/// system on request.
fn files_loop(disk: &Disk, reader: &Reader, queue: &Receiver<Chore>, engine: &Sender<Command>) {
    let mut writer = TreeWriter::new(reader, disk, &reader.layout);
    let mut backlog = Backlog::new(reader);
    // Whether files were written that are not durable. Blobs are.
    let mut is_unsynced = false;
    loop {
        let chore = if backlog.is_empty() {
            queue.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            queue.try_recv()
        };
        let report = match chore {
            Ok(Chore::Files(files)) => {
                is_unsynced |= !files.files.is_empty();
                Some(Command::FilesWritten(write_files(files, &mut writer, &mut backlog)))
            }
            Ok(Chore::SyncAll { floor }) => {
                let dir = reader.output_dir();
                // It also writes what other programs wrote to the file system.
                let result = if is_unsynced { disk.sync_all(dir) } else { Ok(()) };
                is_unsynced &= result.is_err();
                let error = result.map_err(Error::io("sync", dir)).err();
                Some(Command::Synced { floor, error: error.map(|error| error.to_string()) })
            }
            Ok(Chore::Trees(tasks)) => {
                backlog.extend(tasks);
                None
            }
            Ok(Chore::Forget(commits)) => {
                backlog.forget(&commits);
                None
            }
            Err(TryRecvError::Empty) => backlog.step(&mut writer).map(|(task, result)| {
                // Once for all files of a commit: they are not written again after a power failure.
                let dir = reader.output_dir();
                let error = result
                    .and_then(|()| disk.sync_all(dir).map_err(Error::io("sync", dir)))
                    .err()
                    .map(|error| error.to_string());
                Command::TreeDone { task, error }
            }),
            // The next writer continues with the tasks.
            Err(TryRecvError::Disconnected) => return,
        };
        if report.is_some_and(|report| engine.send(report).is_err()) {
            return;
        }
    }
}

fn write_files(files: Files, writer: &mut TreeWriter, backlog: &mut Backlog) -> Written {
    let Files { pass, upto, files, waiters, mut error, evicted } = files;
    drop(evicted);
    let mut failed = Vec::new();
    for file in files {
        backlog.is_fresh(&file.commit, &file.key);
        if let Err(reason) = writer.write(&file) {
            error.get_or_insert_with(|| reason.to_string());
            failed.push((file.commit, file.key));
        }
    }
    Written { pass, upto, failed, waiters, error }
}
