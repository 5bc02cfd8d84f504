//! The source location in the first line of a report, and which source files are shared.

use std::sync::LazyLock;

use regex::Regex;

use crate::title::{canonical, plain};
use crate::trouble::TroubleKind;

static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([\w./+-]+\.(?:[chS]|rs)):(\d+)(?:.* (?:at )?([\w.]+)\+0x)?").expect("a regular expression")
});

/// Source files of helpers for all subsystems: a WARN() or BUG() in them is about the caller. Headers are not in the list, because
/// the function that the first line names is usually the one that contains the inlined helper.
const SHARED: &str = concat!(
    r"^(?:\.{0,2}/(?:.*/)?)?(?:fs/(?:sysfs|kernfs)/|fs/proc/generic\.c|kernel/locking/|kernel/rcu/srcu|rust/helpers/",
    r"|drivers/base/(?:\w+/)?(?:bus|class|component|core|dd|devres|driver|sysfs)\.c",
    r"|lib/(?:bitmap|bsearch|bug|crypto/|debugobjects|find_bit|flex_proportions|genalloc|hexdump|idr|interval_tree|klist|kobject",
    r"|kstrtox|list|lockref|maple_tree|math/|parser|percpu|plist|radix-tree|rbtree|rcuref|ref_tracker|refcount|rhashtable|sbitmap",
    r"|scatterlist|sort|stackdepot|string|usercopy|vsprintf|xarray)",
    r"|mm/(?:maccess|mempool|page_alloc|page_ext|page_owner|percpu|slab|slab_common|slob|slub|usercopy|util|vmalloc)\.c)",
);

static SHARED_FILES: LazyLock<Regex> = LazyLock::new(|| Regex::new(SHARED).expect("a regular expression"));

/// The helper in a shared source file that the first line of a report names.
pub(crate) struct Helper<'t> {
    function: &'t str,
    file: &'t str,
}

/// The helper in which a WARN() or BUG() is. The first line of a WARN() names it; a BUG() only has the position, and its
/// function is that of the instruction `pointer`.
pub(crate) fn helper<'t>(text: &'t str, pointer: Option<&'t str>) -> Option<Helper<'t>> {
    let found = PLACE.captures(text)?;
    let of_bug = text.trim_start().starts_with("kernel BUG at ");
    let function = if of_bug { pointer? } else { found.get(3)?.as_str() };
    let file = found.get(1)?.as_str();
    SHARED_FILES.is_match(file).then_some(Helper { function: plain(function), file })
}

impl Helper<'_> {
    /// Whether `function` is this helper, or one with the same first word in its name, if the word is also in the path:
    /// `kobject_add` for `kobject_add_internal` of lib/kobject.c.
    pub(crate) fn is(&self, function: &str) -> bool {
        let word = |name| plain(name).trim_start_matches('_').split('_').next().unwrap_or("");
        let own = word(self.function);
        plain(function) == self.function || own.len() > 2 && word(function) == own && self.file.contains(own)
    }
}

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
    fn the_helpers_of_a_shared_file() {
        let add = "WARNING: CPU: 0 PID: 1 at lib/kobject.c:30 kobject_add_internal+0x1/0x2";
        let id = "WARNING: CPU: 0 PID: 1 at lib/idr.c:30 id_get+0x1/0x2";
        for (text, function, is) in [
            (add, "kobject_add_internal", true),
            (add, "__kobject_add.cold", true),
            // Of another file.
            (add, "device_add", false),
            // A word of two letters is in the path of many files.
            (id, "id_get", true),
            (id, "id_put", false),
        ] {
            assert_eq!(helper(text, None).unwrap().is(function), is, "{text} {function}");
        }
        assert!(helper("WARNING: CPU: 0 PID: 1 at fs/hfs/inode.c:30 hfs_add+0x1/0x2", None).is_none());
        let bug = helper("kernel BUG at lib/kobject.c:30!", Some("kobject_put")).unwrap();
        assert!(bug.is("kobject_put") && bug.is("kobject_get") && !bug.is("hfs_put"));
    }

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
