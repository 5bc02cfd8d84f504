-- Version 2: attempt.stands becomes attempt.decisive; indexes that answer the history of a test and the crashes of a
-- commit without the table; the parts of a test's key; who wrote a commit and
-- when.
ALTER TABLE attempt RENAME COLUMN stands TO decisive;

-- All columns: the attempts of a test are in one place here, and those of a commit in the table.
DROP INDEX attempt_by_test;
CREATE INDEX attempt_by_test ON attempt (
    test, commit_, n, decisive, status, started, duration_ms, reason, crash, host, slot, kernel, image, log_bytes,
    full_log_bytes
);
DROP INDEX attempt_by_crash;
CREATE INDEX attempt_by_crash ON attempt (crash, commit_, test, n, started, host) WHERE crash IS NOT NULL;
CREATE INDEX crash_by_commit ON attempt (commit_, crash, test, n) WHERE crash IS NOT NULL;

-- NULL: no run of the test was recorded with its parts.
ALTER TABLE test ADD COLUMN file TEXT;
ALTER TABLE test ADD COLUMN subtest TEXT;
ALTER TABLE test ADD COLUMN arch TEXT;
ALTER TABLE test ADD COLUMN kernel TEXT;
ALTER TABLE test ADD COLUMN image TEXT;
ALTER TABLE test ADD COLUMN env TEXT;
CREATE INDEX test_by_file ON test (file, subtest);

-- NULL: not in a listing since it has these columns.
ALTER TABLE commit_ ADD COLUMN tree TEXT;
ALTER TABLE commit_ ADD COLUMN author TEXT;
ALTER TABLE commit_ ADD COLUMN date INTEGER;
