//! Whether one console line is the beginning of kernel trouble. One table; the first row that fits decides.

/// What kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel gave up.
    Panic,
    /// An oops, a fault that the kernel could not handle, `BUG()`.
    Oops,
    /// `BUG:` of another sort: sleeping in atomic context, bad page, list corruption...
    Bug,
    /// `WARN_ON`.
    Warning,
    /// A report of KASAN, KCSAN, KMSAN or UBSAN.
    Sanitizer,
    /// A report of lockdep or RCU.
    Lockdep,
    /// A hung task, a soft or hard lockup, an RCU stall.
    Hang,
}

/// Trouble, and whether the kernel goes on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub kind: Kind,
    /// The kernel is as good as gone.
    pub fatal: bool,
}

/// (where it must stand, what is looked for, kind).
const TABLE: &[(At, &str, Kind)] = &[
    (At::Start, "Kernel panic - not syncing", Kind::Panic),
    (At::Start, "kernel BUG at", Kind::Oops),
    (At::Start, "BUG: KASAN", Kind::Sanitizer),
    (At::Start, "BUG: KCSAN", Kind::Sanitizer),
    (At::Start, "BUG: KMSAN", Kind::Sanitizer),
    (At::Start, "UBSAN:", Kind::Sanitizer),
    (At::Start, "BUG: unable to handle", Kind::Oops),
    (At::Start, "BUG: kernel NULL pointer dereference", Kind::Oops),
    (At::Anywhere, "soft lockup - CPU#", Kind::Hang),
    (At::Anywhere, "hard LOCKUP", Kind::Hang),
    (At::Start, "BUG:", Kind::Bug),
    (At::Start, "WARNING: possible", Kind::Lockdep),
    (At::Start, "WARNING: suspicious RCU usage", Kind::Lockdep),
    (At::Start, "WARNING:", Kind::Warning),
    (At::Start, "Oops:", Kind::Oops),
    (At::Start, "general protection fault", Kind::Oops),
    (At::Start, "Internal error", Kind::Oops),
    (At::Start, "possible circular locking dependency", Kind::Lockdep),
    (At::Start, "possible recursive locking", Kind::Lockdep),
    (At::Start, "suspicious RCU usage", Kind::Lockdep),
    (At::Anywhere, "blocked for more than", Kind::Hang),
    (At::Anywhere, "self-detected stall on CPU", Kind::Hang),
    (At::Anywhere, "detected stalls on CPUs", Kind::Hang),
];

#[derive(Clone, Copy)]
enum At {
    Start,
    Anywhere,
}

/// The trouble that a console line is the beginning of. Only lines of the kernel count: they begin with a printk
/// time stamp, so that a test may print "BUG: 7" without being one.
#[must_use]
pub fn trouble(line: &str) -> Option<Trouble> {
    let text = strip_prefix(line);
    if text.len() == line.len() {
        return None;
    }
    let row = TABLE.iter().find(|(at, needle, _)| match at {
        At::Start => text.starts_with(needle),
        At::Anywhere => text.contains(needle),
    })?;
    Some(Trouble { kind: row.2, fatal: row.2 == Kind::Panic })
}

/// A console line without what printk puts before its message: `<4>[   12.345678][ T123] `.
#[must_use]
pub fn strip_prefix(line: &str) -> &str {
    let mut text = line.trim_start();
    loop {
        let close = match text.as_bytes().first() {
            Some(b'<') => '>',
            Some(b'[') => ']',
            _ => return text,
        };
        let Some(end) = text.find(close) else { return text };
        let inner = text[1..end].trim();
        let stamp = inner.trim_start_matches(['T', 'C']).bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if inner.is_empty() || !stamp {
            return text;
        }
        text = text[end + 1..].trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_contract() {
        let kind = |line: &str| trouble(line).map(|t| (t.kind, t.fatal));
        assert_eq!(kind("[    1.0] Kernel panic - not syncing: x"), Some((Kind::Panic, true)));
        assert_eq!(kind("[    1.0][  T77] kernel BUG at fs/ext4/inode.c:1!"), Some((Kind::Oops, false)));
        assert_eq!(kind("<4>[    1.0] BUG: sleeping function called"), Some((Kind::Bug, false)));
        assert_eq!(kind("[    1.0] WARNING: CPU: 0 PID: 1 at x"), Some((Kind::Warning, false)));
        assert_eq!(
            kind("[    1.0] INFO: task sh:1 blocked for more than 120 seconds."),
            Some((Kind::Hang, false))
        );
        assert_eq!(kind("[    1.0] ext4: mounted"), None);
        assert_eq!(kind("BUG: says the test"), None);
        assert_eq!(kind(""), None);
    }
}
