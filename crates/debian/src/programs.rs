//! Finds programs. Debian does not put `/usr/sbin` and `/sbin` into an ordinary user's PATH, although users may run the
//! programs there (depmod, mke2fs, the helpers of newuidmap).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The program directories of a system, as a PATH.
pub const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// The PATH of this process, followed by [`SYSTEM_PATH`].
#[must_use]
pub fn search_path() -> OsString {
    extended(&std::env::var_os("PATH").unwrap_or_default())
}

fn extended(path: &OsStr) -> OsString {
    let mut path = path.to_owned();
    // An empty entry would mean the working directory.
    path.push(if path.is_empty() { "" } else { ":" });
    path.push(SYSTEM_PATH);
    path
}

/// The executable file of a program in [`search_path`]. A name with a slash is a path.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, &search_path())
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| is_executable(file));
    }
    std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fsx::own::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_executable_in_the_path_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        for (dir, mode) in [(&one, 0o644), (&two, 0o755)] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("tool"), "").unwrap();
            std::fs::set_permissions(dir.join("tool"), PermissionsExt::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([&one, &two]).unwrap();
        assert_eq!(find_in("tool", &path), Some(two.join("tool")));
        assert_eq!(find_in(two.join("tool").to_str().unwrap(), &path), Some(two.join("tool")));
        assert_eq!(find_in(one.join("tool").to_str().unwrap(), &path), None);
    }

    #[test]
    fn the_working_directory_is_not_searched() {
        assert_eq!(extended(OsStr::new("")), SYSTEM_PATH);
        assert_eq!(extended(OsStr::new("/a")), format!("/a:{SYSTEM_PATH}").as_str());
    }
}
