//! Ends a program after a signal, even if a file system hangs.
//!
//! A thread that waits for a file (a FIFO, or a network file system without its server) does not react to anything, nor
//! does a runtime that waits for its threads. A signal that is sent to a process wakes the main thread if that accepts
//! signals; while the main thread waits for a file, the signal does not reach other threads either. So the main thread
//! must not access files.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The stack size of the worker thread, which is that of a main thread.
const STACK: usize = 8 << 20;

/// The interval at which the main thread checks whether the worker has ended without waking it up.
const CHECK: Duration = Duration::from_secs(1);

/// Runs `work` on a separate thread and returns its result. If `work` has not ended within `grace` after one of these
/// signals, the process exits with the code that `code` returns for the number of the signal. Call it from the main
/// thread. Child processes that `work` starts are killed when the process exits.
pub fn supervise<T: Send + 'static>(
    kinds: &[SignalKind],
    grace: Duration,
    code: impl Fn(i32) -> u8,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (done, mut ended) = oneshot::channel();
    let worker = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        // The receiver exists until the process exits.
        let _ = done.send(work());
    })?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = &mut ended => Ok(result.ok()),
            // The system call that wakes up this thread can fail.
            () = finished(&worker) => Ok(ended.try_recv().ok()),
            number = async {
                let number = first_signal(kinds).await;
                tokio::time::sleep(grace).await;
                number
            } => Err(number),
        }
    });
    match result {
        Ok(Some(result)) => Ok(result),
        // It panicked: propagate the panic.
        Ok(None) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Err(io::Error::other("the work ended without a result")),
        },
        // No message: the worker may hold the lock of standard error and wait for its reader.
        Err(number) => std::process::exit(code(number).into()),
    }
}

/// Returns when the thread has ended.
async fn finished<T>(thread: &std::thread::JoinHandle<T>) {
    while !thread.is_finished() {
        tokio::time::sleep(CHECK).await;
    }
}

/// Waits for one of these signals and returns its number. A signal for which no handler can be installed is ignored.
pub async fn first_signal(kinds: &[SignalKind]) -> i32 {
    let mut waiting = tokio::task::JoinSet::new();
    for kind in kinds.iter().copied() {
        let Ok(mut signal) = signal(kind) else { continue };
        waiting.spawn(async move {
            signal.recv().await;
            kind.as_raw_value()
        });
    }
    match waiting.join_next().await {
        Some(Ok(number)) => number,
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_the_work_is_returned() {
        let result = supervise(&[SignalKind::user_defined1()], Duration::ZERO, |_| 1, || "done");
        assert_eq!(result.ok(), Some("done"));
    }

    #[test]
    fn a_panic_of_the_work_continues() {
        let work =
            || supervise(&[], Duration::ZERO, |_| 1, || assert!(std::hint::black_box(false), "broken"));
        assert!(std::panic::catch_unwind(work).is_err());
    }
}
