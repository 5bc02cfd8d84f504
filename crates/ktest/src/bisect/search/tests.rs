//! Searches on a lab that answers from a table.

use belief::bisect::State;

use super::*;

/// The commits of a linear history: 0 is the base.
fn history(count: usize) -> Vec<CommitInfo> {
    let id = |at: usize| -> CommitId { format!("{at:040x}").parse().unwrap() };
    let commit = |at: usize| CommitInfo {
        id: id(at),
        message: format!("commit {at}\n"),
        parents: at.checked_sub(1).map(id).into_iter().collect(),
        time: 0,
        tree: String::new(),
        author: String::new(),
    };
    (0..=count).map(commit).collect()
}

fn number(commit: &CommitId) -> usize {
    usize::from_str_radix(commit.as_str(), 16).unwrap()
}

/// Commits from `bad` on fail.
struct Table {
    bad: usize,
    does_not_build: Vec<usize>,
    never_boots: Vec<usize>,
    /// Every commit has the kernel of the newest of these that is not newer.
    kernels: Vec<usize>,
    ran: Vec<usize>,
    built: Vec<String>,
}

impl Table {
    fn new(bad: usize) -> Self {
        let none = Vec::new;
        Self {
            bad,
            does_not_build: none(),
            never_boots: none(),
            kernels: none(),
            ran: none(),
            built: Vec::new(),
        }
    }
}

impl Lab for Table {
    async fn run(&mut self, commit: &CommitId) -> Result<Ran, RunError> {
        let at = number(commit);
        self.ran.push(at);
        if self.does_not_build.contains(&at) {
            return Ok(Ran::DoesNotBuild("error: expected ;".into()));
        }
        let of = self.kernels.iter().rev().find(|own| **own <= at).copied().unwrap_or(at);
        let kernel = format!("kernel {of}");
        let new = !self.built.contains(&kernel);
        self.built.extend(new.then(|| kernel.clone()));
        let signature = Signature::new(None, "it broke");
        let outcome = if self.never_boots.contains(&at) {
            Outcome::NoVerdict
        } else if of >= self.bad {
            Outcome::Failed { signature }
        } else {
            Outcome::Passed
        };
        let took = Duration::from_secs(10);
        Ok(Ran::Tested(Tested { outcome, reason: None, kernel, built: new.then_some(took * 6), took }))
    }
}

async fn begin(table: &mut Table, count: usize, out: &std::path::Path) -> Search {
    let commits = history(count);
    let (base, head) = (commits[0].id.clone(), commits[count].id.clone());
    let found = reproduce(table, &head, 3, |_| {}).await.unwrap();
    let test = "fs.ext4.basic.punch".parse().unwrap();
    Search::new(&test, found, commits, RecordFile::new(out, &base, &head)).unwrap()
}

async fn finish(search: &mut Search, table: &mut Table) -> State {
    while search.step(table, |_, _, _| {}).await.unwrap() {}
    search.bisection().state()
}

fn culprit(state: &State) -> usize {
    match state {
        State::Culprit { culprit, .. } => number(culprit),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plain_break_is_found() {
    let out = tempfile::tempdir().unwrap();
    let mut table = Table::new(41);
    let mut search = begin(&mut table, 64, out.path()).await;
    let state = finish(&mut search, &mut table).await;
    assert_eq!(culprit(&state), 41);
    assert!(table.built.len() <= 9, "{:?}", table.built);
    // The record has the result.
    assert!(search.file().unfinished(&"fs.ext4.basic.punch".parse().unwrap(), None).is_none());
}

#[tokio::test]
async fn commits_that_cannot_be_run_are_left_out() {
    let out = tempfile::tempdir().unwrap();
    let mut table = Table { does_not_build: vec![8, 9], never_boots: vec![7], ..Table::new(12) };
    let mut search = begin(&mut table, 16, out.path()).await;
    assert_eq!(culprit(&finish(&mut search, &mut table).await), 12);
    for (at, most) in [(8, 1), (9, 1), (7, WITHOUT_VERDICT as usize)] {
        assert!(table.ran.iter().filter(|ran| **ran == at).count() <= most, "{at}: {:?}", table.ran);
    }
}

#[tokio::test]
async fn a_commit_with_the_kernel_of_its_parent_is_not_the_culprit() {
    let out = tempfile::tempdir().unwrap();
    let mut table = Table { kernels: vec![0, 5, 10, 15], ..Table::new(10) };
    let mut search = begin(&mut table, 16, out.path()).await;
    assert_eq!(culprit(&finish(&mut search, &mut table).await), 10);
}

#[tokio::test]
async fn an_interrupted_search_continues() {
    let out = tempfile::tempdir().unwrap();
    let mut table = Table::new(41);
    let mut search = begin(&mut table, 64, out.path()).await;
    for _ in 0..3 {
        assert!(search.step(&mut table, |_, _, _| {}).await.unwrap());
    }
    let test = "fs.ext4.basic.punch".parse().unwrap();
    let file = search.file().clone();
    let other = Signature::new(None, "another failure");
    assert!(file.unfinished(&test, Some(&other)).is_none());
    assert!(file.unfinished(&"boot.x".parse().unwrap(), None).is_none());
    let record = file.unfinished(&test, None).unwrap();
    let scratch = testkit::ScratchRepo::new();
    let repo = Repo::open(scratch.path()).unwrap();
    let mut search = Search::resume(&record, &repo, history(64), file).unwrap();
    let before = table.ran.len();
    assert_eq!(culprit(&finish(&mut search, &mut table).await), 41);
    // Nothing that was known is built again.
    let again = table.ran[before..].iter().filter(|at| table.ran[..before].contains(at)).count();
    assert!(table.built.len() <= 9, "{:?}, {again}", table.built);
}

#[tokio::test]
async fn a_head_that_does_not_fail_has_no_first_bad_commit() {
    let mut table = Table::new(100);
    let head = history(4)[4].id.clone();
    let error = reproduce(&mut table, &head, 3, |_| {}).await.err().unwrap().to_string();
    assert!(error.contains("passed in 3 runs of the head"), "{error}");
    let mut table = Table { does_not_build: vec![4], ..Table::new(0) };
    let error = reproduce(&mut table, &head, 3, |_| {}).await.err().unwrap().to_string();
    assert_eq!(error, "the head does not build: error: expected ;");
}

/// Fails at these commits.
struct Failing(Vec<CommitId>);

impl Lab for Failing {
    async fn run(&mut self, commit: &CommitId) -> Result<Ran, RunError> {
        let failed = Outcome::Failed { signature: Signature::new(None, "it broke") };
        let outcome = if self.0.contains(commit) { failed } else { Outcome::Passed };
        let (kernel, took) = (commit.to_string(), Duration::from_secs(10));
        Ok(Ran::Tested(Tested { outcome, reason: None, kernel, built: None, took }))
    }
}

#[tokio::test]
async fn the_search_continues_in_a_merge_also_after_an_interruption() {
    let (out, scratch) = (tempfile::tempdir().unwrap(), testkit::ScratchRepo::new());
    let base = scratch.commit("base", &[("a", "1")]);
    scratch.switch("side");
    let side = ["s1", "s2", "s3"].map(|name| scratch.commit(name, &[(name, "1")]));
    scratch.switch("master");
    scratch.commit("main", &[("c", "1")]);
    let merge = scratch.merge("side", "merge");
    let head = scratch.commit("head", &[("d", "1")]);
    let repo = Repo::open(scratch.path()).unwrap();
    let range: crate::bisect::Range = format!("{base}..").parse().unwrap();
    let commits = range.commits(&repo).unwrap();
    assert_eq!(commits.len(), 4, "along first parents");

    let mut lab = Failing([&side[1..], &[merge.clone(), head.clone()]].concat());
    let found = reproduce(&mut lab, &head, 3, |_| {}).await.unwrap();
    let file = RecordFile::new(out.path(), &base, &head);
    let test = "fs.ext4.basic.punch".parse().unwrap();
    let search = Search::new(&test, found, commits.clone(), file.clone()).unwrap();
    let mut search = search.with_reverts(&repo, head.clone());
    // Continues from the record after each step.
    let resume = |search: &mut Search| {
        let record = file.unfinished(&test, None).unwrap();
        let resumed = Search::resume(&record, &repo, commits.clone(), file.clone()).unwrap();
        *search = resumed.with_reverts(&repo, head.clone());
    };
    while search.step(&mut lab, |_, _, _| {}).await.unwrap() {
        resume(&mut search);
    }
    resume(&mut search);
    let mut search = search.merged(&repo).unwrap().unwrap();
    assert!(search.step(&mut lab, |_, _, _| {}).await.unwrap());
    loop {
        resume(&mut search);
        if !search.step(&mut lab, |_, _, _| {}).await.unwrap() {
            break;
        }
    }
    let State::Culprit { culprit, .. } = search.bisection().state() else { panic!("no first bad commit") };
    assert_eq!(culprit, side[1]);
    assert!(search.merged(&repo).unwrap().is_none());
    let record = search.bisection().record(search.file().id());
    assert_eq!((record.merge(), record.id.clone()), (Some(&merge), file.id().to_owned()));
    let text = crate::bisect::conclusion(&record, search.commits());
    let merge_line =
        format!("first bad commit: {} s2\n  in merge {} merge\n", side[1].short(), merge.short());
    assert!(text.starts_with(&merge_line) && text.ends_with("\n  at the head: revert fixes it"), "{text}");
    let revert = record.revert.unwrap();
    assert_eq!((&revert.culprit, &revert.tip), (&side[1], &head));
    assert_eq!(scratch.git(["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_merge_that_breaks_what_it_merges_is_the_first_bad_commit() {
    let (out, scratch) = (tempfile::tempdir().unwrap(), testkit::ScratchRepo::new());
    let base = scratch.commit("base", &[("a", "1")]);
    scratch.switch("side");
    scratch.commit("s1", &[("b", "1")]);
    scratch.switch("master");
    scratch.commit("main", &[("c", "1")]);
    let merge = scratch.merge("side", "merge");
    let repo = Repo::open(scratch.path()).unwrap();
    let range: crate::bisect::Range = format!("{base}..").parse().unwrap();
    let mut lab = Failing(vec![merge.clone()]);
    let found = reproduce(&mut lab, &merge, 3, |_| {}).await.unwrap();
    let file = RecordFile::new(out.path(), &base, &merge);
    let commits = range.commits(&repo).unwrap();
    let search = Search::new(&"fs.ext4.basic.punch".parse().unwrap(), found, commits, file).unwrap();
    let mut search = search.with_reverts(&repo, merge.clone());
    while search.step(&mut lab, |_, _, _| {}).await.unwrap() {}
    let mut search = search.merged(&repo).unwrap().unwrap();
    while search.step(&mut lab, |_, _, _| {}).await.unwrap() {}
    assert!(search.merged(&repo).unwrap().is_none());
    let text = crate::bisect::conclusion(&search.bisection().record(""), search.commits());
    assert!(text.contains(" merge\n  it is a merge, and no commit that it merged fails\n"), "{text}");
}
