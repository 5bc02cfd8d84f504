-- Version 9: what an attempt depended on other than the commit.

-- A test suite and the commit of its source: `xfstests 0123...`.
CREATE TABLE suite (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
-- What a run depends on, SHA-256 in hexadecimal. Version 10 has the keys in the rows of attempts.
CREATE TABLE experiment (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

ALTER TABLE attempt ADD COLUMN suite INTEGER REFERENCES suite (id);
ALTER TABLE attempt ADD COLUMN experiment INTEGER;
-- The load of the host when the attempt ended, in percent of its processors.
ALTER TABLE attempt ADD COLUMN load INTEGER;
-- The commit at which it ran, if this commit has the same source tree and inherits the attempt.
ALTER TABLE attempt ADD COLUMN ran_at INTEGER REFERENCES commit_ (id);
ALTER TABLE history ADD COLUMN suite INTEGER REFERENCES suite (id);
ALTER TABLE history ADD COLUMN experiment INTEGER;
ALTER TABLE history ADD COLUMN load INTEGER;
ALTER TABLE history ADD COLUMN ran_at INTEGER REFERENCES commit_ (id);

-- The commits that inherit attempts, and those at which these ran, which are kept as long as the heirs.
CREATE TABLE heir (
    source INTEGER NOT NULL REFERENCES commit_ (id),
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    PRIMARY KEY (source, commit_)
) STRICT, WITHOUT ROWID;
-- The trust domains with batches that recorded results of a commit.
CREATE TABLE tested (
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    domain TEXT NOT NULL,
    PRIMARY KEY (commit_, domain)
) STRICT, WITHOUT ROWID;
-- The verdicts of an experiment, at the commits at which they ran.
CREATE INDEX attempt_by_experiment ON attempt (experiment, test)
    WHERE experiment IS NOT NULL AND ran_at IS NULL AND decisive = 1;
CREATE INDEX commit_by_tree ON commit_ (tree) WHERE tree IS NOT NULL;
