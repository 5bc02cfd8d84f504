//! The file name of the listing of a branch: `branch.<user>.<branch>.capnp`. Only this module reads and writes it.
//!
//! The user name ends at the first dot, and the rest is the branch name. `%`, `/` and control characters in both names,
//! dots in a user name, and a leading dot in a branch name are encoded as `%XX` (hexadecimal). A `%` that is not
//! followed by two hexadecimal digits is a literal `%`, as in listings of other writers.

use model::BranchRef;

use crate::error::{Error, Result};

const PREFIX: &str = "branch.";
const SUFFIX: &str = ".capnp";

/// The file name.
pub fn file_name(at: &BranchRef) -> Result<String> {
    let (user, branch) = (at.user.as_str(), at.branch.as_str());
    let mut name = String::from(PREFIX);
    encode(&mut name, user, |c, _| c == '.');
    name.push('.');
    encode(&mut name, branch, |c, at| c == '.' && at == 0);
    name.push_str(SUFFIX);
    // The name of a temporary file is slightly longer.
    if name.len() > 240 {
        return Err(Error::BranchName { branch: at.clone() });
    }
    Ok(name)
}

/// The user and branch of a listing; `None` for other files.
#[must_use]
pub fn parse(file_name: &str) -> Option<BranchRef> {
    let (user, branch) = file_name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('.')?;
    Some(BranchRef { user: decode(user)?.parse().ok()?, branch: decode(branch)?.parse().ok()? })
}

fn encode(out: &mut String, name: &str, special: impl Fn(char, usize) -> bool) {
    for (at, c) in name.char_indices() {
        if c == '%' || c == '/' || c.is_ascii_control() || special(c, at) {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| Some(hex_digit(hex[0])? * 16 + hex_digit(hex[1])?));
        if let Some(value) = escaped {
            bytes.push(value);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_systems() {
        for (user, branch, name) in [
            ("kmo", "bcachefs-testing", "branch.kmo.bcachefs-testing.capnp"),
            ("kmo", "v6.1", "branch.kmo.v6.1.capnp"),
            ("kmo", "next/ext4", "branch.kmo.next%2Fext4.capnp"),
            ("j.doe", "a%2Fb", "branch.j%2Edoe.a%252Fb.capnp"),
            ("kmo", ".x", "branch.kmo.%2Ex.capnp"),
        ] {
            let at = BranchRef { user: user.parse().unwrap(), branch: branch.parse().unwrap() };
            assert_eq!(file_name(&at).unwrap(), name);
            assert_eq!(parse(name), Some(at));
        }
        assert_eq!(parse("branch.a.50%.capnp"), Some("a/50%".parse().unwrap()));
        for other in ["branch.a.capnp", "branch..b.capnp", "branch.a..capnp", "x.capnp", "branch.a.%ff.capnp"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
        assert!(file_name(&format!("x/{}", "y".repeat(250)).parse().unwrap()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn every_pair_round_trips_through_one_file_name(user in "[.%a-f\u{20}-\u{2e}\u{30}-\u{7e}\u{a0}-\u{ff}]{1,20}", branch in "[.%/a-f2]{1,20}") {
            let at = BranchRef { user: user.parse().unwrap(), branch: branch.parse().unwrap() };
            let name = file_name(&at).unwrap();
            assert!(!name.contains('/') && !name.contains('\0'));
            assert_eq!(parse(&name), Some(at));
        }
    }
}
