//! What operators stop: the forms, what hostile clients send, and the status page.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use ci_dashboard::{Control, Request, Requests, Site, TestFiles, Token};
use common::{Farm, NOW, body_text, page_text};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use model::snapshot::{BatchStatus, BranchStatus, ExecutorStatus, HostStatus};
use model::{Drained, HostReport, Paused, StatusSnapshot, Stopped};
use results::Reader;
use results::requests::{self, RequestKind};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FORM: &str = "application/x-www-form-urlencoded";
const STARTED: i64 = NOW - 60;

fn farm() -> Farm {
    let stopped = |by: &str, reason: Option<&str>| Stopped {
        at: NOW - 7200,
        by: Some(by.into()),
        reason: reason.map(Into::into),
    };
    let executor = |name: &str, state: &str| {
        let batch = BatchStatus { phase: "testing".into(), started: STARTED, ..BatchStatus::default() };
        ExecutorStatus {
            name: name.into(),
            host: name.split('/').next().unwrap().into(),
            state: state.into(),
            batch: (state == "busy").then_some(batch),
            ..ExecutorStatus::default()
        }
    };
    let report =
        HostReport { memory_total: Some(64 << 30), memory_available: Some(3 << 30), ..HostReport::default() };
    let host = HostStatus {
        name: "a".into(),
        report: Some(report),
        reported: Some(NOW - 9),
        ..HostStatus::default()
    };
    let branch =
        |name: &str| BranchStatus { tip: Some("1".repeat(40)), ..BranchStatus::new(&name.parse().unwrap()) };
    let snapshot = StatusSnapshot {
        written: NOW,
        executors: vec![
            executor("a/0", "busy"),
            executor("a/1", "drained"),
            executor("b/0", "drained"),
            executor("c/0", "idle"),
        ],
        hosts: vec![host],
        drained: vec![
            Drained { place: "a/1".parse().unwrap(), stopped: stopped("kmo", Some("<b>new disk</b>")) },
            Drained {
                place: "b".parse().unwrap(),
                stopped: stopped("www-data, through the dashboard", None),
            },
        ],
        branches: vec![branch("u/next"), branch("u/old")],
        paused: vec![Paused { branch: "u/old".parse().unwrap(), stopped: stopped("kmo", None) }],
        ..StatusSnapshot::default()
    };
    Farm::with(|fixture| {
        fixture.snapshot(&snapshot);
    })
}

/// The page at an address of a site that accepts requests.
fn page(farm: &Farm, target: &str) -> (u16, String) {
    let site = Site::new(Reader::open(farm.path()).unwrap(), TestFiles::default()).offering_reruns();
    let response = ci_dashboard::handle(&site, &Request::get(target), NOW);
    (response.status.as_u16(), body_text(response))
}

/// The status and the redirection of a form.
fn post(farm: &Farm, headers: &[(HeaderName, &str)], body: &str) -> (u16, Option<String>) {
    let mut request = Request { method: http::Method::POST, ..Request::get("/ci/control") };
    for (name, value) in headers {
        request.headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    let reader = Reader::open(farm.path()).unwrap();
    let response = Control::new(Token::new(TOKEN)).answer(&reader, &request, body.as_bytes());
    let location = response.headers.get(LOCATION).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status.as_u16();
    assert!(!body_text(response).contains(TOKEN));
    (status, location)
}

fn open(farm: &Farm) -> Vec<RequestKind> {
    requests::pending(farm.path()).into_iter().map(|(_, kind)| kind).collect()
}

fn form(farm: &Farm, fields: &str) -> u16 {
    post(farm, &[(CONTENT_TYPE, FORM)], &format!("token={TOKEN}&{fields}")).0
}

#[test]
fn the_status_page_shows_who_stopped_what_and_links_to_the_forms() {
    let farm = farm();
    let (_, html) = page(&farm, "/ci?status");
    let text = page_text(&html);
    for words in [
        "‖ b 0 of 1 busy 1 drained drained by www-data, through the dashboard",
        "by kmo: <b>new disk</b>",
        "‖ paused by kmo",
        "2workers drained",
        "3.0 GiB of 64.0 GiB memory free",
    ] {
        assert!(text.replace("&#60;", "<").replace("&#62;", ">").contains(words), "{words}: {text}");
    }
    assert!(!html.contains("<b>new disk"), "{html}");
    let batch = format!("/ci/control?do=cancel&#38;at=a/0&#38;batch={STARTED}");
    for link in [
        batch.as_str(),
        "/ci/control?do=resume&#38;at=a/1",
        "/ci/control?do=resume&#38;at=b",
        "/ci/control?do=drain&#38;at=c",
        "/ci/control?do=pause&#38;at=u/next",
        "/ci/control?do=resume-branch&#38;at=u/old",
    ] {
        assert!(html.contains(&format!("\"{link}\"")), "{link}: {html}");
    }
    let (status, html) = page(&farm, "/ci/control?do=drain&at=%3Cscript%3E");
    assert_eq!(status, 200);
    assert!(html.contains("<form class=\"control\" method=\"post\" action=\"/ci/control\">"), "{html}");
    assert!(!html.contains("<script>\""), "{html}");
    assert_eq!(page(&farm, "/ci/control?do=reboot").0, 400);
    assert_eq!(page(&farm, "/ci/control?do=cancel&at=a/0&batch=x").0, 400);
    // A site without a token has neither.
    assert_eq!(farm.status("/ci/control?do=drain&at=a"), 404);
    assert!(!farm.get("/ci?status").contains("/ci/control"));
}

#[test]
fn only_forms_of_this_site_with_the_token_are_accepted() {
    let farm = farm();
    let site = HeaderName::from_static("sec-fetch-site");
    let drain = format!("token={TOKEN}&do=drain&at=c");
    let form = (CONTENT_TYPE, FORM);
    for (headers, body, expected) in [
        (vec![], drain.as_str(), 403),
        (vec![form.clone()], "token=0123456789abcdee&do=drain&at=c", 403),
        (vec![form.clone()], "do=drain&at=c", 403),
        (vec![form.clone()], "", 403),
        (vec![form.clone()], "%", 400),
        (vec![form.clone(), (site.clone(), "cross-site")], &drain, 403),
        (vec![form.clone(), (site.clone(), "same-site")], &drain, 403),
        (vec![(AUTHORIZATION, "Bearer 0123456789abcdef0123456789abcdef")], "do=drain&at=c", 403),
        (vec![(CONTENT_TYPE, "text/plain")], &drain, 403),
    ] {
        assert_eq!(post(&farm, &headers, body).0, expected, "{headers:?} {body}");
        assert_eq!(open(&farm), []);
    }
    let sent = post(&farm, &[form, (site, "same-origin")], &format!("{drain}&reason=new+disk"));
    assert_eq!(sent, (303, Some("/ci?status".into())));
    let [RequestKind::Drain(asked)] = &open(&farm)[..] else { panic!("{:?}", open(&farm)) };
    assert_eq!((asked.place.to_string(), asked.reason.as_deref()), ("c".into(), Some("new disk")));
}

#[test]
fn what_the_farm_does_not_have_is_not_stopped() {
    let farm = farm();
    for (fields, expected) in [
        ("do=drain&at=d", 404),
        ("do=drain&at=a/7", 404),
        ("do=drain&at=../../etc", 400),
        ("do=drain&at=a%00", 400),
        ("do=drain", 400),
        ("do=reboot&at=a", 400),
        ("at=a", 400),
        ("do=drain&at=a&reason=x%0Ay", 400),
        ("do=resume&at=c", 409),
        ("do=resume&at=b/0", 409),
        ("do=cancel&at=a", 400),
        ("do=cancel&at=a/1", 409),
        ("do=cancel&at=a/0&batch=5", 409),
        ("do=cancel&at=a/0&batch=99999999999999999999", 400),
        ("do=pause&at=u/none", 404),
        ("do=pause&at=none", 400),
        ("do=resume-branch&at=u/next", 409),
    ] {
        assert_eq!(form(&farm, fields), expected, "{fields}");
    }
    assert_eq!(form(&farm, &format!("do=drain&at=a&reason={}", "x".repeat(201))), 400);
    assert_eq!(open(&farm), []);
    for fields in [
        "do=resume&at=b",
        "do=cancel&at=a/0",
        &format!("do=cancel&at=a/0&batch={STARTED}"),
        "do=pause&at=u/next",
        "do=resume-branch&at=u/old",
    ] {
        assert_eq!(form(&farm, fields), 303, "{fields}");
    }
    assert_eq!(open(&farm).len(), 4, "the same request is written once");
}

#[test]
fn programs_send_the_same_requests() {
    let farm = farm();
    let post = |body: &str| {
        let mut request = Request { method: http::Method::POST, ..Request::get("/requests") };
        request.headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap());
        let reader = Reader::open(farm.path()).unwrap();
        Requests::new(Token::new(TOKEN)).answer(&reader, &request, body.as_bytes()).status.as_u16()
    };
    for (body, expected) in [
        (r#"{"version":1,"drain":{"host":"c","reason":"x"}}"#, 202),
        (r#"{"version":1,"drain":{"host":"c/0"}}"#, 400),
        (r#"{"version":1,"drain":{"host":"c","slot":-1}}"#, 400),
        (r#"{"version":1,"drain":{"host":"d"}}"#, 404),
        (r#"{"version":1,"drain":{"host":"c","reason":"\u0000"}}"#, 400),
        (r#"{"version":1,"resume":{"host":"a","slot":1}}"#, 202),
        (r#"{"version":1,"cancel_batch":{"host":"a","slot":0,"started":1}}"#, 409),
        (r#"{"version":1,"pause_branch":{"user":"u","branch":"next"}}"#, 202),
        (r#"{"version":1,"resume_branch":{"user":"u","branch":"next"}}"#, 409),
    ] {
        assert_eq!(post(body), expected, "{body}");
    }
}
