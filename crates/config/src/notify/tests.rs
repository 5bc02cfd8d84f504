use super::*;
use crate::load::load;

const MAIL: &str = "kind = \"mail\"\nfrom = \"ktest <ktest@ci.example>\"\nto = \"dev@list.example\"\n";

fn loaded(lines: &str) -> Result<Sender, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ci.toml");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "whsec_c2VjcmV0\n").unwrap();
    std::fs::write(dir.path().join("bad"), "whsec_no base64").unwrap();
    for name in ["secret", "bad"] {
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let text = format!(
        "linux_repo = \"l\"\noutput_dir = \"o\"\nktest_dir = \"k\"\nuser = \"kim\"\n[notify.ops]\n{lines}\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut config = load(&path).map_err(|error| error.to_string())?;
    Ok(config.senders.remove(0))
}

#[test]
fn mails_are_moderated_unless_configured_otherwise() {
    let sender = loaded(&format!("{MAIL}operator = \"op@ci.example\"\nsmtp = \"mail.example:587\"")).unwrap();
    assert_eq!((sender.name.as_str(), sender.max_per_day), ("ops", 50));
    assert!(!sender.kinds.contains(&FindingKind::FlakyBegan), "flaky tests accuse no commit");
    let SenderKind::Mail(mail) = sender.kind else { panic!("{sender:?}") };
    assert_eq!(mail.operator, Some(vec!["op@ci.example".to_owned()]));
    assert_eq!((mail.host(), mail.list_id.as_str()), ("ci.example", "ktest-ci.ci.example"));
    let MailTransport::Smtp { port, tls, login, .. } = mail.transport else { panic!("not SMTP") };
    assert_eq!((port, tls, login), (587, MailTls::StartTls, None));
    let open = loaded(&format!(
        "{MAIL}moderated = false\ncommand = [\"sendmail\", \"-t\", \"-i\"]\nkinds = \"farm\""
    ));
    let SenderKind::Mail(mail) = open.unwrap().kind else { panic!("not a mail") };
    assert_eq!((mail.operator, mail.senders.len(), mail.owners), (None, 0, false));
}

#[test]
fn every_kind_of_sender_is_read() {
    let webhook =
        loaded("kind = \"webhook\"\nurl = \"https://x.example/in\"\nsecret_file = \"secret\"").unwrap();
    assert!(!format!("{webhook:?}").contains("whsec"), "a secret is not printed");
    assert!(matches!(webhook.kind, SenderKind::Webhook { secret: Some(_), .. }));
    let forge = loaded("kind = \"gitlab\"\nproject = \"a/b/c\"\ntoken_file = \"secret\"").unwrap();
    let SenderKind::Forge(forge) = forge.kind else { panic!("not a forge") };
    assert_eq!(forge.url, "https://gitlab.com/api/v4");
    let kcidb = loaded("kind = \"kcidb\"\nurl = \"http://127.0.0.1:80/\"\norigin = \"a_1\"").unwrap();
    assert!(matches!(kcidb.kind, SenderKind::Kcidb { url, .. } if url == "http://127.0.0.1:80"));
    let command = loaded("kind = \"command\"\ncommand = \"/bin/cat\"\nbranches = [\"kmo/*\"]").unwrap();
    assert!(command.branches[0].matches("kmo/next"));
}

#[test]
fn wrong_settings_are_refused() {
    let mail = |lines: &str| format!("{MAIL}{lines}");
    for (lines, reason) in [
        ("kind = \"fax\"".to_owned(), "use mail, webhook"),
        (mail("smtp = \"a:25\""), "add operator"),
        (mail("moderated = false"), "give one of them"),
        (mail("moderated = false\nsmtp = \"a:25\"\ncommand = \"x\""), "give one of them"),
        (mail("moderated = false\nsmtp = \"a\""), "HOST:PORT"),
        (mail("moderated = false\nsmtp = \"a:25\"\nuser = \"kim\""), "belong together"),
        (
            mail(
                "moderated = false\nsmtp = \"a:25\"\ntls = \"none\"\nuser = \"kim\"\npassword_file = \"secret\"",
            ),
            "without encryption",
        ),
        (mail("moderated = false\nsmtp = \"a:25\"\ncc = \"a@b\\nBcc: c@d\""), "is not a mail address"),
        (mail("moderated = false\nsmtp = \"a:25\"\nurl = \"https://x\""), "no meaning"),
        (mail("moderated = false\nsmtp = \"a:25\"\nkinds = \"Broke\""), "broke, fixed"),
        (mail("moderated = false\nsmtp = \"a:25\"\nwait = \"never\""), "retries have ended"),
        (mail("moderated = false\nsmtp = \"a:25\"\ntests = \"[\""), "is not a pattern"),
        (mail("moderated = false\nsmtp = \"a:25\"\nmax_per_day = 0"), "must be 1 to"),
        ("kind = \"webhook\"\nurl = \"https://kim@x.example\"".into(), "is not a URL"),
        ("kind = \"webhook\"\nurl = \"http://x.example\"\nsecret_file = \"secret\"".into(), "https:// only"),
        ("kind = \"github\"\nproject = \"../x\"\ntoken_file = \"secret\"".into(), "OWNER/NAME"),
        ("kind = \"github\"\nproject = \"a/b\"".into(), "token_file"),
        ("kind = \"github\"\nproject = \"a/b\"\ntoken_file = \"none\"".into(), "none"),
        ("kind = \"kcidb\"\nurl = \"https://x\"\norigin = \"A b\"".into(), "a-z"),
        ("kind = \"command\"\ncommand = []".into(), "command is empty"),
        (
            mail("moderated = false\nsmtp = \"a:25\"\ncc = \"Kim (ops) <kim@x.example>\""),
            "is not a mail address",
        ),
        (
            "kind = \"webhook\"\nurl = \"http://127.evil.example\"\nsecret_file = \"secret\"".into(),
            "https:// only",
        ),
        ("kind = \"webhook\"\nurl = \"https://x.example\"\nsecret_file = \"bad\"".into(), "not base64"),
        ("kind = \"mial\"\nurls = \"x\"".into(), "unknown key"),
    ] {
        let error = loaded(&lines).unwrap_err();
        assert!(error.contains(reason) && error.contains("ci.toml:"), "{lines}: {error}");
    }
}
