//! Behind a proxy, every link on every page is below the mount point, regardless of how the proxy works.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ci_dashboard::{PublicAddress, Request, Response, Site, TestFiles, handle};
use common::{NOW, body_text, small};
use regex::Regex;
use results::Reader;

/// The addresses in HTML, and those in JSON that start with a slash.
static LINKS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?:href|src|action)="([^"]*)"|"(/[^" <>]*)""#).unwrap());

/// The proxies. Each creates the request that reaches the dashboard, from the path that the client requests.
type ProxyRequest = fn(&PublicAddress, &str) -> Request;

fn passes_the_path(public: &PublicAddress, target: &str) -> Request {
    public.locate(Request::get(target), false)
}

fn removes_the_mount(public: &PublicAddress, target: &str) -> Request {
    public.locate(Request::get(target.strip_prefix("/a/ktest").unwrap()), false)
}

fn sends_the_prefix(_: &PublicAddress, target: &str) -> Request {
    let request = Request::get(target.strip_prefix("/a/ktest").unwrap());
    let request = request.with_header("x-forwarded-prefix".parse().unwrap(), "/a/ktest/");
    PublicAddress::default().locate(request, true)
}

fn crawl(site: &Site, proxy: ProxyRequest) -> BTreeSet<String> {
    let (mut open, mut seen) = (vec!["/a/ktest/ci".to_owned()], BTreeSet::new());
    while let Some(target) = open.pop() {
        let ask = |target: &str| handle(site, &proxy(site.public_address(), target), NOW);
        let response: Response = ask(&target);
        let status = response.status.as_u16();
        // This farm has no daemon, and so no status snapshot.
        let is_missing = status == 404 && target.contains("status&format=json");
        assert!(matches!(status, 200 | 302 | 303) || is_missing, "{target}: {status}");
        let mut links: Vec<String> = Vec::new();
        if let Some(location) = response.headers.get("location") {
            links.push(location.to_str().unwrap().into());
        }
        let kind = response.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            let text = body_text(response);
            for captures in LINKS.captures_iter(&text) {
                let link = captures.get(1).or(captures.get(2)).unwrap().as_str();
                links.push(link.replace("&amp;", "&").replace("&#38;", "&"));
            }
            // A trailing slash does not change the meaning of an address.
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let slash = ask(&format!("{path}/?{query}"));
            assert_eq!(slash.status.as_u16(), 200, "{path}/");
        }
        for link in links {
            if link.starts_with("https://") || link.starts_with('#') || link.is_empty() {
                continue;
            }
            assert!(link.starts_with("/a/ktest/"), "{target} links to {link}");
            let link = link.split('#').next().unwrap().to_owned();
            // A table in another order has the same links.
            if !link.contains("&sort=") && seen.len() < 400 && seen.insert(link.clone()) {
                open.push(link);
            }
        }
    }
    seen
}

#[test]
fn all_links_are_below_the_mount_point() {
    let farm = small();
    let public = PublicAddress::from_url("https://ci.example.org/a/ktest/", &["/ci", "/c", "/u"]);
    let tests = ["fs/ext4/basic", "boot"].iter().map(|test| test.parse().unwrap()).collect::<TestFiles>();
    let site = Site::new(Reader::open(farm.path()).unwrap(), tests).published_at(public);
    let pages = crawl(&site, passes_the_path);
    assert!(pages.len() > 30, "{pages:?}");
    assert_eq!(crawl(&site, removes_the_mount), pages);
    assert_eq!(crawl(&farm.site, sends_the_prefix), pages);
    for name in ["compare=", "history=", "crashes", "status", "format=atom", ".css", "log.br"] {
        assert!(pages.iter().any(|page| page.contains(name)), "{name}: {pages:?}");
    }
}

#[test]
fn feeds_link_to_the_public_address() {
    let farm = small();
    let branch = "/ci?user=mira&branch=ext4-testing&format=atom";
    let public = PublicAddress::from_url("https://ci.example.org/ktest", &["/ci"]);
    let request = Request::get(branch).with_header("host".parse().unwrap(), "127.0.0.1:8080");
    let feed = body_text(farm.ask(&public.locate(request.clone(), true)));
    assert!(feed.contains("href=\"https://ci.example.org/ktest/ci?user=mira"), "{feed}");
    assert!(!feed.contains("127.0.0.1"), "{feed}");
    // Without a configuration, a cache distinguishes the responses for different proxies.
    let forwarded = request
        .with_header("x-forwarded-host".parse().unwrap(), "ci.example.org")
        .with_header("x-forwarded-proto".parse().unwrap(), "https");
    let response = farm.ask(&PublicAddress::default().locate(forwarded, true));
    assert!(response.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("Forwarded")));
    let feed = body_text(response);
    assert!(feed.contains("href=\"https://ci.example.org/ci?user=mira"), "{feed}");
}

#[test]
fn every_address_is_accepted_with_a_slash_at_its_end() {
    let farm = small();
    for target in [
        "/healthz",
        "/metrics",
        "/status",
        "/openapi.json",
        "/ci",
        "/ci/healthz",
        "/u/mira",
        "/c/ci-daemon-status.json",
    ] {
        assert_eq!(farm.status(target), farm.status(&format!("{target}/")), "{target}");
        assert_eq!(farm.status(&format!("{target}//")), farm.status(target), "{target}");
    }
}
