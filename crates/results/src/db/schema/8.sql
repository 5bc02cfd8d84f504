-- Version 8: failures that are flaky.

-- Retries and reruns, and attempts that failed to run before the decisive one: few of all.
CREATE INDEX other_attempt ON attempt (commit_, test, n, status) WHERE decisive = 0;

-- Of the failed tests, those that also passed with the same kernel.
ALTER TABLE commit_ ADD COLUMN flaky INTEGER NOT NULL DEFAULT 0;
WITH one AS (SELECT DISTINCT d.commit_, d.test
    FROM attempt p INDEXED BY other_attempt CROSS JOIN attempt d ON d.commit_ = p.commit_ AND d.test = p.test
        AND d.decisive = 1 AND d.status = 2
    WHERE p.decisive = 0 AND p.status = 1 AND (p.kernel = d.kernel OR p.kernel IS NULL)),
    counted AS (SELECT commit_, count(*) AS tests FROM one GROUP BY 1)
UPDATE commit_ SET flaky = counted.tests FROM counted WHERE counted.commit_ = commit_.id;
-- The published files of these commits count them as failed.
INSERT OR IGNORE INTO unpublished SELECT id FROM commit_ WHERE flaky > 0 AND has_results = 1;
