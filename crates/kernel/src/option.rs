//! Kernel options as test files write them: `OPT`, `OPT=n`, `OPT=m`, `OPT=value`, with `CONFIG_` or without.
//!
//! A [`KOption`] is exactly one line of a `.config`. Two options with the same name agree or contradict each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KValue {
    /// `n`, or not present.
    No,
    /// `m`.
    Module,
    /// `y`.
    Yes,
    /// A number, as it was written.
    Number(String),
    /// A string, without its quotes.
    Text(String),
}

impl KValue {
    /// Parses a value as it appears after `=` in a `.config`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "y" => Self::Yes,
            "n" => Self::No,
            "m" => Self::Module,
            _ if is_number(text) => Self::Number(text.into()),
            _ => Self::Text(unquote(text)),
        }
    }

    /// Whether the values are equal: two numbers by value, a number and a string by spelling.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => {
                a == b || matches!((number(a), number(b)), (Some(a), Some(b)) if a == b)
            }
            (Self::Number(a), Self::Text(b)) | (Self::Text(b), Self::Number(a)) => a == b,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for KValue {
    /// Formats the value as it appears after `=` in a `.config`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("n"),
            Self::Module => f.write_str("m"),
            Self::Yes => f.write_str("y"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The value of a number that [`is_number`] accepts; `None` on overflow.
pub(crate) fn number(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i128::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.ok().map(|value| sign * value)
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.into();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

/// An option with its required value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KOption {
    /// Its name, without `CONFIG_`.
    pub name: String,
    /// Its required value.
    pub value: KValue,
}

/// The text is not a kernel option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a kernel option: {reason}; write OPT, OPT=n, OPT=m or OPT=value")]
pub struct KOptionError {
    text: String,
    reason: &'static str,
}

impl KOption {
    /// Its line in a `.config`: `CONFIG_X=y`, `# CONFIG_X is not set`.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.value {
            KValue::No => format!("# CONFIG_{} is not set", self.name),
            value => format!("CONFIG_{}={value}", self.name),
        }
    }
}

impl FromStr for KOption {
    type Err = KOptionError;
    fn from_str(text: &str) -> Result<Self, KOptionError> {
        let bad = |reason| KOptionError { text: text.chars().take(100).collect(), reason };
        let trimmed = text.trim();
        let (name, value) = match trimmed.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (trimmed, None),
        };
        let name = name.strip_prefix("CONFIG_").unwrap_or(name);
        if name.is_empty() {
            return Err(bad("it has no name"));
        }
        if name.len() > 200 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(bad("use letters, digits and _ in the name"));
        }
        let value = match value {
            None => KValue::Yes,
            Some("") => return Err(bad("there is no value after the =")),
            Some(value) if value.len() > 2000 || value.chars().any(char::is_control) => {
                return Err(bad("the value must be one line of at most 2000 bytes"));
            }
            Some(value) => {
                let quotes = value.bytes().filter(|b| *b == b'"').count();
                let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
                if quotes > 0 && !quoted {
                    return Err(bad("the quotes must enclose the value"));
                }
                if !quoted && value.chars().any(char::is_whitespace) {
                    return Err(bad("a value with spaces needs quotes"));
                }
                KValue::parse(value)
            }
        };
        Ok(Self { name: name.into(), value })
    }
}

impl fmt::Display for KOption {
    /// Formats the option as in a test file: `X=y`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl TryFrom<String> for KOption {
    type Error = KOptionError;
    fn try_from(text: String) -> Result<Self, KOptionError> {
        text.parse()
    }
}

impl From<KOption> for String {
    fn from(option: KOption) -> Self {
        option.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> KOption {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling() {
        let line = |text: &str| option(text).line();
        assert_eq!(line("EXT4_FS"), "CONFIG_EXT4_FS=y");
        assert_eq!(line("  CONFIG_EXT4_FS=y\n"), "CONFIG_EXT4_FS=y");
        assert_eq!(line("EXT4_FS=n"), "# CONFIG_EXT4_FS is not set");
        assert_eq!(line("EXT4_FS = m"), "CONFIG_EXT4_FS=m");
        assert_eq!(line("LOG_BUF_SHIFT=18"), "CONFIG_LOG_BUF_SHIFT=18");
        assert_eq!(line("PHYSICAL_START=0x1000000"), "CONFIG_PHYSICAL_START=0x1000000");
        assert_eq!(line("CMDLINE=quiet"), "CONFIG_CMDLINE=\"quiet\"");
        assert_eq!(line("CMDLINE=\"a \\\"b\\\"\""), "CONFIG_CMDLINE=\"a \\\"b\\\"\"");
        assert_eq!(line("CMDLINE=\"\""), "CONFIG_CMDLINE=\"\"");
    }

    #[test]
    fn bad_text_is_an_error() {
        for text in [
            "",
            "  ",
            "=y",
            "CONFIG_",
            "A B",
            "A=b c",
            "A=",
            "A=\"x",
            "A-B",
            "A=\"x\" y",
            "é",
            "A=x\u{7}y",
            "A=\"",
        ] {
            assert!(text.parse::<KOption>().is_err(), "{text:?}");
        }
        insta::assert_snapshot!("FOO=".parse::<KOption>().unwrap_err(),
            @r#""FOO=" is not a kernel option: there is no value after the =; write OPT, OPT=n, OPT=m or OPT=value"#);
    }

    #[test]
    fn values_agree_by_meaning() {
        let agrees = |a, b| KValue::parse(a).agrees(&KValue::parse(b));
        assert!(agrees("0x10", "16") && agrees("\"a\"", "a") && agrees("\"5\"", "5"));
        assert!(!agrees("y", "m") && !agrees("1", "2") && !agrees("n", "\"\""));
    }

    proptest::proptest! {
        #[test]
        fn parsed_options_round_trip_through_display(text in "(CONFIG_)?[A-Z0-9_]{0,8}(=[ -~]{0,10})?") {
            if let Ok(option) = text.parse::<KOption>() {
                proptest::prop_assert!(option.to_string().parse::<KOption>().unwrap().value.agrees(&option.value), "{option}");
            }
        }
    }
}
