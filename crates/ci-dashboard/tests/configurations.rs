//! Tests in several configurations: chips, the filter `config`, the matrix and the grid.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use ci_dashboard::Request;
use common::{Farm, NOW, body_text, page_text};
use model::{CommitId, Verdict};
use serde_json::Value;
use testkit::results_fixture::{TestResult, commit_id};

const BRANCH: &str = "/ci?user=mira&branch=next";

fn commits() -> Vec<CommitId> {
    (0..3).map(|row| commit_id(&format!("commit {row}"))).collect()
}

/// Newest commit first. `punch` fails with kasan at the newest two commits.
fn farm() -> Farm {
    Farm::with(|fixture| {
        let listing: Vec<_> =
            commits().into_iter().map(|commit| (commit, "ext4: a change".to_owned())).collect();
        fixture.branch("mira", "next", &listing);
        for (row, (commit, _)) in listing.iter().enumerate() {
            for key in [
                "boot.boots",
                "fs.ext4.basic.punch",
                "fs.ext4.basic@ktest_flavor=kasan.punch",
                "fs.ext4.basic@ktest_arch=aarch64,ktest_flavor=kasan.punch",
                "fs.ext4.basic@debian_trixie.sync",
            ] {
                let fails = row < 2 && key == "fs.ext4.basic@ktest_flavor=kasan.punch";
                let failed = Verdict::Failed { reason: "lost <b>a file</b>".into() };
                let verdict = if fails { failed } else { Verdict::Passed };
                fixture.test(TestResult::new(commit, key, verdict, 900).on("farm1", 0, NOW - 100));
            }
        }
    })
}

fn json(farm: &Farm, target: &str) -> Value {
    serde_json::from_str(&body_text(farm.ask(&Request::get(&format!("{target}&format=json"))))).unwrap()
}

#[test]
fn a_configuration_is_selected() {
    let farm = farm();
    let commit = format!("{BRANCH}&commit={}", commits()[0]);
    for page in [&commit, BRANCH] {
        let text = page_text(&farm.get(page));
        for chip in ["All configurations", "aarch64, kasan", "debian_trixie", "default"] {
            assert!(text.contains(chip), "{page}: {chip}: {text}");
        }
        let chip = format!("{page}&config=aarch64,%20kasan");
        let page = farm.get(page).replace("&#38;", "&").replace("&amp;", "&");
        assert!(page.contains(&format!("href=\"{chip}\"")), "{chip}: {page}");
    }
    let names = |config: &str| {
        let rows = json(&farm, &format!("{commit}&config={config}"));
        let names = rows["tests"].as_array().unwrap().iter().map(|row| row["name"].to_string());
        names.collect::<Vec<_>>().len()
    };
    assert_eq!((names("default"), names("kasan"), names("flavor=kasan"), names("kernel=")), (2, 1, 2, 4));
    let both = json(&farm, &format!("{commit}&config=flavor=kasan&test=punch&status=failed"));
    assert_eq!(both["tests"].as_array().unwrap().len(), 1);
    let listed = json(&farm, &format!("{BRANCH}&config=kasan"));
    assert_eq!((&listed[0]["failed"], &listed[2]["passed"]), (&1.into(), &1.into()));
    for page in [&commit, BRANCH] {
        let error = page_text(&body_text(farm.ask(&Request::get(&format!("{page}&config=kasam")))));
        assert!(error.contains("did you mean &#34;kasan&#34;?"), "{error}");
    }
}

#[test]
fn a_matrix_unfolds_to_subtests() {
    let farm = farm();
    let view = json(&farm, &format!("{BRANCH}&matrix"));
    let names = |of: &Value| {
        of.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&view["configurations"]), ["default", "aarch64, kasan", "debian_trixie", "kasan"]);
    assert_eq!(names(&view["rows"]), ["fs.ext4.basic", "boot"]);
    assert_eq!(view["rows"][0]["cells"][3]["failed"], 1);
    assert_eq!(view["rows"][1]["cells"][3], Value::Null);
    let matrix = format!("/c/{}/matrix", commits()[0]);
    assert_eq!(json(&farm, &format!("{matrix}?x=")), view);
    let subtests = json(&farm, &format!("{matrix}?file=fs.ext4.basic"));
    assert_eq!(names(&subtests["rows"]), ["punch", "sync"]);
    let page = farm.get(&format!("{matrix}?file=fs.ext4.basic"));
    assert!(page.contains("kasan: 1 failed") && page.contains("✗"), "{page}");
    assert!(page.contains("fs.ext4.basic@ktest_flavor%3Dkasan.punch/#failure"), "{page}");
    let error = page_text(&body_text(farm.ask(&Request::get(&format!("{matrix}?file=fs.ext4.basics")))));
    assert!(error.contains("did you mean &#34;fs.ext4.basic&#34;?"), "{error}");
}

#[test]
fn a_grid_has_failing_tests_first() {
    let farm = farm();
    let view = json(&farm, &format!("{BRANCH}&grid"));
    let first = &view["tests"][0];
    assert_eq!(first["name"], "fs.ext4.basic@ktest_flavor=kasan.punch");
    assert_eq!(first["statuses"], serde_json::json!(["Failed", "Failed", "Passed"]));
    assert_eq!((&view["total"], view["commits"].as_array().unwrap().len()), (&5.into(), 3));
    let page = farm.get(&format!("{BRANCH}&grid"));
    assert!(page.contains("aria-label=\"Failed, 2 commits; Passed, 1 commit\""), "{page}");
    let one = json(&farm, &format!("{BRANCH}&grid&config=debian_trixie"));
    assert_eq!(one["total"], 1);
    assert_eq!(json(&farm, &format!("{BRANCH}&grid&page=7"))["tests"].as_array().unwrap().len(), 5);
    assert!(page_text(&farm.get(&format!("{BRANCH}&grid&test=zzz"))).contains("No test matches"));
}

#[test]
fn breadcrumbs_name_the_configuration() {
    let farm = farm();
    let key = "fs.ext4.basic@ktest_flavor=kasan.punch";
    let page = farm.get(&format!("/c/{}/{key}/", commits()[0]));
    assert!(page.contains("<span aria-current=\"page\">fs.ext4.basic.punch (kasan)</span>"), "{page}");
    let page = farm.get(&format!("{BRANCH}&history={key}"));
    assert!(page.contains("<span aria-current=\"page\">fs.ext4.basic.punch (kasan)</span>"), "{page}");
}
