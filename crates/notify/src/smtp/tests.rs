use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use model::FindingKind;

use super::*;
use crate::mail::{Identity, compose};
use crate::sample;

/// What a mail server received.
struct Received {
    commands: Vec<String>,
    mail: String,
}

/// A mail server for one connection. It answers the command that begins with `refuse` with `answer`.
fn server(refuse: &'static str, answer: &'static str) -> (SocketAddr, JoinHandle<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (stream, _) = listener.accept().unwrap();
        talk(&stream, refuse, answer)
    };
    (address, std::thread::spawn(serve))
}

fn talk(stream: &TcpStream, refuse: &str, answer: &str) -> Received {
    let mut reader = BufReader::new(stream);
    let say = |text: &str| {
        let mut out = stream;
        let _ = out.write_all(format!("{text}\r\n").as_bytes());
    };
    let mut received = Received { commands: Vec::new(), mail: String::new() };
    say("220 mail.example ESMTP");
    let mut in_data = false;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        let text = std::mem::take(&mut line);
        let text = text.trim_end_matches(['\r', '\n']);
        if in_data {
            if text == "." {
                in_data = false;
                say("250 queued");
            } else {
                received.mail.push_str(text.strip_prefix('.').unwrap_or(text));
                received.mail.push('\n');
            }
            continue;
        }
        received.commands.push(text.to_owned());
        match text.split(' ').next().unwrap_or("") {
            word if word == refuse => say(answer),
            "EHLO" => say("250-mail.example\r\n250 8BITMIME"),
            "DATA" => {
                in_data = true;
                say("354 go");
            }
            "QUIT" => {
                say("221 bye");
                break;
            }
            _ => say("250 ok"),
        }
    }
    received
}

fn mail() -> Mail {
    let identity = Identity {
        from: "ktest <ktest@ci.example.org>".into(),
        to: vec!["Kim <kim@x.example>".into()],
        cc: vec!["list@x.example".into()],
        host: "ci.example.org".into(),
        list_id: "ktest".into(),
        moderated: false,
        reported_by: "ktest".into(),
    };
    compose(&sample::report(FindingKind::Broke), &identity, None, 0).unwrap().unwrap()
}

fn smtp(address: SocketAddr, tls: Tls) -> Transport {
    let (user, password) = (None, None);
    Transport::Smtp { server: address.ip().to_string(), port: address.port(), tls, user, password }
}

#[test]
fn a_mail_arrives_as_it_was_composed() {
    let (address, server) = server("", "");
    let mail = mail();
    send(&smtp(address, Tls::None), &mail, Duration::from_secs(10)).unwrap();
    let received = server.join().unwrap();
    assert_eq!(
        received.mail.trim_end(),
        String::from_utf8(mail.bytes).unwrap().replace("\r\n", "\n").trim_end()
    );
    let commands: Vec<&str> = received.commands.iter().map(String::as_str).collect();
    assert!(
        commands.contains(&"RCPT TO:<kim@x.example>") && commands.contains(&"RCPT TO:<list@x.example>"),
        "{commands:?}"
    );
}

#[test]
fn a_temporary_error_is_told_from_a_final_one() {
    for (refuse, answer, later) in [
        ("RCPT", "450 greylisted", true),
        ("RCPT", "550 no such user", false),
        ("MAIL", "421 shutting down", true),
        ("DATA", "554 no", false),
        ("MAIL", "530 log in first", true),
        ("EHLO", "nonsense", true),
    ] {
        let (address, server) = server(refuse, answer);
        let error = send(&smtp(address, Tls::None), &mail(), Duration::from_secs(10)).unwrap_err();
        assert_eq!(matches!(error, SendError::Later(_)), later, "{refuse} {answer}: {error:?}");
        server.join().unwrap();
    }
}

#[test]
fn nothing_is_sent_in_plain_text_if_encryption_is_required() {
    let (address, server) = server("STARTTLS", "502 unknown");
    send(&smtp(address, Tls::StartTls), &mail(), Duration::from_secs(10)).unwrap_err();
    let received = server.join().unwrap();
    assert!(!received.commands.iter().any(|command| command.starts_with("MAIL")), "{:?}", received.commands);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = send(&smtp(closed, Tls::None), &mail(), Duration::from_secs(10)).unwrap_err();
    assert!(matches!(error, SendError::Later(_)), "{error:?}");
}

#[test]
fn a_command_reads_the_mail() {
    let file = std::env::temp_dir().join(format!("ktest-mail-{}", std::process::id()));
    let argv = ["sh", "-c", "cat > \"$1\"", "sh", file.to_str().unwrap()].map(str::to_owned);
    send(&Transport::Command(argv.to_vec()), &mail(), Duration::from_secs(10)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        text.starts_with("From:") && !text.contains('\r') && text.contains("Message-ID: <ktest-3f2a9c"),
        "{text}"
    );
}
