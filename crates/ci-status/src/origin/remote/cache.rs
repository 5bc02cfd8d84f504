//! What was fetched before, on disk: a file an address, its first line saying when it may be used again.
//!
//! Header and body are one file, replaced by rename, so that processes that fetch the same at once cannot mix them.
//! It is only ever used after the server has said that it still holds.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How much the cache may hold, in bytes; the oldest go.
const ROOM: u64 = 1 << 30;
/// How often that is looked at.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// The longest header line, in bytes.
const HEADER_MAX: u64 = 16 << 10;

/// What the server said about a body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of which address it is.
    pub url: String,
    /// The entity tag, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The time of change, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// `Content-Encoding`, where it is `br`.
    #[serde(default)]
    pub brotli: bool,
    /// The body's length, in bytes.
    pub length: u64,
}

/// A folder of bodies; without one, nothing is kept.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// The cache below `folder`, which is made when there is something to keep.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// `$XDG_CACHE_HOME/ktest/remote`, else `~/.cache/ktest/remote`; `variable` reads the environment.
    pub fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let set = |name| variable(name).filter(|dir| dir.is_absolute());
        let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(base.join("ktest/remote"))
    }

    /// What is kept of an address. A file that is not whole is none.
    pub fn get(&self, url: &str) -> Option<(Header, Vec<u8>)> {
        let file = File::open(self.path(url)?).ok()?;
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        file.by_ref().take(HEADER_MAX).read_until(b'\n', &mut line).ok()?;
        let header: Header = serde_json::from_slice(&line).ok()?;
        let mut body = Vec::new();
        file.take(header.length + 1).read_to_end(&mut body).ok()?;
        (header.url == url && body.len() as u64 == header.length).then_some((header, body))
    }

    /// Keeps a body; one that the server could not be asked about again is not kept. A cache that cannot be written
    /// is no reason to show nothing.
    pub fn put(&self, header: &Header, body: &[u8]) {
        if header.etag.is_some() || header.last_modified.is_some() {
            let _ = self.write(header, body);
        }
    }

    fn write(&self, header: &Header, body: &[u8]) -> std::io::Result<()> {
        let Some(path) = self.path(&header.url) else { return Ok(()) };
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        tidy(folder);
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.write_all(body)?;
        file.persist(path)?;
        Ok(())
    }

    fn path(&self, url: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{:x}", Sha256::digest(url))))
    }
}

/// Removes the oldest where there is too much, once in a while.
fn tidy(folder: &Path) {
    let stamp = folder.join("tidied");
    let age = fs::metadata(&stamp).and_then(|data| data.modified()).ok().and_then(|then| then.elapsed().ok());
    if age.is_some_and(|age| age < TIDY_EVERY) {
        return;
    }
    let _ = File::create(&stamp).and_then(|file| file.set_modified(SystemTime::now()));
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let data = entry.metadata().ok()?;
            Some((data.modified().ok()?, data.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut room: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if room <= ROOM {
            return;
        }
        if fs::remove_file(path).is_ok() {
            room -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(dir.path().join("c")));
        let header = Header { url: "u".into(), etag: Some("\"1\"".into()), length: 3, ..Header::default() };
        assert_eq!(cache.get("u"), None);
        cache.put(&header, b"abc");
        assert_eq!(cache.get("u"), Some((header.clone(), b"abc".to_vec())));
        let file = cache.path("u").unwrap();
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert_eq!(cache.get("u"), None, "{cut}");
        }
        // Nothing to ask the server with.
        cache.put(&Header { url: "v".into(), length: 1, ..Header::default() }, b"x");
        assert_eq!(cache.get("v"), None);
        Cache::new(None).put(&header, b"abc");
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let of = |set: &'static [(&str, &str)]| {
            Cache::folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/ktest/remote".into()));
        assert_eq!(of(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]), Some("/h/.cache/ktest/remote".into()));
        assert_eq!(of(&[]), None);
    }
}
