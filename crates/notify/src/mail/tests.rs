use super::*;
use crate::sample;

fn identity() -> Identity {
    Identity {
        from: "ktest <ktest@ci.example.org>".into(),
        to: vec!["linux-ext4@lists.example.org".into()],
        cc: Vec::new(),
        host: "ci.example.org".into(),
        list_id: "ktest-ci.ci.example.org".into(),
        moderated: false,
        reported_by: "ktest <ktest@ci.example.org>".into(),
    }
}

fn text(mail: &Mail) -> String {
    String::from_utf8(mail.bytes.clone()).unwrap().replace("\r\n", "\n")
}

#[test]
fn mails_of_every_kind() {
    for kind in FindingKind::ALL {
        let mail = compose(&sample::report(kind), &identity(), None, 1_796_100_000).unwrap().unwrap();
        insta::assert_snapshot!(kind.name(), text(&mail));
    }
}

#[test]
fn a_moderated_mail_says_how_to_forward_it() {
    let identity = Identity { moderated: true, to: vec!["op@ci.example.org".into()], ..identity() };
    let mail = compose(&sample::report(FindingKind::Broke), &identity, None, 0).unwrap().unwrap();
    assert!(mail.body.contains("ci-status notify send 3f2a9c0011223344"), "{}", mail.body);
    assert_eq!(mail.recipients.len(), 1);
}

#[test]
fn a_later_mail_answers_the_first_one() {
    let earlier = "<ktest-1@ci.example.org>";
    let mail = compose(&sample::report(FindingKind::Fixed), &identity(), Some(earlier), 0).unwrap().unwrap();
    assert!(text(&mail).contains(&format!("In-Reply-To: {earlier}\n")), "{}", text(&mail));
}

#[test]
fn a_failure_without_a_log_is_not_sent() {
    let without = |kind| Report { log: Vec::new(), ..sample::report(kind) };
    for kind in FindingKind::ALL {
        let is_sent = compose(&without(kind), &identity(), None, 0).unwrap().is_some();
        let is_fix =
            matches!(kind, FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed);
        assert_eq!(is_sent, is_fix || kind == FindingKind::Farm, "{kind}");
    }
}

#[test]
fn hostile_text_stays_in_its_place() {
    for kind in FindingKind::ALL {
        let mut report = sample::report(kind);
        report.finding.signature = "BUG\r\nBcc: victim@x.example\r\n\r\n\u{202e}".repeat(50);
        report.finding.tests_total = 100_000;
        for commit in [&mut report.first_bad, &mut report.last_good, &mut report.commit] {
            let commit = commit.get_or_insert_with(|| sample::report(FindingKind::Broke).first_bad.unwrap());
            commit.subject = "x\nSigned-off-by: Eve <a@b>".into();
            commit.author = "Eve\r\n\r\n.\r\nQUIT".into();
            commit.email = "e@x>\r\nDATA".into();
            commit.message_id = Some("a@b>\r\nBcc: c@d".into());
        }
        report.elsewhere = vec!["a/b\n\n".into(); 100];
        report.log = vec!["x\u{1b}[31m\u{0}\u{7}".repeat(1000); 1000];
        report.reproduce = vec!["ktest run\nrm".into(); 100];
        report.owner = Some("O\nwner".into());
        let mail = compose(&report, &identity(), Some("<a b>\r\nBcc: c@d"), 0).unwrap().unwrap();
        let text = text(&mail);
        let (head, _) = text.split_once("\n\n").unwrap();
        assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{head}");
        assert!(!mail.body.lines().any(|line| line.starts_with("Signed-off-by") || line.starts_with("Bcc")));
        assert!(!mail.body.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        assert!(mail.body.lines().count() <= 100, "{}", mail.body.lines().count());
        assert!(mail.bytes.len() < 64 << 10, "{}", mail.bytes.len());
    }
}

#[test]
fn a_wrong_address_is_an_error() {
    let identity = Identity { to: vec!["Kim (ops) <kim@x.example>".into()], ..identity() };
    let error = compose(&sample::report(FindingKind::Broke), &identity, None, 0).unwrap_err();
    assert!(matches!(&error, SendError::Later(text) if text.contains("not a mail address")), "{error:?}");
}

#[test]
fn prose_is_narrow() {
    for kind in FindingKind::ALL {
        let mail = compose(&sample::report(kind), &identity(), None, 0).unwrap().unwrap();
        let is_prose =
            |line: &&str| !line.starts_with("  ") && !line.contains("http") && !line.starts_with("Fixes:");
        for line in mail.body.lines().filter(is_prose) {
            assert!(line.chars().count() <= 78, "{kind}: {line}");
        }
    }
}
