-- Version 3: logs and other files of runs are in packs.

-- The files of runs. Each is a brotli stream, `length` bytes from `offset` on in .packs/<sha>.<pack>.pack. Several rows may
-- name one stream: the log of a VM belongs to all its tests.
CREATE TABLE file (
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    test INTEGER NOT NULL REFERENCES test (id),
    -- The attempt; 0 for a file that a later attempt replaces.
    n INTEGER NOT NULL,
    name TEXT NOT NULL,
    pack INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    PRIMARY KEY (commit_, test, n, name)
) STRICT, WITHOUT ROWID;
