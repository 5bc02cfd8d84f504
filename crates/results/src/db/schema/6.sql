-- Version 6: the builds of kernels, and the requests of users.

-- One row per kernel that a batch built or took from the store.
CREATE TABLE build (
    id INTEGER PRIMARY KEY,
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    -- The test file of the batch.
    file TEXT NOT NULL,
    arch TEXT,
    flavor TEXT,
    -- NULL: the kernel does not build.
    kernel INTEGER REFERENCES kernel (id),
    image INTEGER REFERENCES image (id),
    started INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    host INTEGER REFERENCES host (id),
    slot INTEGER,
    outcome TEXT NOT NULL CHECK (outcome IN ('built', 'reused', 'fetched', 'failed')),
    error TEXT
) STRICT;
CREATE INDEX build_by_commit ON build (commit_);

-- One row per request. Names in place of numbers: a request can name what does not exist.
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('rerun', 'unlist')),
    -- The account on the host of ci-daemon.
    account TEXT,
    branch TEXT,
    sha TEXT,
    test TEXT,
    -- The name of the request file.
    file TEXT NOT NULL,
    -- NULL: in progress.
    outcome TEXT CHECK (outcome IN ('done', 'failed', 'refused')),
    reason TEXT,
    ended INTEGER
) STRICT;
CREATE INDEX request_in_progress ON request (file) WHERE outcome IS NULL;
