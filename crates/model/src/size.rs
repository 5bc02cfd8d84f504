//! Sizes in bytes, as users write them: `512M`, `4G`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a text is not a valid size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It is not a size.
    #[error("expected a size like 512M or 4G")]
    Format,
    /// It is smaller than the minimum.
    #[error("expected at least {0}")]
    TooSmall(ByteSize),
}

impl ByteSize {
    /// The size in MiB, rounded down.
    #[must_use]
    pub fn mib(self) -> u64 {
        self.0 >> 20
    }

    /// Parses a size of at least `least`.
    pub fn at_least(text: &str, least: Self) -> Result<Self, SizeError> {
        let size: Self = text.parse()?;
        if size >= least { Ok(size) } else { Err(SizeError::TooSmall(least)) }
    }
}

/// (unit, its binary exponent), the largest first.
const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for ByteSize {
    type Err = SizeError;
    /// Accepts `512M`, `4G`, `4GiB`, `1T`, or a plain number of bytes.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_end_matches("iB").trim_end_matches(['b', 'B']) {
            "" => 0,
            letter => UNITS
                .iter()
                .find(|(unit, _)| letter.eq_ignore_ascii_case(unit.encode_utf8(&mut [0; 4])))
                .map(|(_, shift)| *shift)
                .ok_or(SizeError::Format)?,
        };
        let number: u64 = number.parse().map_err(|_| SizeError::Format)?;
        number.checked_mul(1 << shift).map(Self).ok_or(SizeError::Format)
    }
}

impl ByteSize {
    /// The size with one decimal: `812 B`, `14.2 KiB`, `3.1 MiB`.
    #[must_use]
    pub fn rounded(self) -> String {
        let (bytes, units) = (self.0, ["KiB", "MiB", "GiB", "TiB"]);
        match (1..=units.len()).rev().find(|unit| bytes >> (10 * unit) > 0) {
            None => format!("{bytes} B"),
            Some(unit) => {
                let tenths = (u128::from(bytes) * 10) >> (10 * unit);
                format!("{}.{} {}", tenths / 10, tenths % 10, units[unit - 1])
            }
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, shift)| self.0 > 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((unit, shift)) => f.pad(&format!("{}{unit}", self.0 >> shift)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let parse = |text: &str| text.parse().map(|ByteSize(bytes)| bytes);
        assert_eq!(parse("4G"), Ok(4 << 30));
        assert_eq!(parse("10MiB"), Ok(10 << 20));
        assert_eq!(parse("1000"), Ok(1000));
        assert_eq!(parse("0"), Ok(0));
        for bad in ["", "G", "-1", "4X", "1.5G", "99999999999T"] {
            assert_eq!(parse(bad), Err(SizeError::Format), "{bad}");
        }
        let least = ByteSize(512 << 20);
        assert_eq!(ByteSize::at_least("1G", least), Ok(ByteSize(1 << 30)));
        assert_eq!(ByteSize::at_least("1M", least).unwrap_err().to_string(), "expected at least 512M");
        for text in ["512M", "4G", "3T", "1000", "0", "1536K"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }
}
