-- Version 13: findings, and who was sent them.

-- What changed on a branch, in the order in which it was found.
CREATE TABLE finding (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- As user/branch; NULL for a finding about the farm.
    branch TEXT,
    sha TEXT,
    signature TEXT NOT NULL,
    first_bad TEXT,
    last_good TEXT,
    failed INTEGER,
    runs INTEGER,
    tests_total INTEGER NOT NULL,
    -- A JSON array of keys, at most 100.
    tests TEXT NOT NULL
) STRICT;
CREATE INDEX finding_by_branch ON finding (branch, n);
CREATE INDEX finding_by_commit ON finding (sha) WHERE sha IS NOT NULL;
-- What is known of a branch: JSON of ci-daemon, which finds what is new.
CREATE TABLE finding_state (
    branch TEXT PRIMARY KEY,
    known TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- The senders of the configuration, each with the number of the newest finding that it has handled.
CREATE TABLE sender (
    name TEXT PRIMARY KEY,
    handled INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- Why the next one is not sent yet.
    error TEXT
) STRICT, WITHOUT ROWID;
-- What was sent.
CREATE TABLE sent (
    sender TEXT NOT NULL,
    finding INTEGER NOT NULL REFERENCES finding (n),
    at INTEGER NOT NULL,
    PRIMARY KEY (sender, finding)
) STRICT, WITHOUT ROWID;
-- What people said of a finding by mail or with ci-status.
CREATE TABLE finding_mark (
    finding TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- fix, dup, invalid, flaky or mute.
    what TEXT NOT NULL,
    -- The title of the fix, the id of the other finding, or the end of the silence in Unix seconds.
    value TEXT,
    account TEXT NOT NULL,
    PRIMARY KEY (finding, what)
) STRICT, WITHOUT ROWID;
