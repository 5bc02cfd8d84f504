//! The index of a pacman repository: a tar archive with a file `desc` for each package.

use std::io::Read;
use std::path::Path;

use model::RepoKernel;
use tar::Archive;

use crate::error::RepoError;
use crate::{Checksum, RepoPackage, below, compressed, http, signature};

/// The name of the database if the kernel source has no suite.
const DATABASE: &str = "core";
/// The maximum size of a description, in bytes.
const DESC_BYTES: u64 = 1 << 20;

/// Downloads the database and reads its packages. Arch signs the packages; if the server has a signature of the database,
/// it must be good.
pub(crate) async fn read(kernel: &RepoKernel, url: &str, work: &Path) -> Result<Vec<RepoPackage>, RepoError> {
    let database = format!("{url}/{}.db", kernel.suite().unwrap_or(DATABASE));
    let (file, signature) = (work.join("index"), work.join("index.sig"));
    http::get(&database, &file, http::INDEX_BYTES).await?;
    if let Some(key) = kernel.repo().key() {
        match http::get(&format!("{database}.sig"), &signature, http::SIGNATURE_BYTES).await {
            Ok(()) => signature::verify(key, &signature, &file, &database).await?,
            Err(RepoError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let content = compressed::open(&file, &database)?;
    packages(content, url).map_err(|error| RepoError::Index { url: database, cause: error.to_string() })
}

fn packages(content: impl Read, url: &str) -> std::io::Result<Vec<RepoPackage>> {
    let mut found = Vec::new();
    for entry in Archive::new(content).entries()? {
        let entry = entry?;
        if !entry.path()?.ends_with("desc") || entry.size() > DESC_BYTES {
            continue;
        }
        let mut text = Vec::new();
        entry.take(DESC_BYTES).read_to_end(&mut text)?;
        found.extend(package(&String::from_utf8_lossy(&text), url));
    }
    Ok(found)
}

/// The package of a `desc`: lines `%FIELD%`, each followed by the lines of its value and an empty line.
fn package(text: &str, url: &str) -> Option<RepoPackage> {
    let field = |name: &str| {
        let mut lines = text
            .lines()
            .skip_while(|line| line.strip_prefix('%').and_then(|l| l.strip_suffix('%')) != Some(name));
        lines.nth(1).map(str::trim).filter(|value| !value.is_empty())
    };
    let file = field("FILENAME").filter(|file| !file.contains('/'))?;
    Some(RepoPackage {
        name: field("NAME")?.into(),
        version: field("VERSION")?.into(),
        size: field("CSIZE")?.parse().ok()?,
        arch: field("ARCH")?.into(),
        url: below(url, file)?,
        checksum: Checksum::new("sha256", field("SHA256SUM")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(file: &str) -> String {
        format!(
            "%FILENAME%\n{file}\n\n%NAME%\nlinux\n\n%VERSION%\n6.15.1.arch1-1\n\n%CSIZE%\n7\n\n%ARCH%\nx86_64\n\n\
             %SHA256SUM%\n{}\n",
            "a".repeat(64)
        )
    }

    #[test]
    fn descriptions() {
        let found = package(&desc("linux-6.15.pkg.tar.zst"), "https://a.example/core").unwrap();
        assert_eq!((found.name.as_str(), found.size), ("linux", 7));
        assert_eq!(found.url, "https://a.example/core/linux-6.15.pkg.tar.zst");
        for file in ["../x", "/etc/passwd", "a/b", ".x", "a?b", "http:x", "", "a b"] {
            assert_eq!(package(&desc(file), "https://a.example"), None, "{file}");
        }
        assert_eq!(package(&desc("a").replace("SHA256SUM", "MD5SUM"), "https://a.example"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(%[A-Z]{0,8}%|[a-z/.]{0,4}|\n){0,20}", bytes: Vec<u8>) {
            let _ = package(&text, "https://a.example");
            let _ = packages(bytes.as_slice(), "https://a.example");
        }
    }
}
