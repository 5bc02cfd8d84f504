//! The builds of the kernels of a commit.

use std::time::Duration;

use model::{BuiltKernel, CommitId};
use rusqlite::{Connection, Result, Row};

use crate::notes::{BuildOutcome, StoredBuild};

const BUILDS: &str = "SELECT b.file, b.arch, b.flavor, b.outcome, b.started, b.duration_ms, h.name, b.slot \
    FROM build b LEFT JOIN host h ON h.id = b.host WHERE b.commit_ = (SELECT id FROM commit_ WHERE sha = ?1) ORDER BY b.id";

/// One row per batch, in the order in which they had their kernel.
pub fn builds(connection: &Connection, commit: &CommitId) -> Result<Vec<StoredBuild>> {
    let text = |row: &Row<'_>, at| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default);
    let mut select = connection.prepare_cached(BUILDS)?;
    let rows = select.query_map([commit.as_str()], |row| {
        let duration = u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0);
        Ok(StoredBuild {
            file: row.get(0)?,
            kernel: BuiltKernel { arch: text(row, 1)?, flavor: text(row, 2)? },
            outcome: BuildOutcome::of_word(&text(row, 3)?),
            started: row.get(4)?,
            duration: Duration::from_millis(duration),
            host: row.get(6)?,
            slot: row.get(7)?,
        })
    })?;
    rows.collect()
}
