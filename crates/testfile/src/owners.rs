//! The owners that a test file declares. The text is read, and nothing runs: `config-owner` is followed by one quoted text.
//! Pure.

use model::Owner;

/// The call in a test file.
const CALL: &str = "config-owner";
/// The maximum number of owners of a test file.
const OWNERS_MAX: usize = 8;

/// A call that declares no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct OwnersError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// The owners in the text of a test file, in their order, and the first call that is not valid.
#[must_use]
pub fn declared(text: &str) -> (Vec<Owner>, Option<OwnersError>) {
    let (mut owners, mut error) = (Vec::new(), None);
    for (line, found) in (1..).zip(text.lines().map(owner)) {
        match found {
            None => {}
            Some(Ok(_)) if owners.len() == OWNERS_MAX => {
                let reason = format!("a test file has at most {OWNERS_MAX} owners");
                error.get_or_insert(OwnersError { line, reason });
            }
            Some(Ok(owner)) => owners.push(owner),
            Some(Err(reason)) => _ = error.get_or_insert(OwnersError { line, reason }),
        }
    }
    owners.dedup();
    (owners, error)
}

/// The owner in a line of a test file; `None` if the line is not a call.
fn owner(line: &str) -> Option<Result<Owner, String>> {
    let rest = line.trim_start().strip_prefix(CALL)?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let quoted = ['"', '\''].into_iter().find_map(|quote| rest.strip_prefix(quote)?.split_once(quote));
    let Some((text, after)) = quoted else {
        return Some(Err(format!("{CALL} is followed by a quoted text: {CALL} \"Name <mail>\"")));
    };
    let after = after.trim();
    if !(after.is_empty() || after.starts_with('#')) || text.contains(['$', '`', '\\']) {
        return Some(Err(format!("{CALL} takes one text without $, ` and \\")));
    }
    Some(text.parse().map_err(|error: model::OwnerError| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_the_text() {
        let text = "#!/bin/bash\n# config-owner \"no\"\nconfig-owner \"Mira <mira@example.org>\"\n\
            \tconfig-owner 'A <b> & c' # ext4\nconfig-owners x\n";
        let (owners, error) = declared(text);
        let owners: Vec<&str> = owners.iter().map(Owner::as_str).collect();
        assert_eq!((owners, error), (vec!["Mira <mira@example.org>", "A <b> & c"], None));
    }

    #[test]
    fn hostile_owners_are_refused_and_reported() {
        for (call, reason) in [
            ("config-owner Mira", "is followed by a quoted text"),
            ("config-owner \"Mira", "is followed by a quoted text"),
            ("config-owner \"$(reboot)\"", "takes one text"),
            ("config-owner \"a\" \"b\"", "takes one text"),
            ("config-owner \"a\u{1b}b\"", "without control characters"),
            (&format!("config-owner \"{}\"", "x".repeat(10 << 10)), "1 to 200 bytes"),
        ] {
            let (owners, error) = declared(&format!("\n{call}\nconfig-owner \"b\"\n"));
            let error = error.unwrap();
            assert!(error.line == 2 && error.reason.contains(reason), "{error}");
            assert_eq!(owners.len(), 1, "the others count");
        }
        let many = "config-owner 'a'\nconfig-owner 'b'\n".repeat(50);
        let (owners, error) = declared(&many);
        assert_eq!((owners.len(), error.unwrap().line), (OWNERS_MAX, OWNERS_MAX + 1));
    }
}
