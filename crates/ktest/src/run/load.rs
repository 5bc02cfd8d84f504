//! The load of this host, which is recorded with each verdict: some tests fail only on a busy host.

/// The load in percent: 100 if, over the last minute, as many processes wanted to run as there are processors.
pub(super) fn percent() -> Option<u32> {
    let text = fsx::own::read_to_string("/proc/loadavg".as_ref(), 1 << 10).ok()?;
    let processors = std::thread::available_parallelism().ok()?;
    parse(&text, u32::try_from(processors.get()).ok()?)
}

fn parse(loadavg: &str, processors: u32) -> Option<u32> {
    let (whole, hundredths) = loadavg.split_whitespace().next()?.split_once('.')?;
    let hundredths = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)?;
    hundredths.checked_div(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_relative_to_the_processors() {
        assert_eq!(parse("3.07 1.26 1.59 2/312 28413\n", 2), Some(153));
        assert_eq!(parse("0.00 0.00 0.00 1/100 5", 64), Some(0));
        for bad in ["", "x", "1", "1.x 2", "99999999999.00"] {
            assert_eq!(parse(bad, 2), None, "{bad:?}");
        }
        assert!(percent().is_some());
    }
}
