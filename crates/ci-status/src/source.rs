//! Where the results are, and what the current folder says about which are meant.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::UserName;

use crate::origin::{Local, Origin, Remote, Wire};
use crate::problem::Problem;

/// The results, and the defaults for what is not said.
#[derive(Debug, Clone)]
pub struct Source {
    /// The results.
    pub results: Arc<dyn Origin>,
    /// Whose branches are meant where several users have one of that name.
    pub user: Option<UserName>,
    /// The folder whose checkout says what HEAD is.
    pub folder: PathBuf,
    /// Unix seconds.
    pub now: i64,
}

/// What was said about where the results are.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// A folder of results.
    pub output_dir: Option<&'a Path>,
    /// A configuration.
    pub config: Option<&'a Path>,
    /// A dashboard's address; an empty one: that of the configuration or the environment.
    pub remote: Option<&'a str>,
    /// The address that the environment names, for where nothing is said and no results are here.
    pub fallback: Option<&'a str>,
    /// Results on this machine only.
    pub local: bool,
    /// A user.
    pub user: Option<&'a UserName>,
}

impl Source {
    /// The results that were asked for: those behind `remote`, those in `output_dir`, those where the configuration
    /// (else the usual places) has them, or, where there are none here, those behind the configuration's `ci_url`.
    pub fn open(asked: &Asked<'_>, folder: PathBuf, now: i64) -> Result<Self, Problem> {
        let said = asked.user.cloned();
        let source = |results, user| Self { results, user, folder, now };
        if let Some(dir) = asked.output_dir {
            return Ok(source(Arc::new(Local::open(dir)?), said));
        }
        if let Some(url) = asked.remote.filter(|url| !url.is_empty()) {
            return Ok(source(remote(url, asked.user)?, said));
        }
        let config = config::find(asked.config).and_then(|file| config::load_lenient(&file));
        // A user's broken file does not hide anybody's results.
        let (config, _) = match (config, asked.fallback) {
            (Ok(config), _) => config,
            (Err(_), Some(url)) if asked.config.is_none() && !asked.local => {
                return Ok(source(remote(url, asked.user)?, said));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let published = config.ci_url.as_deref().or(asked.fallback);
        let user = said.or(config.user);
        let away = asked.remote.is_some() || (!asked.local && !config.output_dir.is_dir());
        match published {
            Some(url) if away => Ok(source(remote(url, asked.user)?, user)),
            None if asked.remote.is_some() => Err(Problem::NoAddress),
            _ => Ok(source(Arc::new(Local::open(&config.output_dir)?), user)),
        }
    }
}

/// Who names a user has the JSON views alone; that is what a dashboard gives that publishes no files.
fn remote(url: &str, user: Option<&UserName>) -> Result<Arc<dyn Origin>, Problem> {
    let wire = if user.is_some() { Wire::Json } else { Wire::Blobs };
    Ok(Arc::new(Remote::open(url, wire)?))
}
