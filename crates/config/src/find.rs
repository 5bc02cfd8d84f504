//! The path of the configuration file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::ConfigError;

/// The configuration file: `explicit` (`--config`), else `$KTEST_CI_CONFIG`, else `~/.ktest/ktest-ci.json5` (or
/// `.toml`), else `/etc/ktest-ci.toml`. The first two are returned even if they do not exist.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    find_in(explicit, std::env::var_os("KTEST_CI_CONFIG"), home(), Path::new("/etc/ktest-ci.toml"))
}

/// [`find`] without access to the environment.
fn find_in(
    explicit: Option<&Path>,
    variable: Option<OsString>,
    home: Option<PathBuf>,
    system: &Path,
) -> Result<PathBuf, ConfigError> {
    if let Some(path) = explicit {
        return Ok(path.into());
    }
    if let Some(path) = variable.filter(|value| !value.is_empty()) {
        return Ok(path.into());
    }
    let own = home.map(|home| home.join(".ktest"));
    let own = own.iter().flat_map(|dir| [dir.join("ktest-ci.json5"), dir.join("ktest-ci.toml")]);
    let paths: Vec<PathBuf> = own.chain([system.into()]).collect();
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => Err(ConfigError::NotFound { paths }),
    }
}

/// The home directory, if the environment contains it.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_existing_file_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (home, system) = (dir.path().join("home"), dir.path().join("etc.toml"));
        let find = |explicit, variable: Option<&str>| {
            find_in(explicit, variable.map(Into::into), Some(home.clone()), &system)
        };
        let error = find(None, None).unwrap_err().to_string();
        let path = home.join(".ktest/ktest-ci.json5").display().to_string();
        assert!(error.starts_with(&format!("no configuration found; write {path} or")), "{error}");
        std::fs::write(&system, "").unwrap();
        assert_eq!(find(None, None).unwrap(), system);
        std::fs::create_dir_all(home.join(".ktest")).unwrap();
        std::fs::write(home.join(".ktest/ktest-ci.json5"), "").unwrap();
        assert_eq!(find(None, Some("")).unwrap(), home.join(".ktest/ktest-ci.json5"));
        assert_eq!(find(None, Some("/v")).unwrap(), Path::new("/v"));
        assert_eq!(find(Some(Path::new("/x")), Some("/v")).unwrap(), Path::new("/x"));
    }
}
