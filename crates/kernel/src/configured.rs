//! Checks whether the `.config` in an object directory is still what Kconfig would produce, so that Kconfig does not
//! have to run.
//!
//! This is the case if the fragment, the tool chain and the `.config` are those of the last run and no Kconfig file is
//! newer. make itself uses the same condition.

use std::path::Path;
use std::time::SystemTime;

use fsx::own;
use fsx::untrusted::Dir;

use crate::error::BuildError;
use crate::id::hash_fields;
use crate::make::Layout;
use crate::state::{CONFIG_BYTES, ObjectState};

/// The maximum number of Kconfig files that are compared; a kernel has 1,700.
const FILES: usize = 20_000;

/// The Kconfig files that kbuild's `auto.conf.cmd` lists, relative to the source.
fn kconfig_files(text: &str) -> impl Iterator<Item = &str> {
    let list = text.split_once("deps_config :=").map_or("", |(_, rest)| rest);
    let list = list.split_once("\n\n").map_or(list, |(list, _)| list);
    list.split_whitespace().filter(|word| *word != "\\")
}

fn stamp(fragment: &str, toolchain: &str, config: &str) -> String {
    hash_fields([fragment, toolchain, config]).to_string()
}

/// The `.config` of an object directory if it is up to date. Blocks on disk I/O.
pub(crate) fn up_to_date(layout: &Layout, fragment: &str, toolchain: &str) -> Option<String> {
    let objects = Dir::open(&layout.obj).ok()?;
    let config = objects.read_to_string(".config", CONFIG_BYTES).ok()?;
    let path = layout.state.config_stamp();
    if own::read_to_string(&path, 1000).ok()? != stamp(fragment, toolchain, &config) {
        return None;
    }
    let configured = own::metadata(&path).ok()?.modified().ok()?;
    let list = objects.read_to_string("include/config/auto.conf.cmd", CONFIG_BYTES).ok()?;
    let mut files = kconfig_files(&list).peekable();
    files.peek()?;
    let source = Dir::open(&layout.src).ok()?;
    let (mut files, mut count) = (files, 0);
    let unchanged = |file: &str| {
        count += 1;
        let path = Path::new(file);
        // The branch's Makefile can write this list, so no path outside the source and the objects is accessed.
        let found = match (path.strip_prefix(&layout.make_obj), path.strip_prefix(&layout.make_src)) {
            (Ok(below), _) => objects.metadata(below),
            (_, Ok(below)) => source.metadata(below),
            _ => source.metadata(path),
        };
        count <= FILES && found.ok().flatten().is_some_and(|meta| meta.modified < configured)
    };
    files.all(unchanged).then_some(config)
}

/// Records that Kconfig, started at `started`, produced this `.config`.
pub(crate) fn record(
    state: &ObjectState,
    fragment: &str,
    toolchain: &str,
    config: &str,
    started: SystemTime,
) -> Result<(), BuildError> {
    let path = state.config_stamp();
    own::write(&path, stamp(fragment, toolchain, config))?;
    let file = own::open_with(&path, std::fs::File::options().write(true))?;
    Ok(file.set_modified(started).map_err(fsx::Error::of("set the date of", &path))?)
}

/// Makes Kconfig run in the next build.
pub(crate) fn invalidate(state: &ObjectState) -> Result<(), BuildError> {
    own::remove_file(&state.config_stamp())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ObjectDir;
    use std::time::Duration;

    #[test]
    fn kconfig_files_of_kbuilds_list() {
        let text = "deps_config := \\\n\tnet/Kconfig \\\n\tKconfig \\\n\n/c/auto.conf: \\\n\t$(deps_config)\n\nifneq \"$(CC)\" \"gcc\"\n";
        assert_eq!(kconfig_files(text).collect::<Vec<_>>(), ["net/Kconfig", "Kconfig"]);
        assert_eq!(kconfig_files("no list").count(), 0);
    }

    #[test]
    fn any_change_makes_it_out_of_date() {
        let dir = tempfile::tempdir().unwrap();
        let [src, obj, state] = ["src", "obj", "state"].map(|name| dir.path().join(name));
        std::fs::create_dir_all(&state).unwrap();
        let layout = Layout::new(&src, &ObjectDir { dir: obj, state: ObjectState::new(state) }, false);
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
        let right = |fragment, toolchain| up_to_date(&layout, fragment, toolchain).is_some();
        assert!(!right("w", "v"));
        let started = SystemTime::now() - Duration::from_secs(80);
        record(&layout.state, "w", "v", "CONFIG_A=y\n", started).unwrap();
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
