//! `ci-dashboard export`: each link of a static copy leads to a file, an anchor or a web address.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ci_dashboard::{Export, ExportError, Exported, Site, export};
use common::{FAILED_LOG, Farm, NOW, commits, small};
use model::Verdict;
use results::Reader;
use testkit::results_fixture::{TestResult, commit_id};

fn to(dir: &Path) -> Export {
    Export { dir: dir.into(), branches: Vec::new(), commits: 100, base_url: None }
}

fn run(results: &Path, wanted: &Export) -> Result<Exported, ExportError> {
    let tests = ["fs/ext4/basic", "boot"].iter().map(|test| test.parse().unwrap()).collect();
    export(Site::new(Reader::open(results).unwrap(), tests), wanted, NOW, |_| true)
}

/// The files of a copy by name.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            assert!(entry.file_type().unwrap().is_file());
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

/// The values of attributes of a page, decoded as a browser does, by the name of the attribute.
fn values(html: &str, attribute: &str) -> Vec<String> {
    let start = format!(" {attribute}=\"");
    let texts = html.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap());
    let decode = |text: &str| {
        let text =
            text.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">");
        text.replace("&#38;", "&")
    };
    texts.map(decode).collect()
}

/// Asserts that each link of each page leads to something. Returns the number of links.
fn walk(files: &BTreeMap<String, String>, base_url: Option<&str>) -> usize {
    let mut count = 0;
    for (name, html) in files.iter().filter(|(name, _)| name.ends_with(".html")) {
        assert!(!html.contains("<form") && !html.contains("data-follow"), "{name}");
        assert!(
            html.contains("data-live=\"0\"") && html.contains("A static copy, made 2026-"),
            "{name}: {html}"
        );
        let links = [values(html, "href"), values(html, "src")].concat();
        for link in links {
            count += 1;
            if link.starts_with("https://") {
                assert!(base_url.is_some_and(|base| link.starts_with(base)), "{name}: {link}");
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { Some(html) } else { files.get(file) };
            let target = target.unwrap_or_else(|| panic!("{name}: no file for {link}"));
            let has = anchor.is_empty() || values(target, "id").iter().any(|id| id == anchor);
            assert!(has, "{name}: no anchor for {link}");
        }
    }
    count
}

fn page<'a>(files: &'a BTreeMap<String, String>, text: &str) -> &'a str {
    let is_page = |(name, html): &(&String, &String)| name.ends_with(".html") && html.contains(text);
    files.iter().find(is_page).unwrap_or_else(|| panic!("no page with {text}")).1
}

#[test]
fn every_link_of_a_copy_leads_to_something() {
    let farm = small();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("copy");
    let exported = run(farm.path(), &to(&dir)).unwrap();
    let copy = files(&dir);
    assert!(walk(&copy, None) > 200);
    assert_eq!(copy.keys().filter(|name| name.ends_with(".html")).count(), exported.pages);
    assert_eq!(copy.keys().filter(|name| name.ends_with(".txt")).count(), exported.logs);
    assert!(copy.values().any(|text| text == FAILED_LOG), "the log is decompressed");
    assert!(copy["index.html"].contains("ext4-testing") && copy["index.html"].contains("xfs/for-next"));
    // The page of a test, with a link to the failing line.
    let test = page(&copy, " id=\"failure\"");
    assert!(test.contains("kernel BUG at fs/ext4/extents.c:3211!"));
    // Nothing else is left next to the copy.
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn pages_that_are_not_exported_are_on_the_dashboard() {
    let farm = small();
    let place = tempfile::tempdir().unwrap();
    let base_url = "https://ci.example.org/ktest";
    let branches = vec!["mira/ext4-testing".parse().unwrap()];
    let wanted = Export {
        branches,
        commits: 1,
        base_url: Some(format!("{base_url}/")),
        ..to(&place.path().join("x"))
    };
    run(farm.path(), &wanted).unwrap();
    let copy = files(&wanted.dir);
    walk(&copy, Some(base_url));
    assert!(!copy["index.html"].contains("xfs/for-next"));
    let old = format!("{base_url}/ci?user=mira&branch=ext4-testing&commit={}", commits()[3].0);
    assert!(copy.values().any(|html| values(html, "href").contains(&old)));
    for bad in ["javascript:alert(1)", "https://", "https://x/\"", "ci.example.org"] {
        let wanted = Export { base_url: Some(bad.into()), ..to(&place.path().join("y")) };
        assert!(matches!(run(farm.path(), &wanted), Err(ExportError::BaseUrl(_))), "{bad}");
    }
    let wanted =
        Export { branches: vec!["mira/ext4-testin".parse().unwrap()], ..to(&place.path().join("y")) };
    let error = run(farm.path(), &wanted).unwrap_err().to_string();
    assert!(error.contains("did you mean") && error.contains("mira/ext4-testing"), "{error}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn hostile_names_stay_in_the_directory_and_are_text() {
    let subjects = [
        "<script>alert(1)</script> \"onmouseover=alert(1)'x=`\">",
        "</a><a href=\"/c/x\">&#38;amp; <form>",
        "\u{202e}txet ../../etc/passwd\u{0}",
        "",
    ];
    let commits: Vec<_> = subjects.iter().map(|text| (commit_id(text), format!("{text}\n"))).collect();
    let farm = Farm::with(|fixture| {
        for branch in ["x/y&z", "a'b\"c<d>", "con", "x/Y&z", "%2e%2e", "é#x"] {
            fixture.branch("mira", branch, &commits);
        }
        for (commit, _) in &commits {
            for key in ["fs.a&b.x", "fs.a.x#y", "fs.A.x#y", "boot.%2F..", "fs.'\"<b>.z"] {
                let reason = subjects[0].to_owned();
                let verdict = Verdict::Failed { reason };
                fixture.test(TestResult::new(commit, key, verdict, 9).on("farm1", 2, NOW).log(FAILED_LOG));
            }
        }
    });
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("copy");
    let exported = run(farm.path(), &to(&dir)).unwrap();
    assert_eq!(exported.logs, 20);
    let copy = files(&dir);
    walk(&copy, None);
    for (name, html) in copy.iter().filter(|(name, _)| name.ends_with(".html")) {
        assert!(!html.contains("<script>") && !html.contains("<b>."), "{name}");
        let is_safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        assert!(name.chars().all(is_safe) && name.len() < 120, "{name}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn only_a_copy_is_replaced() {
    let farm = small();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("home")).unwrap();
    std::fs::write(at("home/mail"), "mine").unwrap();
    std::fs::write(at("file"), "mine").unwrap();
    std::os::unix::fs::symlink(at("home"), at("link")).unwrap();
    for name in ["home", "file", "link"] {
        let error = run(farm.path(), &to(&at(name))).unwrap_err();
        assert!(matches!(error, ExportError::NotExport(_)), "{error}");
    }
    assert!(matches!(run(farm.path(), &to(&PathBuf::from("/"))), Err(ExportError::Name(_))));
    assert_eq!(std::fs::read_to_string(at("home/mail")).unwrap(), "mine");

    std::fs::create_dir(at("copy")).unwrap();
    run(farm.path(), &to(&at("copy"))).unwrap();
    std::fs::write(at("copy/old.html"), "old").unwrap();
    // An export that is interrupted changes nothing.
    let site = Site::new(Reader::open(farm.path()).unwrap(), std::iter::empty().collect());
    let mut calls = 0;
    let interrupted = export(site, &to(&at("copy")), NOW, |_| {
        calls += 1;
        calls < 5
    });
    assert!(matches!(interrupted, Err(ExportError::Interrupted)));
    assert!(at("copy/old.html").exists());
    run(farm.path(), &to(&at("copy"))).unwrap();
    assert!(!at("copy/old.html").exists() && at("copy/index.html").exists());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 4);
}
