//! Names, messages and logs are untrusted: on a page they are only text, and pages stay small.

mod common;

use ci_dashboard::Request;
use common::{Farm, body_text, page_text};
use model::{CommitId, ResultKey, Status, Verdict};
use results::pushes::{Mark, Push, PushedCommit, Pushes};
use results::{CommitResults, TestEntry};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id, write_blob};

const SCRIPT: &str = "<script>alert(1)</script>";
const ATTRIBUTE: &str = "\"onmouseover=alert(1)'x=`\">";

fn messages() -> Vec<(CommitId, String)> {
    [
        format!("{SCRIPT} {ATTRIBUTE}\n\n</pre>{SCRIPT}<!-- ]]>\n"),
        "\u{202e}txet\u{2066} right to left\u{200f}\n\u{202e}more".into(),
        "x".repeat(1 << 20),
        format!("&lt;b&gt; &amp;#x3c; \u{1b}[31m\u{0}\n{}", "y\n".repeat(200_000)),
        String::new(),
    ]
    .into_iter()
    .map(|message| (commit_id(&message[..message.len().min(40)]), message))
    .collect()
}

/// The name and attributes of each tag, as a browser would parse them. Panics on markup that is not in any template.
fn tags(html: &str) -> Vec<(String, Vec<String>)> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        let name_end = rest.find(|c: char| c == '>' || c.is_whitespace()).expect("a tag ends");
        let name = rest[..name_end].to_owned();
        rest = &rest[name_end..];
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            let end = rest.find(|c: char| "=> \n".contains(c)).expect("an attribute ends");
            attributes.push(rest[..end].to_owned());
            rest = &rest[end..];
            if let Some(value) = rest.strip_prefix("=\"") {
                rest = &value[value.find('"').expect("a value ends") + 1..];
            }
        }
        tags.push((name, attributes));
    }
    tags
}

/// Asserts that no element or attribute runs code, that our script is the only one, and that every tag is closed.
fn assert_harmless(target: &str, html: &str) {
    let void = ["!doctype", "meta", "link", "input", "br", "path/", "rect", "path"];
    let mut open: Vec<String> = Vec::new();
    let mut scripts = 0;
    for (name, attributes) in tags(html) {
        for attribute in &attributes {
            assert!(!attribute.starts_with("on") && attribute != "style", "{target}: {name} {attribute}");
        }
        assert!(
            !["iframe", "object", "embed", "style", "base", "img"].contains(&name.as_str()),
            "{target}: {name}"
        );
        scripts += usize::from(name == "script");
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "{target}");
        } else if !void.contains(&name.as_str()) && !attributes.iter().any(|attribute| attribute == "/") {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{target}: {open:?} not closed");
    assert_eq!(scripts, 1, "{target}");
    assert!(html.len() <= 300_000, "{target}: {} bytes", html.len());
}

fn encoded(text: &str) -> String {
    ci_dashboard::Encoded(text).to_string()
}

#[test]
fn a_feed_has_only_characters_of_xml() {
    let commits = ["breaks\u{fffe}\u{ffff}\u{1}\u{1b}[31m it", "before"]
        .map(|subject| (commit_id(&subject[..6]), subject.to_owned()));
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &commits);
        let reason = "a reason\u{fffe}\u{b}".to_owned();
        fixture.test(TestResult::new(&commits[0].0, "a.b", Verdict::Failed { reason }, 10));
        fixture.test(TestResult::new(&commits[1].0, "a.b", Verdict::Passed, 10));
    });
    let feed = body_text(farm.ask(&Request::get("/ci?user=mira&branch=next&format=atom")));
    assert!(feed.contains("breaks") && feed.contains("a.b"), "{feed}");
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert_eq!(feed.chars().find(|c| !is_allowed(*c)), None, "{feed}");
}

/// A force-push with these subjects: each commit becomes the next one.
fn force_push(commits: &[(CommitId, String)]) -> Pushes {
    let pair = |pair: &[(CommitId, String)]| PushedCommit {
        mark: Mark::Changed,
        old: Some(pair[1].0.clone()),
        new: Some(pair[0].0.clone()),
        subject: pair[0].1.clone(),
    };
    let (old, new) = (commits[1].0.clone(), commits[0].0.clone());
    let mut pushes = Pushes::new(new.clone());
    let problem = Some(format!("{SCRIPT}{ATTRIBUTE}"));
    let pairs = commits.windows(2).map(pair).collect();
    pushes.add(Push { at: common::NOW, old, new, pairs, unchanged: 7, is_cut: true, problem });
    pushes
}

#[test]
fn hostile_names_messages_and_logs_are_text() {
    let messages = messages();
    let keys =
        ["a<b>\"'&.c", "x.${y}`z`", "…\u{202e}gnp.exe.t", "a@K=\"><script>.s", "javascript:alert(1).x"];
    let (user, branch) = ("<b>mira<b>", "\"><script>alert(2)</script>/../..%2e?&#");
    let farm = Farm::with(|fixture| {
        fixture.branch(user, branch, &messages).pushes(user, branch, &force_push(&messages));
        for (row, (commit, _)) in messages.iter().enumerate() {
            for key in keys {
                let reason = format!("{SCRIPT}{ATTRIBUTE} \u{202e}");
                let verdict = if row % 2 == 0 { Verdict::Failed { reason } } else { Verdict::Passed };
                let log = format!(
                    "</pre>{SCRIPT}\n\u{202e}\u{1b}]0;x\u{7}\nBUG: {SCRIPT}\n{}\n",
                    "long ".repeat(100_000)
                );
                fixture.test(TestResult::new(commit, key, verdict, 10).crash(SCRIPT).log(log));
            }
        }
    });
    let at = format!("user={}&branch={}", encoded(user), encoded(branch));
    let mut targets = vec![
        "/ci".to_owned(),
        format!("/ci?user={}", encoded(user)),
        format!("/ci?{at}"),
        format!("/ci?{at}&test={}", encoded("a<b>\"'&")),
        format!("/ci?user={}", encoded(SCRIPT)),
        format!("/ci?{at}&crashes"),
        format!("/ci?{at}&flaky"),
        format!("/ci?{at}&range-diff"),
        format!("/ci?user={}&compare={}..{}", encoded(user), messages[1].0, messages[0].0),
        format!("/ci?user={}&compare={}&with={}", encoded(user), encoded(branch), encoded(SCRIPT)),
        format!("/ci?user={}&compare={}", encoded(SCRIPT), encoded(ATTRIBUTE)),
        format!("/{}", encoded(SCRIPT)),
        format!("/ci?user={}&branch={0}", encoded(ATTRIBUTE)),
        format!("/ci?{at}&test={}", encoded("([<script>")),
    ];
    for (commit, _) in &messages {
        targets.push(format!("/ci?{at}&commit={commit}"));
        targets.push(format!("/c/{commit}/?test={}", encoded(SCRIPT)));
        for key in keys {
            targets.push(format!("/c/{commit}/{}/", encoded(key)));
            targets.push(format!("/c/{commit}/{}/?find={}", encoded(key), encoded(SCRIPT)));
            targets.push(format!("/ci?{at}&history={}", encoded(key)));
        }
    }
    for target in targets {
        let response = farm.ask(&Request::get(&target));
        assert!(response.status.as_u16() < 500, "{target}: {}", response.status);
        let policy = response.headers[http::header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        let html = body_text(response);
        assert_harmless(&target, &html);
        // Every link on a page leads to the site itself.
        for link in html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let link =
                link.replace("&amp;", "&").replace("&#38;", "&").replace("&#39;", "'").replace("&#x27;", "'");
            let link = link.split('#').next().unwrap_or("");
            assert!(link.is_empty() || link.starts_with("/c"), "{target}: {link}");
        }
    }
    let page = farm.get(&format!("/ci?{at}"));
    assert!(page_text(&page).contains("&#60;script&#62;alert(1)"), "it is there, as text");
}

#[test]
fn links_of_hostile_names_lead_to_their_pages() {
    let (user, branch) = ("a&b=c#d", "x/y?z&w=%20+\"");
    let farm = Farm::with(|fixture| {
        fixture.branch(user, branch, &[(commit_id("one"), "one\n".into())]);
        fixture.test(TestResult::new(&commit_id("one"), "t#1?.a&b+c%20", Verdict::Passed, 10).log("log\n"));
    });
    let links = |page: &str| -> Vec<String> {
        let links = page[page.find("<main").unwrap()..].split("href=\"").skip(1);
        links
            .filter_map(|rest| Some(rest.split('"').next()?.replace("&#38;", "&").replace("&amp;", "&")))
            .collect()
    };
    let mut open = vec!["/ci".to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(target) = open.pop() {
        if !seen.insert(target.clone()) {
            continue;
        }
        let target = target.split('#').next().unwrap().to_owned();
        if target.is_empty() || target.ends_with(".br") || target.contains("format=") {
            continue;
        }
        open.extend(links(&farm.get(&target)));
    }
    assert!(seen.iter().any(|target| target.contains("history=")), "{seen:?}");
    assert!(seen.iter().any(|target| target.ends_with("log.br")), "{seen:?}");
}

#[test]
fn a_commit_of_5000_tests_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let commit = commit_id("large");
    for (what, failing) in [("few fail", 7), ("all fail", 1)] {
        let mut entries: Vec<TestEntry> = (0..5000)
            .map(|test| {
                let key: ResultKey =
                    format!("fs.ext4.suite{:02}.generic.{:03}", test / 100, test % 100).parse().unwrap();
                let status = if test % failing == 0 { Status::Failed } else { Status::Passed };
                let mut entry = TestEntry::new(key, status);
                entry.decisive.reason = (status == Status::Failed).then(|| "r".repeat(4000));
                entry.decisive.crash = (status == Status::Failed).then(|| "c".repeat(4000));
                entry
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        write_blob(dir.path(), &CommitResults { commit: commit.clone(), message: "large\n".into(), entries });
        let fixture = ResultsFixture::new(dir.path());
        fixture.branch("u", "b", &[(commit.clone(), "large\n".into())]);
        fixture.finish();
        let site = ci_dashboard::Site::new(results::Reader::open(dir.path()).unwrap(), Default::default());
        for target in [
            format!("/c/{commit}/"),
            format!("/c/{commit}/?page=3"),
            format!("/c/{commit}/?status=failed"),
            "/ci?user=u&branch=b".into(),
        ] {
            let page = body_text(ci_dashboard::handle(&site, &Request::get(&target), common::NOW));
            assert_harmless(&format!("{what} {target}"), &page);
        }
        let json =
            ci_dashboard::handle(&site, &Request::get(&format!("/c/{commit}/?format=json")), common::NOW);
        let json: serde_json::Value = serde_json::from_str(&body_text(json)).unwrap();
        assert_eq!(json["tests"].as_array().unwrap().len(), 5000);
    }
}

#[test]
fn a_commit_of_100000_tests_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let commits = [commit_id("huge 1"), commit_id("huge 0")];
    for (row, commit) in commits.iter().enumerate() {
        let entry = |test: usize| {
            let status = if (test + row).is_multiple_of(3) { Status::Failed } else { Status::Passed };
            TestEntry::new(format!("a.b.{test:06}").parse().unwrap(), status)
        };
        let entries = (0..100_000).map(entry).collect();
        write_blob(dir.path(), &CommitResults { commit: commit.clone(), message: "huge\n".into(), entries });
    }
    let fixture = ResultsFixture::new(dir.path());
    fixture.without_directories();
    let listing = commits.clone().map(|commit| (commit, "huge\n".into()));
    fixture.branch("u", "b", &listing).pushes("u", "b", &force_push(&listing));
    fixture.finish();
    let site = ci_dashboard::Site::new(results::Reader::open(dir.path()).unwrap(), Default::default());
    for target in [
        "/ci?user=u&branch=b".to_owned(),
        "/ci?user=u&branch=b&crashes".into(),
        "/ci?user=u&branch=b&flaky".into(),
        "/ci?user=u&branch=b&range-diff".into(),
        "/ci?user=u&branch=b&test=99$".into(),
        "/ci?user=u&branch=b&history=a.b.000007".into(),
        format!("/c/{}/", commits[0]),
        format!("/c/{}/a.b.000009/", commits[0]),
        format!("/ci?compare={}..{}", commits[1], commits[0]),
    ] {
        let answer = ci_dashboard::handle(&site, &Request::get(&target), common::NOW);
        assert_eq!(answer.status, 200, "{target}");
        assert_harmless(&target, &body_text(answer));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn no_address_causes_a_server_error(path in "(/|c|ci|u|follow|status|metrics|%2e|\\.\\.|[0-9a-f]{40}|\\PC){0,12}", query in "(user|branch|commit|test|history|compare|with|crashes|flaky|find|\\.\\.|status|from|page|line|log|format|=|&|json|%|\\PC){0,12}") {
        use std::sync::OnceLock;
        static FARM: OnceLock<Farm> = OnceLock::new();
        let farm = FARM.get_or_init(common::small);
        let request = Request { path: format!("/{path}"), query, ..Request::default() };
        let response = farm.ask(&request);
        proptest::prop_assert!(response.status.as_u16() < 500, "{}", response.status);
    }
}
