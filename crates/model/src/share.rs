//! A share of a whole, as a percentage.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, as_text, bad};

/// A share from 0 % to 100 %, in hundredths of a percent: `2%`, `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

impl Share {
    const WHOLE: u16 = 10_000;

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// Whether something with this hash is in the share. The hash must be evenly distributed.
    #[must_use]
    pub fn includes(self, hash: u64) -> bool {
        hash % u64::from(Self::WHOLE) < u64::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, hundredths) = (self.0 / 100, self.0 % 100);
        let text = match hundredths {
            0 => format!("{percent}%"),
            _ => format!("{percent}.{hundredths:02}").trim_end_matches('0').to_owned() + "%",
        };
        f.pad(&text)
    }
}

impl FromStr for Share {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = |text: &str, most: usize| -> Option<u16> {
            let valid =
                !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| valid)
        };
        let parse = || {
            let number = text.strip_suffix('%')?.trim_end();
            let (percent, fraction) = number.split_once('.').unwrap_or((number, "0"));
            let tenths_as_hundredths = if fraction.len() == 1 { 10 } else { 1 };
            let share = digits(percent, 3)? * 100 + digits(fraction, 2)? * tenths_as_hundredths;
            (share <= Self::WHOLE).then_some(Self(share))
        };
        parse().ok_or_else(|| bad("a share", text, "write a percentage from 0% to 100%, such as 2% or 0.5%"))
    }
}

as_text!(Share);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        for (text, shown) in [
            ("2%", "2%"),
            ("0.5%", "0.5%"),
            ("0.05 %", "0.05%"),
            ("100%", "100%"),
            ("0%", "0%"),
            ("12.50%", "12.5%"),
        ] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for text in
            ["", "2", "%", "101%", "100.01%", "-1%", "1.%", ".5%", "0.005%", "1e1%", "99999%", "+2%", "é%"]
        {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_of_the_hashes_is_included() {
        let share: Share = "2%".parse().unwrap();
        assert_eq!((0..10_000).filter(|hash| share.includes(*hash)).count(), 200);
        assert!(!Share::default().includes(0));
        assert!("100%".parse::<Share>().unwrap().includes(u64::MAX));
    }
}
