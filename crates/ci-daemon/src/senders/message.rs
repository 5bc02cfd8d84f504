//! The message of a finding, and how it leaves.

use std::time::Duration;

use config::{Config, MailSettings, MailTls, MailTransport, Secret, Sender, SenderKind};
use model::{Finding, FindingKind};
use notify::http::SendError;
use notify::mail::{self, Identity, Tls, Transport};
use notify::rules::Rule;
use notify::{command, http, webhook};
use results::Reader;
use results::findings::{FindingQuery, RecordedFinding};

use super::report::report;
use crate::findings::about_farm;

/// The time limit of a message.
const TIME: Duration = Duration::from_secs(30);
/// The maximum number of older findings in which that of the failure is searched.
const SEARCHED_MAX: usize = 1000;

/// To whom a mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recipient {
    /// The operator if mails are moderated.
    Configured,
    /// The recipients of the configuration.
    List,
}

/// Sends a finding. Returns whether there is a message about it.
pub(super) fn send(
    reader: &Reader,
    config: &Config,
    sender: &Sender,
    found: &RecordedFinding,
    recipient: Recipient,
    now: i64,
) -> Result<bool, SendError> {
    let report = report(reader, config, found);
    match &sender.kind {
        SenderKind::Mail(settings) => {
            let identity = identity(settings, recipient, report.owner.as_deref());
            let thread = thread(reader, sender, &found.finding, settings.host());
            let Some(mail) = mail::compose(&report, &identity, thread.as_deref(), now)? else {
                return Ok(false);
            };
            mail::send(&transport(&settings.transport), &mail, TIME)?;
        }
        SenderKind::Webhook { url, secret } => {
            let secret = secret.as_ref().map(|Secret(secret)| secret.as_str());
            http::send(&webhook::request(url, secret, &report, now), TIME)?;
        }
        SenderKind::Command(argv) => command::run(argv, &webhook::body(&report), TIME)?,
        SenderKind::Forge(_) | SenderKind::Kcidb { .. } => return Ok(false),
    }
    Ok(true)
}

fn identity(settings: &MailSettings, recipient: Recipient, owner: Option<&str>) -> Identity {
    let operator = settings.operator.as_ref().filter(|_| recipient == Recipient::Configured);
    let (to, cc) = match operator {
        Some(operator) => (operator.clone(), Vec::new()),
        None => {
            let owner = owner.filter(|_| settings.owners).map(str::to_owned);
            (settings.to.clone(), settings.cc.iter().cloned().chain(owner).collect())
        }
    };
    Identity {
        from: settings.from.clone(),
        to,
        cc,
        host: settings.host().into(),
        list_id: settings.list_id.clone(),
        moderated: operator.is_some(),
        reported_by: settings.from.clone(),
    }
}

fn transport(transport: &MailTransport) -> Transport {
    match transport {
        MailTransport::Smtp { host, port, tls, login } => Transport::Smtp {
            server: host.clone(),
            port: *port,
            tls: match tls {
                MailTls::None => Tls::None,
                MailTls::StartTls => Tls::StartTls,
                MailTls::Implicit => Tls::Implicit,
            },
            user: login.as_ref().map(|(user, _)| user.clone()),
            password: login.as_ref().map(|(_, Secret(password))| password.clone()),
        },
        MailTransport::Command(argv) => Transport::Command(argv.clone()),
    }
}

/// The id of the mail about the failure that this finding says more of.
fn thread(reader: &Reader, sender: &Sender, finding: &Finding, host: &str) -> Option<String> {
    let earlier = match finding.kind {
        FindingKind::Fixed | FindingKind::BelievedFixed | FindingKind::Bisected => FindingKind::Broke,
        FindingKind::BuildFixed => FindingKind::BuildBroke,
        _ => return None,
    };
    let query =
        FindingQuery { branch: finding.branch.as_ref(), most: SEARCHED_MAX, ..FindingQuery::default() };
    let is_it = |found: &&RecordedFinding| {
        let other = &found.finding;
        let is_same = other.first_bad == finding.first_bad || finding.kind == FindingKind::Bisected;
        other.kind == earlier && is_same && other.tests.iter().any(|test| finding.tests.contains(test))
    };
    let found = reader.findings(&query);
    let failure = found.iter().filter(is_it).find(|found| reader.was_sent(&sender.name, found.n))?;
    Some(format!("<ktest-{}@{host}>", failure.finding.id))
}

/// Whether this sender sent the same of another branch: one commit with the same failure on several branches is one cause.
pub(super) fn was_sent_for_another_branch(reader: &Reader, sender: &Sender, found: &RecordedFinding) -> bool {
    let finding = &found.finding;
    let (Some(branch), Some(commit)) = (&finding.branch, &finding.commit) else { return false };
    let is_same = |other: &RecordedFinding| {
        let other = &other.finding;
        other.kind == finding.kind
            && other.first_bad == finding.first_bad
            && other.signature == finding.signature
            && other.branch.as_ref() != Some(branch)
    };
    let earlier = reader.findings_at(commit).into_iter().filter(|other| other.n < found.n);
    earlier.filter(is_same).any(|other| reader.was_sent(&sender.name, other.n))
}

/// The rules of a sender.
pub(super) fn rule(sender: &Sender) -> Rule {
    Rule {
        branches: sender.branches.clone(),
        tests: sender.tests.clone(),
        kinds: sender.kinds.clone(),
        max_per_day: sender.max_per_day,
    }
}

/// Whether a sender takes such findings.
pub(super) fn takes(sender: &Sender, finding: &Finding) -> bool {
    rule(sender).takes(finding)
}

/// The finding of a message for a test.
pub(super) fn test_finding(sender: &Sender, now: i64) -> Finding {
    let text = format!("this message tests [notify.{}]; it needs no answer", sender.name);
    about_farm(&format!("test {} {now}", sender.name), &text, now)
}
