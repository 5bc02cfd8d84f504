//! Arguments of git: ref names and remotes. These types cannot hold options or remote helpers
//! (`--upload-pack=...`, `ext::sh -c ...`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, bad, name};

name! {
    /// A git ref: `master`, `refs/heads/for-next`, `v6.1`. Never an option, a range or an expression like `HEAD~3`.
    RefName
}

impl FromStr for RefName {
    type Err = NameError;
    /// Applies the rules of git-check-ref-format and refuses a leading `-`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a git ref";
        if text.is_empty() || text.len() > 200 {
            return Err(bad(kind, text, "it must have 1 to 200 bytes"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c)) {
            return Err(bad(
                kind,
                text,
                "it must not contain white space, control characters or any of ~ ^ : ? * [ \\",
            ));
        }
        let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if text.starts_with('-')
            || text == "@"
            || text.contains("..")
            || text.contains("@{")
            || text.ends_with('.')
        {
            return Err(bad(kind, text, "it must not begin with -, end in . or contain .. or @{"));
        }
        if text.split('/').any(bad_part) {
            return Err(bad(kind, text, "no part of it may be empty, begin with a dot or end in .lock"));
        }
        Ok(Self(text.into()))
    }
}

name! {
    /// A remote: a URL, `host:path`, a path, or the name of a remote in the repository's configuration.
    Remote
}

impl FromStr for Remote {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a git remote";
        if text.is_empty() || text.len() > 1000 {
            return Err(bad(kind, text, "it must have 1 to 1000 bytes"));
        }
        if text.starts_with('-') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad(
                kind,
                text,
                "it must not begin with - or contain white space or control characters",
            ));
        }
        if text.contains("::") && !text.contains("://") {
            return Err(bad(
                kind,
                text,
                "remote helpers (ext::, fd::...) are not supported; give a URL or a path",
            ));
        }
        if let Some((scheme, _)) = text.split_once("://")
            && !["https", "http", "git", "ssh", "file", "git+ssh", "ssh+git"].contains(&scheme)
        {
            return Err(bad(kind, text, "its URL scheme must be one of https, http, git, ssh, file"));
        }
        // Old versions of git pass the host of `ssh://-oProxyCommand=...` to ssh as an option.
        let host = text.split_once("://").map_or(text, |(_, rest)| rest);
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.starts_with('-') {
            return Err(bad(kind, text, "its host must not begin with -"));
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs() {
        for good in ["master", "refs/heads/for-next", "v6.1-rc3", "user/branch", "a@b"] {
            assert!(good.parse::<RefName>().is_ok(), "{good}");
        }
        for hostile in [
            "",
            "-x",
            "--upload-pack=touch x",
            "a b",
            "a..b",
            "a~1",
            "a^",
            "a:b",
            "a/.b",
            "a//b",
            "/a",
            "a/",
            "a.lock",
            "@",
            "HEAD@{1}",
            "a\n",
            "a\\b",
        ] {
            assert!(hostile.parse::<RefName>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn remotes() {
        for good in [
            "origin",
            "https://git.example.org/linux.git",
            "git@example.org:linux.git",
            "/srv/git/linux.git",
            "../linux",
            "ssh://me@host:22/x",
            "file:///srv/x",
        ] {
            assert!(good.parse::<Remote>().is_ok(), "{good}");
        }
        for hostile in [
            "",
            "--upload-pack=x",
            "ext::sh -c x",
            "ext::x",
            "fd::3",
            "ssh://-oProxyCommand=x/y",
            "me@-x:y",
            "ftps://x",
        ] {
            assert!(hostile.parse::<Remote>().is_err(), "{hostile:?}");
        }
    }
}
