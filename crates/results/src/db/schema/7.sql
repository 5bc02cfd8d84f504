-- Version 7: the changes that may not be published by commit, and a checksum of each listing.
ALTER TABLE unpublished RENAME TO unpublished_test;

-- The commits with results that may not be in the published files.
CREATE TABLE unpublished (commit_ INTEGER PRIMARY KEY REFERENCES commit_ (id)) STRICT;
INSERT OR IGNORE INTO unpublished SELECT commit_ FROM unpublished_test;
DROP TABLE unpublished_test;

-- A hash of the commits of the listing (ids_hash); NULL: not written since it has this column. A reader with the same listing need
-- not read the names of its commits.
ALTER TABLE branch ADD COLUMN listing_hash INTEGER;

-- The number of attempts that crashed, in the order of the titles of a branch.
CREATE TABLE branch_crash (
    branch INTEGER NOT NULL REFERENCES branch (id),
    crash INTEGER NOT NULL REFERENCES crash (id),
    position INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (branch, crash, position)
) STRICT, WITHOUT ROWID;
INSERT INTO branch_crash SELECT l.branch, a.crash, l.position, count(*) FROM branch_commit l
    CROSS JOIN attempt a INDEXED BY crash_by_commit ON a.commit_ = l.commit_ AND a.crash IS NOT NULL GROUP BY 1, 2, 3;
