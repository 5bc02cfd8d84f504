//! The architectures that can be built and booted. One table contains all spellings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, as_text};

/// An architecture, named as in `uname -m` and QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// (architecture, name, other names beginning with Debian's).
const TABLE: [(Arch, &str, &[&str]); 2] =
    [(Arch::X86_64, "x86_64", &["amd64", "x86-64"]), (Arch::Aarch64, "aarch64", &["arm64"])];

impl Arch {
    /// All architectures.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The name: `x86_64`, `aarch64`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Debian's name: `amd64`, `arm64`.
    #[must_use]
    pub fn debian_name(self) -> &'static str {
        TABLE[self as usize].2[0]
    }

    /// The architecture of this program; `None` if guests cannot have it.
    #[must_use]
    pub fn native() -> Option<Self> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Arch {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        TABLE
            .iter()
            .find(|(_, name, others)| text == *name || others.contains(&text))
            .map(|(arch, ..)| *arch)
            .ok_or_else(|| NameError {
                kind: "an architecture",
                text: text.chars().take(100).collect(),
                reason: "use x86_64 or aarch64",
            })
    }
}

as_text!(Arch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_enum_order() {
        for (at, arch) in Arch::ALL.into_iter().enumerate() {
            assert_eq!((arch as usize, TABLE[at].0), (at, arch));
            assert_eq!(arch.as_str().parse(), Ok(arch));
        }
        assert_eq!("arm64".parse(), Ok(Arch::Aarch64));
        assert!("riscv64".parse::<Arch>().is_err());
    }
}
