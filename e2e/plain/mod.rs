//! A dashboard of the existing system that implements only docs/formats.md: only the documented fields, a commit only
//! as part of a branch, no entity tags, no views of a test or its history, one response per connection. With a
//! certificate, it uses TLS.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::{CommitId, Counts, Status};
use results::{BranchEntry, Reader};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// Serves until the test process ends.
pub struct PlainDashboard {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// A certificate and its key, as PEM files.
pub struct Certificate<'a> {
    pub chain: &'a Path,
    pub key: &'a Path,
}

struct Response {
    status: &'static str,
    headers: &'static str,
    body: Vec<u8>,
}

const JSON: &str = "Content-Type: application/json\r\n";

impl PlainDashboard {
    /// Serves the results in `dir`.
    pub fn start(dir: &Path, certificate: Option<Certificate<'_>>) -> Self {
        let tls = certificate.map(|Certificate { chain, key }| {
            let chain = CertificateDer::pem_file_iter(chain).unwrap().map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
            Arc::new(config.unwrap())
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (dir, log): (PathBuf, _) = (dir.into(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (dir, tls, log) = (dir.clone(), tls.clone(), Arc::clone(&log));
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    // A client that rejects the certificate closes the connection.
                    match tls {
                        Some(tls) => {
                            serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &dir, &log)
                        }
                        None => serve::<TcpStream>(stream, &dir, &log),
                    }
                });
            }
        });
        Self { port, requests }
    }

    /// The targets of the requests, in no particular order.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve<S: Read + Write>(stream: S, dir: &Path, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
    }
    let mut words = request.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    log.lock().unwrap().push(target.to_owned());
    let Response { status, headers, body } = respond(dir, target);
    let mut stream = reader.into_inner();
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    stream.flush().ok()
}

fn respond(dir: &Path, target: &str) -> Response {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(file) = path.strip_prefix("/c/") {
        return file_of(dir, &decode(file)).unwrap_or_else(|| refused("404 Not Found", "no such file"));
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query: HashMap<String, String> = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
    if path != "/ci" || query.get("format").map(String::as_str) != Some("json") {
        return Response {
            status: "200 OK",
            headers: "Content-Type: text/html\r\n",
            body: b"<p>a page".into(),
        };
    }
    match view(&Reader::open(dir).unwrap(), &query) {
        Ok(view) => Response { status: "200 OK", headers: JSON, body: view.to_string().into_bytes() },
        Err(reason) => refused("404 Not Found", reason),
    }
}

fn refused(status: &'static str, reason: &str) -> Response {
    Response { status, headers: JSON, body: json!({ "error": reason }).to_string().into_bytes() }
}

/// The views in docs/formats.md.
fn view(reader: &Reader, query: &HashMap<String, String>) -> Result<Value, &'static str> {
    let get = |name: &str| query.get(name).map(String::as_str);
    let Some(user) = get("user") else {
        let users = reader.users().unwrap().into_iter();
        return Ok(users.map(|(user, branches)| json!({ "user": user, "branches": branches })).collect());
    };
    let Some(branch) = get("branch") else {
        let branches =
            reader.branches(&user.parse().map_err(|_| "no such user")?).unwrap().ok_or("no such user")?;
        return Ok(json!({ "user": user, "branches": branches }));
    };
    let test = regex::Regex::new(get("test").unwrap_or("")).map_err(|_| "no regular expression")?;
    let at = format!("{user}/{branch}").parse().map_err(|_| "no such branch")?;
    let listing = match get("test") {
        Some(_) => reader.branch_filtered(&at, |key| test.is_match(key.as_str())),
        None => reader.branch(&at),
    };
    let listing = listing.unwrap().ok_or("no such branch")?;
    match get("commit") {
        None => Ok(listing.iter().map(row).collect()),
        Some(commit) => {
            let listed =
                listing.iter().find(|entry| entry.commit.as_str() == commit).ok_or("no such commit")?;
            Ok(commit_view(reader, &listed.commit, &listed.message))
        }
    }
}

fn row(BranchEntry { commit, message, counts, duration, .. }: &BranchEntry) -> Value {
    let Counts { passed, failed, notrun, failed_to_run, inprogress, unknown, flaky } = counts;
    let failed = failed + flaky;
    json!({
        "commit": commit.as_str(), "message": message, "passed": passed, "failed": failed, "notrun": notrun,
        "failed_to_run": failed_to_run, "inprogress": inprogress, "unknown": unknown, "duration": duration.as_secs(),
    })
}

fn commit_view(reader: &Reader, commit: &CommitId, message: &str) -> Value {
    let entries = reader.commit(commit).unwrap().map(|results| results.entries).unwrap_or_default();
    let test = |entry: &results::TestEntry| {
        let status = match entry.decisive.status {
            Status::Passed => "Passed",
            Status::Failed | Status::Flaky => "Failed",
            Status::NotRun => "Not run",
            Status::FailedToRun => "Failed to run",
            Status::InProgress => "In progress",
            Status::Unknown => "Unknown",
        };
        json!({ "name": entry.key.as_str(), "status": status, "duration": entry.decisive.duration.as_secs() })
    };
    json!({ "commit": commit.as_str(), "message": message, "tests": entries.iter().map(test).collect::<Value>() })
}

/// The files below `/c/` in docs/formats.md.
fn file_of(dir: &Path, file: &str) -> Option<Response> {
    let name = file.rsplit('/').next()?;
    let published =
        matches!(name, "status" | "duration" | "log.br" | "full_log.br" | "ci-daemon-status.json");
    if !(published || name.ends_with(".capnp")) || file.split('/').any(|part| part == "..") {
        return None;
    }
    let body = std::fs::read(dir.join(file)).ok()?;
    let headers = match name.ends_with(".br") {
        true => "Content-Type: text/plain; charset=utf-8\r\nContent-Encoding: br\r\n",
        false => "",
    };
    Some(Response { status: "200 OK", headers, body })
}

/// Decodes `+` and `%XX`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
