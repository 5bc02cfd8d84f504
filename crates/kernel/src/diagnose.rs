//! Finds the reason of a failed make: the first error in its output, and whether the source or this host caused it.
//!
//! A problem of this host (disk space, memory, a missing program) is never reported as an error of the source.

use std::sync::LazyLock;

use regex::Regex;
use spawn::Exit;

/// The cause of a failed build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The source does not build.
    Source {
        /// `fs/ext4/super.c:12:5: error: ...`
        reason: String,
        /// Whether another attempt would also fail, so that the failure can be stored.
        certain: bool,
    },
    /// This host cannot build.
    Host {
        /// The reason and what to do, in one line.
        reason: String,
    },
}

/// The maximum length of a reason, in characters.
const REASON_CHARS: usize = 300;

/// Reads the output of make line by line and collects the errors.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// The prefixes that are removed from paths, each with a trailing `/`.
    roots: Vec<String>,
    /// The first error from a compiler, a linker or make itself.
    first: Option<String>,
    /// The first recipe that failed, with the preceding line.
    recipe: Option<String>,
    host: Option<String>,
    crashed: bool,
    /// The last line that was printed by a program other than make.
    last: String,
    /// `a.o: in function foo`, from the linker's line "in function `foo':".
    function: Option<String>,
    /// An error for which rustc prints the location on the next line.
    unplaced: bool,
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a constant expression")
}

static PLACED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^[^\s:|]+:\d+(?::\d+)?: ?(?:(?:fatal )?error: |Error: |.*undefined reference to|multiple definition of)",
    )
});
static PROGRAM: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:(?:\S*/)?[\w.+-]*(?:gcc|clang|cc1|ld|as|rustc|objcopy|objtool)[\w.+-]*|[^\s:|]+\.o): (?:.*: )?(?:fatal )?error: ",
    )
});
static LINKER: LazyLock<Regex> = LazyLock::new(|| regex(r"^(?:\S*/)?(?:[\w.-]+-)?ld(?:\.\w+)?: (.*)$"));
static RUST: LazyLock<Regex> = LazyLock::new(|| regex(r"^error(?:\[E\d+\])?: "));
static KCONFIG: LazyLock<Regex> = LazyLock::new(|| regex(r"^[^\s:|]*Kconfig[^\s:|]*:\d+: ?(.*)$"));
static STOP: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^(?:make(?:\[\d+\])?|([^\s:|]+:\d+)): \*\*\* (.*?)\.?  Stop\.$"));
static RECIPE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^make(?:\[\d+\])?: \*\*\* \[(?:[^\]]*: )?([^\]:]+)\] (?:Error (\d+)|(\S.*))$"));
static FUNCTION: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:([^\s:]+): )?in function [`']([^']+)'"));
static NOT_FOUND: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:/bin/)?(?:ba|da)?sh: (?:line )?(?:\d+: )?([\w.+-]+): (?:command )?not found$|^make(?:\[\d+\])?: ([\w.+-]+): No such file or directory$",
    )
});
static NO_PAHOLE: LazyLock<Regex> = LazyLock::new(|| regex(r"pahole \(\S*\) is not available"));
static HOST_HEADER: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"fatal error: '?((?:openssl/|libelf|gelf|elfutils/|ncurses|zlib|libdw|dwarf)\S*?)'?(?:: No such file| file not found)",
    )
});

/// Error messages of an operating system that has run out of a resource; the source is not the cause.
const HOST_SIGNS: [&str; 16] = [
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    "virtual memory exhausted",
    "out of memory",
    "memory exhausted",
    "Killed signal terminated program",
    "internal compiler error: Killed",
    "terminated with signal 9",
    "Input/output error",
    "Read-only file system",
    "Too many open files",
    "Resource temporarily unavailable",
    "Stale file handle",
    "Structure needs cleaning",
    "Transport endpoint is not connected",
];

impl Diagnosis {
    /// `roots` are directories that paths are shown relative to: the source and the object directory.
    #[must_use]
    pub fn new(roots: &[&std::path::Path]) -> Self {
        let mut roots: Vec<String> = roots.iter().map(|root| format!("{}/", root.display())).collect();
        roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
        Self { roots, ..Self::default() }
    }

    /// Reads one line of output.
    pub fn feed(&mut self, line: &str) {
        let line = line.trim_end();
        if line.is_empty() || self.first.is_some() && !self.unplaced && self.host.is_some() {
            return;
        }
        let start = line.trim_start();
        if self.unplaced {
            self.unplaced = false;
            if let (Some(place), Some(first)) = (start.strip_prefix("--> "), &self.first) {
                self.first = Some(self.tidy(&format!("{place}: {first}")));
            }
        }
        // Skip quotations of the source in compiler messages.
        if start.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|') {
            return;
        }
        self.host_sign(line);
        if let Some(found) = FUNCTION.captures(line) {
            let object = found.get(1).map_or(String::new(), |object| format!("{}: ", object.as_str()));
            self.function = Some(format!("{object}in function {}", &found[2]));
        }
        if self.first.is_none() {
            self.first = self.error(line);
        }
        self.note_recipe(line);
        if !line.starts_with("make") && !line.starts_with("  ") {
            self.last = line.chars().take(REASON_CHARS).collect();
        }
    }

    fn host_sign(&mut self, line: &str) {
        self.crashed |= line.contains("internal compiler error") || line.contains("Segmentation fault");
        if self.host.is_some() {
            return;
        }
        if let Some(found) = NOT_FOUND.captures(line) {
            let program = found.get(1).or(found.get(2)).map_or("", |m| m.as_str());
            self.host = Some(format!("the build needs {program}, which is not installed"));
        } else if let Some(found) = HOST_HEADER.captures(line) {
            let package = if found[1].starts_with("openssl") { "libssl-dev" } else { "libelf-dev" };
            self.host = Some(format!("{} is missing; apt-get install {package}", &found[1]));
        } else if NO_PAHOLE.is_match(line) {
            self.host = Some("pahole: not installed; apt-get install pahole".into());
        } else if HOST_SIGNS.iter().any(|sign| line.contains(sign))
            || line.starts_with("bwrap: ")
            || line.starts_with("prlimit: ")
            || line.starts_with("setsid: ")
        {
            self.host = Some(self.tidy(line));
        }
    }

    /// The line as a reason, if it is an error.
    fn error(&mut self, line: &str) -> Option<String> {
        if line.contains("warning:") && !line.contains("error:") {
            return None;
        }
        if let Some(function) = &self.function
            && line.contains("undefined reference to")
        {
            let what = line.find("undefined reference to").map_or("", |at| &line[at..]);
            return Some(self.tidy(&format!("{function}: {what}")));
        }
        if RUST.is_match(line) {
            self.unplaced = true;
            return Some(self.tidy(line));
        }
        if let Some(found) = STOP.captures(line) {
            let place = found.get(1).map_or(String::new(), |place| format!("{}: ", place.as_str()));
            return Some(self.tidy(&format!("{place}{}", &found[2])));
        }
        if let Some(found) = LINKER.captures(line) {
            let said = found[1].trim();
            let context = said.starts_with("warning:") || said.contains("in function") || said.ends_with(':');
            return (!context).then(|| self.tidy(line));
        }
        let kconfig = KCONFIG.captures(line).is_some_and(|found| !found[1].starts_with("warning"));
        let own = PLACED.is_match(line) || PROGRAM.is_match(line) || kconfig || line.starts_with("ERROR: ");
        own.then(|| self.tidy(line))
    }

    fn note_recipe(&mut self, line: &str) {
        let Some(found) = RECIPE.captures(line) else { return };
        let (target, code, signal) = (&found[1], found.get(2), found.get(3));
        let code = code.map_or("", |m| m.as_str());
        if matches!(code, "137" | "143")
            || signal.is_some_and(|s| matches!(s.as_str(), "Killed" | "Terminated"))
        {
            self.host.get_or_insert_with(|| {
                format!("a compiler was killed while it built {target}; the host may be out of memory")
            });
        } else if code == "153" || signal.is_some_and(|s| s.as_str().starts_with("File size limit exceeded"))
        {
            // SIGXFSZ: the branch is the cause, not the host.
            self.first
                .get_or_insert_with(|| format!("{target}: a file is larger than the size limit of builds"));
        } else if let Some(signal) = signal {
            self.crashed |= !signal.as_str().starts_with("Deleting");
        }
        if self.recipe.is_none() {
            let before = if self.last.is_empty() { "make printed nothing else" } else { &self.last };
            self.recipe = Some(self.tidy(&format!("{target}: {before}")));
        }
    }

    /// The line with paths relative to the source, without control characters, and cut at the limit.
    fn tidy(&self, line: &str) -> String {
        let mut text = line.replace(char::is_control, " ");
        for root in &self.roots {
            text = text.replace(root.as_str(), "");
        }
        text.trim().chars().take(REASON_CHARS).collect()
    }

    /// The cause of the failure of a make that exited like this.
    #[must_use]
    pub fn conclude(self, exit: Exit) -> Failure {
        if let Some(reason) = self.host {
            return Failure::Host { reason };
        }
        if matches!(exit, Exit::Signal(_)) {
            return Failure::Host { reason: format!("make was {exit}") };
        }
        match self.first.or(self.recipe) {
            Some(reason) => Failure::Source { reason, certain: !self.crashed },
            None if self.last.is_empty() => {
                Failure::Host { reason: format!("make ended with {exit} and printed nothing") }
            }
            None => Failure::Host { reason: format!("make ended with {exit}: {}", self.last) },
        }
    }
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
