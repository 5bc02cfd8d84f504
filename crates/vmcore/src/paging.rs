//! Virtual addresses of the kernel on `x86_64`, through its page tables.

use crate::CoreError;
use crate::file::{Pages, ReadAt};
use crate::info::Info;

/// Where the image of the kernel is mapped (`__START_KERNEL_map`).
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// The bits of a table entry that are a physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
/// In an entry above the last level: the entry maps a large page.
const LARGE: u64 = 1 << 7;

/// The memory of the kernel by virtual address.
pub(crate) struct Memory<'a, R> {
    pages: &'a Pages<R>,
    pub(crate) info: &'a Info,
    /// The physical address of the top table.
    top: u64,
    levels: u32,
}

impl<'a, R: ReadAt> Memory<'a, R> {
    pub(crate) fn new(pages: &'a Pages<R>, info: &'a Info) -> Result<Self, CoreError> {
        if pages.machine() != "x86_64" {
            return Err(CoreError::Arch(pages.machine().into()));
        }
        // Before Linux 4.13 the table had another name.
        let top = info.symbol("init_top_pgt").or_else(|_| info.symbol("init_level4_pgt"))?;
        let base = info.value("phys_base")?;
        let top = top.wrapping_sub(IMAGE).wrapping_add_signed(base);
        let levels = if info.value("pgtable_l5_enabled").unwrap_or(0) == 1 { 5 } else { 4 };
        Ok(Self { pages, info, top, levels })
    }

    fn physical(&self, address: u64) -> Result<u64, CoreError> {
        let mut table = self.top;
        for level in (0..self.levels).rev() {
            let shift = 12 + 9 * level;
            let index = (address >> shift) & 0x1ff;
            let mut entry = [0; 8];
            self.pages.read(table.wrapping_add(index * 8), &mut entry)?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return Err(CoreError::Address(address));
            }
            let is_page = level == 0 || ((1..=2).contains(&level) && entry & LARGE != 0);
            if is_page {
                let offset = (1_u64 << shift) - 1;
                return Ok((entry & ADDRESS & !offset) | (address & offset));
            }
            table = entry & ADDRESS;
        }
        Err(CoreError::Address(address))
    }

    /// Reads from a virtual address.
    pub(crate) fn read(&self, mut address: u64, mut buffer: &mut [u8]) -> Result<(), CoreError> {
        while !buffer.is_empty() {
            let in_page = usize::try_from(0x1000 - (address & 0xfff)).expect("it is small");
            let (now, rest) = buffer.split_at_mut(in_page.min(buffer.len()));
            self.pages.read(self.physical(address)?, now)?;
            address = address.wrapping_add(now.len() as u64);
            buffer = rest;
        }
        Ok(())
    }

    pub(crate) fn u64(&self, address: u64) -> Result<u64, CoreError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn u32(&self, address: u64) -> Result<u32, CoreError> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn u16(&self, address: u64) -> Result<u16, CoreError> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }
}
