//! What printk puts before a line: level, time stamp, caller. Nothing here fails; a line without prefix is itself.

/// Who printed a line, where printk says so (CONFIG_PRINTK_CALLER): lines of one report share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// `[T123]`: the task with this id.
    Task(u32),
    /// `[C1]`: an interrupt on this processor.
    Cpu(u32),
}

/// A console line without its prefix, and who printed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripped<'a> {
    /// The text.
    pub text: &'a str,
    /// Who printed it, if the prefix says.
    pub caller: Option<Caller>,
    /// Whether there was a prefix: then the kernel printed the line (or pretends to have).
    pub printk: bool,
}

/// Takes `<6>`, `[   12.345678]`, `[   12.345678][  T123]`, `[  T123]` and what serial consoles and syslog put before
/// them off a line. White space that belongs to the text stays.
#[must_use]
pub fn strip(line: &str) -> Stripped<'_> {
    let line = line.trim_end();
    let mut out = Stripped { text: line, caller: None, printk: false };
    let mut text = line;
    loop {
        let trimmed = text.trim_start_matches([' ', '\t', '\0']);
        let close = match trimmed.as_bytes().first() {
            Some(b'<') => b'>',
            Some(b'[') => b']',
            _ => break,
        };
        let Some(end) = trimmed.bytes().take(40).position(|b| b == close) else { break };
        let inner = trimmed[1..end].trim();
        if close == b'>' {
            if inner.is_empty() || inner.len() > 3 || !inner.bytes().all(|b| b.is_ascii_digit()) {
                break;
            }
        } else if let Some(caller) = caller(inner) {
            out.caller = Some(caller);
        } else if !is_stamp(inner) {
            break;
        }
        text = &trimmed[end + 1..];
        out.printk = true;
    }
    out.text = if out.printk { text.strip_prefix(' ').unwrap_or(text) } else { line };
    out
}

/// `12.345678`, and `12.345678@0`, `12.345678,3` of some builds.
fn is_stamp(inner: &str) -> bool {
    let Some((seconds, rest)) = inner.split_once('.') else { return false };
    !seconds.is_empty()
        && seconds.bytes().all(|b| b.is_ascii_digit())
        && rest.len() >= 3
        && rest.bytes().all(|b| b.is_ascii_digit() || b"@,".contains(&b))
}

fn caller(inner: &str) -> Option<Caller> {
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    match inner.split_at_checked(1)? {
        ("T", id) => number(id).map(Caller::Task),
        ("C", id) => number(id).map(Caller::Cpu),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix() {
        for (line, text, caller) in [
            ("BUG: x", "BUG: x", None),
            ("<6>[    1.234567] BUG: x\r", "BUG: x", None),
            ("[  12.345678][ T123] BUG: x", "BUG: x", Some(Caller::Task(123))),
            ("[  12.345678][    C1]  dump_stack+0x1/0x2", " dump_stack+0x1/0x2", Some(Caller::Cpu(1))),
            ("[   T77] x", "x", Some(Caller::Task(77))),
            ("[<ffffffff81234567>] f+0x1/0x2", "[<ffffffff81234567>] f+0x1/0x2", None),
            ("[not a stamp] x", "[not a stamp] x", None),
            ("  indented", "  indented", None),
            ("", "", None),
            ("[", "[", None),
        ] {
            let stripped = strip(line);
            assert_eq!((stripped.text, stripped.caller), (text, caller), "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "[\\[\\]<>0-9.TC é]{0,30}") {
            let _ = strip(&line);
        }
    }
}
