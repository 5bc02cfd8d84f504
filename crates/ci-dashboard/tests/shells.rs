//! The two front ends: the HTTP server, and CGI as a process and behind a real web server.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ci_dashboard::Request;
use ci_dashboard::{Actions, Control, Requests, Rerun, Token, Webhook};
use common::{FAILED_LOG, Farm, body, commits, example, skipped, small};
use spawn::{Cmd, Limits, Output};

/// A response as received.
struct Reply {
    head: String,
    body: Vec<u8>,
}

/// Sends one request over a new connection.
fn ask(address: SocketAddr, target: &str, headers: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: ci\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    Reply { head: String::from_utf8(bytes[..end].to_vec()).unwrap(), body: bytes[end + 4..].to_vec() }
}

fn log_address() -> String {
    format!("/c/{}/fs.ext4.basic.punch/log.br", commits()[3].0)
}

/// Checks the responses that are the same from the server and from a web server with CGI.
fn check_site(address: SocketAddr, farm: &Farm) {
    let page = ask(address, "/ci?user=mira&branch=ext4-testing", "");
    assert!(page.head.starts_with("HTTP/1.1 200"), "{}", page.head);
    assert!(
        page.head.to_ascii_lowercase().contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    assert_eq!(String::from_utf8(page.body).unwrap(), farm.get("/ci?user=mira&branch=ext4-testing"));
    let log = ask(address, &log_address(), "");
    assert!(log.head.to_ascii_lowercase().contains("content-encoding: br"), "{}", log.head);
    let mut plain = Vec::new();
    brotli::BrotliDecompress(&mut log.body.as_slice(), &mut plain).unwrap();
    assert_eq!(plain, FAILED_LOG.as_bytes());
    let part = ask(address, &log_address(), "Range: bytes=1-3\r\n");
    assert!(part.head.starts_with("HTTP/1.1 206"), "{}", part.head);
    assert_eq!(part.body, log.body[1..=3]);
    let etag = page.head.lines().find(|line| line.to_ascii_lowercase().starts_with("etag: ")).unwrap();
    let same =
        ask(address, "/ci?user=mira&branch=ext4-testing", &format!("If-None-Match: {}\r\n", &etag[6..]));
    assert!(same.head.starts_with("HTTP/1.1 304"), "{}", same.head);
    assert!(same.body.is_empty());
    let none = ask(address, "/ci?user=nobody&format=json", "");
    assert!(none.head.starts_with("HTTP/1.1 404"), "{}", none.head);
    assert!(String::from_utf8(none.body).unwrap().starts_with("{\"error\":"));
    let slash = ask(address, "/ci?user=anton&branch=xfs%2Ffor-next&format=json", "");
    assert!(slash.head.starts_with("HTTP/1.1 200"), "{}", slash.head);
}

#[test]
fn the_server_serves() {
    let farm = small();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let site = small_site(farm.path());
    let token = Token::new(TOKEN);
    let actions = Actions {
        hook: Some(Webhook::new(token.clone())),
        rerun: Some(Rerun::new(token.clone())),
        control: Some(Control::new(token.clone())),
        requests: Some(Requests::new(token)),
    };
    let server = runtime.spawn(ci_dashboard::serve(site, actions, listener, Default::default(), async {
        stopped.await.ok();
    }));
    check_site(address, &farm);
    // A large file is complete.
    let large = vec![b'x'; 3_000_000];
    let artifact = log_address().replace("log.br", "large.br");
    std::fs::write(farm.path().join(&artifact[3..]), &large).unwrap();
    assert!(ask(address, &artifact, "").body == large);
    // An invalid or too long request is refused, and the server continues.
    for bad in [format!("/ci?test={}", "a".repeat(20_000)), format!("/ci?user={}", "a".repeat(9_000))] {
        let head = ask(address, &bad, "").head;
        assert!(head.starts_with("HTTP/1.1 4"), "{head}");
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    drop(stream);
    assert!(ask(address, "/healthz", "").head.starts_with("HTTP/1.1 200"));
    hook_answers(address);
    a_rerun_is_requested(address, &farm);
    http2(&runtime, address, &farm);
    // A growing log is sent line by line and does not prevent the server from stopping.
    let follow = format!("/c/{}/fs.ext4.basic.rename/follow", commits()[1].0);
    let mut events = TcpStream::connect(address).unwrap();
    events.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(events, "GET {follow} HTTP/1.1\r\nHost: ci\r\n\r\n").unwrap();
    let live = farm.path().join(&follow[3..]).with_file_name("log");
    read_until(&mut events, "half");
    let mut log = std::fs::OpenOptions::new().append(true).open(live).unwrap();
    log.write_all(b"00002 more\n").unwrap();
    read_until(&mut events, "more");
    let over_two = follow_over_http2(&runtime, address, &follow);
    stop.send(()).unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), server).await });
    ended.expect("the server stops").unwrap().unwrap();
    if let Some(over_two) = over_two {
        let output = runtime.block_on(over_two).unwrap().unwrap();
        assert!(output.exit.success() && output.text().contains("more"), "{}", output.error_line());
    }
}

fn read_until(stream: &mut TcpStream, word: &str) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(word) {
        let got = stream.read(&mut piece).unwrap();
        assert!(got > 0, "no {word} in {}", String::from_utf8_lossy(&seen));
        seen.extend(&piece[..got]);
    }
}

const TOKEN: &str = "0123456789abcdef";

/// A `POST` with these headers and this body.
fn post(address: SocketAddr, target: &str, headers: &str, body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: ci\r\nConnection: close\r\nContent-Length: {length}\r\n");
    write!(stream, "{head}{headers}\r\n{body}").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    Reply { head: String::from_utf8(bytes[..end].to_vec()).unwrap(), body: bytes[end + 4..].to_vec() }
}

/// Works only with the token; there is no daemon to signal.
fn hook_answers(address: SocketAddr) {
    let post = |target: &str, token: &str| {
        let reply = post(address, target, &format!("Authorization: Bearer {token}\r\n"), "");
        reply.head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(post("/hook", "wrong"), "401");
    assert_eq!(post("/hook", TOKEN), "503");
    assert_eq!(post("/ci", TOKEN), "405");
}

/// With the form and by a program.
fn a_rerun_is_requested(address: SocketAddr, farm: &Farm) {
    let page = format!("/c/{}/fs.ext4.basic.punch/", commits()[3].0);
    let rerun = format!("{page}rerun");
    let html = |target: &str| String::from_utf8(ask(address, target, "").body).unwrap();
    let open = || results::requests::pending_reruns(farm.path()).len();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let right = format!("token={TOKEN}");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let status_of = |reply: &Reply| reply.head.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
    assert!(html(&page).contains(&format!("<form class=\"rerun\" method=\"post\" action=\"{rerun}\">")));
    let missing = format!("/c/{}/fs.ext4.basic.none/rerun", commits()[3].0);
    let running = format!("/c/{}/fs.ext4.basic.rename/rerun", commits()[1].0);
    for (target, headers, body, status) in [
        (&rerun, form, "token=0123456789abcdee", 403),
        (&rerun, form, "", 403),
        (&rerun, form, "%", 400),
        (&rerun, "", &right, 403),
        (&rerun, &format!("{form}Sec-Fetch-Site: cross-site\r\n"), &right, 403),
        (&rerun, form, &format!("{right}&x={}", "x".repeat(5000)), 413),
        (&rerun, "Authorization: Bearer wrong\r\n", "", 401),
        (&missing, form, &right, 404),
        (&missing, &bearer, "", 404),
        (&running, form, &right, 409),
        (&"/c/x/y/rerun".to_owned(), form, &right, 400),
        (&"/c/x/y/rerun".to_owned(), form, "token=wrong", 403),
        (&page, form, &right, 405),
    ] {
        let reply = post(address, target, headers, body);
        assert_eq!(status_of(&reply), status, "{target} {headers} {body}");
        let text = String::from_utf8(reply.body).unwrap();
        assert!(!text.contains(TOKEN), "{text}");
        assert_eq!(open(), 0, "{target} {headers} {body}");
    }
    let reply = post(address, &rerun, &format!("{form}Sec-Fetch-Site: same-origin\r\n"), &right);
    assert_eq!(status_of(&reply), 303, "{}", reply.head);
    assert!(reply.head.contains(&format!("location: {page}")), "{}", reply.head);
    assert_eq!(open(), 1);
    assert!(html(&page).contains("Rerun requested"));
    // A second request for the same test changes nothing.
    let reply = post(address, &rerun, &bearer, "");
    assert_eq!((status_of(&reply), open()), (202, 1));
    let view: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(view["test"], "fs.ext4.basic.punch");
    let asked = results::requests::pending_reruns(farm.path()).remove(0);
    assert_eq!((asked.commit, asked.key.to_string()), (commits()[3].0.clone(), "fs.ext4.basic.punch".into()));
    // The site itself, which CGI uses, is read-only.
    let request = Request { method: http::Method::POST, ..Request::get(&rerun) };
    assert_eq!(farm.ask(&request).status, 405);
    assert!(!farm.get(&page).contains("<form class=\"rerun\""));
}

/// Starts a curl that follows a log over HTTP/2, and waits until it has received the head.
fn follow_over_http2(
    runtime: &tokio::runtime::Runtime,
    address: SocketAddr,
    follow: &str,
) -> Option<tokio::task::JoinHandle<Result<Output, spawn::SpawnError>>> {
    let curl = Path::new("/usr/bin/curl");
    if !curl.exists() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let head = dir.path().join("head");
    let cmd = Cmd::new(curl)
        .args(["-sSN", "--http2-prior-knowledge", "--max-time", "20", "-D"])
        .arg(&head)
        .arg(format!("http://{address}{follow}"));
    let running = runtime.spawn(async move { cmd.output(Limits::seconds(30)).await });
    let began = Instant::now();
    while !std::fs::read_to_string(&head).unwrap_or_default().contains("HTTP/2 200") {
        assert!(began.elapsed() < Duration::from_secs(10), "curl receives no head over HTTP/2");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(running)
}

/// HTTP/2 without TLS, as used by a proxy; curl is the client.
fn http2(runtime: &tokio::runtime::Runtime, address: SocketAddr, farm: &Farm) {
    let curl = Path::new("/usr/bin/curl");
    let run = |args: &[&str], target: &str| {
        let url = format!("http://{address}{target}");
        let cmd = Cmd::new(curl).args(["-sS", "--max-time", "20"]).args(args).arg(url);
        runtime.block_on(cmd.output(Limits::seconds(30))).unwrap()
    };
    if !curl.exists() || !run(&["--version"], "").text().contains("HTTP2") {
        return skipped("HTTP/2 is not tested: curl with HTTP/2 is not installed");
    }
    let two = "--http2-prior-knowledge";
    let page = "/ci?user=mira&branch=ext4-testing";
    let output = run(&[two, "-w", "\n%{http_version} %{http_code}"], page);
    assert!(output.text().ends_with("\n2 200"), "{} {}", output.text(), output.error_line());
    assert_eq!(output.text().strip_suffix("\n2 200"), Some(farm.get(page).as_str()));
    let output =
        run(&[two, "-r", "1-3", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"], &log_address());
    assert_eq!(output.text(), "2 206");
    let rerun = format!("/c/{}/fs.ext4.basic.punch/rerun", commits()[3].0);
    let output =
        run(&[two, "-d", "token=wrong", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"], &rerun);
    assert_eq!(output.text(), "2 403");
    let output =
        run(&[two, "-o", "/dev/null", "-w", "%{http_code}"], &format!("/ci?user={}", "a".repeat(9000)));
    assert_eq!(output.text(), "400");
    // An upgrade is not accepted. (curl in Debian 12 cannot use such a connection twice: curl issue 10634.)
    let output = run(&["--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"], page);
    assert_eq!(output.text(), "1.1 200");
}

fn small_site(dir: &Path) -> ci_dashboard::Site {
    let tests = ["fs/ext4/basic", "boot"].iter().map(|test| test.parse().unwrap()).collect();
    ci_dashboard::Site::new(results::Reader::open(dir).unwrap(), tests)
}

/// A configuration with the results and the test files.
fn config(dir: &Path) -> PathBuf {
    let text = format!(
        "linux_repo = {0:?}\noutput_dir = {0:?}\nktest_dir = {0:?}\nuser = \"mira\"\n\
         [test_group.all]\ntests = [\"fs/ext4/basic.ktest\", \"boot.ktest\"]\n\
         [branch.ext4-testing]\nremote = \"https://git.example.org/linux.git\"\nref = \"ext4-testing\"\ntest_groups = [\"all\"]\n",
        dir.display().to_string()
    );
    let file = dir.join("ktest-ci.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn run(cmd: &Cmd) -> Output {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(cmd.output(Limits::seconds(30))).unwrap()
}

#[test]
fn cgi_as_a_process() {
    let Some(program) = example("ci-dashboard") else { return };
    let farm = small();
    let cgi = |uri: &str, extra: &[(&str, &str)]| {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut cmd = Cmd::new(&program)
            .env_clear()
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("KTEST_CI_CONFIG", config(farm.path()))
            .env("REQUEST_METHOD", "GET")
            .env("SCRIPT_NAME", "/cgi-bin/ci-dashboard")
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query);
        for (name, value) in extra {
            cmd = cmd.env(name, value);
        }
        let output = run(&cmd);
        assert!(output.exit.success(), "{uri}: {}", output.error_line());
        let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(output.stdout[..end].to_vec()).unwrap();
        (head, output.stdout[end + 4..].to_vec())
    };
    let (head, page) = cgi("/ci?user=mira&branch=ext4-testing", &[]);
    assert!(head.starts_with("Status: 200 OK\r\n"), "{head}");
    let request = Request {
        mount: "/cgi-bin/ci-dashboard".into(),
        ..Request::get("/ci?user=mira&branch=ext4-testing")
    };
    assert_eq!(String::from_utf8(page), Ok(common::body_text(farm.ask(&request))));
    let (head, part) = cgi(&log_address(), &[("HTTP_RANGE", "bytes=1-3")]);
    assert!(head.starts_with("Status: 206 "), "{head}");
    assert_eq!(part, body(farm.ask(&Request::get(&log_address())))[1..=3]);
    let (head, error) = cgi("/ci?user=nobody&format=json", &[]);
    assert!(head.starts_with("Status: 404 "), "{head}");
    assert!(String::from_utf8(error).unwrap().starts_with("{\"error\""));
    // Errors in the configuration are only logged.
    let (head, page) = cgi("/ci", &[("KTEST_CI_CONFIG", "/nowhere/ktest-ci.toml")]);
    assert!(head.starts_with("Status: 503 "), "{head}");
    assert!(!String::from_utf8(page).unwrap().contains("nowhere"));
}

#[test]
fn cgi_behind_lighttpd() {
    let Some(program) = example("ci-dashboard") else { return };
    let Some(lighttpd) =
        ["/usr/sbin/lighttpd", "/usr/bin/lighttpd"].iter().find(|path| Path::new(path).exists())
    else {
        skipped("lighttpd is not installed; apt-get install lighttpd");
        return;
    };
    let farm = small();
    let work = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // A CGI program has no arguments, so the environment selects the configuration.
    let settings = format!(
        "server.document-root = \"{root}\"\nserver.port = {port}\nserver.bind = \"127.0.0.1\"\n\
         server.modules = (\"mod_alias\", \"mod_setenv\", \"mod_cgi\")\n\
         server.errorlog = \"{root}/error.log\"\n\
         setenv.set-environment = (\"KTEST_CI_CONFIG\" => \"{config}\")\n\
         alias.url = (\"/ci\" => \"{program}\", \"/c\" => \"{program}\")\n\
         $HTTP[\"url\"] =~ \"^/(ci|c)(/|$)\" {{ cgi.assign = (\"\" => \"\") }}\n",
        root = work.path().display(),
        config = config(farm.path()).display(),
        program = program.display(),
    );
    let file = work.path().join("lighttpd.conf");
    std::fs::write(&file, settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = {
        let _inside = runtime.enter();
        Cmd::new(lighttpd).args(["-D", "-f"]).arg(&file).start().unwrap()
    };
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "lighttpd does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    check_site(address, &farm);
    drop(server);
}
