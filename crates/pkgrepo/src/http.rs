//! Downloads over HTTP into a file, with a size limit.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use fsx::own;
use reqwest::StatusCode;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use sha2::{Digest, Sha256, Sha512};

use crate::Checksum;
use crate::error::RepoError;

/// The maximum size of a package, in bytes.
pub(crate) const PACKAGE_BYTES: u64 = 1 << 30;
/// The maximum size of a compressed index, in bytes.
pub(crate) const INDEX_BYTES: u64 = 256 << 20;
/// The maximum size of the list of indices, in bytes.
pub(crate) const LIST_BYTES: u64 = 4 << 20;
/// The maximum size of a signature, in bytes.
pub(crate) const SIGNATURE_BYTES: u64 = 64 << 10;

/// The time limit to connect, and that of a whole download, which is long enough for a slow mirror.
const CONNECT: Duration = Duration::from_secs(30);
const DOWNLOAD: Duration = Duration::from_secs(1800);
const REDIRECTS: usize = 10;

/// Downloads a file of at most `max` bytes.
pub(crate) async fn get(url: &str, file: &Path, max: u64) -> Result<(), RepoError> {
    let (owned, file) = (url.to_owned(), file.to_owned());
    let download = tokio::task::spawn_blocking(move || blocking_get(&owned, &file, max));
    download.await.map_err(|error| RepoError::Http { url: url.into(), cause: error.to_string() })?
}

fn blocking_get(url: &str, file: &Path, max: u64) -> Result<(), RepoError> {
    let failed = |cause: String| RepoError::Http { url: url.into(), cause };
    let client = Client::builder().connect_timeout(CONNECT).timeout(DOWNLOAD).redirect(policy());
    let client = client.no_gzip().build().map_err(|error| failed(error.to_string()))?;
    let mut response = client.get(url).send().map_err(|error| failed(cause(&error)))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(RepoError::NotFound(url.into())),
        status => return Err(failed(format!("the server answers {status}"))),
    }
    let (mut to, mut buffer, mut bytes) = (own::create(file)?, vec![0; 1 << 16], 0_u64);
    loop {
        let count = response.read(&mut buffer).map_err(|error| failed(error.to_string()))?;
        if count == 0 {
            return Ok(());
        }
        bytes += count as u64;
        if bytes > max {
            return Err(RepoError::TooLarge { url: url.into(), max });
        }
        to.write_all(&buffer[..count]).map_err(fsx::Error::of("write", file))?;
    }
}

/// Follows redirections, but not from https to a connection that others can modify.
fn policy() -> Policy {
    Policy::custom(|attempt| {
        let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirections")
        } else if secure && attempt.url().scheme() != "https" {
            attempt.error("redirected from https to http")
        } else {
            attempt.follow()
        }
    })
}

/// The innermost cause, without the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().replace('\n', " ")
}

/// Checks that a file has the checksum of the index.
pub(crate) fn check(file: &Path, url: &str, wanted: &Checksum) -> Result<(), RepoError> {
    let matches = match wanted {
        Checksum::Sha256(digits) => digest::<Sha256>(file)? == *digits,
        Checksum::Sha512(digits) => digest::<Sha512>(file)? == *digits,
    };
    matches.then_some(()).ok_or_else(|| RepoError::Checksum { url: url.into() })
}

fn digest<D: Digest>(file: &Path) -> Result<String, RepoError> {
    let (mut from, mut buffer, mut hash) = (own::open(file)?, vec![0; 1 << 16], D::new());
    loop {
        match from.read(&mut buffer).map_err(fsx::Error::of("read", file))? {
            0 => return Ok(fsx::digest::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
