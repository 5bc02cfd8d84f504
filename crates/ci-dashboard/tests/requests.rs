//! `POST /requests`: what a program requests, and what a hostile client sends.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use ci_dashboard::{Actions, Request, Requests, Site, TestFiles, Token};
use common::{Farm, commits, small};
use http::header::{AUTHORIZATION, HeaderValue};
use results::Reader;
use results::requests;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PUNCH: &str = "fs.ext4.basic.punch";

fn post(farm: &Farm, token: Option<&str>, body: &str) -> (u16, Value) {
    let mut request = Request { method: http::Method::POST, ..Request::get("/requests") };
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        request.headers.insert(AUTHORIZATION, value);
    }
    let reader = Reader::open(farm.path()).unwrap();
    let response = Requests::new(Token::new(TOKEN)).answer(&reader, &request, body.as_bytes());
    let mut bytes = Vec::new();
    response.body.write_to(&mut bytes).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN));
    (response.status.as_u16(), serde_json::from_slice(&bytes).unwrap())
}

fn bisect(branch: &str, key: &str, range: Option<(usize, usize)>) -> Value {
    let (user, branch) = branch.split_once('/').unwrap();
    let mut request =
        json!({"version": 1, "bisect": {"branch": {"user": user, "branch": branch}, "key": key}});
    if let Some((base, head)) = range {
        let id = |row: usize| commits().get(row).map_or("0".repeat(40), |(id, _)| id.to_string());
        request["bisect"]["range"] = json!({"base": id(base), "head": id(head)});
    }
    request
}

/// A request with one argument.
fn other(name: &str, value: impl serde::Serialize) -> Value {
    json!({"version": 1, name: value})
}

#[test]
fn what_ci_daemon_would_refuse_is_not_written() {
    let farm = small();
    let believe = |confidence: u32| {
        let branch = json!({"user": "mira", "branch": "ext4-testing"});
        other("believe", json!({"branch": branch, "key": "boot.boots", "confidence": confidence}))
    };
    for (body, expected) in [
        (json!([]), 400),
        (json!({"version": 1}), 400),
        (json!({"version": 2, "cancel_bisection": "x"}), 400),
        (other("format_the_disk", json!("x")), 400),
        (other("unlist", json!({"user": "mira", "branch": "ext4-testing"})), 400),
        (bisect("mira/../x", PUNCH, None), 404),
        (bisect("mira/ext4-testing", "../../etc/passwd", None), 400),
        (bisect("mira/none", PUNCH, None), 404),
        (bisect("mira/ext4-testing", "fs.ext4.basic.none", None), 404),
        (bisect("mira/ext4-testing", PUNCH, Some((3, 3))), 400),
        (bisect("mira/ext4-testing", PUNCH, Some((3, 4))), 400),
        (bisect("mira/ext4-testing", PUNCH, Some((4, 9))), 400),
        (bisect("mira/ext4-testing", PUNCH, Some((4, 1))), 400),
        (bisect("mira/ext4-testing", "boot.boots", None), 400),
        (believe(95), 400),
        (believe(0), 400),
        (other("cancel_bisection", json!("../x")), 404),
        (other("cancel_believe", json!("none")), 404),
        (other("rerun", json!({"commit": commits()[3].0, "key": "fs.ext4.basic.none"})), 404),
        (other("rerun", json!({"commit": commits()[1].0, "key": "fs.ext4.basic.rename"})), 409),
    ] {
        let (status, error) = post(&farm, Some(TOKEN), &body.to_string());
        assert_eq!((status, error["error"].is_string()), (expected, true), "{body} {error}");
    }
    for body in ["", "null", "\u{feff}{}", &"[".repeat(4000)] {
        assert_eq!(post(&farm, Some(TOKEN), body).0, 400);
    }
    assert!(requests::pending(farm.path()).is_empty());
}

#[test]
fn only_requests_with_the_token_are_written() {
    let farm = small();
    let open = || requests::pending(farm.path());
    let valid = bisect("mira/ext4-testing", PUNCH, Some((4, 3)));
    for token in [None, Some("wrong"), Some("")] {
        for body in [valid.to_string(), String::new(), "{".into()] {
            let (status, error) = post(&farm, token, &body);
            assert_eq!((status, error["error"].is_string()), (401, true));
        }
    }
    assert!(open().is_empty());
    // The address is that of the connection, not one of the client's choice.
    let mut forged = valid.clone();
    forged["address"] = "192.0.2.1".into();
    let (status, answer) = post(&farm, Some(TOKEN), &forged.to_string());
    assert_eq!((status, open().len()), (202, 1), "{answer}");
    let file = answer["request"].as_str().unwrap();
    let written = std::fs::read_to_string(farm.path().join("requests").join(file)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), valid);
    // The same request is written once.
    assert_eq!(post(&farm, Some(TOKEN), &valid.to_string()), (202, answer.clone()));
    let rerun = other("rerun", json!({"commit": commits()[3].0, "key": PUNCH}));
    assert_eq!((post(&farm, Some(TOKEN), &rerun.to_string()).0, open().len()), (202, 2));
    let state = |file: &str| serde_json::from_str::<Value>(&farm.get(&format!("/requests/{file}"))).unwrap();
    assert_eq!(state(file)["state"], "waiting");
    std::fs::remove_file(farm.path().join("requests").join(file)).unwrap();
    assert_eq!(state(file)["state"], "ended");
    for name in ["..%2F..%2Fetc%2Fpasswd", "x", ".json", "taken"] {
        assert_eq!(farm.status(&format!("/requests/{name}")), 404, "{name}");
    }
    // The site itself, which CGI uses, is read-only.
    let request = Request { method: http::Method::POST, ..Request::get("/requests") };
    assert_eq!(
        (farm.ask(&request).status, farm.status("/requests")),
        (http::StatusCode::METHOD_NOT_ALLOWED, 404)
    );
}

#[test]
fn the_number_of_open_requests_is_limited() {
    let farm = small();
    for at in 0..500 {
        let kind = requests::RequestKind::CancelBisection(format!("x{at}"));
        requests::submit(farm.path(), kind, None).unwrap();
    }
    let valid = bisect("mira/ext4-testing", PUNCH, Some((4, 3))).to_string();
    assert_eq!(post(&farm, Some(TOKEN), &valid).0, 503);
}

#[test]
fn a_large_body_is_not_read() {
    use std::io::{Read as _, Write as _};
    let farm = small();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let site = Site::new(Reader::open(farm.path()).unwrap(), TestFiles::default());
    let requests = Some(Requests::new(Token::new(TOKEN)));
    let actions = Actions { requests, ..Actions::default() };
    runtime.spawn(ci_dashboard::serve(site, actions, listener, Default::default(), std::future::pending()));
    let send = |length: usize, body: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /requests HTTP/1.1\r\nHost: ci\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.split(' ').nth(1).unwrap().to_owned()
    };
    let valid = bisect("mira/ext4-testing", PUNCH, Some((4, 3))).to_string();
    assert_eq!(send(1 << 40, &"x".repeat(5000)), "413");
    assert_eq!(send(5000, &"x".repeat(5000)), "413");
    assert_eq!(send(valid.len(), &valid), "202");
}
