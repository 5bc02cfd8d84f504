//! Commits with the same source tree, and those that inherit attempts.

use model::{BranchRef, CommitId, ExperimentKey, ResultKey, TrustDomain};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::Batch;
use super::attempt::bits;

/// The commits of a branch without results, each with the newest other commit that has results, the same source tree, and no
/// results of other domains than ?3 and ?4: another domain could have built another kernel from this tree.
const TWINS: &str = "SELECT h.sha, s.sha FROM user u JOIN branch b ON b.user = u.id AND b.name = ?2 \
    CROSS JOIN branch_commit l ON l.branch = b.id CROSS JOIN commit_ h ON h.id = l.commit_ AND h.has_results = 0 \
    CROSS JOIN commit_ s ON s.id = (SELECT max(id) FROM commit_ c WHERE tree = h.tree AND id <> h.id AND has_results = 1 \
    AND EXISTS (SELECT 1 FROM tested WHERE commit_ = c.id) \
    AND NOT EXISTS (SELECT 1 FROM tested WHERE commit_ = c.id AND domain NOT IN (?3, ?4))) \
    WHERE u.name = ?1 ORDER BY l.position DESC";
const HEIRS: &str =
    "SELECT s.sha, h.sha FROM heir i JOIN commit_ s ON s.id = i.source JOIN commit_ h ON h.id = i.commit_";
const RAN_AT: &str = "SELECT max(sha) FROM commit_ WHERE id IN (SELECT ran_at FROM attempt \
    WHERE commit_ = (SELECT id FROM commit_ WHERE sha = ?1) AND test = (SELECT id FROM test WHERE key = ?2))";

/// The commits of a branch without results, each with another commit that has the same source tree, and results of this trust
/// domain or of [`TrustDomain::base`] only.
pub fn twins(
    connection: &Connection,
    branch: &BranchRef,
    domain: &TrustDomain,
) -> Result<Vec<(CommitId, CommitId)>> {
    let base = TrustDomain::base();
    pairs(connection, TWINS, [branch.user.as_str(), branch.branch.as_str(), domain.as_str(), base.as_str()])
}

/// The newest commit at which a test has a verdict in an experiment: 1 to 3 are Passed, Failed and Not run.
const VERDICT: &str = "SELECT c.sha FROM experiment e CROSS JOIN attempt a ON a.commit_ = e.commit_ \
    AND a.test = (SELECT id FROM test WHERE key = ?2) JOIN commit_ c ON c.id = a.commit_ \
    WHERE e.key = ?1 AND a.experiment = ?1 AND a.ran_at IS NULL AND a.decisive = 1 AND a.status BETWEEN 1 AND 3 \
    AND c.sha <> ?3 ORDER BY e.commit_ DESC LIMIT 1";

/// The newest commit other than this one at which a test has a verdict in an experiment.
pub fn same_experiment(
    connection: &Connection,
    commit: &CommitId,
    test: &str,
    experiment: ExperimentKey,
) -> Result<Option<CommitId>> {
    newest(connection, VERDICT, (experiment, test, commit))
}

/// The commit that a query with a key, a test and a commit finds.
fn newest(
    connection: &Connection,
    sql: &str,
    (key, test, commit): (ExperimentKey, &str, &CommitId),
) -> Result<Option<CommitId>> {
    let sha = connection
        .prepare_cached(sql)?
        .query_row(params![bits(key), test, commit.as_str()], |row| row.get::<_, String>(0))
        .optional()?;
    Ok(sha.and_then(|sha| sha.parse().ok()))
}

/// The newest commit at which a test has a verdict in another experiment with the same code.
const SAME_CODE: &str = "SELECT c.sha FROM code d CROSS JOIN experiment e ON e.key = d.experiment \
    CROSS JOIN attempt a ON a.commit_ = e.commit_ AND a.test = (SELECT id FROM test WHERE key = ?2) \
    JOIN commit_ c ON c.id = a.commit_ \
    WHERE d.key = ?1 AND a.experiment = d.experiment AND a.ran_at IS NULL AND a.decisive = 1 AND a.status BETWEEN 1 AND 3 \
    AND c.sha <> ?3 ORDER BY e.commit_ DESC LIMIT 1";

/// The newest commit other than this one at which a test has a verdict with the same code.
pub fn same_code(
    connection: &Connection,
    commit: &CommitId,
    test: &str,
    code: ExperimentKey,
) -> Result<Option<CommitId>> {
    newest(connection, SAME_CODE, (code, test, commit))
}

/// The tests of a commit that wait for an idle slot, each with the commit at which it ran with the same code. A test that has a
/// verdict, or that no longer has one there, is left out.
const WAITING: &str = "SELECT t.key, c.sha FROM same_code w JOIN test t ON t.id = w.test JOIN commit_ c ON c.id = w.source \
    WHERE w.commit_ = (SELECT id FROM commit_ WHERE sha = ?1) \
    AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.commit_ = w.commit_ AND a.test = w.test AND a.decisive = 1) \
    AND EXISTS (SELECT 1 FROM attempt a WHERE a.commit_ = w.source AND a.test = w.test AND a.decisive = 1) ORDER BY t.key";

/// The tests of a commit that wait for an idle slot, each with the commit at which it ran with the same code.
pub fn waiting(connection: &Connection, commit: &CommitId) -> Result<Vec<(ResultKey, CommitId)>> {
    let mut select = connection.prepare_cached(WAITING)?;
    let rows = select
        .query_map([commit.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let parsed = rows.map(|row| row.map(|(test, source)| Some((test.parse().ok()?, source.parse().ok()?))));
    parsed.filter_map(Result::transpose).collect()
}

const INHERITED: &str = "SELECT count(*) FROM attempt WHERE decisive = 1 AND ran_at IS NOT NULL \
    AND commit_ = (SELECT id FROM commit_ WHERE sha = ?1 AND EXISTS (SELECT 1 FROM heir WHERE heir.commit_ = id))";

/// The number of tests of a commit with an inherited verdict.
pub fn inherited_tests(connection: &Connection, commit: &CommitId) -> Result<usize> {
    connection
        .prepare_cached(INHERITED)?
        .query_row([commit.as_str()], |row| row.get::<_, u32>(0))
        .map(|tests| tests as usize)
}

const ONLY_INHERITED: &str = "SELECT t.key FROM attempt a JOIN test t ON t.id = a.test \
    WHERE a.commit_ = (SELECT id FROM commit_ WHERE sha = ?1 AND EXISTS (SELECT 1 FROM heir WHERE heir.commit_ = id)) \
    GROUP BY a.test HAVING min(a.ran_at IS NOT NULL) = 1";

/// The tests of a commit with inherited attempts only. Names that are not valid are left out.
pub fn only_inherited(connection: &Connection, commit: &CommitId) -> Result<Vec<ResultKey>> {
    let mut select = connection.prepare_cached(ONLY_INHERITED)?;
    let keys = select.query_map([commit.as_str()], |row| row.get::<_, String>(0))?;
    keys.filter_map(|key| key.map(|key| key.parse().ok()).transpose()).collect()
}

/// The commits at which inherited attempts ran, each with a commit that inherits them.
pub fn heirs(connection: &Connection) -> Result<Vec<(CommitId, CommitId)>> {
    pairs(connection, HEIRS, [])
}

/// The commit at which the inherited attempts of a test ran.
pub fn ran_at(connection: &Connection, commit: &CommitId, test: &str) -> Result<Option<CommitId>> {
    let sha = connection
        .prepare_cached(RAN_AT)?
        .query_row([commit.as_str(), test], |row| row.get::<_, Option<String>>(0))?;
    Ok(sha.and_then(|sha| sha.parse().ok()))
}

/// The experiments that are remembered as recorded.
const MOST_EXPERIMENTS: usize = 100_000;

impl Batch<'_> {
    /// Records that an experiment ran at a commit.
    pub(super) fn experiment(&mut self, commit: i64, key: ExperimentKey) -> Result<()> {
        if self.ids.experiments.insert((commit, key)) {
            if self.ids.experiments.len() > MOST_EXPERIMENTS {
                self.ids.experiments.clear();
            }
            self.run("INSERT OR IGNORE INTO experiment VALUES (?1, ?2)", [bits(key), commit])?;
        }
        Ok(())
    }

    /// Records the key of the code of an experiment.
    pub(super) fn code(&mut self, experiment: ExperimentKey, code: ExperimentKey) -> Result<()> {
        self.run("INSERT OR IGNORE INTO code VALUES (?1, ?2)", [bits(experiment), bits(code)]).map(drop)
    }

    /// Records that tests of a commit wait for an idle slot.
    pub(super) fn same_code(&mut self, commit: &CommitId, tests: &[(ResultKey, CommitId)]) -> Result<()> {
        let id = self.commit(commit)?;
        for (key, source) in tests {
            let values = [id, self.test(key)?, self.commit(source)?];
            self.run("INSERT OR REPLACE INTO same_code VALUES (?1, ?2, ?3)", values)?;
        }
        Ok(())
    }

    /// Removes what is recorded about the code of a commit, after its experiments were removed.
    pub(super) fn remove_code_of(&mut self, commit: i64) -> Result<()> {
        self.run(
            "DELETE FROM code WHERE experiment IN (SELECT experiment FROM attempt WHERE commit_ = ?1) \
             AND NOT EXISTS (SELECT 1 FROM experiment e WHERE e.key = code.experiment)",
            [commit],
        )?;
        self.run("DELETE FROM same_code WHERE commit_ = ?1", [commit]).map(drop)
    }

    /// Records that a batch of this trust domain recorded results of a commit.
    pub fn tested(&mut self, commit: &CommitId, domain: &TrustDomain) -> Result<()> {
        let id = self.commit(commit)?;
        if self.ids.tested.insert((id, domain.clone())) {
            self.run("INSERT OR IGNORE INTO tested VALUES (?1, ?2)", params![id, domain.as_str()])?;
        }
        Ok(())
    }
}

/// Pairs of commits. Names that are not valid are left out.
fn pairs(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<(CommitId, CommitId)>> {
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map(values, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let parsed = rows.map(|row| row.map(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?))));
    parsed.filter_map(Result::transpose).collect()
}
