//! Disk images as sparse zstd streams: what was never written costs neither time nor space, and `zstd -d` reads them.
//!
//! A stream is a sequence of ordinary zstd frames. Long holes are frames that are made once and repeated.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The fastest level that is still much smaller.
const LEVEL: i32 = 1;
/// A hole of this many bytes is worth frames of its own.
const LONG: u64 = 1 << 20;
/// The bytes of zeros that one repeated frame stands for.
const ZEROS: u64 = 64 << 20;
/// The unit in which zeros become holes again.
const BLOCK: usize = 64 << 10;

/// The bytes of a file that take space on its disk.
pub fn allocated(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(path)?.blocks() * 512)
}

/// Writes `from` to `to`, compressed. On an error `to` is removed.
pub fn pack(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let mut out = io::BufWriter::new(File::create(to)?);
    let result = pack_into(&source, &mut out).and_then(|()| out.flush());
    if result.is_err() {
        let _ = std::fs::remove_file(to);
    }
    result
}

fn pack_into(source: &File, out: &mut impl Write) -> io::Result<()> {
    let length = source.metadata()?.len();
    let mut zeros = Zeros::default();
    let mut at = 0;
    if length == 0 {
        // No frame at all would be no stream.
        return zstd::stream::copy_encode(io::empty(), out, LEVEL);
    }
    while at < length {
        let (begin, end) = data_after(source, at, length)?;
        zeros.write(begin - at, out)?;
        if begin < end {
            let mut frame = zstd::stream::write::Encoder::new(&mut *out, LEVEL)?;
            copy_range(source, begin, end, &mut frame)?;
            frame.finish()?;
        }
        at = end;
    }
    Ok(())
}

/// The next part of the file that has content, holes shorter than [`LONG`] included; empty at the end of the file.
fn data_after(source: &File, at: u64, length: u64) -> io::Result<(u64, u64)> {
    let Some(begin) = seek(source, rustix::fs::SeekFrom::Data(at))? else { return Ok((length, length)) };
    let mut end = begin;
    loop {
        end = seek(source, rustix::fs::SeekFrom::Hole(end))?.unwrap_or(length).min(length);
        match seek(source, rustix::fs::SeekFrom::Data(end))? {
            Some(more) if more - end < LONG && more < length => end = more,
            _ => return Ok((begin.min(length), end)),
        }
    }
}

/// None: there is no more.
fn seek(source: &File, to: rustix::fs::SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(source, to) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn copy_range(source: &File, mut at: u64, end: u64, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = source.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            // The file was cut meanwhile; a stream of its former length is still right.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.write_all(&buffer[..got])?;
        at += got as u64;
    }
    Ok(())
}

/// Frames of zeros.
#[derive(Debug, Default)]
struct Zeros {
    frame: Vec<u8>,
}

impl Zeros {
    fn write(&mut self, mut count: u64, out: &mut impl Write) -> io::Result<()> {
        while count >= ZEROS {
            if self.frame.is_empty() {
                self.frame = zstd::stream::encode_all(io::repeat(0).take(ZEROS), LEVEL)?;
            }
            out.write_all(&self.frame)?;
            count -= ZEROS;
        }
        if count > 0 {
            zstd::stream::copy_encode(io::repeat(0).take(count), out, LEVEL)?;
        }
        Ok(())
    }
}

/// Writes what [`pack`] made back to `to`, sparse.
pub fn unpack(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = zstd::stream::read::Decoder::new(File::open(from)?)?;
    let mut out = File::create(to)?;
    let (mut buffer, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut length = 0;
    loop {
        let got = fill(&mut source, &mut buffer)?;
        if got == 0 {
            return out.set_len(length);
        }
        if buffer[..got] != zeros[..got] {
            out.seek(SeekFrom::Start(length))?;
            out.write_all(&buffer[..got])?;
        }
        length += got as u64;
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match source.read(&mut buffer[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(length: u64, parts: &[(u64, &[u8])]) -> (u64, u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let file = File::create(path("disk")).unwrap();
        file.set_len(length).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        pack(&path("disk"), &path("packed")).unwrap();
        unpack(&path("packed"), &path("again")).unwrap();
        let again = File::open(path("again")).unwrap();
        assert_eq!(again.metadata().unwrap().len(), length.max(file.metadata().unwrap().len()));
        for (at, bytes) in parts {
            let mut found = vec![0; bytes.len()];
            again.read_exact_at(&mut found, *at).unwrap();
            assert_eq!(found, *bytes);
        }
        (std::fs::metadata(path("packed")).unwrap().len(), allocated(&path("again")).unwrap())
    }

    #[test]
    fn holes_cost_nothing() {
        let (packed, again) = round_trip(4 << 30, &[(1 << 30, b"superblock"), ((4 << 30) - 3, b"end")]);
        assert!(packed < 1 << 20, "{packed}");
        assert!(again < 1 << 20, "{again}");
    }

    #[test]
    fn content_stays() {
        let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        round_trip(64 << 20, &[(0, &noise), (10 << 20, b"x"), (11 << 20, &noise[..70_000])]);
        round_trip(0, &[]);
        round_trip(1, &[(0, b"1")]);
        round_trip(ZEROS * 2 + 5, &[]);
    }

    #[test]
    fn the_ordinary_tool_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let file = File::create(&disk).unwrap();
        file.set_len(200 << 20).unwrap();
        file.write_all_at(b"here", 150 << 20).unwrap();
        let packed = dir.path().join("disk.zst");
        pack(&disk, &packed).unwrap();
        std::fs::rename(&disk, dir.path().join("original")).unwrap();
        let Ok(status) = std::process::Command::new("zstd").args(["-q", "-d"]).arg(&packed).status() else {
            println!("skipped: no zstd here");
            return;
        };
        assert!(status.success());
        let mut found = [0; 4];
        File::open(&disk).unwrap().read_exact_at(&mut found, 150 << 20).unwrap();
        assert_eq!((&found, disk.metadata().unwrap().len()), (b"here", 200 << 20));
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "no zstd at all").unwrap();
        assert!(unpack(&path, &dir.path().join("y")).is_err());
        assert!(pack(&dir.path().join("missing"), &dir.path().join("z")).is_err());
    }
}
