//! Whether a `.config` made before is still what Kconfig would make now, so that it need not be made again.
//!
//! It is if the same was wanted of the same tool chain and no Kconfig file changed since: what make itself asks
//! before it trusts a configuration.

use std::path::Path;
use std::time::SystemTime;

use crate::error::BuildError;
use crate::make::Layout;
use crate::store::hash_fields;

/// The file that remembers what was wanted, and by its date, when.
const STAMP: &str = ".ktest-configured";

/// The Kconfig files that kbuild's `auto.conf.cmd` lists, relative to the source.
fn kconfig_files(text: &str) -> impl Iterator<Item = &str> {
    let list = text.split_once("deps_config :=").map_or("", |(_, rest)| rest);
    let list = list.split_once("\n\n").map_or(list, |(list, _)| list);
    list.split_whitespace().filter(|word| *word != "\\")
}

fn stamp(wanted: &str, version: &str, config: &str) -> String {
    hash_fields([wanted, version, config]).to_string()
}

/// The `.config` of an object folder, if it is still right. Blocks on the disk.
#[must_use]
pub fn still_right(layout: &Layout, wanted: &str, version: &str) -> Option<String> {
    let path = layout.obj.join(STAMP);
    let config = std::fs::read_to_string(layout.obj.join(".config")).ok()?;
    if std::fs::read_to_string(&path).ok()? != stamp(wanted, version, &config) {
        return None;
    }
    let since = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
    let list = std::fs::read_to_string(layout.obj.join("include/config/auto.conf.cmd")).ok()?;
    let mut files = kconfig_files(&list).peekable();
    files.peek()?;
    let unchanged = |file: &str| {
        let path = if Path::new(file).is_absolute() { layout.on_host(file) } else { layout.src.join(file) };
        std::fs::metadata(path).and_then(|meta| meta.modified()).is_ok_and(|time| time < since)
    };
    files.all(unchanged).then_some(config)
}

/// Notes that the `.config` was made for this, begun at `begun`.
pub fn note(
    obj: &Path,
    wanted: &str,
    version: &str,
    config: &str,
    begun: SystemTime,
) -> Result<(), BuildError> {
    let path = obj.join(STAMP);
    let written = std::fs::write(&path, stamp(wanted, version, config))
        .and_then(|()| std::fs::File::options().write(true).open(&path)?.set_modified(begun));
    written.map_err(|error| BuildError::io(&path, &error))
}

/// Makes Kconfig run again next time.
pub fn forget(obj: &Path) {
    let _ = std::fs::remove_file(obj.join(STAMP));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_kbuild_lists() {
        let text = "deps_config := \\\n\tnet/Kconfig \\\n\tKconfig \\\n\n/c/auto.conf: \\\n\t$(deps_config)\n\nifneq \"$(CC)\" \"gcc\"\n";
        assert_eq!(kconfig_files(text).collect::<Vec<_>>(), ["net/Kconfig", "Kconfig"]);
        assert_eq!(kconfig_files("rubbish").count(), 0);
    }

    #[test]
    fn any_change_makes_it_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("src"), &dir.path().join("obj"), false);
        let put = |path: &str, text: &str, ago: u64| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            let time = SystemTime::now() - Duration::from_secs(ago);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        put("src/Kconfig", "", 100);
        put("obj/.config", "CONFIG_A=y\n", 90);
        put("obj/include/config/auto.conf.cmd", "deps_config := \\\n\tKconfig \\\n\n", 90);
        let right = |wanted, version| still_right(&layout, wanted, version).is_some();
        assert!(!right("w", "v"));
        note(&layout.obj, "w", "v", "CONFIG_A=y\n", SystemTime::now() - Duration::from_secs(80)).unwrap();
        assert!(right("w", "v") && !right("x", "v") && !right("w", "x"));
        put("obj/.config", "CONFIG_A=n\n", 90);
        assert!(!right("w", "v"));
        put("obj/.config", "CONFIG_A=y\n", 1);
        put("src/Kconfig", "", 70);
        assert!(!right("w", "v"));
        put("src/Kconfig", "", 100);
        assert!(right("w", "v"));
        std::fs::remove_file(dir.path().join("src/Kconfig")).unwrap();
        assert!(!right("w", "v"));
    }
}
