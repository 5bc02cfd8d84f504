//! Disk images as sparse zstd streams: holes cost neither time nor space, and `zstd -d` can read them.
//!
//! A stream is a sequence of ordinary zstd frames. A long hole is one frame of zeros, compressed once and repeated.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The fastest compression level with a good ratio.
const LEVEL: i32 = 1;
/// The minimum size of a hole that gets its own frames, in bytes.
const LONG: u64 = 1 << 20;
/// The number of zeros in one repeated frame, in bytes.
const ZEROS: u64 = 64 << 20;
/// The unit in which zeros are converted to holes, in bytes.
const BLOCK: usize = 64 << 10;

/// The allocated bytes of a file.
pub fn allocated(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fsx::own::metadata(path)?.blocks() * 512)
}

/// Writes a file to `to`, compressed.
pub fn pack(from: &File, to: impl Write) -> io::Result<()> {
    let mut out = io::BufWriter::new(to);
    pack_into(from, &mut out)?;
    out.flush()
}

fn pack_into(source: &File, out: &mut impl Write) -> io::Result<()> {
    let length = source.metadata()?.len();
    let mut zeros = Zeros::default();
    let mut at = 0;
    if length == 0 {
        // A stream has at least one frame.
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

/// The next part of the file with content, including holes shorter than [`LONG`]; empty at the end of the file.
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

/// Returns `None` at the end of the file.
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
            // The file was truncated during the read.
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

/// Restores a file that [`pack`] wrote, as a sparse file of at most `most` bytes.
pub fn unpack(from: &File, mut out: &File, most: u64) -> io::Result<()> {
    let mut source = zstd::stream::read::Decoder::new(from)?;
    let (mut buffer, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut length = 0;
    loop {
        let got = read_full(&mut source, &mut buffer)?;
        if got == 0 {
            return out.set_len(length);
        }
        if length + got as u64 > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than the device"));
        }
        if buffer[..got] != zeros[..got] {
            out.seek(SeekFrom::Start(length))?;
            out.write_all(&buffer[..got])?;
        }
        length += got as u64;
    }
}

/// Reads until the buffer is full or the stream ends.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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
        pack(&File::open(path("disk")).unwrap(), File::create(path("packed")).unwrap()).unwrap();
        let (packed, again) = (File::open(path("packed")).unwrap(), File::create(path("again")).unwrap());
        unpack(&packed, &again, length).unwrap();
        if length > 0 {
            (&packed).seek(SeekFrom::Start(0)).unwrap();
            assert!(unpack(&packed, &again, length - 1).is_err());
            (&packed).seek(SeekFrom::Start(0)).unwrap();
            unpack(&packed, &File::create(path("again")).unwrap(), length).unwrap();
        }
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
    fn content_is_preserved() {
        let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        round_trip(64 << 20, &[(0, &noise), (10 << 20, b"x"), (11 << 20, &noise[..70_000])]);
        round_trip(0, &[]);
        round_trip(1, &[(0, b"1")]);
        round_trip(ZEROS * 2 + 5, &[]);
    }

    #[test]
    fn zstd_reads_a_packed_image() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let file = File::create(&disk).unwrap();
        file.set_len(200 << 20).unwrap();
        file.write_all_at(b"here", 150 << 20).unwrap();
        let packed = dir.path().join("disk.zst");
        pack(&File::open(&disk).unwrap(), File::create(&packed).unwrap()).unwrap();
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
    fn an_invalid_stream_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "no zstd at all").unwrap();
        let out = File::create(dir.path().join("y")).unwrap();
        assert!(unpack(&File::open(&path).unwrap(), &out, 1 << 20).is_err());
    }
}
