//! A process between this program and a child with processes of its own, which must all end if either of the two dies.
//!
//! The kernel kills a child when its parent dies only after the child has asked for it. The child of bwrap, the first
//! process in the sandbox, asks for it when the sandbox is complete. If bwrap is killed before that, because this program
//! was killed, the child would continue or wait forever. The guard does not die with this program; it first kills the
//! whole process group, which the first process in the sandbox never leaves.

use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

/// The signal that the guard gets when this program dies.
const PARENT_DIED: Signal = Signal::USR1;

/// Makes the calling process the guard of a new child, and returns in the child. Both are in a new session and process
/// group, without a terminal. The guard ends in the same way as the child.
///
/// # Safety
///
/// The calling process must have a single thread: between fork and exec of [`crate::Cmd::start`].
pub(crate) unsafe fn fork(parent: rustix::process::Pid) -> io::Result<()> {
    // SAFETY: these functions only change the given variables and this process, as the caller allows.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before))?;
        check(libc::setsid())?;
        set_parent_process_death_signal(Some(PARENT_DIED))?;
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from(rustix::io::Errno::SRCH));
        }
        let guard = rustix::process::getpid();
        let child = check(libc::fork())?;
        if child > 0 {
            run(child);
        }
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()))?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(guard) {
            return Err(io::Error::from(rustix::io::Errno::SRCH));
        }
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Waits until the child ends or this program dies. All signals are blocked.
///
/// # Safety
///
/// As for [`fork`].
unsafe fn run(child: libc::pid_t) -> ! {
    // SAFETY: as for `fork`; every function is async-signal-safe.
    unsafe {
        // Readers of the child's output must see its end.
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        let mut wanted = std::mem::zeroed();
        libc::sigemptyset(&raw mut wanted);
        libc::sigaddset(&raw mut wanted, PARENT_DIED.as_raw());
        libc::sigaddset(&raw mut wanted, libc::SIGCHLD);
        loop {
            let mut status = 0;
            if libc::waitpid(child, &raw mut status, libc::WNOHANG) == child {
                end_like(status);
            }
            let mut signal = 0;
            if libc::sigwait(&raw const wanted, &raw mut signal) != 0 || signal == PARENT_DIED.as_raw() {
                libc::kill(0, libc::SIGKILL);
            }
        }
    }
}

/// Ends this process with the status of the child.
///
/// # Safety
///
/// As for [`fork`].
unsafe fn end_like(status: libc::c_int) -> ! {
    // SAFETY: as for `fork`; every function is async-signal-safe.
    unsafe {
        if libc::WIFEXITED(status) {
            libc::_exit(libc::WEXITSTATUS(status));
        }
        let signal = libc::WTERMSIG(status);
        if signal == libc::SIGKILL {
            // What the child started gets the signal only from here.
            libc::kill(0, libc::SIGKILL);
        }
        let mut one = std::mem::zeroed();
        libc::sigemptyset(&raw mut one);
        libc::sigaddset(&raw mut one, signal);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const one, std::ptr::null_mut());
        libc::_exit(128 + signal)
    }
}
