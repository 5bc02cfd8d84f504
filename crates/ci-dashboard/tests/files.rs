//! Published files: stored bytes, ranges, conditions, and no file outside the results.

mod common;

use ci_dashboard::{Request, Response};
use common::{FAILED_LOG, body, body_text, commits, has_no_body, small};
use http::header;

fn log_address() -> String {
    format!("/c/{}/fs.ext4.basic.punch/log.br", commits()[3].0)
}

fn text(response: &Response, name: header::HeaderName) -> String {
    response.headers.get(name).map(|value| value.to_str().unwrap_or("").to_owned()).unwrap_or_default()
}

#[test]
fn a_log_is_sent_as_stored() {
    let farm = small();
    let response = farm.ask(&Request::get(&log_address()));
    assert_eq!(text(&response, header::CONTENT_ENCODING), "br");
    assert_eq!(text(&response, header::CONTENT_TYPE), "text/plain; charset=utf-8");
    assert_eq!(text(&response, header::ACCEPT_RANGES), "bytes");
    let pack = std::fs::read(farm.path().join(".packs").join(format!("{}.1.pack", commits()[3].0))).unwrap();
    let sent = body(response);
    assert!(pack.windows(sent.len()).any(|part| part == sent));
    let mut plain = Vec::new();
    brotli::BrotliDecompress(&mut sent.as_slice(), &mut plain).unwrap();
    assert_eq!(String::from_utf8(plain).unwrap(), FAILED_LOG);
}

#[test]
fn ranges_and_conditions() {
    let farm = small();
    let whole = farm.ask(&Request::get(&log_address()));
    let (etag, modified) = (text(&whole, header::ETAG), text(&whole, header::LAST_MODIFIED));
    assert!(etag.starts_with('"') && modified.ends_with("GMT"), "{etag} {modified}");
    let whole = body(whole);
    let ask = |name, value: &str| farm.ask(&Request::get(&log_address()).with_header(name, value));
    let part = ask(header::RANGE, "bytes=2-5");
    assert_eq!(part.status, 206);
    assert_eq!(text(&part, header::CONTENT_RANGE), format!("bytes 2-5/{}", whole.len()));
    assert_eq!(text(&part, header::CONTENT_LENGTH), "4");
    assert_eq!(body(part), whole[2..=5]);
    assert_eq!(ask(header::RANGE, "bytes=100000-").status, 416);
    for (name, value) in [(header::IF_NONE_MATCH, etag.as_str()), (header::IF_MODIFIED_SINCE, &modified)] {
        let fresh = ask(name, value);
        assert_eq!(fresh.status, 304);
        assert!(has_no_body(&fresh));
        assert_eq!(text(&fresh, header::ETAG), etag);
    }
    let changed = Request::get(&log_address())
        .with_header(header::RANGE, "bytes=2-5")
        .with_header(header::IF_RANGE, "\"other\"");
    assert_eq!(farm.ask(&changed).status, 200);
    let head = farm.ask(&Request { method: http::Method::HEAD, ..Request::get(&log_address()) });
    assert!(has_no_body(&head));
    assert_eq!(text(&head, header::CONTENT_LENGTH), whole.len().to_string());
}

#[test]
fn a_running_log_grows() {
    let farm = small();
    let address = format!("/c/{}/fs.ext4.basic.rename/log", commits()[1].0);
    assert_eq!(farm.get(&address), "00000 ========= TEST   rename\n00001 half\n");
    let next = farm.ask(&Request::get(&address).with_header(header::RANGE, "bytes=41-"));
    assert_eq!(next.status, 416, "nothing new yet");
    let file = farm.path().join(&address[3..]);
    std::fs::write(&file, "00000 ========= TEST   rename\n00001 half\n00002 more\n").unwrap();
    let next = farm.ask(&Request::get(&address).with_header(header::RANGE, "bytes=41-"));
    assert_eq!(body_text(next), "00002 more\n");
}

#[test]
fn pages_and_views_revalidate_and_compress() {
    let farm = small();
    let address = "/ci?user=mira&branch=ext4-testing";
    let page = farm.ask(&Request::get(address));
    let etag = text(&page, header::ETAG);
    let plain = body(page);
    let request = Request::get(address).with_header(header::IF_NONE_MATCH, &etag);
    assert_eq!(farm.ask(&request).status, 304);
    let packed = farm.ask(&Request::get(address).with_header(header::ACCEPT_ENCODING, "gzip"));
    assert_eq!(text(&packed, header::CONTENT_ENCODING), "gzip");
    assert_eq!(text(&packed, header::VARY), "Accept-Encoding");
    let mut unpacked = Vec::new();
    let packed = body(packed);
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    assert!(packed.len() < plain.len() / 2);
    let packed = farm.ask(&Request::get(address).with_header(header::ACCEPT_ENCODING, "gzip, br"));
    assert_eq!(text(&packed, header::CONTENT_ENCODING), "br");
    let (packed, mut unpacked) = (body(packed), Vec::new());
    brotli::BrotliDecompress(&mut packed.as_slice(), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    // Pages have no ranges, because they may be compressed.
    let request = Request::get(address).with_header(header::RANGE, "bytes=0-9");
    assert_eq!(farm.ask(&request).status, 200);
}

#[test]
fn assets_are_cached_without_revalidation() {
    let farm = small();
    let page = farm.get("/ci");
    for ending in [".css", ".js", ".svg"] {
        let end = page.find(ending).unwrap() + ending.len();
        let start = page[..end].rfind('"').unwrap() + 1;
        let asset = farm.ask(&Request::get(&page[start..end]));
        assert_eq!(asset.status, 200);
        assert!(text(&asset, header::CACHE_CONTROL).contains("immutable"));
    }
    assert_eq!(farm.status("/ci/style.css"), 404);
}

#[test]
fn nothing_outside_the_results_is_sent() {
    let farm = small();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "secret").unwrap();
    let sha = commits()[3].0.to_string();
    let test = farm.path().join(&sha).join("fs.ext4.basic.punch");
    for (link, target) in [
        (farm.path().join(&sha).join("out.link"), secret.path().parent().unwrap()),
        (test.join("full_log.br"), secret.path()),
        (test.join("log"), std::path::Path::new("/proc/self/environ")),
    ] {
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    let name = secret.path().file_name().unwrap().to_str().unwrap();
    for target in [
        format!("/c/{sha}/fs.ext4.basic.punch/full_log.br"),
        format!("/c/{sha}/fs.ext4.basic.punch/log"),
        format!("/c/{sha}/out.link/status"),
        format!("/c/{sha}/out.link/{name}"),
        format!("/c/{sha}/../../{name}"),
        format!("/c/{sha}/..%2f..%2f..%2fetc%2fpasswd/log"),
        format!("/c/{sha}/%2e%2e/status"),
        format!("/c/{sha}/.%2e/status"),
        format!("/c/{sha}/%2e%2e%2f{sha}%2ffs.ext4.basic.punch/status"),
        format!("/c/{sha}/fs.ext4.basic.punch%2fstatus/"),
        format!("/c/{sha}/fs.ext4.basic.punch/..%2f..%2f.store/lock"),
        "/c/.store/".into(),
        "/c/.store%2flock/".into(),
        "/c/..%2f.capnp".into(),
        "/c/%c0%ae%c0%ae/etc/passwd".into(),
        "/c/test_durations.capnp".into(),
        "/ci/../../etc/passwd".into(),
        "/ci/..%2f..%2fassets%2fstyle.css".into(),
        "//etc/passwd".into(),
    ] {
        let response = farm.ask(&Request::get(&target));
        assert!(matches!(response.status.as_u16(), 400 | 404), "{target}: {}", response.status);
        assert!(!body_text(response).contains("secret"), "{target}");
    }
    // A link inside the results is followed: in results of the ktest system full logs are shared by links.
    std::fs::remove_file(test.join("full_log.br")).unwrap();
    std::os::unix::fs::symlink("status", test.join("full_log.br")).unwrap();
    assert_eq!(farm.status(&format!("/c/{sha}/fs.ext4.basic.punch/full_log.br")), 200);
    // A FIFO is not opened.
    std::fs::remove_file(test.join("status")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        test.join("status"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(farm.status(&format!("/c/{sha}/fs.ext4.basic.punch/status")), 404);
}
