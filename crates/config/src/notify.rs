//! `[notify.NAME]`: who is sent the findings of the farm, and how.

use std::fmt;
use std::path::Path;

use glob::Pattern;
use model::FindingKind;

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section};
use crate::paths::Paths;

#[cfg(test)]
mod tests;

/// The keys of every kind of sender.
const COMMON: &[&str] = &["kind", "branches", "tests", "kinds", "wait", "max_per_day"];
/// The keys of all kinds.
const KEYS: &[&str] = &[
    "kind",
    "branches",
    "tests",
    "kinds",
    "wait",
    "max_per_day",
    "from",
    "to",
    "cc",
    "owners",
    "moderated",
    "operator",
    "senders",
    "list_id",
    "smtp",
    "tls",
    "user",
    "password_file",
    "command",
    "url",
    "secret_file",
    "project",
    "token_file",
    "origin",
];
/// The default of `max_per_day`.
const PER_DAY: i64 = 50;

/// A sender of findings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    /// The name of the section.
    pub name: String,
    /// Only findings of these branches, as `user/branch`; all if empty.
    pub branches: Vec<Pattern>,
    /// Only findings of these tests; all if empty.
    pub tests: Vec<Pattern>,
    /// Only findings of these kinds.
    pub kinds: Vec<FindingKind>,
    /// At most this many messages a day. Further findings wait.
    pub max_per_day: u32,
    /// How they are sent.
    pub kind: SenderKind,
}

/// How findings are sent.
#[derive(Debug, Clone, PartialEq)]
pub enum SenderKind {
    /// One mail per finding.
    Mail(Box<MailSettings>),
    /// One signed HTTP request per finding.
    Webhook {
        /// The address.
        url: String,
        /// The secret of the signature, `whsec_...`.
        secret: Option<Secret>,
    },
    /// The status of each commit on a forge.
    Forge(ForgeSettings),
    /// The results of each commit.
    Kcidb {
        /// The address, without `/submit`.
        url: String,
        /// The name of this farm there.
        origin: String,
        /// The token.
        token: Option<Secret>,
    },
    /// One run of a command per finding, which reads JSON.
    Command(Vec<String>),
}

/// The settings of a sender of mails.
#[derive(Debug, Clone, PartialEq)]
pub struct MailSettings {
    /// The address of the farm.
    pub from: String,
    /// Where findings go; if moderated, when the operator forwards them.
    pub to: Vec<String>,
    /// Further recipients of them.
    pub cc: Vec<String>,
    /// Whether the owners of tests get a copy when they are sent to the recipients.
    pub owners: bool,
    /// Where findings go first; `None` if they are not moderated.
    pub operator: Option<Vec<String>>,
    /// Who may answer with commands.
    pub senders: Vec<String>,
    /// The identifier of the list.
    pub list_id: String,
    /// How a mail leaves.
    pub transport: MailTransport,
}

/// How a mail leaves.
#[derive(Debug, Clone, PartialEq)]
pub enum MailTransport {
    /// By SMTP.
    Smtp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The encryption.
        tls: MailTls,
        /// The account and the password.
        login: Option<(String, Secret)>,
    },
    /// A command that reads the mail, as `sendmail -t -i`.
    Command(Vec<String>),
}

/// The encryption of a connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// None.
    None,
    /// By `STARTTLS`.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// A forge with a commit status.
#[derive(Debug, Clone, PartialEq)]
pub struct ForgeSettings {
    /// The forge.
    pub forge: ForgeKind,
    /// The address of its API.
    pub url: String,
    /// The repository, `owner/name`.
    pub project: String,
    /// The token.
    pub token: Secret,
}

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise.
    GitHub,
    /// A GitLab.
    GitLab,
    /// A Forgejo or Gitea.
    Forgejo,
}

impl Sender {
    /// Whether it sends the state of each commit instead of findings.
    #[must_use]
    pub fn takes_commits(&self) -> bool {
        matches!(self.kind, SenderKind::Forge(_) | SenderKind::Kcidb { .. })
    }
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An invalid `[notify.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// The name cannot be a part of a command line.
    #[error("the name of a sender has 1 to 60 letters, digits, - and _, not {0:?}")]
    Name(String),
    /// An unknown kind.
    #[error("kind: {0:?} is unknown; use mail, webhook, github, gitlab, forgejo, kcidb or command")]
    Kind(String),
    /// A key of another kind.
    #[error("{key} has no meaning for kind = {kind:?}; remove it")]
    OtherKind {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: String,
    },
    /// Not a pattern.
    #[error("{key}: {text:?} is not a pattern: {error}")]
    Pattern {
        /// The key.
        key: &'static str,
        /// The text.
        text: String,
        /// Why.
        error: String,
    },
    /// Not a kind of finding.
    #[error(transparent)]
    Finding(model::NameError),
    /// Findings are recorded when their confirmation has ended.
    #[error(
        "wait: {0:?} is not supported; findings are sent when their retries have ended, so leave it out or write \"confirmed\""
    )]
    Wait(String),
    /// Not an address of a mailbox.
    #[error("{key}: {text:?} is not a mail address; write \"kim@example.org\" or \"Kim <kim@example.org>\"")]
    Address {
        /// The key.
        key: &'static str,
        /// The text.
        text: String,
    },
    /// Moderation without a moderator.
    #[error("mails are moderated: add operator = \"ADDRESS\", to which they go first, or moderated = false")]
    NoOperator,
    /// An empty list.
    #[error("{0} is empty; name at least one")]
    Empty(&'static str),
    /// Neither or both.
    #[error(
        "a mail leaves by smtp = \"HOST:PORT\" or by command = [\"sendmail\", \"-t\", \"-i\"]; give one of them"
    )]
    Transport,
    /// Not a host and port.
    #[error("smtp: {0:?} is not HOST:PORT")]
    Smtp(String),
    /// Not an encryption.
    #[error("tls: {0:?} is unknown; use starttls, implicit or none")]
    Tls(String),
    /// A password that others could read.
    #[error("a password is not sent without encryption; use tls = \"starttls\" or \"implicit\"")]
    PlainPassword,
    /// A login needs both.
    #[error("user and password_file belong together; give both or none")]
    Login,
    /// Not a URL.
    #[error("url: {0:?} is not a URL; it begins with https:// or http:// and has no account")]
    Url(String),
    /// A secret that others could read.
    #[error("a token is sent to https:// only, or to this machine")]
    PlainToken,
    /// A file cannot be read.
    #[error("{key}: {error}")]
    File {
        /// The key.
        key: &'static str,
        /// Why.
        error: String,
    },
    /// Not a repository.
    #[error("project: {0:?} is not OWNER/NAME")]
    Project(String),
    /// Not an origin.
    #[error("origin: {0:?} has other characters than a-z, 0-9 and _")]
    Origin(String),
}

impl crate::fault::SectionError for NotifyError {}

fn fault(node: &Node, error: NotifyError) -> Fault {
    node.fault(Problem::from(error))
}

pub(crate) fn read(node: &Node, paths: &Paths) -> Result<Vec<Sender>, Fault> {
    node.table("notify")?.iter().map(|(name, node)| sender(name, node, paths)).collect()
}

fn sender(name: &str, node: &Node, paths: &Paths) -> Result<Sender, Fault> {
    let is_name = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    if name.is_empty() || name.len() > 60 || name.starts_with('-') || !name.bytes().all(is_name) {
        return Err(fault(node, NotifyError::Name(name.into())));
    }
    let section = Section::new(node, format!("[notify.{name}]"), KEYS)?;
    if let Some(wait) = section.get("wait")
        && wait.str("wait")? != "confirmed"
    {
        return Err(fault(wait, NotifyError::Wait(wait.str("wait")?.into())));
    }
    let per_day =
        section.get("max_per_day").map_or(Ok(PER_DAY), |node| node.int("max_per_day", 1, 1_000_000))?;
    Ok(Sender {
        name: name.into(),
        branches: patterns(&section, "branches")?,
        tests: patterns(&section, "tests")?,
        kinds: kinds(&section)?,
        max_per_day: u32::try_from(per_day).unwrap_or(u32::MAX),
        kind: kind(&section, paths)?,
    })
}

fn patterns(section: &Section<'_>, key: &'static str) -> Result<Vec<Pattern>, Fault> {
    let Some(node) = section.get(key) else { return Ok(Vec::new()) };
    let pattern = |item: &Node| {
        let text = item.str(key)?;
        Pattern::new(text).map_err(|error| {
            fault(item, NotifyError::Pattern { key, text: text.into(), error: error.msg.into() })
        })
    };
    node.list(key)?.iter().map(pattern).collect()
}

/// The kinds of findings. By default those that accuse and clear commits.
fn kinds(section: &Section<'_>) -> Result<Vec<FindingKind>, Fault> {
    let Some(node) = section.get("kinds") else {
        return Ok(vec![
            FindingKind::Broke,
            FindingKind::Fixed,
            FindingKind::BuildBroke,
            FindingKind::BuildFixed,
            FindingKind::Bisected,
            FindingKind::BelievedFixed,
        ]);
    };
    let kind =
        |item: &Node| item.str("kinds")?.parse().map_err(|error| fault(item, NotifyError::Finding(error)));
    let kinds: Vec<FindingKind> = node.list("kinds")?.iter().map(kind).collect::<Result<_, _>>()?;
    if kinds.is_empty() { Err(fault(node, NotifyError::Empty("kinds"))) } else { Ok(kinds) }
}

fn kind(section: &Section<'_>, paths: &Paths) -> Result<SenderKind, Fault> {
    let at = section.need("kind")?;
    let name = at.str("kind")?;
    let own: &[&str] = match name {
        "mail" => &[
            "from",
            "to",
            "cc",
            "owners",
            "moderated",
            "operator",
            "senders",
            "list_id",
            "smtp",
            "tls",
            "user",
            "password_file",
            "command",
        ],
        "webhook" => &["url", "secret_file"],
        "github" | "gitlab" | "forgejo" => &["url", "project", "token_file"],
        "kcidb" => &["url", "origin", "token_file"],
        "command" => &["command"],
        _ => return Err(fault(at, NotifyError::Kind(name.into()))),
    };
    for &key in KEYS {
        if let Some(node) = section.get(key)
            && !COMMON.contains(&key)
            && !own.contains(&key)
        {
            return Err(fault(node, NotifyError::OtherKind { key, kind: name.into() }));
        }
    }
    Ok(match name {
        "mail" => SenderKind::Mail(Box::new(mail(section, paths)?)),
        "webhook" => {
            let secret = secret(section, paths, "secret_file")?;
            if let (Some(Secret(text)), Some(node)) = (&secret, section.get("secret_file"))
                && !is_webhook_secret(text)
            {
                let error = "what follows whsec_ is not base64".into();
                return Err(fault(node, NotifyError::File { key: "secret_file", error }));
            }
            SenderKind::Webhook { url: url(section, None, secret.is_some())?, secret }
        }
        "kcidb" => kcidb(section, paths)?,
        "command" => SenderKind::Command(command(section.need("command")?)?),
        forge => SenderKind::Forge(self::forge(section, paths, forge)?),
    })
}

fn kcidb(section: &Section<'_>, paths: &Paths) -> Result<SenderKind, Fault> {
    let token = secret(section, paths, "token_file")?;
    let at = section.need("origin")?;
    let origin = at.str("origin")?.to_owned();
    let is_origin = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if origin.is_empty() || origin.len() > 60 || !origin.bytes().all(is_origin) {
        return Err(fault(at, NotifyError::Origin(origin)));
    }
    Ok(SenderKind::Kcidb { url: url(section, None, token.is_some())?, origin, token })
}

fn forge(section: &Section<'_>, paths: &Paths, name: &str) -> Result<ForgeSettings, Fault> {
    let (forge, default) = match name {
        "github" => (ForgeKind::GitHub, Some("https://api.github.com")),
        "gitlab" => (ForgeKind::GitLab, Some("https://gitlab.com/api/v4")),
        _ => (ForgeKind::Forgejo, None),
    };
    let at = section.need("project")?;
    let project = at.str("project")?;
    let is_part = |part: &str| {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_name)
    };
    // A project of GitLab can be in groups of groups.
    let parts = project.split('/').count();
    if !project.split('/').all(is_part) || parts < 2 || (parts > 2 && forge != ForgeKind::GitLab) {
        return Err(fault(at, NotifyError::Project(project.into())));
    }
    section.need("token_file")?;
    let token = secret(section, paths, "token_file")?.unwrap_or(Secret(String::new()));
    Ok(ForgeSettings { forge, url: url(section, default, true)?, project: project.into(), token })
}

fn mail(section: &Section<'_>, paths: &Paths) -> Result<MailSettings, Fault> {
    let from = address(section.need("from")?, "from")?;
    let to = addresses(section, "to")?;
    if to.is_empty() {
        return Err(fault(section.get("to").unwrap_or(section.node()), NotifyError::Empty("to")));
    }
    let moderated = section.get("moderated").map_or(Ok(true), |node| node.bool("moderated"))?;
    let operator = addresses(section, "operator")?;
    if moderated && operator.is_empty() {
        return Err(fault(section.node(), NotifyError::NoOperator));
    }
    let host = host_of(&from);
    let list_id = match section.get("list_id") {
        Some(node) => node.str("list_id")?.to_owned(),
        None => format!("ktest-ci.{host}"),
    };
    let mut senders = addresses(section, "senders")?;
    senders.extend(operator.iter().cloned());
    Ok(MailSettings {
        transport: transport(section, paths)?,
        cc: addresses(section, "cc")?,
        owners: section.get("owners").map_or(Ok(false), |node| node.bool("owners"))?,
        operator: moderated.then_some(operator),
        from,
        to,
        senders,
        list_id,
    })
}

/// The domain of an address.
fn host_of(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default().trim_end_matches('>')
}

impl MailSettings {
    /// The right side of the ids of the mails.
    #[must_use]
    pub fn host(&self) -> &str {
        host_of(&self.from)
    }
}

fn transport(section: &Section<'_>, paths: &Paths) -> Result<MailTransport, Fault> {
    let at = match (section.get("smtp"), section.get("command")) {
        (Some(smtp), None) => smtp,
        (None, Some(node)) => return Ok(MailTransport::Command(command(node)?)),
        _ => return Err(fault(section.node(), NotifyError::Transport)),
    };
    let text = at.str("smtp")?;
    let bad = || fault(at, NotifyError::Smtp(text.into()));
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err(bad());
    }
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
    let is_local = is_local(host);
    let tls = match section.get("tls").map(|node| Ok((node, node.str("tls")?))).transpose()? {
        None if port == 465 => MailTls::Implicit,
        None if is_local => MailTls::None,
        None | Some((_, "starttls")) => MailTls::StartTls,
        Some((_, "implicit")) => MailTls::Implicit,
        Some((_, "none")) => MailTls::None,
        Some((node, other)) => return Err(fault(node, NotifyError::Tls(other.into()))),
    };
    let login = match (section.get("user"), secret(section, paths, "password_file")?) {
        (Some(user), Some(password)) => Some((user.str("user")?.to_owned(), password)),
        (None, None) => None,
        _ => return Err(fault(section.node(), NotifyError::Login)),
    };
    if login.is_some() && tls == MailTls::None && !is_local {
        return Err(fault(section.node(), NotifyError::PlainPassword));
    }
    Ok(MailTransport::Smtp { host: host.into(), port, tls, login })
}

fn is_local(host: &str) -> bool {
    let address: Result<std::net::IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn addresses(section: &Section<'_>, key: &'static str) -> Result<Vec<String>, Fault> {
    let Some(node) = section.get(key) else { return Ok(Vec::new()) };
    node.list(key)?.iter().map(|item| address(item, key)).collect()
}

fn address(node: &Node, key: &'static str) -> Result<String, Fault> {
    let text = node.str(key)?;
    let mailbox = text.rsplit_once('<').map_or(Some(text), |(_, rest)| rest.strip_suffix('>'));
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>,;:\"()[]\\@".contains(&b))
    };
    let is_address = mailbox
        .and_then(|mailbox| mailbox.split_once('@'))
        .is_some_and(|(local, host)| is_part(local) && is_part(host));
    // A name without characters that need quotes.
    let name = text.rsplit_once('<').map_or("", |(name, _)| name);
    let is_name = name.chars().all(|c| c.is_alphanumeric() || " -_'".contains(c));
    if !is_address || !is_name || text.len() > 300 {
        return Err(fault(node, NotifyError::Address { key, text: text.into() }));
    }
    Ok(text.into())
}

fn command(node: &Node) -> Result<Vec<String>, Fault> {
    let words: Vec<String> = node
        .list("command")?
        .iter()
        .map(|word| word.str("command").map(str::to_owned))
        .collect::<Result<_, _>>()?;
    if words.first().is_none_or(String::is_empty) {
        return Err(fault(node, NotifyError::Empty("command")));
    }
    Ok(words)
}

fn secret(section: &Section<'_>, paths: &Paths, key: &'static str) -> Result<Option<Secret>, Fault> {
    let Some(node) = section.get(key) else { return Ok(None) };
    let path = paths.resolve(key, node)?;
    let text = secret_of(&path).map_err(|error| fault(node, NotifyError::File { key, error }))?;
    Ok(Some(Secret(text)))
}

fn secret_of(path: &Path) -> Result<String, String> {
    let text = fsx::secret::read(path).map_err(|error| error.to_string())?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(format!("{}: it holds no line of printable characters", path.display()));
    }
    Ok(text)
}

/// Whether what follows `whsec_` is base64.
fn is_webhook_secret(text: &str) -> bool {
    text.strip_prefix("whsec_").is_none_or(|text| {
        let digits = text.trim_end_matches('=');
        !digits.is_empty()
            && text.len().is_multiple_of(4)
            && text.len() - digits.len() <= 2
            && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
    })
}

fn url(section: &Section<'_>, default: Option<&str>, is_secret: bool) -> Result<String, Fault> {
    let (at, text) = match (section.get("url"), default) {
        (Some(node), _) => (node, node.str("url")?),
        (None, Some(default)) => return Ok(default.into()),
        (None, None) => {
            section.need("url")?;
            return Ok(String::new());
        }
    };
    let secure = text.strip_prefix("https://");
    let rest = secure.or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.contains('@') || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fault(at, NotifyError::Url(text.into())));
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if is_secret && secure.is_none() && !is_local(name) {
        return Err(fault(at, NotifyError::PlainToken));
    }
    Ok(text.trim_end_matches('/').into())
}
