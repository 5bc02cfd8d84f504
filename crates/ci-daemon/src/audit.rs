//! The audit log: who requested what, and when. One JSON object per line, append-only. A full log replaces the previous
//! one, so the total size is bounded.
//!
//! An entry is written before the request is carried out. If it cannot be written, the request is still carried out and
//! the error is logged, so that a full disk does not stop the farm.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fsx::clock::unix_seconds;
use model::{CommitId, ResultKey};
use results::requests::{CancelBatch, NotifyRequest, RequestKind};
use serde::{Deserialize, Serialize};

/// The file name in the output directory. Only the daemon's user can read the file.
const FILE: &str = "ci-daemon-audit.jsonl";
/// The file name of the previous log.
const FILE_BEFORE: &str = "ci-daemon-audit.1.jsonl";
/// The size in bytes at which a new log is started.
const SIZE_MAX: u64 = 16 << 20;
/// The version of the format.
const VERSION: u32 = 1;
/// The maximum length of a line, in bytes.
const LINE_MAX: u64 = 64 << 10;
/// The maximum number of bytes of the account database that are searched.
const PASSWD_MAX: u64 = 1 << 20;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The version of the format.
    pub v: u32,
    /// The time when the daemon received it, in Unix seconds.
    pub at: i64,
    /// What was requested.
    #[serde(flatten)]
    pub action: AuditAction,
    /// Who requested it.
    #[serde(flatten)]
    pub requester: Requester,
}

/// What was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum AuditAction {
    /// A rerun of a test.
    Rerun {
        /// The commit.
        commit: CommitId,
        /// The test.
        test: ResultKey,
    },
    /// Removal of the listing of a branch.
    Unlist {
        /// The branch, as `user/branch`.
        branch: String,
    },
    /// A bisection.
    Bisect {
        /// The branch, as `user/branch`.
        branch: String,
        /// The test.
        test: ResultKey,
    },
    /// The end of a bisection.
    #[serde(rename = "cancel_bisection")]
    CancelBisection {
        /// The bisection.
        id: String,
    },
    /// Runs that prove a fix.
    Believe {
        /// The branch, as `user/branch`.
        branch: String,
        /// The test.
        test: ResultKey,
    },
    /// The end of these runs.
    #[serde(rename = "cancel_believe")]
    CancelBelieve {
        /// The claim.
        id: String,
    },
    /// A host or slot takes no new batches.
    Drain {
        /// The host or slot.
        place: String,
    },
    /// It takes batches again.
    Resume {
        /// The host or slot.
        place: String,
    },
    /// The end of a batch.
    #[serde(rename = "cancel_batch")]
    CancelBatch {
        /// The slot.
        place: String,
        /// When the batch was claimed, in Unix seconds.
        started: i64,
    },
    /// The tests of a branch do not run.
    #[serde(rename = "pause_branch")]
    PauseBranch {
        /// The branch, as `user/branch`.
        branch: String,
    },
    /// They run again.
    #[serde(rename = "resume_branch")]
    ResumeBranch {
        /// The branch, as `user/branch`.
        branch: String,
    },
    /// A finding or a message for a test was sent.
    #[serde(rename = "notify")]
    Notify {
        /// The finding; `None` for a message for a test.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finding: Option<String>,
        /// The sender; `None` for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
    },
    /// Somebody said something of a finding.
    #[serde(rename = "mark")]
    Mark {
        /// The finding.
        finding: String,
        /// What was said.
        text: String,
        /// By whom.
        by: String,
    },
    /// A fetch cycle.
    Fetch,
}

/// Who requested it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "lowercase")]
pub enum Requester {
    /// The owner of a request file. For requests through the dashboard, this is the dashboard's account.
    File {
        /// The owner.
        uid: u32,
        /// The name of the owner on this host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// The address of the client, as reported by the dashboard.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// A client of the hook.
    Hook {
        /// Its address.
        address: IpAddr,
    },
    /// A process that sent SIGUSR1, for example the dashboard for its own hook.
    Signal,
}

impl Requester {
    /// The owner of a request file.
    #[must_use]
    pub fn owner(uid: u32, address: Option<IpAddr>) -> Self {
        let accounts = fsx::own::read_to_string(Path::new("/etc/passwd"), PASSWD_MAX).unwrap_or_default();
        Self::File { uid, account: account(&accounts, uid), address }
    }

    /// The account, and whether it requested this for a client of the dashboard: `www-data, through the dashboard`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::File { address: Some(_), .. } => format!("{}, through the dashboard", self.account()),
            _ => self.account(),
        }
    }

    /// The account, without the address of a client.
    #[must_use]
    pub fn account(&self) -> String {
        match self {
            Self::File { account: Some(account), .. } => account.clone(),
            Self::File { uid, .. } => format!("uid {uid}"),
            Self::Hook { .. } => "hook".into(),
            Self::Signal => "SIGUSR1".into(),
        }
    }
}

/// The name of a user in the account database (passwd(5)).
fn account(accounts: &str, uid: u32) -> Option<String> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    };
    accounts.lines().find_map(of_line)
}

impl From<&RequestKind> for AuditAction {
    fn from(kind: &RequestKind) -> Self {
        match kind {
            RequestKind::Rerun(rerun) => {
                Self::Rerun { commit: rerun.commit.clone(), test: rerun.key.clone() }
            }
            RequestKind::Unlist(branch) => Self::Unlist { branch: branch.to_string() },
            RequestKind::Bisect(bisect) => {
                Self::Bisect { branch: bisect.branch.to_string(), test: bisect.key.clone() }
            }
            RequestKind::CancelBisection(id) => {
                let id = if results::bisections::is_id(id) { id.clone() } else { "?".into() };
                Self::CancelBisection { id }
            }
            RequestKind::Believe(believe) => {
                Self::Believe { branch: believe.branch.to_string(), test: believe.key.clone() }
            }
            RequestKind::CancelBelieve(id) => {
                let id = if results::claims::is_id(id) { id.clone() } else { "?".into() };
                Self::CancelBelieve { id }
            }
            RequestKind::Drain(drain) => Self::Drain { place: drain.place.to_string() },
            RequestKind::Resume(place) => Self::Resume { place: place.to_string() },
            RequestKind::CancelBatch(CancelBatch { host, slot, started }) => {
                Self::CancelBatch { place: format!("{host}/{slot}"), started: *started }
            }
            RequestKind::PauseBranch(pause) => Self::PauseBranch { branch: pause.branch.to_string() },
            RequestKind::ResumeBranch(branch) => Self::ResumeBranch { branch: branch.to_string() },
            RequestKind::Notify(request) => Self::of_notification(request),
        }
    }
}

impl AuditAction {
    fn of_notification(request: &NotifyRequest) -> Self {
        let text = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            text
        };
        match request {
            NotifyRequest::Send { finding, sender } => {
                Self::Notify { finding: Some(text(finding)), sender: sender.as_deref().map(text) }
            }
            NotifyRequest::Test { sender } => Self::Notify { finding: None, sender: Some(text(sender)) },
            NotifyRequest::Mark { finding, mark } => Self::Mark {
                finding: text(finding),
                text: text(&mark.what.to_string()),
                by: text(&mark.account),
            },
        }
    }
}

impl fmt::Display for AuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.at).unwrap_or(0));
        write!(f, "{}  ", humantime::format_rfc3339_seconds(at))?;
        match &self.action {
            AuditAction::Rerun { commit, test } => write!(f, "rerun {test} at {}", commit.short())?,
            AuditAction::Unlist { branch } => write!(f, "unlist {branch}")?,
            AuditAction::Bisect { branch, test } => write!(f, "bisect {test} on {branch}")?,
            AuditAction::CancelBisection { id } => write!(f, "cancel bisection {id}")?,
            AuditAction::Believe { branch, test } => write!(f, "believe {test} on {branch}")?,
            AuditAction::CancelBelieve { id } => write!(f, "cancel believe {id}")?,
            AuditAction::Drain { place } => write!(f, "drain {place}")?,
            AuditAction::Resume { place } => write!(f, "resume {place}")?,
            AuditAction::CancelBatch { place, .. } => write!(f, "cancel the batch of {place}")?,
            AuditAction::PauseBranch { branch } => write!(f, "pause {branch}")?,
            AuditAction::ResumeBranch { branch } => write!(f, "resume {branch}")?,
            AuditAction::Notify { finding, sender } => {
                let sender = sender.as_deref().unwrap_or("all senders");
                let finding = finding.as_ref().map_or("a test message".into(), |id| format!("finding {id}"));
                write!(f, "send {finding} by {sender}")?;
            }
            AuditAction::Mark { finding, text, by } => write!(f, "mark finding {finding} {text} by {by}")?,
            AuditAction::Fetch => write!(f, "fetch")?,
        }
        match &self.requester {
            Requester::File { uid, account, address } => {
                match account {
                    Some(account) => write!(f, "  {account} (uid {uid})")?,
                    None => write!(f, "  uid {uid}")?,
                }
                address.map_or(Ok(()), |address| write!(f, " for {address}"))
            }
            Requester::Hook { address } => write!(f, "  hook, {address}"),
            Requester::Signal => write!(f, "  SIGUSR1"),
        }
    }
}

/// The audit log of an output directory.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
    before: PathBuf,
    /// The size in bytes at which a new log is started.
    max: u64,
}

impl AuditLog {
    /// The audit log in this output directory. The first entry creates it.
    #[must_use]
    pub fn of(output_dir: &Path) -> Self {
        Self { path: output_dir.join(FILE), before: output_dir.join(FILE_BEFORE), max: SIZE_MAX }
    }

    /// Appends an entry. Errors are only logged.
    pub fn record(&self, action: AuditAction, requester: Requester) {
        let entry = AuditEntry { v: VERSION, at: unix_seconds(), action, requester };
        if let Err(error) = self.append(&entry) {
            tracing::error!("{}: not recorded: {entry}: {error}", self.path.display());
        }
    }

    fn append(&self, entry: &AuditEntry) -> std::io::Result<()> {
        if fsx::own::existing(&self.path)?.is_some_and(|meta| meta.len() >= self.max) {
            fsx::own::rename(&self.path, &self.before)?;
        }
        let line = serde_json::to_string(entry)? + "\n";
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        let mut file = fsx::own::open_with(&self.path, &options)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    /// The newest `most` entries, oldest first, and the number of lines that are not entries.
    pub fn read(&self, most: usize) -> Result<(Vec<AuditEntry>, usize), fsx::Error> {
        let (mut entries, mut invalid) = (VecDeque::new(), 0);
        for path in [&self.before, &self.path] {
            invalid += read_file(path, most, &mut entries)?;
        }
        Ok((entries.into(), invalid))
    }
}

/// Adds the entries of a file, keeping only the newest `most`. Returns the number of lines that are not entries.
fn read_file(path: &Path, most: usize, entries: &mut VecDeque<AuditEntry>) -> Result<usize, fsx::Error> {
    let file = match fsx::own::open(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(0),
        Err(error) => return Err(error),
    };
    let (mut reader, mut line, mut invalid) = (BufReader::new(file), Vec::new(), 0);
    loop {
        line.clear();
        let count = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line);
        if count.map_err(fsx::Error::of("read", path))? == 0 {
            return Ok(invalid);
        }
        match serde_json::from_slice::<AuditEntry>(&line) {
            Ok(entry) if entry.v == VERSION => entries.push_back(entry),
            _ => invalid += 1,
        }
        if entries.len() > most {
            entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn entries_are_appended_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::of(dir.path());
        assert_eq!(log.read(10).unwrap(), (vec![], 0));
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let rerun = AuditAction::Rerun { commit, test: "fs.ext4.basic.punch".parse().unwrap() };
        let owner = |account: Option<&str>, address: Option<&str>| Requester::File {
            uid: 1000,
            account: account.map(Into::into),
            address: address.map(|address| address.parse().unwrap()),
        };
        log.record(rerun.clone(), owner(Some("kmo"), None));
        log.record(rerun, owner(None, Some("192.0.2.1")));
        log.record(AuditAction::Unlist { branch: "kmo/old".into() }, owner(Some("root"), None));
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(FILE))
            .and_then(|mut file| file.write_all(b"{\"half\n"))
            .unwrap();
        log.record(AuditAction::Fetch, Requester::Hook { address: "2001:db8::1".parse().unwrap() });
        log.record(AuditAction::Fetch, Requester::Signal);
        let (entries, invalid) = log.read(10).unwrap();
        let lines: Vec<String> = entries
            .iter()
            .map(|entry| AuditEntry { at: 1_700_000_000, ..entry.clone() }.to_string())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        2023-11-14T22:13:20Z  rerun fs.ext4.basic.punch at aaaaaaaaaaaa  kmo (uid 1000)
        2023-11-14T22:13:20Z  rerun fs.ext4.basic.punch at aaaaaaaaaaaa  uid 1000 for 192.0.2.1
        2023-11-14T22:13:20Z  unlist kmo/old  root (uid 1000)
        2023-11-14T22:13:20Z  fetch  hook, 2001:db8::1
        2023-11-14T22:13:20Z  fetch  SIGUSR1
        ");
        assert_eq!((invalid, log.read(2).unwrap().0.len()), (1, 2));
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let line = text.lines().next().unwrap();
        assert!(
            line.contains(r#""action":"rerun""#)
                && line.contains(r#""via":"file","uid":1000,"account":"kmo""#),
            "{line}"
        );
        assert_eq!(dir.path().join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog { max: 1000, ..AuditLog::of(dir.path()) };
        for _ in 0..200 {
            log.record(AuditAction::Fetch, Requester::Signal);
        }
        let sizes = [FILE, FILE_BEFORE].map(|name| dir.path().join(name).metadata().unwrap().len());
        assert!(sizes.iter().all(|size| *size < 1100), "{sizes:?}");
        // The entries of both logs are read, the newest last.
        let (entries, invalid) = log.read(1000).unwrap();
        assert!(entries.len() >= 1000 / 60 && invalid == 0, "{}", entries.len());
    }

    #[test]
    fn accounts_have_names() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nkmo:x:1000:1000::/home/kmo:/bin/sh\nbroken\n";
        assert_eq!(account(accounts, 1000).as_deref(), Some("kmo"));
        assert_eq!(account(accounts, 7), None);
    }
}
