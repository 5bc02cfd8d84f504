//! What a host of the farm measures of itself. It is sent with the heartbeats of a run, by an untrusted host.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::size::ByteSize;

/// The load, the memory and the disk of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The load in percent of the processors, over the last minute, as in a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<u32>,
    /// The memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total: Option<u64>,
    /// The memory that programs can use without swapping, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_available: Option<u64>,
    /// The size of the file system with the cache: kernel sources, build trees, kernels and root images. In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_total: Option<u64>,
    /// The space of that file system that an ordinary user can fill, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_free: Option<u64>,
}

/// `12.3 GiB of 64.0 GiB memory free, 80.1 GiB of 1.0 TiB disk free`; empty if neither is known.
impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spaces = [
            (self.memory_available, self.memory_total, "memory"),
            (self.cache_free, self.cache_total, "disk"),
        ];
        let words = spaces.into_iter().filter_map(|(free, total, what)| {
            let (free, total) = (ByteSize(free?).rounded(), ByteSize(total?).rounded());
            Some(format!("{free} of {total} {what} free"))
        });
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_words() {
        assert_eq!(HostReport::default().to_string(), "");
        let memory = HostReport {
            memory_total: Some(64 << 30),
            memory_available: Some(3 << 30),
            ..HostReport::default()
        };
        assert_eq!(memory.to_string(), "3.0 GiB of 64.0 GiB memory free");
        let both = HostReport { cache_total: Some(u64::MAX), cache_free: Some(0), ..memory };
        assert_eq!(both.to_string(), "3.0 GiB of 64.0 GiB memory free, 0 B of 16777215.9 TiB disk free");
    }
}
