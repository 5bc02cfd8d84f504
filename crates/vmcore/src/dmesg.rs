//! The log of the kernel: the ring buffer of printk since Linux 5.10 (kernel/printk/printk_ringbuffer.h).

use crate::CoreError;
use crate::file::ReadAt;
use crate::paging::Memory;

/// A message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The time since the boot, in nanoseconds.
    pub nanoseconds: u64,
    /// The level, from 0 (emergency) to 7 (debug).
    pub level: u8,
    /// The text; it may have several lines.
    pub text: String,
}

impl std::fmt::Display for Message {
    /// Each line has the time stamp, as `dmesg` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.nanoseconds / 1_000_000_000, self.nanoseconds / 1000 % 1_000_000);
        for (number, line) in self.text.split('\n').enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}[{seconds:5}.{micros:06}] {line}")?;
        }
        Ok(())
    }
}

/// The maximum of `count_bits` and of `size_bits`: more than any kernel has.
const MAX_BITS: u32 = 24;
/// The maximum size of all texts.
const MAX_TEXT: usize = 64 << 20;
/// The two top bits of a descriptor's state are the state, the others the number of the message.
const NUMBER: u64 = !(3 << 62);
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
/// The size of the number before each text.
const TEXT_HEADER: u64 = 8;

/// The places of the ring buffer.
struct Ring {
    descriptors: u64,
    infos: u64,
    count: u64,
    descriptor_size: u64,
    info_size: u64,
    state: u64,
    begin: u64,
    next: u64,
    text: u64,
    text_size: u64,
    nanoseconds: u64,
    text_length: u64,
    flags: u64,
}

/// The messages from the oldest to the newest. One that is not complete is left out.
pub(crate) fn messages<R: ReadAt>(memory: &Memory<'_, R>) -> Result<Vec<Message>, CoreError> {
    let info = memory.info;
    let buffer = memory.u64(info.symbol("prb")?)?;
    let descriptors = buffer.wrapping_add(info.offset("printk_ringbuffer.desc_ring")?);
    let ring = ring(memory, buffer, descriptors)?;
    let counter = info.offset("atomic_long_t.counter").unwrap_or(0);
    let end = |name: &str| -> Result<u64, CoreError> {
        memory.u64(descriptors.wrapping_add(info.offset(name)?).wrapping_add(counter))
    };
    let (head, tail) = (end("prb_desc_ring.head_id")? & NUMBER, end("prb_desc_ring.tail_id")? & NUMBER);
    let count = (head.wrapping_sub(tail) & NUMBER).min(ring.count - 1) + 1;
    let numbers = (0..count).map(|at| tail.wrapping_add(at) & NUMBER);
    let (mut messages, mut size) = (Vec::new(), 0);
    for number in numbers {
        let Some(message) = message(memory, &ring, counter, number)? else { continue };
        size += size_of::<Message>() + message.text.len();
        if size > MAX_TEXT {
            return Err(CoreError::Damaged("its log is too large"));
        }
        messages.push(message);
    }
    Ok(messages)
}

fn ring<R: ReadAt>(memory: &Memory<'_, R>, buffer: u64, descriptors: u64) -> Result<Ring, CoreError> {
    let info = memory.info;
    let texts = buffer.wrapping_add(info.offset("printk_ringbuffer.text_data_ring")?);
    let bits = |at: u64, name: &str| -> Result<u64, CoreError> {
        let bits = memory.u32(at.wrapping_add(info.offset(name)?))?;
        if bits > MAX_BITS { Err(CoreError::Damaged("its log is too large")) } else { Ok(1 << bits) }
    };
    let pointer = |at: u64, name: &str| memory.u64(at.wrapping_add(info.offset(name)?));
    let lpos = info.offset("prb_desc.text_blk_lpos")?;
    Ok(Ring {
        count: bits(descriptors, "prb_desc_ring.count_bits")?,
        text_size: bits(texts, "prb_data_ring.size_bits")?,
        descriptors: pointer(descriptors, "prb_desc_ring.descs")?,
        infos: pointer(descriptors, "prb_desc_ring.infos")?,
        text: pointer(texts, "prb_data_ring.data")?,
        descriptor_size: info.size("prb_desc")?,
        info_size: info.size("printk_info")?,
        state: info.offset("prb_desc.state_var")?,
        begin: lpos.wrapping_add(info.offset("prb_data_blk_lpos.begin")?),
        next: lpos.wrapping_add(info.offset("prb_data_blk_lpos.next")?),
        nanoseconds: info.offset("printk_info.ts_nsec")?,
        text_length: info.offset("printk_info.text_len")?,
        // The level is in the byte after the facility: `flags` and `level` share a byte.
        flags: info.offset("printk_info.text_len")?.wrapping_add(3),
    })
}

fn message<R: ReadAt>(
    memory: &Memory<'_, R>,
    ring: &Ring,
    counter: u64,
    number: u64,
) -> Result<Option<Message>, CoreError> {
    let index = number % ring.count;
    let at = ring.descriptors.wrapping_add(index.wrapping_mul(ring.descriptor_size));
    let state = memory.u64(at.wrapping_add(ring.state).wrapping_add(counter))?;
    if state & NUMBER != number || ![COMMITTED, FINALIZED].contains(&(state >> 62)) {
        return Ok(None);
    }
    let (begin, next) = (memory.u64(at.wrapping_add(ring.begin))?, memory.u64(at.wrapping_add(ring.next))?);
    let info = ring.infos.wrapping_add(index.wrapping_mul(ring.info_size));
    let nanoseconds = memory.u64(info.wrapping_add(ring.nanoseconds))?;
    let length = memory.u16(info.wrapping_add(ring.text_length))?;
    let mut level = [0];
    memory.read(info.wrapping_add(ring.flags), &mut level)?;
    let text = text(memory, ring, (begin, next), length.into())?;
    Ok(Some(Message { nanoseconds, level: level[0] >> 5, text }))
}

/// The text of a message. A block that does not fit at the end of the ring starts at the beginning.
fn text<R: ReadAt>(
    memory: &Memory<'_, R>,
    ring: &Ring,
    (begin, next): (u64, u64),
    length: u64,
) -> Result<String, CoreError> {
    // A message without a text has odd positions.
    if begin & 1 == 1 || begin == next {
        return Ok(String::new());
    }
    let wraps = begin / ring.text_size != next / ring.text_size && next % ring.text_size != 0;
    let (start, end) =
        if wraps { (0, next % ring.text_size) } else { (begin % ring.text_size, next.wrapping_sub(begin)) };
    let room = if wraps { end } else { end.min(ring.text_size) }.saturating_sub(TEXT_HEADER);
    let mut bytes = vec![0; usize::try_from(length.min(room)).expect("it is small")];
    memory.read(ring.text.wrapping_add(start).wrapping_add(TEXT_HEADER), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
