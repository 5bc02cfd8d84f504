//! The load and the memory of this host.

use std::path::Path;

/// The load in percent: 100 if, over the last minute, as many processes wanted to run as there are processors. Some tests
/// fail only on a busy host.
#[must_use]
pub fn load_percent() -> Option<u32> {
    let text = crate::own::read_to_string("/proc/loadavg".as_ref(), 1 << 10).ok()?;
    let processors = std::thread::available_parallelism().ok()?;
    parse_load(&text, u32::try_from(processors.get()).ok()?)
}

fn parse_load(loadavg: &str, processors: u32) -> Option<u32> {
    let (whole, hundredths) = loadavg.split_whitespace().next()?.split_once('.')?;
    let hundredths = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)?;
    hundredths.checked_div(processors)
}

/// A field of `/proc/meminfo`, such as `MemTotal:`, in bytes; `None` if it cannot be read.
#[must_use]
pub fn memory(field: &str) -> Option<u64> {
    memory_field(&crate::own::read_to_string(Path::new("/proc/meminfo"), 1 << 20).ok()?, field)
}

fn memory_field(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_relative_to_the_processors() {
        assert_eq!(parse_load("3.07 1.26 1.59 2/312 28413\n", 2), Some(153));
        assert_eq!(parse_load("0.00 0.00 0.00 1/100 5", 64), Some(0));
        for bad in ["", "x", "1", "1.x 2", "99999999999.00"] {
            assert_eq!(parse_load(bad, 2), None, "{bad:?}");
        }
        assert!(load_percent().is_some());
    }

    #[test]
    fn a_field_of_meminfo_is_in_bytes() {
        let text = "MemTotal:       24684092 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_field(text, "MemTotal:").map(|bytes| bytes >> 20), Some(24105));
        assert_eq!(memory_field("rubbish", "MemTotal:"), None);
    }
}
