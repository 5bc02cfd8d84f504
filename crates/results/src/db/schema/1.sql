-- The schema of results.db, version 1. The next files have the steps to the current version (docs/database.md).
CREATE TABLE status (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO status VALUES (0, 'In progress'), (1, 'Passed'), (2, 'Failed'), (3, 'Not run'), (4, 'Failed to run'), (5, 'Unknown');

CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE branch (
    id INTEGER PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES user (id),
    name TEXT NOT NULL,
    UNIQUE (user, name)
) STRICT;
CREATE TABLE commit_ (
    id INTEGER PRIMARY KEY,
    sha TEXT NOT NULL UNIQUE,
    message TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '',
    has_results INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    not_run INTEGER NOT NULL DEFAULT 0,
    failed_to_run INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    duration_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
-- The position grows from the oldest commit to the newest.
CREATE TABLE branch_commit (
    branch INTEGER NOT NULL REFERENCES branch (id),
    position INTEGER NOT NULL,
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    PRIMARY KEY (branch, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX branch_commit_by_commit ON branch_commit (commit_);

CREATE TABLE test (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    runs INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    mean_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE crash (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE host (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE kernel (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE image (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE attempt (
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    test INTEGER NOT NULL REFERENCES test (id),
    n INTEGER NOT NULL,
    stands INTEGER NOT NULL,
    status INTEGER NOT NULL REFERENCES status (id),
    started INTEGER,
    duration_ms INTEGER NOT NULL,
    reason TEXT,
    crash INTEGER REFERENCES crash (id),
    host INTEGER REFERENCES host (id),
    slot INTEGER,
    kernel INTEGER REFERENCES kernel (id),
    image INTEGER REFERENCES image (id),
    log_bytes INTEGER NOT NULL DEFAULT 0,
    full_log_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (commit_, test, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_by_test ON attempt (test, commit_);
CREATE INDEX attempt_by_crash ON attempt (crash, commit_) WHERE crash IS NOT NULL;

-- The changes that may not be in the published files. Test 0: only the commit's own file.
CREATE TABLE unpublished (
    commit_ INTEGER NOT NULL,
    test INTEGER NOT NULL,
    PRIMARY KEY (commit_, test)
) STRICT, WITHOUT ROWID;
-- One row when the import of the files of an earlier ci-daemon is complete.
CREATE TABLE import (
    at INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    tests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    branches INTEGER NOT NULL,
    durations INTEGER NOT NULL,
    journal_records INTEGER NOT NULL
) STRICT;
