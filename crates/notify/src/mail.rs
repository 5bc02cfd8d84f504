//! Mails: one finding, plain text, at most 100 lines.

use lettre::message::header::{ContentTransferEncoding, ContentType, Date, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Mailboxes, SinglePart};
use lettre::{Address, Message};
use model::{FindingKind, FindingRate, is_message_id};

use crate::http::SendError;
use crate::report::{CommitInfo, Report};
use crate::text::{line, log_line, wrapped};

pub use crate::smtp::{Tls, Transport, send};

/// The maximum number of lines of a log.
const LOG_LINES: usize = 30;
/// The maximum width of a line of a log.
const LOG_WIDTH: usize = 200;
/// The maximum number of tests that are named.
const TESTS_MAX: usize = 3;
/// The maximum length of a subject, in characters.
const SUBJECT_MAX: usize = 160;
/// The maximum length of a name, a reason or a subject of a commit, in characters.
const PART_MAX: usize = 200;

/// From whom mails are, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// Further recipients.
    pub cc: Vec<String>,
    /// The right side of the ids of mails.
    pub host: String,
    /// The identifier of the list.
    pub list_id: String,
    /// Whether the recipient is an operator who forwards the mail.
    pub moderated: bool,
    /// The value of `Reported-by:`.
    pub reported_by: String,
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its id, with angle brackets.
    pub message_id: String,
    /// The address of the sender.
    pub from: Address,
    /// The addresses of the recipients.
    pub recipients: Vec<Address>,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
    /// Everything, as sent.
    pub bytes: Vec<u8>,
}

/// The mail about a finding. `in_reply_to` is the id of an earlier mail about the same failure, `date` in Unix seconds. `None` if there
/// is nothing to act on: no log shows a failure. An address that is not valid is an error.
pub fn compose(
    report: &Report,
    identity: &Identity,
    in_reply_to: Option<&str>,
    date: i64,
) -> Result<Option<Mail>, SendError> {
    let needs_log = !matches!(
        report.finding.kind,
        FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed | FindingKind::Farm
    );
    if needs_log && report.log.is_empty() {
        return Ok(None);
    }
    let subject = subject(report);
    let body = body(report, identity);
    let message_id = format!("<ktest-{}@{}>", report.finding.id, identity.host);
    let patch = report.first_bad.as_ref().and_then(|commit| commit.message_id.clone());
    // The mail about a fix answers that about the failure, not the patch.
    let is_failure = is_failure(report.finding.kind);
    let patch = patch
        .filter(|id| is_message_id(id) && (is_failure || in_reply_to.is_some()))
        .map(|id| format!("<{id}>"));
    let earlier: Vec<String> = patch
        .into_iter()
        .chain(in_reply_to.map(str::to_owned))
        .filter(|id| !id.contains(char::is_whitespace))
        .collect();
    let from = mailbox(&identity.from)?;
    let mailboxes = |list: &[String]| list.iter().map(|text| mailbox(text)).collect::<Result<Vec<_>, _>>();
    let (to, cc) = (mailboxes(&identity.to)?, mailboxes(&identity.cc)?);
    let recipients: Vec<Address> = to.iter().chain(&cc).map(|mailbox| mailbox.email.clone()).collect();
    let raw =
        |name: &'static str, value: String| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
    let mut builder = Message::builder()
        .from(from.clone())
        .mailbox(lettre::message::header::To::from(Mailboxes::from_iter(to)))
        .subject(subject.clone())
        .header(Date::from(
            std::time::UNIX_EPOCH + std::time::Duration::from_secs(date.max(0).unsigned_abs()),
        ))
        .message_id(Some(message_id.clone()))
        .raw_header(raw("Auto-Submitted", "auto-generated".into()))
        .raw_header(raw("List-Id", format!("<{}>", line(&identity.list_id, PART_MAX))));
    if !cc.is_empty() {
        builder = builder.mailbox(lettre::message::header::Cc::from(Mailboxes::from_iter(cc)));
    }
    if let Some(newest) = earlier.last() {
        builder = builder.in_reply_to(newest.clone()).references(earlier.join(" "));
    }
    // Plain ASCII stays readable in every client: all lines are shorter than what SMTP transports.
    let text = if body.is_ascii() {
        let lines = body.replace('\n', "\r\n").into_bytes();
        Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit)
    } else {
        Body::new_with_encoding(body.clone(), ContentTransferEncoding::QuotedPrintable)
            .map_err(|_| SendError::Refused("the text of the mail cannot be encoded".into()))?
    };
    let part = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(text);
    let message = builder.singlepart(part).map_err(|error| SendError::Later(error.to_string()))?;
    Ok(Some(Mail { message_id, from: from.email, recipients, subject, body, bytes: message.formatted() }))
}

fn mailbox(text: &str) -> Result<Mailbox, SendError> {
    text.parse()
        .map_err(|error| SendError::Later(format!("{}: not a mail address: {error}", line(text, PART_MAX))))
}

/// Whether the finding accuses a commit.
fn is_failure(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::Broke | FindingKind::BuildBroke | FindingKind::Bisected)
}

/// `[ktest] kmo/next: fs.ext4.basic.punch broke: kernel BUG in ext4_ext_remove_space`
fn subject(report: &Report) -> String {
    let finding = &report.finding;
    let what = line(&finding.signature, PART_MAX);
    let tests = tests(report, 1);
    let text = match finding.kind {
        FindingKind::Broke => format!("{tests} broke: {what}"),
        FindingKind::Fixed => format!("{tests} fixed: {what}"),
        FindingKind::BuildBroke => format!("the build broke: {what}"),
        FindingKind::BuildFixed => format!("the build is fixed: {what}"),
        FindingKind::FlakyBegan => format!("{tests} is flaky: {what}"),
        FindingKind::SuspiciousPass => format!("{tests} passed suspiciously: {what}"),
        FindingKind::Bisected => match &report.first_bad {
            Some(commit) => format!("first bad commit of {tests}: {}", quoted(commit)),
            None => format!("first bad commit of {tests}"),
        },
        FindingKind::BelievedFixed => format!("{tests} fixed, proven by repeated runs: {what}"),
        FindingKind::Farm => what,
    };
    let text = text.trim_end_matches([' ', ':']);
    let place = finding.branch.as_ref().map_or("farm".into(), ToString::to_string);
    line(&format!("[ktest] {place}: {text}"), SUBJECT_MAX)
}

/// `a, b and 9 more`
fn tests(report: &Report, most: usize) -> String {
    let finding = &report.finding;
    let named: Vec<&str> = finding.tests.iter().take(most).map(model::ResultKey::as_str).collect();
    let more = (finding.tests_total as usize).saturating_sub(named.len());
    let named = line(&named.join(", "), PART_MAX);
    match (named.is_empty(), more) {
        (true, 0) => "a test".into(),
        (true, 1) => "1 test".into(),
        (true, more) => format!("{more} tests"),
        (false, 0) => named,
        (false, more) => format!("{named} and {more} more"),
    }
}

/// `3f2a9c001122 ("ext4: punch holes extent by extent")`
fn quoted(commit: &CommitInfo) -> String {
    match line(&commit.subject, PART_MAX) {
        subject if subject.is_empty() => commit.id.short().to_owned(),
        subject => format!("{} (\"{subject}\")", commit.id.short()),
    }
}

/// The commit with its author, indented.
fn indented(commit: &CommitInfo) -> String {
    let mut text = format!("  {}\n", quoted(commit));
    let author = line(&commit.author, PART_MAX);
    let email = line(&commit.email, PART_MAX);
    match (author.is_empty(), email.is_empty()) {
        (true, true) => {}
        (false, true) => text.push_str(&format!("  Author: {author}\n")),
        (true, false) => text.push_str(&format!("  Author: <{email}>\n")),
        (false, false) => text.push_str(&format!("  Author: {author} <{email}>\n")),
    }
    if let Some(url) = &commit.url {
        text.push_str(&format!("  {}\n", line(url, 500)));
    }
    text
}

fn body(report: &Report, identity: &Identity) -> String {
    let finding = &report.finding;
    let mut parts: Vec<String> = Vec::new();
    if identity.moderated && finding.kind != FindingKind::Farm {
        let id = &finding.id;
        parts.push(format!(
            "To send this to the recipients of the configuration:\n\n  ci-status notify send {id}\n\n--------"
        ));
    }
    parts.push(what_changed(report));
    parts.extend(rates(report));
    if !report.log.is_empty() {
        let lines: Vec<String> = report
            .log
            .iter()
            .take(LOG_LINES)
            .map(|text| format!("  {}", log_line(text, LOG_WIDTH)).trim_end().to_owned())
            .collect();
        parts.push(lines.join("\n"));
    }
    if !report.reproduce.is_empty() {
        let commands: Vec<String> =
            report.reproduce.iter().take(4).map(|command| format!("  {}", line(command, 900))).collect();
        parts.push(format!("To reproduce, in a clone of the kernel:\n\n{}", commands.join("\n")));
    }
    let links: Vec<String> = [
        ("Whole log", Some(&report.log_url)),
        ("Kernel configuration", report.config_url.as_ref()),
        ("All findings", Some(&report.url)),
        ("Owner of the test", report.owner.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name, text.filter(|text| !text.is_empty())?)))
    .map(|(name, text)| format!("{name}: {}", line(text, 500)))
    .collect();
    if !links.is_empty() {
        parts.push(links.join("\n"));
    }
    parts.extend(trailers(report, identity));
    if finding.kind != FindingKind::Farm {
        parts.push(format!("-- \n{}", wrapped(ANSWER)));
    }
    parts.join("\n\n") + "\n"
}

/// How to answer.
const ANSWER: &str = "Sent by ktest-ci. An answer with a line \"#ktest fix: SUBJECT OF THE COMMIT\", \"#ktest invalid\", \"#ktest flaky\", \
    \"#ktest dup: ID\" or \"#ktest mute 7d\" is recorded.";

/// One sentence, the failure, and the commit that it is about.
fn what_changed(report: &Report) -> String {
    let finding = &report.finding;
    let tests = tests(report, TESTS_MAX);
    let branch = finding.branch.as_ref().map_or("the farm".into(), ToString::to_string);
    let (fail, pass) = if finding.tests_total == 1 { ("fails", "passes") } else { ("fail", "pass") };
    let (sentence, about) = match finding.kind {
        FindingKind::Broke => (format!("{tests} {fail} on {branch}:"), "The first bad commit is"),
        FindingKind::BuildBroke => {
            (format!("The kernel of {branch} does not build:"), "The first commit that does not build is")
        }
        FindingKind::Fixed => {
            (format!("{tests} {pass} again on {branch}. The failure was:"), "The first commit that passes is")
        }
        FindingKind::BuildFixed => (
            format!("The kernel of {branch} builds again. The error was:"),
            "The first commit that builds is",
        ),
        FindingKind::FlakyBegan => (
            format!(
                "{tests} both fails and passes on {branch} with the same kernel. This accuses no commit:"
            ),
            "It was first seen at",
        ),
        FindingKind::SuspiciousPass => {
            (format!("{tests} passed on {branch}, unlike its earlier passes:"), "This was at")
        }
        FindingKind::Bisected => (
            format!("A bisection on {branch} found the first bad commit of {tests}, and verified it:"),
            "The first bad commit is",
        ),
        FindingKind::BelievedFixed => (
            format!("{tests} passed on {branch} as often as it takes to believe that this failure is fixed:"),
            "The newest commit that passes is",
        ),
        FindingKind::Farm => ("The farm needs an operator:".into(), ""),
    };
    let commit = if is_failure(finding.kind) { &report.first_bad } else { &report.commit };
    let mut text = wrapped(&sentence);
    // Text from a log or a branch is indented, so that it is neither prose nor a command of an answer.
    text.push_str(&format!("\n\n  {}", line(&finding.signature, PART_MAX)));
    if let Some(commit) = commit {
        text.push_str(&format!("\n\n{about}\n\n{}", indented(commit)));
    }
    text.trim_end().to_owned()
}

/// How often it fails, the last good commit, and where else.
fn rates(report: &Report) -> Option<String> {
    let of = |rate: &FindingRate| format!("{} of {} runs", rate.failed, rate.runs);
    let mut lines = Vec::new();
    if let Some(rate) = &report.finding.rate {
        let before = report
            .before
            .as_ref()
            .map_or(String::new(), |before| format!(", and failed {} before", of(before)));
        let now = match report.finding.kind {
            FindingKind::Fixed | FindingKind::BelievedFixed => format!("It failed {}{before}.", of(rate)),
            _ => format!("It fails {}{before}.", of(rate)),
        };
        lines.push(wrapped(&now));
    }
    let is_fix = matches!(
        report.finding.kind,
        FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed
    );
    match (is_fix, &report.first_bad, &report.last_good) {
        (true, Some(commit), _) => lines.push(format!("The first bad commit was\n  {}", quoted(commit))),
        (false, _, Some(commit)) => lines.push(format!("The last good commit is\n  {}", quoted(commit))),
        _ => {}
    }
    if !report.elsewhere.is_empty() {
        let branches: Vec<String> =
            report.elsewhere.iter().take(5).map(|name| line(name, PART_MAX)).collect();
        lines.push(wrapped(&format!("Also on {}.", branches.join(", "))));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The trailers of the commit that fixes it.
fn trailers(report: &Report, identity: &Identity) -> Option<String> {
    let commit = report.first_bad.as_ref().filter(|_| is_failure(report.finding.kind))?;
    let mut lines = vec![format!("Reported-by: {}", line(&identity.reported_by, PART_MAX))];
    let page = if report.log_url.is_empty() { &report.url } else { &report.log_url };
    if !page.is_empty() {
        lines.push(format!("Closes: {}", line(page, 500)));
    }
    lines.push(format!("Fixes: {}", quoted(commit)));
    Some(format!("If you fix it, please add:\n\n{}", lines.join("\n")))
}

#[cfg(test)]
mod tests;
