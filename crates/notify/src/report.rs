//! All that a message says of a finding.

use model::{CommitId, Finding, FindingRate};
use serde::Serialize;

/// A finding with everything that a message says of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// The address of its page; empty if the farm has none.
    pub url: String,
    /// The oldest commit that fails.
    #[serde(rename = "first_bad_commit", skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<CommitInfo>,
    /// The newest older commit that passes.
    #[serde(rename = "last_good_commit", skip_serializing_if = "Option::is_none")]
    pub last_good: Option<CommitInfo>,
    /// The commit at which it shows.
    #[serde(rename = "at_commit", skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitInfo>,
    /// How often the test failed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<FindingRate>,
    /// Other branches on which it fails.
    pub elsewhere: Vec<String>,
    /// The lines of the log that show it.
    pub log: Vec<String>,
    /// The address of the log; empty if the farm has no pages.
    pub log_url: String,
    /// The commands that repeat the test.
    pub reproduce: Vec<String>,
    /// The address of the configuration of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_url: Option<String>,
    /// The address of the image of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// The owner of the test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// A commit in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommitInfo {
    /// Its id.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// The name of its author.
    pub author: String,
    /// The mail address of its author.
    pub email: String,
    /// The id of the mail with the patch, without angle brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Its address on the web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The places of archives of mailing lists, in which an address ends with the id of the mail.
const ARCHIVES: [&str; 4] = [
    "https://lore.kernel.org/",
    "https://patch.msgid.link/",
    "https://msgid.link/",
    "https://lkml.kernel.org/",
];

impl CommitInfo {
    /// The id of the mail with the patch, from the trailers of the message of a commit: `Message-ID:`, or a `Link:` to an archive of
    /// a mailing list. The newest trailer counts.
    #[must_use]
    pub fn patch_message_id(message: &str) -> Option<String> {
        message.lines().rev().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            let id = match name.trim().to_ascii_lowercase().as_str() {
                "message-id" => value.trim_start_matches('<').trim_end_matches('>'),
                "link" => {
                    let address = value.split_whitespace().next()?;
                    ARCHIVES.iter().find(|archive| address.starts_with(**archive))?;
                    address.trim_end_matches('/').rsplit('/').next()?
                }
                _ => return None,
            };
            is_message_id(id).then(|| id.to_owned())
        })
    }
}

/// Whether a text is the id of a mail, without angle brackets, that can be a header as it is.
pub(crate) fn is_message_id(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>@()\\\"".contains(&b))
    };
    text.len() <= 250 && text.split_once('@').is_some_and(|(left, right)| is_part(left) && is_part(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_of_a_patch_is_in_its_trailers() {
        for (line, id) in [
            ("Link: https://lore.kernel.org/r/2026.1-kim@x.example", Some("2026.1-kim@x.example")),
            ("Link: https://lore.kernel.org/all/a@b/", Some("a@b")),
            ("Link: https://patch.msgid.link/a@b", Some("a@b")),
            ("Message-ID: <a@b>", Some("a@b")),
            ("Message-Id: a@b", Some("a@b")),
            ("Link: https://bugzilla.kernel.org/show_bug.cgi?id=1", None),
            ("Link: https://evil.example/a@b", None),
            ("Message-ID: <a@b\u{7f}>", None),
            ("Message-ID: <a@b> Bcc: c@d", None),
        ] {
            let message = format!("subject\n\nbody\n\n{line}\nSigned-off-by: Kim <kim@x.example>\n");
            assert_eq!(CommitInfo::patch_message_id(&message).as_deref(), id, "{line}");
        }
    }
}
