//! The source location in the first line of a report.

use std::sync::LazyLock;

use regex::Regex;

use crate::title::canonical;
use crate::trouble::TroubleKind;

static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([\w./+-]+\.(?:[chS]|rs)):(\d+)(?:.* (?:at )?([\w.]+)\+0x)?").expect("a regular expression")
});

/// The source file and line in the function `guilty`, if the first line of the report contains it. BUG(), WARN() and
/// UBSAN print it. `None` if the location is in a shared function.
pub(crate) fn first_line(text: &str, kind: TroubleKind, guilty: &str) -> Option<(String, u32)> {
    if !matches!(kind, TroubleKind::KernelBug | TroubleKind::Warning | TroubleKind::Ubsan) {
        return None;
    }
    let found = PLACE.captures(text)?;
    let own = match found.get(3) {
        Some(function) => canonical(function.as_str()) == guilty,
        None => !["lib/", "include/", "rust/"].iter().any(|directory| found[1].contains(directory)),
    };
    own.then_some(())?;
    Some((found[1].trim_start_matches("./").to_owned(), found[2].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_lines_in_the_first_line() {
        for (text, kind, source) in [
            ("kernel BUG at fs/ext4/inode.c:4001!", TroubleKind::KernelBug, Some(("fs/ext4/inode.c", 4001))),
            ("kernel BUG at lib/list_debug.c:53!", TroubleKind::KernelBug, None),
            ("WARNING: CPU: 0 PID: 1 at fs/a.c:30 f+0x25/0x30", TroubleKind::Warning, Some(("fs/a.c", 30))),
            (
                "WARNING: CPU: 0 PID: 1 at lib/refcount.c:30 refcount_warn_saturate+0x25/0x30",
                TroubleKind::Warning,
                None,
            ),
            ("WARNING: fs/a.c:30 at f+0x25/0x30, CPU#0: rm/1", TroubleKind::Warning, Some(("fs/a.c", 30))),
            ("UBSAN: shift-out-of-bounds in ./fs/a.c:30:12", TroubleKind::Ubsan, Some(("fs/a.c", 30))),
            ("BUG: KASAN: use-after-free in f+0x25/0x30 fs/a.c:1", TroubleKind::Kasan, None),
            ("WARNING: possible", TroubleKind::Warning, None),
        ] {
            let source = source.map(|(file, line)| (file.to_owned(), line));
            assert_eq!(first_line(text, kind, "f"), source, "{text}");
        }
    }
}
