//! The memory of a kernel in a core in the format of kdump, as QEMU and makedumpfile write it: pages by physical address,
//! virtual addresses, and the log of the kernel.
//!
//! Everything is found without debug information, with the notes that the kernel writes for this purpose (vmcoreinfo). A
//! core belongs to its guest, so each number in it is checked, and each walk is bounded.

mod dmesg;
mod file;
mod flattened;
mod info;
mod paging;

pub use dmesg::Message;
pub use file::ReadAt;
pub use flattened::copy;

use info::Info;

/// Why a core cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is another type of file.
    #[error("not a core in the format of kdump")]
    NotACore,
    /// A number in it is impossible.
    #[error("damaged core: {0}")]
    Damaged(&'static str),
    /// It lacks the notes of the kernel.
    #[error(
        "the kernel left no notes about its memory (CONFIG_FW_CFG_SYSFS and CONFIG_VMCORE_INFO, before Linux 6.9 CONFIG_CRASH_CORE)"
    )]
    NoInfo,
    /// The notes lack this value.
    #[error("the notes of the kernel lack {0}")]
    Lacks(String),
    /// Virtual addresses of this architecture are not supported.
    #[error("cores of {0} are not supported; drgn and crash may read it")]
    Arch(String),
    /// The address is not in the core.
    #[error("address {0:#x} is not in the core")]
    Address(u64),
}

/// An opened core.
#[derive(Debug)]
pub struct Core<R> {
    pages: file::Pages<R>,
    info: Option<Info>,
}

impl<R: ReadAt> Core<R> {
    /// Reads the headers of a core.
    pub fn open(file: R) -> Result<Self, CoreError> {
        let pages = file::Pages::open(file)?;
        let info = pages.info()?.map(|text| Info::parse(&text));
        Ok(Self { pages, info })
    }

    /// The release of the kernel, as `uname -r` prints it.
    pub fn release(&self) -> Result<&str, CoreError> {
        self.known()?.text("OSRELEASE")
    }

    /// The messages of the kernel that its ring buffer contains, from the oldest to the newest.
    pub fn dmesg(&self) -> Result<Vec<Message>, CoreError> {
        dmesg::messages(&self.memory()?)
    }

    fn known(&self) -> Result<&Info, CoreError> {
        self.info.as_ref().ok_or(CoreError::NoInfo)
    }

    fn memory(&self) -> Result<paging::Memory<'_, R>, CoreError> {
        paging::Memory::new(&self.pages, self.known()?)
    }
}
