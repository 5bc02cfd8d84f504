//! The directories into which `require-git` clones. Each trust domain has its own, so that a clone of one domain is
//! never used by another under the same name; a listing has one for its variables.
//!
//! What the operator placed in the directory of this host's user is in each of them, as a link. A farm does not write
//! there. No sandboxed program can create a link at the top of a directory of clones: only [`BUILT`] is writable.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use fsx::own::{self, OwnEntry};
use kernel::Cache;
use model::TrustDomain;
use sandbox::Sandbox;

/// The subdirectory of the clone directory that a call can write to.
pub(crate) const BUILT: &str = "built";
/// From a directory of clones to that of this host's user.
const UP: &str = "../../../deps";

/// The directory of a trust domain, with links to what the operator placed. That of `None` is used as it is.
pub fn of_domain(cache: &Cache, trust: Option<&TrustDomain>) -> Result<PathBuf, fsx::Error> {
    let dir = cache.clones(trust);
    if trust.is_some() {
        link_placed(&cache.clones(None), &dir)?;
    }
    Ok(dir)
}

/// The directory for listing test files with these variables, with links to what the operator placed.
pub fn of_listing(cache: &Cache, variables: &[(String, String)]) -> Result<PathBuf, fsx::Error> {
    let dir = cache.clones_of_listing(variables);
    link_placed(&cache.clones(None), &dir)?;
    Ok(dir)
}

/// Links each entry of `placed` in `dir`, unless there is one with this name, and removes links that lead nowhere.
fn link_placed(placed: &Path, dir: &Path) -> Result<(), fsx::Error> {
    own::create_dir_all(dir)?;
    for entry in own::list(dir)?.into_iter().filter(|entry| !entry.is_dir && !entry.is_file) {
        if own::existing(&entry.path)?.is_none() {
            own::remove_file(&entry.path)?;
        }
    }
    for entry in entries(placed)?.into_iter().filter(|entry| is_clone(&entry.name)) {
        if own::existing(&entry.path)?.is_some() {
            own::link(&Path::new(UP).join(&entry.name), &dir.join(&entry.name))?;
        }
    }
    Ok(())
}

/// Whether an entry of a directory of clones is visible to test files as a clone.
fn is_clone(name: &OsStr) -> bool {
    name != BUILT && !name.as_encoded_bytes().starts_with(b".")
}

/// The directory with what the operator placed, if `dir` has links to it.
pub fn placed(dir: &Path) -> Result<Option<PathBuf>, fsx::Error> {
    let leads_up = |link: &Path| link.parent() == Some(Path::new(UP));
    Ok(links(dir)?.iter().any(|link| leads_up(&link.target)).then(|| resolved(dir, Path::new(UP))))
}

/// The versions of what the operator placed for all farms of this host's user, one line each. They change when the source of
/// a suite is placed, removed or updated. Reads the disk.
#[must_use]
pub fn placed_versions() -> Vec<String> {
    let cache = Cache::from_env(|name| std::env::var_os(name));
    cache.map_or_else(|_| Vec::new(), |cache| versions(&cache.clones(None)))
}

/// For each entry its name, the commit that is checked out, and when files were last added to its directories of tests.
fn versions(placed: &Path) -> Vec<String> {
    let entries = entries(placed).unwrap_or_default();
    let mut versions: Vec<String> = entries
        .into_iter()
        .filter(|entry| is_clone(&entry.name))
        .filter_map(|entry| {
            let path = own::canonical(&entry.path).ok()??;
            let head = gitio::Repo::open(&path).and_then(|repo| repo.head());
            let commit = head.map_or_else(|_| "-".into(), |head| head.commit.to_string());
            let tests = path.join("tests");
            let below = self::entries(&tests).unwrap_or_default().into_iter().filter(|entry| entry.is_dir);
            let dirs = [path, tests].into_iter().chain(below.map(|entry| entry.path));
            let newest = dirs.filter_map(|dir| own::existing(&dir).ok()??.modified().ok()).max();
            let newest = newest.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            Some(format!("{} {commit} {:?}", entry.name.display(), newest.unwrap_or_default()))
        })
        .collect();
    versions.sort();
    versions
}

/// Shows the directory of clones and the files that its links lead to, read-only.
pub fn show(sandbox: Sandbox, dir: &Path) -> Result<Sandbox, fsx::Error> {
    Ok(links(dir)?.into_iter().fold(sandbox.read_only(dir, dir), |sandbox, Link { target, real }| {
        let sandbox = sandbox.read_only(&real, &real);
        let target = resolved(dir, &target);
        if target == real { sandbox } else { sandbox.read_only(&real, &target) }
    }))
}

/// Whether a file is one that a link at the top of the directory of clones leads to, or below it. `real` has no links.
pub(crate) fn is_linked(dir: &Path, real: &Path) -> Result<bool, fsx::Error> {
    Ok(links(dir)?.iter().any(|link| real.starts_with(&link.real)))
}

/// A link at the top of a directory of clones to a file that exists.
struct Link {
    /// As written.
    target: PathBuf,
    /// Without links.
    real: PathBuf,
}

fn links(dir: &Path) -> Result<Vec<Link>, fsx::Error> {
    let mut links = Vec::new();
    for entry in entries(dir)?.into_iter().filter(|entry| !entry.is_dir && !entry.is_file) {
        let target = match own::read_link(&entry.path) {
            // A special file, or a link that another run has removed.
            Err(error) if error.kind() == ErrorKind::InvalidInput || error.is_not_found() => continue,
            target => target?,
        };
        links.extend(own::canonical(&entry.path)?.map(|real| Link { target, real }));
    }
    Ok(links)
}

/// The entries of a directory; none if it is missing.
fn entries(dir: &Path) -> Result<Vec<OwnEntry>, fsx::Error> {
    match own::list(dir) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        entries => entries,
    }
}

/// The absolute path of a link's target, without `..`.
fn resolved(dir: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for component in dir.join(target).components() {
        match component {
            Component::ParentDir => _ = path.pop(),
            component => path.push(component),
        }
    }
    path
}

#[cfg(test)]
mod tests;
