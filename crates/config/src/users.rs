//! `[users]`: the limits for users' files in `users_dir`. They do not apply to the branches of the main file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{ByteSize, Remote};

use crate::fault::Fault;
use crate::node::{Node, Section};

/// The default of `allow_remotes`. An ssh:// fetch would use the daemon's key, http:// can be modified in transit, and
/// a path would read files of the daemon's host.
const REMOTES: [&str; 2] = ["https://*", "git://*"];

/// The limits of each user of `users_dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLimits {
    /// Patterns of the remotes that a branch may have, in addition to the names of the repository's remotes.
    pub allow_remotes: Vec<RemotePattern>,
    /// The most branches.
    pub max_branches: usize,
    /// The maximum number of fetches that run at the same time. It also applies to the branches of the main file.
    pub max_fetches: usize,
    /// The maximum number of workers that run batches of the user at the same time; `None` for no limit.
    pub max_workers: Option<usize>,
    /// The maximum size of the results in bytes; `None` for no limit. A user above it gets no new tests until results
    /// are deleted.
    pub max_disk: Option<ByteSize>,
}

impl Default for UserLimits {
    fn default() -> Self {
        Self {
            allow_remotes: REMOTES.iter().map(|text| RemotePattern((*text).into())).collect(),
            max_branches: 100,
            max_fetches: 4,
            max_workers: None,
            max_disk: None,
        }
    }
}

/// What a user's file may not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserLimitError {
    /// The remote matches no pattern.
    #[error(
        "remote: {remote} is not allowed in a user's file; allow_remotes = {allowed:?} of [users] in the main file"
    )]
    Remote {
        /// The remote.
        remote: String,
        /// The patterns.
        allowed: Vec<String>,
    },
    /// The remote is in the farm's own network.
    #[error("remote: {0} is not on a public host; an entry of allow_remotes that names the host allows it")]
    Private(String),
    /// Too many branches.
    #[error("{count} branches, but a user may have {max} (max_branches of [users] in the main file)")]
    Branches {
        /// Their number.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A user's branch cannot write what other users' builds read.
    #[error("base_cache is allowed in the main file only")]
    BaseCache,
    /// Not a size.
    #[error("max_disk: {0}")]
    Size(model::size::SizeError),
    /// An empty pattern.
    #[error("allow_remotes: an entry is empty; write \"https://*\"")]
    Pattern,
}

impl crate::fault::SectionError for UserLimitError {}

/// The networks in which the host of an allowed remote may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteHost {
    /// Anywhere, because the operator named the host.
    Any,
    /// Only public addresses ([`is_public`]).
    Public,
}

/// A pattern for remotes: a text in which `*` matches any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePattern(String);

impl RemotePattern {
    fn matches(&self, text: &str) -> bool {
        model::matches_wildcard(&self.0, text)
    }

    /// Whether the pattern contains the host, or is a path. Then no text that a user writes can reach another host.
    fn names_host(&self) -> bool {
        let fixed = self.0.split('*').next().unwrap_or_default();
        match fixed.split_once("://") {
            Some((_, rest)) => rest.contains('/'),
            None => fixed.starts_with('/') || fixed.contains(':'),
        }
    }
}

impl UserLimits {
    /// Whether a user's file may have this remote, and where its host may be.
    pub fn check(&self, remote: &Remote) -> Result<RemoteHost, UserLimitError> {
        let text = remote.as_str();
        // The name of a remote that the operator added to the repository.
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Ok(RemoteHost::Any);
        }
        let matching = || self.allow_remotes.iter().filter(|pattern| pattern.matches(text));
        let is_plain = !text.contains('\\') && !text.split('/').any(|part| part == "..");
        if !is_plain || matching().next().is_none() {
            let allowed = self.allow_remotes.iter().map(|pattern| pattern.0.clone()).collect();
            return Err(UserLimitError::Remote { remote: text.into(), allowed });
        }
        if matching().any(RemotePattern::names_host) {
            return Ok(RemoteHost::Any);
        }
        let private = || UserLimitError::Private(text.into());
        let (host, _) = host_and_port(text).ok_or_else(private)?;
        let is_address = |last: &str| last.starts_with(|c: char| c.is_ascii_digit());
        match host.parse::<IpAddr>() {
            Ok(address) if is_public(address) => Ok(RemoteHost::Public),
            Ok(_) => Err(private()),
            // Refuses `localhost`, names of the local network, and other notations of an address (`127.1`).
            Err(_) => match host.trim_end_matches('.').rsplit_once('.') {
                Some((_, last)) if !is_address(last) && !is_local(last) => Ok(RemoteHost::Public),
                _ => Err(private()),
            },
        }
    }
}

/// Top-level domains of local networks (RFC 6762, RFC 8375, RFC 6761, and what routers use).
fn is_local(domain: &str) -> bool {
    ["local", "localhost", "localdomain", "internal", "intranet", "lan", "home", "corp", "arpa", "onion"]
        .iter()
        .any(|local| domain.eq_ignore_ascii_case(local))
}

/// The host and the port of a URL; `None` if it is not a URL with a host.
#[must_use]
pub fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match (port.filter(|port| !port.is_empty()), scheme) {
        (Some(port), _) => port.parse().ok()?,
        (None, "https") => 443,
        (None, "http") => 80,
        (None, "git") => 9418,
        (None, "ssh") => 22,
        (None, _) => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Whether an address belongs to the public internet: it is in none of the special ranges of IANA's registries.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!(
            (a, b, c),
            (0 | 224.., ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _)
        );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // NAT64 and 6to4 addresses contain an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments including Teredo, and documentation ranges.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

const KEYS: &[&str] = &["allow_remotes", "max_branches", "max_fetches", "max_workers", "max_disk"];

pub(crate) fn read(node: &Node) -> Result<UserLimits, Fault> {
    let section = Section::new(node, "[users]", KEYS)?;
    let default = UserLimits::default();
    let count = |key: &'static str, least: i64, default: usize| match section.get(key) {
        Some(node) => node.int(key, least, 1_000_000).map(|n| usize::try_from(n).unwrap_or(default)),
        None => Ok(default),
    };
    let pattern = |item: &Node| match item.str("allow_remotes")? {
        "" => Err(item.fault(UserLimitError::Pattern)),
        text => Ok(RemotePattern(text.into())),
    };
    Ok(UserLimits {
        allow_remotes: match section.get("allow_remotes") {
            Some(node) => node.list("allow_remotes")?.iter().map(pattern).collect::<Result<_, _>>()?,
            None => default.allow_remotes,
        },
        max_branches: count("max_branches", 0, default.max_branches)?,
        max_fetches: count("max_fetches", 1, default.max_fetches)?,
        max_workers: section.get("max_workers").map(|_| count("max_workers", 1, 1)).transpose()?,
        max_disk: section.get("max_disk").map(size).transpose()?,
    })
}

fn size(node: &Node) -> Result<ByteSize, Fault> {
    node.str("max_disk")?.parse().map_err(|error| node.fault(UserLimitError::Size(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(patterns: &[&str]) -> UserLimits {
        let allow_remotes = patterns.iter().map(|text| RemotePattern((*text).into())).collect();
        UserLimits { allow_remotes, ..UserLimits::default() }
    }

    fn check(limits: &UserLimits, remote: &str) -> &'static str {
        match limits.check(&remote.parse().unwrap()) {
            Ok(RemoteHost::Any) => "any",
            Ok(RemoteHost::Public) => "public",
            Err(UserLimitError::Private(_)) => "private",
            Err(_) => "refused",
        }
    }

    #[test]
    fn public_hosts_over_https_and_git_are_the_default() {
        let default = UserLimits::default();
        for (remote, expected) in [
            ("https://git.kernel.org/pub/scm/linux.git", "public"),
            ("git://git.kernel.org/x.git", "public"),
            ("https://93.184.215.14/x", "public"),
            ("https://[2606:2800:21f::1]:8443/x", "public"),
            ("http://git.kernel.org/x", "refused"),
            ("ssh://git@github.com/x", "refused"),
            ("git@github.com:x/y", "refused"),
            ("/srv/git/secret.git", "refused"),
            ("file:///srv/git/secret.git", "refused"),
            ("ext4", "any"),
            ("../linux.git", "refused"),
            ("linux.git", "refused"),
            ("https://localhost/x", "private"),
            ("https://LOCALHOST./x", "private"),
            ("https://intranet/x", "private"),
            ("https://git.corp/x", "private"),
            ("https://printer.local/x", "private"),
            ("https://127.0.0.1/x", "private"),
            ("https://127.1/x", "private"),
            ("https://2130706433/x", "private"),
            ("https://0x7f.0.0.1/x", "private"),
            ("https://10.1.2.3:443/x", "private"),
            ("https://169.254.169.254/latest", "private"),
            ("https://[::1]/x", "private"),
            ("https://[::ffff:10.0.0.1]/x", "private"),
            ("https://[fd00::1]/x", "private"),
            ("https://git.kernel.org@127.0.0.1/x", "private"),
            ("https:///x", "private"),
            ("https://git.kernel.org\\@127.0.0.1/x", "refused"),
            ("https://git.kernel.org:99999/x", "private"),
        ] {
            assert_eq!(check(&default, remote), expected, "{remote}");
        }
    }

    #[test]
    fn an_operator_allows_hosts_and_paths_by_name() {
        let limits = limits(&["https://git.corp/*", "/srv/git/*.git", "ssh://git@*/x", "git@host:*", "a.b"]);
        for (remote, expected) in [
            ("https://git.corp/linux", "any"),
            ("https://git.corp.evil.org/linux", "refused"),
            ("https://git.corp@evil.org/linux", "refused"),
            ("/srv/git/linux.git", "any"),
            ("/srv/git/../../home/x.git", "refused"),
            ("/srv/git/linux", "refused"),
            ("git@host:linux", "any"),
            ("ssh://git@example.org/x", "public"),
            ("ssh://git@intranet/x", "private"),
            ("a.b", "private"),
            ("a.b.c", "refused"),
        ] {
            assert_eq!(check(&limits, remote), expected, "{remote}");
        }
        assert_eq!(
            check(
                &UserLimits { allow_remotes: Vec::new(), ..UserLimits::default() },
                "https://git.kernel.org/x"
            ),
            "refused"
        );
    }

    #[test]
    fn special_addresses_are_not_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("100.64.0.1", false),
            ("0.1.2.3", false),
            ("192.168.1.1", false),
            ("172.31.0.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2a00:1450::1", true),
            ("::", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("64:ff9b::a00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_without_a_star_matches_itself_only(text in "[a-z:/*.]{1,12}", other in "[a-z:/*.]{0,12}") {
            let pattern = RemotePattern(text.clone());
            proptest::prop_assert!(text.contains('*') || (pattern.matches(&other) == (text == other)));
            let (around, pattern) = (format!("{other}{text}{other}"), RemotePattern(format!("*{text}*")));
            proptest::prop_assert!(text.contains('*') || pattern.matches(&around));
        }
    }
}
