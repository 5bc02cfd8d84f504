//! The index of an rpm-md repository: `repodata/repomd.xml` names the list of packages, `primary`.

use std::io::BufRead;
use std::path::Path;

use model::RepoKernel;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::RepoError;
use crate::{Checksum, RepoPackage, below, compressed, http, select, signature};

/// Downloads the index and reads its kernel packages. With a key, the index must be signed: `repomd.xml.asc`.
pub(crate) async fn read(kernel: &RepoKernel, url: &str, work: &Path) -> Result<Vec<RepoPackage>, RepoError> {
    let list = format!("{url}/repodata/repomd.xml");
    let (file, signature) = (work.join("repomd.xml"), work.join("repomd.xml.asc"));
    http::get(&list, &file, http::LIST_BYTES).await?;
    if let Some(key) = kernel.repo().key() {
        match http::get(&format!("{list}.asc"), &signature, http::SIGNATURE_BYTES).await {
            Err(RepoError::NotFound(_)) => {
                let cause = "the repository has no repomd.xml.asc; without key, use https://".into();
                return Err(RepoError::Signature { url: list, key: key.into(), cause });
            }
            downloaded => downloaded?,
        }
        signature::verify(key, &signature, &file, &list).await?;
    }
    let error = |url: &str, cause: String| RepoError::Index { url: url.into(), cause };
    let found = primary(compressed::open(&file, &list)?).map_err(|cause| error(&list, cause))?;
    let (path, checksum) =
        found.ok_or_else(|| error(&list, "no list of packages with a sha256 checksum".into()))?;
    let primary =
        below(url, &path).ok_or_else(|| error(&list, format!("{path:?} is not a path below the URL")))?;
    let file = work.join("primary");
    http::get(&primary, &file, http::INDEX_BYTES).await?;
    http::check(&file, &primary, &checksum)?;
    let (content, wanted, url) =
        (compressed::open(&file, &primary)?, select::names(kernel.repo()), url.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        packages(content, &url, &|name| wanted.iter().any(|w| w == name))
    });
    let found = read.await.map_err(|lost| error(&primary, lost.to_string()))?;
    found.map_err(|cause| error(&primary, cause))
}

/// The path and the checksum of `primary`.
fn primary(content: impl BufRead) -> Result<Option<(String, Checksum)>, String> {
    let (mut inside, mut path, mut checksum, mut kind) = (false, None, None, None);
    elements(content, &mut |element| match element {
        Element::Open("data", tag) => inside = attribute(tag, "type").as_deref() == Some("primary"),
        Element::Open("location", tag) if inside => path = attribute(tag, "href"),
        Element::Open("checksum", tag) if inside => kind = attribute(tag, "type"),
        Element::Close("checksum", text) if inside => {
            checksum = Checksum::new(kind.as_deref().unwrap_or_default(), text);
        }
        _ => {}
    })?;
    Ok(path.zip(checksum))
}

/// A package whose end has not been read.
#[derive(Default)]
struct Partial {
    name: String,
    arch: String,
    version: Option<String>,
    kind: String,
    checksum: Option<Checksum>,
    size: Option<u64>,
    path: Option<String>,
}

impl Partial {
    fn open(&mut self, name: &str, tag: &BytesStart<'_>) {
        let get = |key| attribute(tag, key);
        match name {
            "package" => *self = Self::default(),
            "version" => {
                let epoch = get("epoch").unwrap_or_else(|| "0".into());
                self.version = get("ver").zip(get("rel")).map(|(ver, rel)| format!("{epoch}:{ver}-{rel}"));
            }
            "checksum" => self.kind = get("type").unwrap_or_default(),
            "size" => self.size = get("package").and_then(|size| size.parse().ok()),
            "location" => self.path = get("href"),
            _ => {}
        }
    }

    fn close(&mut self, name: &str, text: &str) {
        match name {
            "name" if self.name.is_empty() => self.name = text.into(),
            "arch" if self.arch.is_empty() => self.arch = text.into(),
            "checksum" => self.checksum = Checksum::new(&self.kind, text),
            _ => {}
        }
    }

    fn finish(&mut self, url: &str) -> Option<RepoPackage> {
        let whole = std::mem::take(self);
        Some(RepoPackage {
            name: whole.name,
            version: whole.version?,
            size: whole.size?,
            arch: whole.arch,
            url: below(url, &whole.path?)?,
            checksum: whole.checksum?,
        })
    }
}

/// The packages with wanted names.
fn packages(
    content: impl BufRead,
    url: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<RepoPackage>, String> {
    let (mut found, mut partial) = (Vec::new(), Partial::default());
    elements(content, &mut |element| match element {
        Element::Open(name, tag) => partial.open(name, tag),
        Element::Close("package", _) => {
            if wanted(&partial.name) {
                found.extend(partial.finish(url));
            }
        }
        Element::Close(name, text) => partial.close(name, text),
    })?;
    Ok(found)
}

/// The start of an element with its tag, or its end with the text before it.
enum Element<'a> {
    Open(&'a str, &'a BytesStart<'a>),
    Close(&'a str, &'a str),
}

/// The maximum length of a text that is kept, in bytes. Descriptions are longer and not needed.
const TEXT_BYTES: usize = 1000;

/// Calls `on` for each element, without namespaces.
fn elements(content: impl BufRead, on: &mut dyn FnMut(Element<'_>)) -> Result<(), String> {
    let mut reader = Reader::from_reader(content);
    let (mut buffer, mut text) = (Vec::new(), String::new());
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(|error| error.to_string())?;
        match event {
            Event::Start(tag) => {
                text.clear();
                on(Element::Open(&String::from_utf8_lossy(tag.local_name().as_ref()), &tag));
            }
            Event::Empty(tag) => {
                on(Element::Open(&String::from_utf8_lossy(tag.local_name().as_ref()), &tag));
            }
            Event::Text(part) if text.len() + part.len() <= TEXT_BYTES => {
                text.push_str(&String::from_utf8_lossy(&part));
            }
            Event::End(tag) => {
                on(Element::Close(&String::from_utf8_lossy(tag.local_name().as_ref()), text.trim()));
                text.clear();
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = tag.try_get_attribute(name).ok()??;
    String::from_utf8(found.value.into_owned()).ok().filter(|value| !value.contains('&'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(href: &str, kind: &str) -> String {
        format!(
            "<metadata xmlns=\"c\" xmlns:rpm=\"r\"><package type=\"rpm\"><name>kernel-core</name><arch>x86_64</arch>\
             <version epoch=\"0\" ver=\"6.14.5\" rel=\"300.fc42\"/><checksum type=\"{kind}\" pkgid=\"YES\">{}</checksum>\
             <description>&lt;name&gt; of <![CDATA[x]]> it</description><size package=\"7\" installed=\"9\"/>\
             <location href=\"{href}\"/><format><rpm:entry name=\"x\"/></format></package>\
             <package><name>other</name></package></metadata>",
            "b".repeat(64)
        )
    }

    #[test]
    fn the_list_of_packages() {
        let read = |text: &str| {
            packages(text.as_bytes(), "https://f.example/os", &|name| name == "kernel-core").unwrap()
        };
        let found = read(&entry("Packages/k/kernel-core.rpm", "sha256"));
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.version.as_str(), one.arch.as_str(), one.size), ("0:6.14.5-300.fc42", "x86_64", 7));
        assert_eq!(one.url, "https://f.example/os/Packages/k/kernel-core.rpm");
        for (href, kind) in
            [("../x", "sha256"), ("https://evil.example/x", "sha256"), ("x", "md5"), ("/x", "sha256")]
        {
            assert!(read(&entry(href, kind)).is_empty(), "{href} {kind}");
        }
    }

    #[test]
    fn the_index_names_the_list() {
        let text = format!(
            "<repomd><data type=\"other\"><location href=\"o\"/></data><data type=\"primary\"><checksum type=\"sha256\">{}\
             </checksum><open-checksum type=\"sha256\">0</open-checksum><location href=\"repodata/p.xml.zst\"/></data>\
             <data type=\"filelists\"><location href=\"f\"/></data></repomd>",
            "c".repeat(64)
        );
        let (path, checksum) = primary(text.as_bytes()).unwrap().unwrap();
        assert_eq!((path.as_str(), checksum.digits().len()), ("repodata/p.xml.zst", 64));
        assert_eq!(primary("<repomd/>".as_bytes()).unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(</?[a-z]{1,8}( href=\"[a-z/.]{0,4}\")?/?>|[a-z&;]{0,3}){0,20}", bytes: Vec<u8>) {
            let _ = packages(text.as_bytes(), "https://x", &|_| true);
            let _ = primary(text.as_bytes());
            let _ = packages(bytes.as_slice(), "https://x", &|_| true);
        }
    }
}
