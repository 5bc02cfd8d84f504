//! Helpers for the tests of this crate: a small branch, requests without a server, pages as text.

#![expect(dead_code, clippy::unwrap_used, reason = "each test binary uses a part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ci_dashboard::{Body, Request, Response, Site, handle};
use model::{CommitId, Verdict};
use results::Reader;
use tempfile::TempDir;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id, kernel_id};

/// The time in all tests, in Unix seconds.
pub const NOW: i64 = 1_790_000_000;

/// A results directory, with a site for it.
pub struct Farm {
    pub dir: TempDir,
    pub site: Site,
}

impl Farm {
    /// A farm with the results that `fill` writes.
    pub fn with(fill: impl FnOnce(&ResultsFixture)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fixture = ResultsFixture::new(dir.path());
        fill(&fixture);
        fixture.finish();
        Self::over(dir)
    }

    /// A farm with existing results.
    pub fn over(dir: TempDir) -> Self {
        let tests = ["fs/ext4/basic", "boot"].iter().map(|test| test.parse().unwrap()).collect();
        let site = Site::new(Reader::open(dir.path()).unwrap(), tests);
        Self { dir, site }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn ask(&self, request: &Request) -> Response {
        handle(&self.site, request, NOW)
    }

    /// A view as text. Its status must be 200.
    pub fn get(&self, target: &str) -> String {
        let response = self.ask(&Request::get(target));
        let status = response.status;
        let text = body_text(response);
        assert_eq!(status, 200, "{target}: {text}");
        text
    }

    pub fn status(&self, target: &str) -> u16 {
        self.ask(&Request::get(target)).status.as_u16()
    }
}

/// Newest first: not tested, fixes a test, does not build, breaks a test, good.
pub fn commits() -> Vec<(CommitId, String)> {
    [
        "ext4: print more details",
        "ext4: fix the punch",
        "ext4: does not build",
        "ext4: punch faster",
        "Linux 6.1.27",
    ]
    .iter()
    .map(|subject| (commit_id(subject), format!("{subject}\n\nFor a test.\n")))
    .collect()
}

/// `mira/ext4-testing` with the [`commits`], three tests each, and a running test at the second commit.
pub fn small() -> Farm {
    Farm::with(|fixture| {
        let commits = commits();
        fixture.branch("mira", "ext4-testing", &commits);
        fixture.branch("anton", "xfs/for-next", &commits[4..]);
        let id = |row: usize| &commits[row].0;
        fixture.authors(&[
            (id(0), "Mira Adler <mira@example.org>", NOW - 900),
            (id(1), "Mira Adler <mira@example.org>", NOW - 7_200),
            (id(3), "Eve \"onload=\" & \u{202e}Co <eve@example.org>", NOW - 3 * 86_400),
            (id(4), "Linus Torvalds <torvalds@example.org>", NOW - 30 * 86_400),
        ]);
        let test = |row: usize, key: &str, verdict, millis| {
            TestResult::new(id(row), key, verdict, millis)
                .on("farm1", 2, NOW - 1000 * i64::try_from(row).unwrap())
                .kernel(kernel_id(&row.to_string()))
        };
        let failed = || Verdict::Failed { reason: "kernel BUG at fs/ext4/extents.c:3211!".into() };
        for row in [1, 3, 4] {
            fixture.test(test(row, "boot.boots", Verdict::Passed, 1_260));
            let quota = Verdict::NotRun { reason: "no quotacheck in the image".into() };
            fixture.test(test(row, "fs.ext4.basic.quota", quota, 90));
        }
        for row in [1, 4] {
            fixture.test(test(row, "fs.ext4.basic.punch", Verdict::Passed, 3_400).log(PASSED_LOG));
        }
        fixture.test(
            test(3, "fs.ext4.basic.punch", failed(), 2_100)
                .crash("kernel BUG in ext4_ext_remove_space")
                .log(FAILED_LOG),
        );
        for key in ["boot.boots", "fs.ext4.basic.punch", "fs.ext4.basic.quota"] {
            let reason = model::build_failed_reason("fs/ext4/acl.c:143:2: error: expected ';'");
            let result = TestResult::new(id(2), key, Verdict::FailedToRun { reason }, 0);
            fixture.test(result.on("farm1", 2, NOW - 2000));
        }
        testkit::found(fixture, "mira/ext4-testing", [id(1), id(3), id(4)], NOW - 600);
        fixture.artifact(id(2), &["boot.boots"], "build.log", BUILD_LOG);
        fixture.running(
            id(1),
            "fs.ext4.basic.rename",
            NOW - 4,
            "00000 ========= TEST   rename\n00001 half\n",
        );
    })
}

pub const BUILD_LOG: &str = "  CC      fs/ext4/acl.o\n  CC      fs/ext4/balloc.o\n\
    fs/ext4/acl.c: In function '<ext4_set_acl>':\n\
    fs/ext4/acl.c:143:2: error: expected ';'\n  143 |  int a = 1\n\
    make[4]: *** [scripts/Makefile.build:287: fs/ext4/acl.o] Error 1\n";
pub const PASSED_LOG: &str = "00000 ========= TEST   punch\n00003 ========= PASSED punch in 3s\n";
pub const FAILED_LOG: &str = "00000 ========= TEST   punch\n\
    00001 [   41.200000] EXT4-fs (vdb): mounted filesystem with ordered data mode.\n\
    00002 [   43.000000] kernel BUG at fs/ext4/extents.c:3211!\n\
    00002 [   43.000100] RIP: 0010:ext4_ext_remove_space+0x11c4/0x15a0\n\
    00002 [   43.000200] ---[ end trace 0000000000000000 ]---\n\
    00002 ========= FAILED punch in 2s\n";

pub fn body_text(response: Response) -> String {
    String::from_utf8(body(response)).unwrap()
}

pub fn body(response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.body.write_to(&mut bytes).unwrap();
    bytes
}

pub fn has_no_body(response: &Response) -> bool {
    matches!(response.body, Body::Empty)
}

/// The path of an example program that cargo builds with the tests. Returns `None` and prints a message if only the
/// test was built.
pub fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let program = test.parent()?.parent()?.join("examples").join(name);
    if program.is_file() {
        return Some(program);
    }
    skipped(&format!("{} is not built; run: cargo test -p ci-dashboard", program.display()));
    None
}

/// Reports a skipped test on the terminal; the test harness would show the output only for failures.
pub fn skipped(reason: &str) {
    let line = format!("SKIPPED: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The text of a page inside `main` without markup, one line per row or block.
pub fn page_text(html: &str) -> String {
    let start = html.find("<main").unwrap();
    let end = html.find("</main>").unwrap();
    let mut text = String::new();
    let mut rest = &html[start..end];
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open].replace('\n', " "));
        let close = open + rest[open..].find('>').unwrap();
        let tag = &rest[open + 1..close];
        let name = tag.trim_start_matches('/').split([' ', '>']).next().unwrap_or("");
        match name {
            "tr" | "h1" | "h2" | "p" | "section" | "form" | "pre" | "li" | "div" | "nav" | "details" => {
                text.push('\n');
            }
            "td" | "th" if !tag.starts_with('/') => text.push_str(" | "),
            _ => {}
        }
        rest = &rest[close + 1..];
    }
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty() && line != "|").collect::<Vec<_>>().join("\n")
}

/// Results with coverage: one run with two tests of a test file, one run of another.
pub fn covered() -> (Farm, String) {
    let commits = [(commit_id("covered"), "covered".to_owned())];
    let keys = ["boot.boots", "fs.ext4.basic.punch", "fs.ext4.basic.quota"];
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &commits);
        for key in keys {
            fixture.test(TestResult::new(&commits[0].0, key, Verdict::Passed, 1_000).on("farm1", 2, NOW));
        }
    });
    let sha = commits[0].0.to_string();
    let place = |key: &str| farm.path().join(&sha).join(key).join("coverage.info.br");
    let write = |key: &str, text: &str| {
        std::fs::create_dir_all(place(key).parent().unwrap()).unwrap();
        let mut packed =
            brotli::CompressorWriter::new(std::fs::File::create(place(key)).unwrap(), 4096, 4, 20);
        packed.write_all(text.as_bytes()).unwrap();
    };
    write(keys[0], "TN:\nSF:fs/namei.c\nFN:1,open\nFNDA:1,open\nDA:2,1\nend_of_record\n");
    let ext4 = "FN:9,ext4_map\nFNDA:3,ext4_map\nDA:9,3\nDA:10,3\nDA:11,0\nDA:12,0\n";
    write(keys[1], &format!("TN:\nSF:fs/ext4/inode.c\n{ext4}end_of_record\n"));
    std::fs::create_dir_all(place(keys[2]).parent().unwrap()).unwrap();
    std::fs::hard_link(place(keys[1]), place(keys[2])).unwrap();
    (farm, sha)
}
