//! The input of every command: the results, and the defaults for omitted arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::UserName;

use crate::backend::{Backend, CommitFormat, Local, Remote};
use crate::problem::Problem;

/// The results and the defaults.
#[derive(Debug, Clone)]
pub struct Context {
    /// The results.
    pub backend: Arc<dyn Backend>,
    /// The preferred owner if several users have a branch with the given name.
    pub user: Option<UserName>,
    /// The branch on which commits are looked up, and the default for an omitted branch.
    pub branch: Option<String>,
    /// The directory of the git checkout for HEAD.
    pub directory: PathBuf,
    /// The address of the dashboard, if one is known.
    pub address: Option<String>,
    /// Unix seconds.
    pub now: i64,
}

/// The options and the environment that select the results.
#[derive(Debug, Clone, Default)]
pub struct ResultsLocation<'a> {
    /// A directory of results.
    pub output_dir: Option<&'a Path>,
    /// A configuration file.
    pub config: Option<&'a Path>,
    /// A dashboard address. Empty means the address in the configuration or the environment.
    pub remote: Option<&'a str>,
    /// The address in the environment, used if no option is given and this machine has no results.
    pub fallback: Option<&'a str>,
    /// Use only results on this machine.
    pub local: bool,
    /// The owner of the branches.
    pub user: Option<&'a UserName>,
    /// The branch of commits.
    pub branch: Option<&'a str>,
    /// The time limit of a request to a dashboard.
    pub timeout: Duration,
    /// The file with the token for the dashboard's server.
    pub token_file: Option<&'a Path>,
}

impl Context {
    /// Opens, in this order: the dashboard at `remote`; the directory `output_dir`; the `output_dir` in the
    /// configuration; the `ci_url` in the configuration if that directory does not exist.
    pub fn open(location: &ResultsLocation<'_>, directory: PathBuf, now: i64) -> Result<Self, Problem> {
        let given = location.user.cloned();
        let branch = location.branch.map(str::to_owned);
        let context = |backend, user, address: Option<&str>| {
            let address = address.map(str::to_owned);
            Self { backend, user, branch, directory, address, now }
        };
        if let Some(dir) = location.output_dir {
            return Ok(context(Arc::new(Local::open(dir)?), given, location.fallback));
        }
        if let Some(url) = location.remote.filter(|url| !url.is_empty()) {
            return Ok(context(remote(url, location)?, given, Some(url)));
        }
        let config = config::find(location.config).and_then(|file| config::load_lenient(&file));
        // An invalid file of a user must not hide published results.
        let (config, _) = match (config, location.fallback) {
            (Ok(config), _) => config,
            (Err(_), Some(url)) if location.config.is_none() && !location.local => {
                return Ok(context(remote(url, location)?, given, Some(url)));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let published = config.top.ci_url.as_deref().or(location.fallback);
        let user = given.or(config.top.user);
        let use_remote = location.remote.is_some() || (!location.local && !config.top.output_dir.is_dir());
        match published {
            Some(url) if use_remote => Ok(context(remote(url, location)?, user, published)),
            None if location.remote.is_some() => Err(Problem::NoAddress),
            _ => Ok(context(Arc::new(Local::open(&config.top.output_dir)?), user, published)),
        }
    }
}

/// With `--user`, only the JSON API is used, because a dashboard may not publish files.
fn remote(url: &str, location: &ResultsLocation<'_>) -> Result<Arc<dyn Backend>, Problem> {
    let format = if location.user.is_some() { CommitFormat::Json } else { CommitFormat::Blobs };
    let token = location.token_file.map(fsx::secret::read).transpose()?;
    Ok(Arc::new(Remote::open(url, format, (location.timeout, token))?))
}
