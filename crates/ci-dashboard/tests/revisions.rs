//! `commit=REVISION`: what git resolves in the repository of the branch.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

mod common;

use ci_dashboard::{Repos, Request, Site};
use common::{Farm, NOW};
use model::{CommitId, Verdict};
use results::Reader;
use testkit::ScratchRepo;
use testkit::results_fixture::{ResultsFixture, TestResult};

/// A repository with the commits c0 to c3. All but the last have results, and all but the first two are on a branch.
fn farm() -> (ScratchRepo, [CommitId; 4], Farm) {
    let repo = ScratchRepo::new();
    let commits = ["c0", "c1", "c2", "c3"].map(|name| repo.commit(name, &[("a", name)]));
    repo.git(["tag", "-a", "-m", "t", "v1", "HEAD~2"]);
    repo.git(["update-ref", "refs/ktest/mira/next%2Fext4", "HEAD~1"]);
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    for commit in &commits[..3] {
        fixture.test(TestResult::new(commit, "boot.boots", Verdict::Passed, 1_000));
    }
    fixture.branch(
        "mira",
        "next/ext4",
        &[(commits[2].clone(), "c2".into()), (commits[1].clone(), "c1".into())],
    );
    fixture.finish();
    let config = dir.path().join("ci.toml");
    let text = format!(
        "linux_repo = {:?}\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"mira\"\n\
         [test_group.g]\ntests = [\"boot.ktest\"]\n\
         [branch.\"next/ext4\"]\nremote = \"/nowhere\"\ntest_groups = [\"g\"]\n",
        repo.url()
    );
    std::fs::write(&config, text).unwrap();
    let repos = Repos::of(&config::load(&config).unwrap());
    let site = Site::new(Reader::open(dir.path()).unwrap(), [].into_iter().collect()).with_repos(repos);
    (repo, commits, Farm { dir, site })
}

/// The status, and the commit of the address that a client is sent to.
fn ask(farm: &Farm, query: &str) -> (u16, String) {
    let response = ci_dashboard::handle(&farm.site, &Request::get(&format!("/ci?{query}")), NOW);
    let location = response.headers.get(http::header::LOCATION);
    let location = location.map_or(String::new(), |value| value.to_str().unwrap().into());
    (response.status.as_u16(), location)
}

#[test]
fn a_commit_can_be_any_revision() {
    let (_repo, [c0, c1, c2, _], farm) = farm();
    let at = "user=mira&branch=next%2Fext4";
    for (revision, commit) in [
        (&c1.as_str()[..9], &c1),
        (&c1.as_str()[..4], &c1),
        ("v1", &c1),
        ("v1~", &c0),
        ("HEAD~1", &c2),
        ("master^^", &c1),
        ("refs/tags/v1", &c1),
        ("mira/next%2Fext4", &c2),
        ("next%2Fext4~2", &c0),
    ] {
        let (status, location) = ask(&farm, &format!("{at}&commit={revision}&format=json"));
        let expected = format!("/ci?user=mira&branch=next/ext4&commit={commit}&format=json");
        assert_eq!((status, location), (302, expected), "{revision}");
    }
    assert_eq!(ask(&farm, "commit=v1&test=a%26b"), (302, format!("/c/{c1}/?test=a%26b")));
    assert!(farm.get(&format!("/ci?{at}&commit={c1}&format=json")).contains("boot.boots"));
}

#[test]
fn a_revision_discloses_nothing_without_results() {
    let (repo, [.., c3], farm) = farm();
    for revision in ["HEAD", &c3.as_str()[..12], "v2", "HEAD~99", "mira/other"] {
        let response =
            ci_dashboard::handle(&farm.site, &Request::get(&format!("/ci?commit={revision}")), NOW);
        assert_eq!((response.status.as_u16(), response.headers.get("location")), (404, None), "{revision}");
        let text = common::body_text(response);
        assert!(!text.contains(c3.as_str()) && !text.contains(repo.url()), "{text}");
    }
    // Expressions that search, name files or read reflogs, and options.
    for hostile in [
        ":/c1",
        "HEAD%5E%7B/c1%7D",
        "HEAD:a",
        "@%7B-1%7D",
        "HEAD@%7B0%7D",
        "--all",
        "HEAD~99999",
        "c0..c1",
        "%0a",
    ] {
        assert_eq!(ask(&farm, &format!("commit={hostile}")).0, 400, "{hostile}");
    }
}
