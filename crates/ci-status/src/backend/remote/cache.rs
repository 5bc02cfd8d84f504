//! The on-disk cache of responses: one file per address, with a header line and the body.
//!
//! Files are replaced by rename, so that concurrent processes cannot mix header and body. A cached response is used
//! only after the server has confirmed it (`304 Not Modified`).

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fsx::publish::{self, Durability};
use serde::{Deserialize, Serialize};

/// The size limit of the cache in bytes. Above it, the oldest files are removed.
const SIZE_MAX: u64 = 1 << 30;
/// The time between two checks of the limit.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// The length limit of a header line in bytes.
const HEADER_MAX: u64 = 16 << 10;

/// The header of a cached response.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The address.
    pub url: String,
    /// The `ETag`, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The `Last-Modified` time, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Whether the `Content-Encoding` is `br`.
    #[serde(default)]
    pub brotli: bool,
    /// The length of the body in bytes.
    pub length: u64,
}

/// The cache; without a directory, nothing is cached.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: Option<PathBuf>,
}

impl Cache {
    /// The cache in `directory`, which is created on the first write.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// `$XDG_CACHE_HOME/ktest/remote`, or else `~/.cache/ktest/remote`; `variable` reads the environment.
    pub fn directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let set = |name| variable(name).filter(|dir| dir.is_absolute());
        let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(base.join("ktest/remote"))
    }

    /// The cached response for an address. A truncated file is treated as missing.
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

    /// Caches a response that the server can confirm later. Write errors are ignored, because the response is used
    /// anyway.
    pub fn put(&self, header: &Header, body: &[u8]) {
        if header.etag.is_some() || header.last_modified.is_some() {
            let _ = self.write(header, body);
        }
    }

    fn write(&self, header: &Header, body: &[u8]) -> std::io::Result<()> {
        let Some(path) = self.path(&header.url) else { return Ok(()) };
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        tidy(directory);
        let mut content = serde_json::to_vec(header)?;
        content.push(b'\n');
        content.extend_from_slice(body);
        publish::private_file(&path, content, Durability::Cached).map_err(std::io::Error::other)
    }

    fn path(&self, url: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(fsx::digest::sha256_hex(url)))
    }
}

/// Removes the oldest files above the size limit, at most once per [`TIDY_EVERY`].
fn tidy(directory: &Path) {
    let stamp = directory.join("tidied");
    let age = fs::metadata(&stamp).and_then(|data| data.modified()).ok().and_then(|then| then.elapsed().ok());
    if age.is_some_and(|age| age < TIDY_EVERY) {
        return;
    }
    let _ = File::create(&stamp).and_then(|file| file.set_modified(SystemTime::now()));
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let data = entry.metadata().ok()?;
            Some((data.modified().ok()?, data.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut size: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if size <= SIZE_MAX {
            return;
        }
        if fs::remove_file(path).is_ok() {
            size -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_file_is_treated_as_missing() {
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
        // Without a validator, the server cannot confirm it.
        cache.put(&Header { url: "v".into(), length: 1, ..Header::default() }, b"x");
        assert_eq!(cache.get("v"), None);
        Cache::new(None).put(&header, b"abc");
    }

    #[test]
    fn the_directory_depends_on_the_environment() {
        let of = |set: &'static [(&str, &str)]| {
            Cache::directory(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/ktest/remote".into()));
        assert_eq!(of(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]), Some("/h/.cache/ktest/remote".into()));
        assert_eq!(of(&[]), None);
    }
}
