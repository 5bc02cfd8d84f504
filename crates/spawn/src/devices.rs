//! What a child must not get from this process: open files, and the right to change device files of the host.

use std::ffi::CStr;
use std::io;
use std::ptr::null;

/// The files of `/dev` that containers mount one by one. bubblewrap shows them to sandboxed programs.
const FILES: [&CStr; 7] =
    [c"/dev/full", c"/dev/kvm", c"/dev/null", c"/dev/random", c"/dev/tty", c"/dev/urandom", c"/dev/zero"];

/// Makes the next `execve` close all files except the standard streams. This process may have inherited files that are
/// open for its own child processes only. Before Linux 5.11 it does nothing.
pub(crate) fn close_inherited() {
    let first = libc::c_uint::try_from(libc::STDERR_FILENO + 1).unwrap_or(3);
    // SAFETY: only the flags of files change.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Moves the calling process into a mount namespace in which `/dev` is read-only. This does not affect reading and writing
/// devices. Requires the rights of root.
pub(crate) fn protect() -> io::Result<()> {
    // SAFETY: system calls with constant strings.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(null(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_SLAVE, null()))?;
        let dev = c"/dev".as_ptr();
        // It may be a directory of the root file system.
        check(libc::mount(dev, dev, null(), libc::MS_BIND | libc::MS_REC, null()))?;
        let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NOEXEC;
        check(libc::mount(null(), dev, null(), flags, null()))?;
        for file in FILES {
            // EINVAL: it is not a mount point. ENOENT: it does not exist.
            match check(libc::mount(null(), file.as_ptr(), null(), flags, null())) {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
