//! The parts of a console line: stamps, the kernel's message, and a program's text before it.
//!
//! Only [`split`] decides where the kernel's message starts. Verdicts, titles, markers and log pages all use it, so
//! that they agree about each line. Nothing here fails; a line without a stamp is all text.

use crate::terminal;

/// The context that printed a line, if printk prints it (`CONFIG_PRINTK_CALLER`). All lines of a report have the same
/// caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// `[T123]`: the task with this id.
    Task(u32),
    /// `[C1]`: an interrupt on this processor.
    Cpu(u32),
}

/// A console line, split into its parts. The parts are slices of the line, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleLine<'a> {
    /// Seconds since the start of the run and the following blank, as `ktest run` writes them to logs: `00012 `.
    pub clock: &'a str,
    /// The text of a program that did not finish its line before the kernel printed its message, or a login prompt.
    pub before: &'a str,
    /// The level, the time stamp and the caller that printk prints before a message.
    pub stamps: &'a str,
    /// The message. Without stamps, this is everything after the clock.
    pub text: &'a str,
    /// The context that printed the message.
    pub caller: Option<Caller>,
    /// The level of the message, from 0 (emergency) to 7 (debug), if the stamps contain it as `<6>`.
    pub level: Option<u8>,
}

impl<'a> ConsoleLine<'a> {
    /// Whether the line has a printk stamp, which means that the kernel printed the message.
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        !self.stamps.is_empty()
    }

    /// The time of the last stamp before the message, in seconds since the kernel started.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let inner = |part: &str| {
            let time = part.split_once(']')?.0.trim();
            let end = time.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(time.len());
            time[..end].parse().ok()
        };
        self.stamps.rsplit('[').find_map(inner)
    }

    /// Splits the line for display: the clock and the stamps at its start, and the rest. A program's text before the
    /// kernel's message is part of the rest.
    #[must_use]
    pub fn leading_stamps(&self, raw: &'a str) -> (&'a str, &'a str) {
        let stamps = if self.before.is_empty() { self.stamps.len() } else { 0 };
        raw.split_at(self.clock.len() + stamps)
    }
}

/// The maximum length of a kernel message: `CONSOLE_EXT_LOG_MAX` is 8192 in all versions.
const LONGEST_MESSAGE: usize = 8192;
/// The maximum length of a stamp: `[T4294967295]` and `[  123456.123456789]` are shorter.
const LONGEST_STAMP: usize = 40;

/// Splits a console line. The kernel's message starts after the last printk stamp in the line, because a program may
/// have printed an unfinished line before it. Leading white space of the message is part of it.
#[must_use]
pub fn split(raw: &str) -> ConsoleLine<'_> {
    let raw = raw.trim_end();
    let (clock, rest) = raw.split_at(clock_length(raw));
    let leading = stamps(rest);
    let (before, found) = match last_stamp(&rest[leading.length..]) {
        Some(at) => {
            let before = &rest[..leading.length + at];
            // A level directly before the time stamp belongs to the kernel's stamps.
            let before = &before[..before.len() - level_length(before)];
            (before, stamps(&rest[before.len()..]))
        }
        None => (if leading.length == 0 { unfinished(rest) } else { "" }, leading),
    };
    let (stamps, text) = rest[before.len()..].split_at(found.length);
    ConsoleLine { clock, before, stamps, text: shortened(text), caller: found.caller, level: found.level }
}

/// The length of the run's clock at the start of a log line: five or more digits and a blank.
fn clock_length(raw: &str) -> usize {
    let digits = raw.bytes().take(12).take_while(u8::is_ascii_digit).count();
    if digits >= 5 && raw.as_bytes().get(digits) == Some(&b' ') { digits + 1 } else { 0 }
}

/// What printk put at the start of a text.
#[derive(Debug, Clone, Copy, Default)]
struct Stamps {
    /// The length of the stamps with the one blank after them.
    length: usize,
    caller: Option<Caller>,
    level: Option<u8>,
}

/// Parses `<6>`, `[   12.345678]`, `[   12.345678][  T123]` and `[  T123]` at the start of a text.
fn stamps(text: &str) -> Stamps {
    let mut found = Stamps::default();
    loop {
        let rest = &text[found.length..];
        let inside = rest.trim_start_matches([' ', '\t', '\0']);
        let close = match inside.as_bytes().first() {
            Some(b'<') => b'>',
            Some(b'[') => b']',
            _ => break,
        };
        let Some(end) = inside.bytes().take(LONGEST_STAMP).position(|byte| byte == close) else { break };
        let inner = &inside[1..end];
        if close == b'>' {
            let Some(level) = level(inner) else { break };
            found.level = Some(level);
        } else if let Some(caller) = caller(inner.trim()) {
            found.caller = Some(caller);
        } else if !is_time(inner, 3) {
            break;
        }
        found.length += rest.len() - inside.len() + end + 1;
    }
    if found.length > 0 && text[found.length..].starts_with(' ') {
        found.length += 1;
    }
    found
}

/// The position of the last stamp in a text. A stamp that is not at the start of the line must be exactly as printk
/// formats it, because programs print brackets and numbers too.
fn last_stamp(text: &str) -> Option<usize> {
    let inner = |at: usize| {
        let inside = &text[at + 1..];
        let end = inside.bytes().take(LONGEST_STAMP).position(|byte| byte == b']')?;
        Some(&inside[..end])
    };
    let timed = |at: &usize| inner(*at).is_some_and(|inner| is_time(inner, 6));
    // printk pads callers to six characters: `[  T123]`. Without time stamps, the caller is the only stamp.
    let called =
        |at: &usize| inner(*at).is_some_and(|inner| inner.len() >= 6 && caller(inner.trim_start()).is_some());
    let at = text.rmatch_indices('[').map(|(at, _)| at).find(|at| timed(at) || called(at))?;
    let earlier = text[..at].strip_suffix(']').and_then(|before| before.rfind('[')).filter(timed);
    Some(earlier.unwrap_or(at))
}

/// `12.345678`, and `12.345678@0` and `12.345678,3` in some vendor kernels. printk formats it as `%5lu.%06lu`: a
/// fraction shorter than `digits` is accepted only if the seconds are padded.
fn is_time(inner: &str, digits: usize) -> bool {
    let inner = inner.trim_end();
    let Some((seconds, fraction)) = inner.split_once('.') else { return false };
    let number = seconds.trim_start();
    let padded = number.len() < seconds.len() && (digits <= 3 || seconds.len() >= 5);
    let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && count > 0
        && (count >= digits || padded)
        && fraction[count..].bytes().all(|byte| byte.is_ascii_digit() || b"@,".contains(&byte))
}

/// The level in `<6>`; the facility is above the lowest three bits (syslog(2)).
fn level(inner: &str) -> Option<u8> {
    let digits = inner.trim();
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u16>().ok().map(|number| (number % 8) as u8)
}

/// The length of `<6>` at the end of a text.
fn level_length(text: &str) -> usize {
    let Some(open) = text.strip_suffix('>').and_then(|text| text.rfind('<')) else { return 0 };
    let inner = &text[open + 1..text.len() - 1];
    if level(inner).is_some() { text.len() - open } else { 0 }
}

fn caller(inner: &str) -> Option<Caller> {
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match inner.split_at_checked(1)? {
        ("T", id) => number(id).map(Caller::Task),
        ("C", id) => number(id).map(Caller::Cpu),
        _ => None,
    }
}

/// What a program printed before the message of a kernel that prints no stamps: a login prompt, and text that the
/// terminal overwrites or does not show.
fn unfinished(text: &str) -> &str {
    // The carriage return is invisible, too.
    let mut at = text.rfind('\r').unwrap_or(0);
    at += invisible(&text[at..]);
    if let Some((host, message)) = text[at..].split_once(" login: ")
        && !host.contains(' ')
    {
        at = text.len() - message.len();
    }
    &text[..at]
}

/// The length of the control characters and the control sequences at the start of a text.
fn invisible(text: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        length += match terminal::sequence(rest) {
            0 => match rest.chars().next().filter(|c| c.is_control() && *c != '\t') {
                Some(control) => control.len_utf8(),
                None => return length,
            },
            sequence => sequence,
        };
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_split_off() {
        for (line, text, caller) in [
            ("BUG: x", "BUG: x", None),
            ("<6>[    1.234567] BUG: x\r", "BUG: x", None),
            ("[  12.345678][ T123] BUG: x", "BUG: x", Some(Caller::Task(123))),
            ("[  12.345678][    C1]  dump_stack+0x1/0x2", " dump_stack+0x1/0x2", Some(Caller::Cpu(1))),
            ("[  3.1] BUG: x", "BUG: x", None),
            ("[3.1] BUG: x", "[3.1] BUG: x", None),
            ("[   12.] BUG: x", "[   12.] BUG: x", None),
            ("[   T77] x", "x", Some(Caller::Task(77))),
            ("[<ffffffff81234567>] f+0x1/0x2", "[<ffffffff81234567>] f+0x1/0x2", None),
            ("[not a stamp] x", "[not a stamp] x", None),
            ("  indented", "  indented", None),
            ("", "", None),
            ("[", "[", None),
        ] {
            let split = split(line);
            assert_eq!((split.text, split.caller), (text, caller), "{line:?}");
        }
    }

    #[test]
    fn the_kernel_part_is_after_the_last_stamp() {
        let dots = ".".repeat(3_000_000);
        for (line, before, text) in [
            ("at work: 40%[   81.05] INFO: task", "at work: 40%", "INFO: task"),
            ("at work: 40%<3>[   81.050000] INFO: task", "at work: 40%", "INFO: task"),
            ("guest login: [   81.050000][  T12] BUG: x", "guest login: ", "BUG: x"),
            ("[    1.000000] from a file[   81.050000] BUG: x", "[    1.000000] from a file", "BUG: x"),
            ("10%\r20%\r[12345.678901] BUG: x", "10%\r20%\r", "BUG: x"),
            ("guest login: BUG: x", "guest login: ", "BUG: x"),
            ("00012 40%[   81.050000] BUG: x", "40%", "BUG: x"),
            ("00012 [   81.050000] BUG: x", "", "BUG: x"),
            ("version[1.0] BUG: x", "", "version[1.0] BUG: x"),
            ("40%[  T123] BUG: x", "40%", "BUG: x"),
            ("40%[   81.050000][    C0] BUG: x", "40%", "BUG: x"),
            ("40%<4>[   81.050000][T123456] BUG: x", "40%", "BUG: x"),
            ("a[T1] BUG: x", "", "a[T1] BUG: x"),
            ("list[ T1000] BUG: x", "list", "BUG: x"),
            ("10%\r20%\rBUG: x", "10%\r20%\r", "BUG: x"),
            ("\u{1b}[2J\u{1b}[1;31mBUG: x", "\u{1b}[2J\u{1b}[1;31m", "BUG: x"),
            ("\r\u{1b}[Kguest login: BUG: x", "\r\u{1b}[Kguest login: ", "BUG: x"),
            ("\u{1b}[", "\u{1b}[", ""),
            ("\u{1b}[0mé", "\u{1b}[0m", "é"),
            ("\tindented", "", "\tindented"),
            ("the login: BUG: x", "the login: ", "BUG: x"),
            ("at the login: BUG: x", "", "at the login: BUG: x"),
            ("[   81.050000] a[2.718] b", "", "a[2.718] b"),
            (&format!("{dots}[   81.050000] BUG: x"), &dots, "BUG: x"),
        ] {
            let split = split(line);
            assert_eq!((split.before, split.text), (before, text), "{:?}", &line[..line.len().min(80)]);
        }
    }

    #[test]
    fn a_long_message_is_cut_before_a_character() {
        let line = format!("[   81.050000] a{}", "é".repeat(LONGEST_MESSAGE));
        assert_eq!(split(&line).text.len(), LONGEST_MESSAGE - 1);
    }

    #[test]
    fn levels_and_display() {
        let line = "00001 <11>[    1.000000] disk on fire";
        assert_eq!(split(line).level, Some(3));
        assert_eq!(split(line).leading_stamps(line), ("00001 <11>[    1.000000] ", "disk on fire"));
        let line = "00001 40%[    1.000000] disk on fire";
        assert_eq!(split(line).leading_stamps(line), ("00001 ", "40%[    1.000000] disk on fire"));
        assert_eq!(split("<134> x").level, Some(6));
        assert_eq!(split("<9999> x").level, None);
        assert!(split(line).is_kernel());
        assert!(!split("no stamp").is_kernel());
    }

    #[test]
    fn the_time_of_a_message() {
        for (line, seconds) in [
            ("<6>[   12.500000][  T77] x", Some(12.5)),
            ("40%[   12.500000][  T77] x", Some(12.5)),
            // A program printed the first one.
            ("[ 9999.000000][   12.500000] x", Some(12.5)),
            ("[ 9999.000000] [   12.500000] x", Some(12.5)),
            ("[   12.500000@1] x", Some(12.5)),
            ("[  T77] x", None),
            ("<6>x", None),
            ("no stamp", None),
        ] {
            assert_eq!(split(line).seconds(), seconds, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_parts_make_up_the_line(line in "[\\[\\]<>0-9.TC é\u{1b}\r]{0,60}") {
            let found = split(&line);
            let parts = [found.clock, found.before, found.stamps, found.text].concat();
            proptest::prop_assert_eq!(parts, line.trim_end());
            let _ = found.leading_stamps(&line);
        }
    }
}
