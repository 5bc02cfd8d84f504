//! `[suite.NAME]`: the source of a test suite (xfstests, blktests), which the farm fetches like a branch.

use std::collections::BTreeMap;

use model::{NameError, RefName, Remote, SuiteName};

use crate::branch::remote;
use crate::fault::{Fault, Problem};
use crate::node::{Node, Section};
use crate::paths::Paths;

/// The suites of the configuration.
pub type Suites = BTreeMap<SuiteName, Suite>;

/// The ref if none is given: the default branch of the remote.
const DEFAULT_REF: &str = "HEAD";

/// Where the source of a suite is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// The remote: a URL or a path.
    pub remote: Remote,
    /// The ref to fetch.
    pub git_ref: RefName,
}

/// An invalid suite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// Its name.
    #[error(transparent)]
    Name(NameError),
    /// The repository has no configuration that could give its name a meaning.
    #[error("repo = {0:?} is neither a URL nor a path; write \"https://...\" or \"/...\"")]
    NoUrl(Remote),
}

impl crate::fault::SectionError for SuiteError {}

pub(crate) fn read(node: &Node, paths: &Paths) -> Result<Suites, Fault> {
    let mut suites = Suites::new();
    for (key, node) in node.table("suite")? {
        let name = key.parse().map_err(|error| node.fault(Problem::from(SuiteError::Name(error))))?;
        let section = Section::new(node, format!("[suite.{key}]"), &["repo", "ref"])?;
        let repo = section.need("repo")?;
        let remote = remote(repo, "repo", repo.str("repo")?, paths)?;
        if !remote.as_str().contains(['/', ':']) {
            return Err(repo.fault(Problem::from(SuiteError::NoUrl(remote))));
        }
        let git_ref = section.get("ref").map(|node| node.parse("ref")).transpose()?;
        let git_ref = git_ref.unwrap_or_else(|| DEFAULT_REF.parse().expect("it is a valid ref"));
        suites.insert(name, Suite { remote, git_ref });
    }
    Ok(suites)
}
