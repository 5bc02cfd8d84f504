//! Cores made by this test: a page table, the notes of the kernel, and a ring buffer with messages.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::io::{Read, Seek, Write};

use proptest::prelude::*;
use vmcore::{Core, CoreError, Message};

const BLOCK: usize = 4096;
/// Where the image of the kernel is mapped, and where the test puts the ring buffer.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
const BUFFER: u64 = 0xffff_8880_0040_0000;
const DESCRIPTORS: u64 = BUFFER + 0x1000;
const INFOS: u64 = BUFFER + 0x2000;
const TEXT: u64 = BUFFER + 0x3000;
/// The physical address of the kernel's image, of its top table at its start, and of the pointer to the ring buffer.
const BASE: u64 = 0x10_0000;
const POINTER: u64 = 0x800;
const COUNT_BITS: u32 = 3;
const SIZE_BITS: u32 = 7;

/// The physical memory of a guest, 8 MiB.
struct Memory(Vec<u8>);

impl Memory {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// The place of an address in the large page that the ring buffer is in.
    fn buffer(address: u64) -> u64 {
        0x40_0000 + (address - BUFFER)
    }

    fn message(&mut self, number: u64, state: u64, (begin, next): (u64, u64), text: &[u8]) {
        let index = number % (1 << COUNT_BITS);
        let descriptor = Self::buffer(DESCRIPTORS + index * 24);
        self.u64(descriptor, number | state << 62);
        self.u64(descriptor + 8, begin);
        self.u64(descriptor + 16, next);
        let info = Self::buffer(INFOS + index * 88);
        self.u64(info, number);
        self.u64(info + 8, 1_500_000_000 + number * 1000);
        self.put(info + 16, &u16::try_from(text.len()).unwrap().to_le_bytes());
        self.put(info + 19, &[2 << 5]);
        if begin & 1 == 0 {
            let size = 1 << SIZE_BITS;
            let start = if begin / size == next / size { begin % size } else { 0 };
            self.put(Self::buffer(TEXT + start + 8), text);
        }
    }
}

fn info() -> String {
    let lines = [
        "OSRELEASE=6.12.1-test".to_owned(),
        format!("SYMBOL(init_top_pgt)={IMAGE:x}"),
        format!("SYMBOL(prb)={:x}", IMAGE + POINTER),
        format!("NUMBER(phys_base)={BASE}"),
        "NUMBER(pgtable_l5_enabled)=0".to_owned(),
    ];
    let offsets = [
        ("printk_ringbuffer.desc_ring", 0),
        ("printk_ringbuffer.text_data_ring", 48),
        ("prb_desc_ring.count_bits", 0),
        ("prb_desc_ring.descs", 8),
        ("prb_desc_ring.infos", 16),
        ("prb_desc_ring.head_id", 24),
        ("prb_desc_ring.tail_id", 32),
        ("prb_desc.state_var", 0),
        ("prb_desc.text_blk_lpos", 8),
        ("prb_data_blk_lpos.begin", 0),
        ("prb_data_blk_lpos.next", 8),
        ("prb_data_ring.size_bits", 0),
        ("prb_data_ring.data", 8),
        ("printk_info.ts_nsec", 8),
        ("printk_info.text_len", 16),
        ("atomic_long_t.counter", 0),
    ];
    let offsets = offsets.map(|(name, value)| format!("OFFSET({name})={value}"));
    let sizes = [("prb_desc", 24), ("printk_info", 88)].map(|(name, value)| format!("SIZE({name})={value}"));
    lines.into_iter().chain(offsets).chain(sizes).collect::<Vec<_>>().join("\n")
}

/// Five messages: the oldest is overwritten, one has no text, one is not complete, and the text of one starts again at the
/// beginning of the ring.
fn memory() -> Memory {
    let mut memory = Memory(vec![0; 8 << 20]);
    // The image: one large page. The direct map: one large page.
    let tables = [0x20_0000_u64, 0x20_1000, 0x20_2000, 0x20_3000];
    memory.u64(BASE + 511 * 8, tables[0] | 3);
    memory.u64(tables[0] + 510 * 8, tables[1] | 3);
    memory.u64(tables[1], tables[2] | 3);
    memory.u64(tables[2], BASE | 3);
    memory.u64(BASE + 273 * 8, tables[3] | 3);
    memory.u64(tables[3], 0x20_4000 | 3);
    memory.u64(0x20_4000 + 2 * 8, 0x40_0000 | 3 | 1 << 7);
    memory.u64(BASE + POINTER, BUFFER);
    memory.put(0x40_0000, &COUNT_BITS.to_le_bytes());
    for (at, value) in [(8, DESCRIPTORS), (16, INFOS), (24, 13 | 1 << 62), (32, 9 | 1 << 62), (56, TEXT)] {
        memory.u64(0x40_0000 + at, value);
    }
    memory.put(0x40_0000 + 48, &SIZE_BITS.to_le_bytes());
    memory.message(9, 3, (0, 24), b"overwritten");
    memory.message(10, 2, (24, 64), b"Linux version #1 SMP test");
    memory.message(11, 2, (3, 3), b"");
    memory.message(12, 0, (64, 72), b"");
    memory.message(13, 1, (112, 160), b"BUG:\nthe newest message");
    memory
}

/// A core with the pages that are not empty, of which some are compressed.
fn core(memory: &Memory, info: &str) -> Vec<u8> {
    let pages = memory.0.len() / BLOCK;
    let bitmap_bytes = pages.div_ceil(8).next_multiple_of(BLOCK);
    let mut file = vec![0; 2 * BLOCK];
    file[..8].copy_from_slice(b"KDUMP   ");
    file[12 + 4 * 65..][..6].copy_from_slice(b"x86_64");
    for (at, value) in [(428, BLOCK), (432, 1), (436, 2 * bitmap_bytes / BLOCK)] {
        file[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
    }
    let full = |(_, page): &(usize, &[u8])| page.iter().any(|byte| *byte != 0);
    let full: Vec<_> = memory.0.chunks(BLOCK).enumerate().filter(full).collect();
    let mut bitmap = vec![0_u8; bitmap_bytes];
    full.iter().for_each(|(number, _)| bitmap[number / 8] |= 1 << (number % 8));
    file.extend_from_slice(&vec![0xff; bitmap_bytes]);
    file.extend_from_slice(&bitmap);
    let mut at = file.len() + full.len() * 24;
    let mut data = Vec::new();
    for (number, page) in full {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(page).unwrap();
        let (bytes, flags) =
            if number % 2 == 0 { (encoder.finish().unwrap(), 1) } else { (page.to_vec(), 0) };
        file.extend_from_slice(&(at as u64).to_le_bytes());
        file.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        file.extend_from_slice(&u32::to_le_bytes(flags));
        file.extend_from_slice(&[0; 8]);
        at += bytes.len();
        data.extend(bytes);
    }
    file.extend(data);
    let place = file.len() as u64;
    file.extend_from_slice(info.as_bytes());
    file[BLOCK + 32..BLOCK + 40].copy_from_slice(&place.to_le_bytes());
    file[BLOCK + 40..BLOCK + 48].copy_from_slice(&(info.len() as u64).to_le_bytes());
    file
}

#[test]
fn the_log_of_the_kernel() {
    let core = Core::open(core(&memory(), &info())).unwrap();
    assert_eq!(core.release().unwrap(), "6.12.1-test");
    let messages = core.dmesg().unwrap();
    let text = |message: &Message| message.text.clone();
    assert_eq!(
        messages.iter().map(text).collect::<Vec<_>>(),
        ["Linux version #1 SMP test", "", "BUG:\nthe newest message"]
    );
    assert_eq!(messages[2].to_string(), "[    1.500013] BUG:\n[    1.500013] the newest message");
    assert_eq!(messages[2].level, 2);
}

/// The file in the flattened format: the pieces in another order, the first one written twice.
fn flattened(file: &[u8]) -> Vec<u8> {
    let mut flat = b"makedumpfile".to_vec();
    flat.resize(4096, 0);
    let mut piece = |offset: usize, bytes: &[u8]| {
        flat.extend_from_slice(&(offset as i64).to_be_bytes());
        flat.extend_from_slice(&(bytes.len() as i64).to_be_bytes());
        flat.extend_from_slice(bytes);
    };
    piece(0, &[7; 16]);
    piece(5000, &file[5000..]);
    piece(0, &file[..5000]);
    flat.extend_from_slice(&[0xff; 16]);
    flat
}

fn copied(from: &[u8], max: u64) -> Result<Vec<u8>, CoreError> {
    let mut to = tempfile::tempfile().unwrap();
    vmcore::copy(from, &to, max)?;
    let mut bytes = Vec::new();
    to.rewind().unwrap();
    to.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

#[test]
fn the_flattened_format_is_rearranged() {
    let file = core(&memory(), &info());
    let size = file.len() as u64;
    let named = copied(&flattened(&file), size).unwrap();
    let names: Vec<_> =
        named[12..12 + 5 * 65].chunks(65).map(|name| name.split(|byte| *byte == 0).next()).collect();
    let expected = ["Linux", "(none)", "6.12.1-test", "#1 SMP test", "x86_64"];
    assert_eq!(names, expected.map(|name| Some(name.as_bytes())));
    assert!(named[..12] == file[..12] && named[12 + 5 * 65..] == file[12 + 5 * 65..]);
    // Names that exist stay.
    let mut other = named.clone();
    other[12 + 65..][..4].copy_from_slice(b"host");
    assert!(copied(&other, size).unwrap() == other);
    // Without notes the kernel is unknown.
    let unknown = core(&memory(), "");
    assert!(copied(&flattened(&unknown), size).unwrap() == unknown);
    for (from, max) in [(flattened(&file), size - 1), (file.clone(), 100)] {
        assert!(matches!(copied(&from, max), Err(CoreError::Damaged(_))));
    }
    let cut = flattened(&file);
    assert!(matches!(copied(&cut[..cut.len() - 16], size), Err(CoreError::Io(_))));
    assert!(matches!(copied(b"", size), Err(CoreError::NotACore)));
}

#[test]
fn what_is_missing_is_named() {
    let error = |file: Vec<u8>| match Core::open(file).and_then(|core| core.dmesg()) {
        Ok(messages) => panic!("{messages:?}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(error(b"ELF".to_vec()), "not a core in the format of kdump");
    assert!(error(core(&memory(), "")).starts_with("the kernel left no notes about its memory"));
    let without = info().replace("SYMBOL(prb)", "SYMBOL(other)");
    assert_eq!(error(core(&memory(), &without)), "the notes of the kernel lack SYMBOL(prb)");
    let mut arm = core(&memory(), &info());
    arm[12 + 4 * 65..][..8].copy_from_slice(b"aarch64\0");
    assert!(error(arm).starts_with("cores of aarch64 are not supported"));
    let mut memory = memory();
    memory.u64(BASE + 273 * 8, 0);
    assert_eq!(error(core(&memory, &info())), format!("address {BUFFER:#x} is not in the core"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Damaged headers, notes, tables and ring buffers are errors or give other messages, and end soon.
    #[test]
    fn a_damaged_core_is_an_error(
        headers in prop::collection::vec((0..3 * BLOCK, any::<u8>()), 0..8),
        values in prop::collection::vec((0..64_u64, any::<u64>()), 0..4),
        tables in prop::collection::vec((0..5_u64, 0..512_u64, any::<u64>()), 0..4),
        number in any::<u64>(),
        line in 0..24_usize,
    ) {
        let mut memory = memory();
        for (at, value) in values {
            memory.u64(0x40_0000 + at * 8 % 120, value);
            memory.u64(Memory::buffer(DESCRIPTORS) + at * 8, value);
        }
        for (table, index, value) in tables {
            memory.u64(0x20_0000 + table * 0x1000 + index * 8, value);
        }
        let lines = info();
        let lines = lines.lines().enumerate().map(|(at, text)| match text.split_once('=') {
            Some((name, _)) if at == line => format!("{name}={number}"),
            _ => text.to_owned(),
        });
        let mut file = core(&memory, &lines.collect::<Vec<_>>().join("\n"));
        for (at, value) in headers {
            file[at] = value;
        }
        if let Err(CoreError::Io(error)) = Core::open(file).and_then(|core| core.dmesg()) {
            prop_assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }
}
