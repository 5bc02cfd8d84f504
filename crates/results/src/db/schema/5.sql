-- Version 5: the attempts in the order of tests are in a table that is filled in the background, and the counts of the
-- verdicts of a commit in another.
DROP INDEX attempt_by_test;

-- The rows of attempt in the order of tests. A new verdict changes only attempt: in this order, the verdicts of a commit are
-- far from each other. Those of many commits are copied together.
CREATE TABLE history (
    test INTEGER NOT NULL REFERENCES test (id),
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    n INTEGER NOT NULL,
    decisive INTEGER NOT NULL,
    status INTEGER NOT NULL REFERENCES status (id),
    started INTEGER,
    duration_ms INTEGER NOT NULL,
    reason TEXT,
    crash INTEGER REFERENCES crash (id),
    host INTEGER REFERENCES host (id),
    slot INTEGER,
    kernel INTEGER REFERENCES kernel (id),
    image INTEGER REFERENCES image (id),
    log_bytes INTEGER NOT NULL,
    full_log_bytes INTEGER NOT NULL,
    PRIMARY KEY (test, commit_, n)
) STRICT, WITHOUT ROWID;

-- Which rows of the commit are in history. 0: none; 1: those of the tests below history_copy.next_test; 2: all.
ALTER TABLE commit_ ADD COLUMN in_history INTEGER NOT NULL DEFAULT 0;
CREATE INDEX commit_not_in_history ON commit_ (in_history, id) WHERE has_results = 1 AND in_history < 2;
CREATE TABLE history_copy (next_test INTEGER NOT NULL) STRICT;
INSERT INTO history_copy VALUES (0);

-- The number of verdicts of a commit. Host and kernel 0: unknown.
CREATE TABLE facet (
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    status INTEGER NOT NULL REFERENCES status (id),
    host INTEGER NOT NULL,
    kernel INTEGER NOT NULL,
    tests INTEGER NOT NULL,
    PRIMARY KEY (commit_, status, host, kernel)
) STRICT, WITHOUT ROWID;
INSERT INTO facet SELECT commit_, status, coalesce(host, 0), coalesce(kernel, 0), count(*) FROM attempt
    WHERE decisive = 1 AND status BETWEEN 1 AND 4 GROUP BY 1, 2, 3, 4;

-- With all columns that the crashes of a branch need.
DROP INDEX crash_by_commit;
CREATE INDEX crash_by_commit ON attempt (commit_, crash, test, n, decisive, started, host) WHERE crash IS NOT NULL;
