//! The sets of branches that share objects and compiler caches, and so may influence each other's kernels.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::branch::BranchRef;
use crate::names::{NameError, bad, name};

name! {
    /// The name of a trust domain: `user/alice`, `branch/alice/for-next`, `base`.
    TrustDomain
}

impl TrustDomain {
    /// The domain of the branches that the operator trusts: its builds write the compiler cache that the builds of all
    /// domains read.
    #[must_use]
    pub fn base() -> Self {
        Self("base".into())
    }

    /// The domain of a branch of a farm, in which those of [`TrustScope::All`] have a name too.
    #[must_use]
    pub fn of_branch(scope: TrustScope, branch: &BranchRef, is_base: bool) -> Self {
        match is_base {
            true => Self::base(),
            false => scope.domain(branch).unwrap_or_else(|| Self("all".into())),
        }
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a trust domain";
        if text.is_empty() || text.len() > 500 || text.starts_with('-') {
            return Err(bad(kind, text, "it must have 1 to 500 bytes and must not begin with -"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad(kind, text, "it must not contain white space or control characters"));
        }
        Ok(Self(text.into()))
    }
}

/// How a farm groups its branches into trust domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustScope {
    /// Those of one user.
    #[default]
    User,
    /// Each branch is its own domain.
    Branch,
    /// All.
    All,
}

impl TrustScope {
    const TABLE: [(Self, &'static str); 3] =
        [(Self::User, "user"), (Self::Branch, "branch"), (Self::All, "all")];

    /// The trust domain of a branch; `None` for the trust domain of a developer's own runs.
    #[must_use]
    pub fn domain(self, branch: &BranchRef) -> Option<TrustDomain> {
        let name = match self {
            Self::User => format!("user/{}", branch.user),
            Self::Branch => format!("branch/{branch}"),
            Self::All => return None,
        };
        Some(TrustDomain(name.into()))
    }
}

impl fmt::Display for TrustScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::TABLE.iter().find(|(scope, _)| scope == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for TrustScope {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::TABLE.iter().find(|(_, name)| *name == text).map(|(scope, _)| *scope);
        found.ok_or_else(|| bad("a trust scope", text, "use user, branch or all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_a_domain() {
        let branch = |text: &str| {
            let (user, branch) = text.split_once('/').unwrap();
            BranchRef::new(&user.parse().unwrap(), &branch.parse().unwrap())
        };
        let (one, two, other) = (branch("a/x"), branch("a/y"), branch("b/x"));
        let same = |scope: TrustScope, a: &BranchRef, b: &BranchRef| scope.domain(a) == scope.domain(b);
        assert!(same(TrustScope::User, &one, &two) && !same(TrustScope::User, &one, &other));
        assert!(!same(TrustScope::Branch, &one, &two) && !same(TrustScope::Branch, &one, &other));
        assert!(same(TrustScope::All, &one, &other));
        for (scope, name) in TrustScope::TABLE {
            assert_eq!((name.parse(), scope.to_string().as_str()), (Ok(scope), name));
        }
        assert!("users".parse::<TrustScope>().is_err());
        assert!(
            ![TrustScope::User, TrustScope::Branch]
                .map(|s| s.domain(&one))
                .contains(&Some(TrustDomain::base()))
        );
        for bad in ["", "a b", "-x", "a\n"] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
        }
    }
}
