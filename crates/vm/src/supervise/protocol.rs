//! Decides which console lines belong to the protocol between the guest and the runner.
//!
//! A test can print any text on the console, for example the log of an earlier run. A line of the protocol therefore
//! contains a token that is random for each boot. The token is available to the guest's init and to the library of a
//! test file that declares `ktest_markers=token`, but not to the programs that a test starts.
//!
//! A test can still print lines of its own boot: the library writes them to the kernel's log, which `dmesg` prints, and a shell
//! that traces its commands prints them, too. A line of the library therefore has a number that is used once ([`Once`]).

use std::collections::HashSet;
use std::time::Duration;

use crash::line::split;

/// The token of one boot, with the form of the prefix of protocol messages: `ktest/TOKEN`. A blank follows it, or the number of
/// the message: `ktest/TOKEN.NUMBER `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new random token.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("ktest/{:016x}", fsx::random::bits()))
    }

    /// The text of the token: hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0["ktest/".len()..]
    }

    /// The prefixes of messages in a line, the last one first: position, length, and number.
    fn prefixes<'l>(&'l self, line: &'l str) -> impl Iterator<Item = (usize, usize, &'l str)> {
        line.rmatch_indices(&self.0).filter_map(|(at, token)| {
            let rest = &line[at + token.len()..];
            let number = rest.strip_prefix('.').unwrap_or(rest);
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            let length = token.len() + (rest.len() - number.len()) + digits + 1;
            let complete = (digits == 0 || number.len() < rest.len()) && number[digits..].starts_with(' ');
            complete.then_some((at, length, &number[..digits]))
        })
    }
}

/// How the lines of a test file's library are recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryLines {
    /// They have the token.
    Token,
    /// The library has no token and writes its markers to `/dev/kmsg`, so they have a printk stamp: [`KmsgClock`].
    Kmsg,
    /// The library has no token and, without a guest, writes its markers to standard output.
    Output,
}

/// Which lines are accepted as protocol lines. Those of the guest's init have the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The token of the boot.
    pub token: Token,
    /// The lines of the library.
    pub library: LibraryLines,
}

/// A console line without the token.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsoleLine {
    /// The line as it is logged.
    pub text: String,
    /// The message, if the line had the token.
    pub(super) authentic: Option<String>,
    /// The time of printk before the token.
    printed: Option<f64>,
    /// Whether nothing but stamps of printk is between the token and the start of the line or of the kernel's message.
    first: bool,
    /// The number of the message, if it has one.
    number: Option<String>,
}

impl ConsoleLine {
    /// A line without the token.
    fn new(text: &str) -> Self {
        Self { text: text.into(), authentic: None, printed: None, first: false, number: None }
    }

    /// The message of the guest's init or of the library. For a line without the token, its text.
    #[must_use]
    pub fn message(&self) -> &str {
        self.authentic.as_deref().unwrap_or_else(|| split(&self.text).text)
    }

    /// Whether the line had the token.
    #[must_use]
    pub fn is_authentic(&self) -> bool {
        self.authentic.is_some()
    }
}

impl Protocol {
    /// Reads a console line.
    #[must_use]
    pub fn read(&self, line: &str) -> ConsoleLine {
        // A program may not have finished its line, so the token can be anywhere in the line.
        let Some((at, length, number)) = self.token.prefixes(line).next() else {
            return ConsoleLine::new(line);
        };
        let before = split(&line[..at]);
        let first = before.text.is_empty();
        let printed = before.seconds().filter(|_| first);
        let number = (!number.is_empty()).then(|| number.to_owned());
        let authentic = Some(line[at + length..].trim().to_owned());
        let mut text = line.to_owned();
        for (at, length, _) in self.token.prefixes(line) {
            text.replace_range(at..at + length, "");
        }
        ConsoleLine { text, authentic, printed, first, number }
    }

    /// Whether the line can come from the test file's library. A line with the runner's clock is from the log of another
    /// run.
    pub(super) fn of_library(&self, line: &ConsoleLine) -> bool {
        let of_this_run = || split(&line.text).clock.is_empty();
        line.is_authentic() || (self.library != LibraryLines::Token && of_this_run())
    }
}

/// The messages of the library that were printed in this boot. Each counts once: another one with the same number is a copy,
/// from the kernel's log or from the memory of the library's shell. A message that follows other text is not that of the
/// library, but of a shell that traces it.
#[derive(Debug, Default)]
pub(super) struct Once(HashSet<String>);

/// The maximum number of messages with a number, and of digits of a number. A guest that has the token could print any.
const MAX_NUMBERS: usize = 1 << 20;
const MAX_DIGITS: usize = 20;

impl Once {
    /// Whether this line with the token is no copy. Must be called once for each line. `stamps`: the kernel prints stamps;
    /// without them, its message can directly follow the text of a program.
    pub(super) fn accepts(&mut self, line: &ConsoleLine, stamps: bool) -> bool {
        let is_new = |number: &String| {
            number.len() <= MAX_DIGITS && self.0.len() < MAX_NUMBERS && self.0.insert(number.clone())
        };
        (line.first || !stamps) && line.number.as_ref().is_none_or(is_new)
    }
}

/// The maximum time in seconds by which a marker's time stamp can be ahead of the time elapsed since the previous
/// marker.
const AHEAD: f64 = 5.0;

/// The difference in seconds between the clocks of processors that a stamp can be behind an earlier one. A kernel message
/// with an older stamp than that is a copy.
const BEHIND: f64 = 1.0;

/// Decides which markers came through `/dev/kmsg` of this boot: their stamps increase with the elapsed time. If a test
/// prints the log of another run, its lines have stamps of another time, or the runner's clock before them. If the
/// first marker of a file has no stamp, the file writes all its markers to the console.
#[derive(Debug, Default)]
pub(super) struct KmsgClock {
    /// Whether the kernel prints stamps.
    stamps: bool,
    /// Whether the file writes its markers to the console.
    console: bool,
    /// The stamp of the last marker, and the time when it was printed.
    last: Option<(f64, Duration)>,
    /// The latest stamp that is the kernel's own for certain: of a line with the token, or of an accepted marker. Other lines
    /// may be copies of any time.
    printed: Option<f64>,
}

impl KmsgClock {
    /// Whether the kernel prints stamps.
    pub(super) fn has_stamps(&self) -> bool {
        self.stamps
    }

    /// Must be called with every line of the console.
    pub(super) fn line(&mut self, line: &ConsoleLine) {
        self.stamps = self.stamps || split(&line.text).is_kernel();
        self.printed(line.printed);
    }

    fn printed(&mut self, stamp: Option<f64>) {
        self.printed = [self.printed, stamp].into_iter().flatten().reduce(f64::max);
    }

    /// Whether a test printed this message of the kernel again: the kernel's log is in the order of its stamps, so one from
    /// before the last marker would have come before it. A copy of a newer message is as the message itself.
    pub(super) fn is_copy(&self, text: &str) -> bool {
        let stamp = split(text).seconds();
        self.printed.zip(stamp).is_some_and(|(printed, stamp)| stamp < printed - BEHIND)
    }

    /// Whether a line with a marker came through `/dev/kmsg`.
    pub(super) fn accepts(&mut self, text: &str, now: Duration) -> bool {
        let line = split(text);
        if !self.stamps {
            return true;
        }
        self.console = self.console || (self.last.is_none() && !line.is_kernel());
        if self.console {
            return true;
        }
        let Some(stamp) = line.seconds().filter(|_| line.clock.is_empty()) else { return false };
        let in_time = |(last, at): (f64, Duration)| {
            stamp >= last && stamp <= last + now.saturating_sub(at).as_secs_f64() + AHEAD
        };
        let accepted = self.last.is_none_or(in_time);
        if accepted {
            self.last = Some((stamp, now));
            self.printed(Some(stamp));
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_token(text: &str) -> ConsoleLine {
        ConsoleLine::new(text)
    }

    #[test]
    fn numbers_are_few_and_short() {
        let protocol = Protocol { token: Token::random(), library: LibraryLines::Token };
        let line = |number: &str| protocol.read(&format!("ktest/{}.{number} x", protocol.token.as_str()));
        let mut once = Once::default();
        assert!(once.accepts(&line("1"), true) && !once.accepts(&line("1"), true));
        assert!(once.accepts(&line(&"9".repeat(MAX_DIGITS)), true));
        assert!(!once.accepts(&line(&"9".repeat(MAX_DIGITS + 1)), true));
        once.0.extend((10..MAX_NUMBERS).map(|number| number.to_string()));
        while once.0.len() < MAX_NUMBERS {
            assert!(once.accepts(&line(&(MAX_NUMBERS + once.0.len()).to_string()), true));
        }
        assert!(!once.accepts(&line("0"), true));
    }

    #[test]
    fn markers_through_kmsg_have_the_stamps_of_this_boot() {
        let mut clock = KmsgClock::default();
        let at = Duration::from_secs;
        assert!(clock.accepts("a kernel without stamps", at(1)));
        clock.line(&without_token("[    0.000000] Linux version 6.1"));
        for (text, now, accepted) in [
            ("[    2.000000] ========= TEST   a", 2, true),
            ("dots... <6>[    9.500000][  T77] ========= PASSED a", 9, true),
            ("========= PASSED a", 10, false),
            ("00010 [    9.600000] ========= PASSED a", 10, false),
            ("[    8.000000] ========= PASSED a", 10, false),
            ("[  800.000000] ========= PASSED a", 10, false),
            ("[   12.000000] ========= PASSED a", 20, true),
            // At most five seconds ahead.
            ("[   16.500000] ========= PASSED a", 20, true),
            ("[   22.000000] ========= PASSED a", 20, false),
            ("[   22.000000] ========= PASSED a", 21, true),
        ] {
            assert_eq!(clock.accepts(text, at(now)), accepted, "{text}");
        }
    }

    #[test]
    fn a_file_can_write_its_markers_to_the_console() {
        let mut clock = KmsgClock::default();
        clock.line(&without_token("[    0.000000] Linux version 6.1"));
        assert!(clock.accepts("========= TEST   a", Duration::from_secs(2)));
        assert!(clock.accepts("========= PASSED a in 0s", Duration::from_secs(2)));
    }

    #[test]
    fn a_message_from_before_the_last_marker_is_a_copy() {
        let token = Token::random();
        let protocol = Protocol { token: token.clone(), library: LibraryLines::Token };
        let mark = |text: &str| protocol.read(&text.replace("TOKEN", &format!("ktest/{}", token.as_str())));
        let mut clock = KmsgClock::default();
        assert!(!clock.is_copy("[    0.000000] BUG: x"), "nothing is known yet");
        for (line, printed) in [
            ("[   20.000000][  T77] TOKEN ========= TEST   a", Some(20.0)),
            // A program left a stamp in front of it, and the message has one.
            ("[  900.000000][   21.000000] TOKEN KTAP| x", Some(21.0)),
            ("[  900.000000] 40%[   21.500000] TOKEN KTAP| x", Some(21.5)),
            ("[   22.000000] TOKEN KTAP| [  900.000000] x", Some(22.0)),
            // The guest's init writes to the console.
            ("TOKEN ========= KTEST UP", None),
            ("[  900.000000] program TOKEN ========= KTEST UP", None),
        ] {
            let line = mark(line);
            assert_eq!(line.printed, printed, "{}", line.text);
            clock.line(&line);
        }
        clock.line(&without_token("[  900.000000] an old log"));
        for (text, copy) in [
            ("[    1.000000] BUG: x", true),
            ("<3>[   20.900000][  T77] BUG: x", true),
            ("40%[    1.000000] BUG: x", true),
            // Written to /dev/kmsg by a test.
            ("[   23.000000] [    1.000000] BUG: x", true),
            ("[   20.999999] BUG: x", true),
            ("[   21.000000] BUG: x", false),
            ("[   30.000000] BUG: x", false),
            ("[  900.000000] BUG: x", false),
            ("[    1.000000] unfinished[   30.000000] BUG: x", false),
            ("BUG: x", false),
        ] {
            assert_eq!(clock.is_copy(text), copy, "{text}");
        }
    }

    #[test]
    fn a_token_authenticates_and_is_removed() {
        let token = Token::random();
        assert_eq!(token.as_str().len(), 16);
        assert_ne!(token, Token::random());
        let protocol = Protocol { token: token.clone(), library: LibraryLines::Token };
        let mark = |text: &str| format!("ktest/{} {text}", token.as_str());
        for (line, text, message) in [
            (mark("========= PASSED a in 3s"), "========= PASSED a in 3s", "========= PASSED a in 3s"),
            (
                format!("at work: 40%[   81.050000][  T77] {}", mark("WATCHDOG 9\r")),
                "at work: 40%[   81.050000][  T77] WATCHDOG 9\r",
                "WATCHDOG 9",
            ),
            (format!("login: {}", mark("TEST SUCCESS")), "login: TEST SUCCESS", "TEST SUCCESS"),
            (mark(""), "", ""),
            (format!("ktest/{}.17 WATCHDOG 9", token.as_str()), "WATCHDOG 9", "WATCHDOG 9"),
            (format!("ktest/{}. WATCHDOG 9", token.as_str()), "WATCHDOG 9", "WATCHDOG 9"),
            (format!("{}cut off {}", mark("WATCHDOG 9"), mark("x")), "WATCHDOG 9cut off x", "x"),
        ] {
            let read = protocol.read(&line);
            assert!(read.is_authentic(), "{line}");
            assert_eq!((read.text.as_str(), read.message()), (text, message), "{line}");
        }
        let token = token.as_str();
        for line in [
            "========= PASSED a in 3s",
            "ktest/0123456789abcdef ========= PASSED a in 3s",
            "ktest/",
            &format!("ktest_token={token}"),
            &format!("ktest/{token}"),
            &format!("ktest/{token}17 x"),
            &format!("ktest/{token}.x x"),
            &format!("ktest/{token}.17"),
        ] {
            let read = protocol.read(line);
            assert!(!read.is_authentic(), "{line}");
            assert_eq!(read.text, line);
            assert!(!protocol.of_library(&read));
        }
    }
}
