//! A core as QEMU writes it: in the flattened format of makedumpfile (pieces with their offset, for a file that cannot be
//! written at offsets), and without the names of the kernel in its header, which drgn requires.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use crate::file::NAMES;
use crate::{Core, CoreError};

const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
/// The size of the header.
const HEADER: usize = 4096;
/// The size of a name in the header of a core.
const NAME: usize = 65;
/// The maximum size of a piece that is read at once.
const PART: usize = 1 << 20;

/// Copies a core to an empty file, in the form that all programs read. A file larger than `max` bytes is an error.
pub fn copy(from: impl Read, to: &File, max: u64) -> Result<(), CoreError> {
    copy_pieces(from, to, max)?;
    match add_names(to) {
        // Without its notes, the kernel is unknown.
        Err(CoreError::NoInfo | CoreError::Lacks(_)) => Ok(()),
        result => result,
    }
}

/// Writes the names of the kernel into the header if they are missing: system, node, release, version.
fn add_names(file: &File) -> Result<(), CoreError> {
    let core = Core::open(file.try_clone()?)?;
    if !core.pages.system()?.is_empty() {
        return Ok(());
    }
    // The first message: `Linux version RELEASE (BUILDER) (COMPILER) #1 SMP DATE`.
    let first = core.dmesg().ok().and_then(|messages| Some(messages.first()?.text.clone()));
    let version =
        first.as_deref().and_then(|text| text.rfind(" #").map(|at| &text[at + 1..])).unwrap_or("#1");
    for (at, name) in (0..).zip(["Linux", "(none)", core.release()?, version]) {
        let name = &name.as_bytes()[..name.len().min(NAME - 1)];
        file.write_all_at(name, NAMES + at * NAME as u64)?;
    }
    Ok(())
}

fn copy_pieces(mut from: impl Read, to: &File, max: u64) -> Result<(), CoreError> {
    let mut head = vec![0; SIGNATURE.len()];
    from.read_exact(&mut head).map_err(|_| CoreError::NotACore)?;
    if head != SIGNATURE {
        let mut to = to;
        to.write_all(&head)?;
        let copied = std::io::copy(&mut from.take(max), &mut to)?;
        return if copied < max { Ok(()) } else { Err(CoreError::Damaged("it is too large")) };
    }
    from.read_exact(&mut vec![0; HEADER - SIGNATURE.len()])?;
    let mut buffer = vec![0; PART];
    loop {
        let mut piece = [0; 16];
        from.read_exact(&mut piece)?;
        let number = |at: usize| i64::from_be_bytes(piece[at..at + 8].try_into().expect("eight bytes"));
        let (offset, size) = (number(0), number(8));
        if (offset, size) == (-1, -1) {
            return Ok(());
        }
        let place = u64::try_from(offset).ok().zip(u64::try_from(size).ok());
        let place = place.filter(|(offset, size)| offset.saturating_add(*size) <= max);
        let Some((mut offset, mut size)) = place else {
            return Err(CoreError::Damaged("a piece of it has an impossible place"));
        };
        while size > 0 {
            let part = &mut buffer[..usize::try_from(size).unwrap_or(PART).min(PART)];
            from.read_exact(part)?;
            to.write_all_at(part, offset)?;
            (offset, size) = (offset + part.len() as u64, size - part.len() as u64);
        }
    }
}
