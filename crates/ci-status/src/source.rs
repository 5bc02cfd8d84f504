//! Where the results are, and what the current folder says about which are meant.

use std::path::{Path, PathBuf};

use results::Reader;

use crate::problem::Problem;

/// The results, and the defaults for what is not said.
#[derive(Debug, Clone)]
pub struct Source {
    /// The results.
    pub reader: Reader,
    /// Whose branches are meant where several users have one of that name.
    pub user: Option<String>,
    /// The folder whose checkout says what HEAD is.
    pub folder: PathBuf,
    /// Unix seconds.
    pub now: i64,
}

impl Source {
    /// The results in `output_dir`, else where the configuration (`config`, else the usual places) has them.
    pub fn open(
        output_dir: Option<&Path>,
        config: Option<&Path>,
        user: Option<String>,
        folder: PathBuf,
        now: i64,
    ) -> Result<Self, Problem> {
        if let Some(dir) = output_dir {
            return Ok(Self { reader: Reader::open(dir)?, user, folder, now });
        }
        // A user's broken file does not hide anybody's results.
        let (config, _) = config::load_lenient(&config::find(config)?)?;
        Ok(Self { reader: Reader::open(&config.output_dir)?, user: user.or(config.user), folder, now })
    }
}
