//! Unusual repositories: commits with unusual headers, other formats, shallow clones, ambiguous names. Either the
//! result is that of git, or the error states what is not supported and what to do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use gitio::{GitError, Repo};
use model::{CommitId, RefName, Remote};
use testkit::ScratchRepo;

const TIME: Duration = Duration::from_secs(60);
const DATE: &str = "A <a@example.org> 1700000000 +0000";

/// A commit on top of three ordinary ones with these bytes after its parent, followed by an ordinary one.
fn on_top_of(headers_and_message: &[u8]) -> (ScratchRepo, CommitId) {
    let scratch = ScratchRepo::new();
    for n in 1..=3 {
        scratch.commit(&format!("c{n}"), &[("f", &format!("{n}\n"))]);
    }
    let tree = scratch.git(["rev-parse", "HEAD^{tree}"]);
    let mut object = format!("tree {}\nparent {}\n", tree.trim(), scratch.tip("HEAD")).into_bytes();
    object.extend_from_slice(headers_and_message);
    let file = scratch.path().join(".git/odd-object");
    std::fs::write(&file, object).unwrap();
    let id = scratch.git(["hash-object", "-t", "commit", "--literally", "-w", &file.to_string_lossy()]);
    scratch.git(["update-ref", "refs/heads/master", id.trim()]);
    scratch.git(["reset", "-q", "--hard"]);
    scratch.commit("an ordinary commit after it", &[("g", "1\n")]);
    (scratch, id.trim().parse().unwrap())
}

fn who(author: &str, committer: &str) -> Vec<u8> {
    format!("author {author}\ncommitter {committer}\n\nsubject\n").into_bytes()
}

fn lines(scratch: &ScratchRepo, range: &str) -> Vec<String> {
    scratch.git(["log", "--format=%H %s", range]).lines().map(str::to_owned).collect()
}

/// Asserts that the walk is that of `git log`, with and without a commit-graph file.
fn walks_match_git(name: &str, scratch: &ScratchRepo) {
    let tip = scratch.tip("master");
    for graph in [false, true] {
        // git refuses to write the graph of some of these histories.
        if graph
            && std::process::Command::new("git")
                .arg("-C")
                .arg(scratch.path())
                .args(["commit-graph", "write", "--reachable"])
                .output()
                .is_ok_and(|output| !output.status.success())
        {
            continue;
        }
        let repo = Repo::open(scratch.path()).unwrap();
        for (base, range) in [(None, "master"), (Some(scratch.tip("master~3")), "master~3..master")] {
            let walked = repo.walk(&tip, base.as_ref(), 100).unwrap();
            let walked: Vec<_> =
                walked.iter().map(|commit| format!("{} {}", commit.id, commit.subject())).collect();
            assert_eq!(walked, lines(scratch, range), "{name}, {range}, graph {graph}");
        }
        assert!(repo.is_ancestor(&scratch.tip("master~4"), &tip).unwrap(), "{name}");
        assert!(!repo.is_ancestor(&tip, &scratch.tip("master~4")).unwrap(), "{name}");
    }
}

#[test]
fn a_commit_with_unusual_headers_is_listed_as_git_lists_it() {
    let signed = format!(
        "author {DATE}\ncommitter {DATE}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n encoding x\n committer B <b> 5\n \
         -----END PGP SIGNATURE-----\nmergetag object 0123456789012345678901234567890123456789\n type commit\n tag v1\n \
         tagger T <t@t> 1 +0000\n \n words\n\nsubject\n"
    );
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("no date", who(DATE, "A <a@example.org>")),
        ("no dates", who("A <a@example.org>", "A <a@example.org>")),
        ("empty date", who(DATE, "A <a@example.org> ")),
        ("unreadable date", who(DATE, "A <a@example.org> yesterday +0000")),
        ("negative date", who(DATE, "A <a@example.org> -100 +0000")),
        ("huge date", who(DATE, "A <a@example.org> 99999999999999999999999 +0000")),
        ("largest date", who(DATE, "A <a@example.org> 18446744073709551615 +0000")),
        ("far future", who(DATE, "A <a@example.org> 9223372036854775807 +0000")),
        ("odd time zone", who(DATE, "A <a@example.org> 1700000000 +051800")),
        ("no time zone", who(DATE, "A <a@example.org> 1700000000")),
        ("word as time zone", who(DATE, "A <a@example.org> 1700000000 UTC")),
        ("no address", who("A", "A 1700000000 +0000")),
        ("brackets in the name", who(DATE, "A <a> <b>> 1700000000 +0000")),
        ("no author", format!("committer {DATE}\n\nsubject\n").into_bytes()),
        ("no committer", format!("author {DATE}\n\nsubject\n").into_bytes()),
        ("no header", b"\nsubject\n".to_vec()),
        (
            "header that is not known",
            format!("author {DATE}\ncommitter {DATE}\nx-y z\n\nsubject\n").into_bytes(),
        ),
        (
            "header without a value",
            format!("author {DATE}\ncommitter {DATE}\nword\n\nsubject\n").into_bytes(),
        ),
        ("empty message", format!("author {DATE}\ncommitter {DATE}\n\n").into_bytes()),
        ("no message", format!("author {DATE}\ncommitter {DATE}\n").into_bytes()),
        (
            "empty lines first",
            format!("author {DATE}\ncommitter {DATE}\n\n\n \nsubject\n\nbody\n").into_bytes(),
        ),
        ("NUL", format!("author {DATE}\ncommitter {DATE}\n\nsub\0ject\n").into_bytes()),
        ("only empty lines", format!("author {DATE}\ncommitter {DATE}\n\n\n\n\n").into_bytes()),
        (
            "long subject",
            format!("author {DATE}\ncommitter {DATE}\n\n{}\n", "x".repeat(3 << 20)).into_bytes(),
        ),
        ("largest time zone", who(DATE, "A <a@example.org> 1700000000 +9999")),
        ("signed", signed.into_bytes()),
    ];
    for (name, object) in rows {
        let (scratch, id) = on_top_of(&object);
        walks_match_git(name, &scratch);
        let repo = Repo::open(scratch.path()).unwrap();
        assert_eq!(repo.tree_id(&id).unwrap(), repo.tree_id(&scratch.tip("master~2")).unwrap(), "{name}");
        let time = repo.commit(&id).unwrap().time;
        assert!([0, 1_700_000_000].contains(&time), "{name}: {time}");
    }
}

#[test]
fn a_message_is_read_in_its_encoding() {
    let rows: [(&str, &[u8], &str); 9] = [
        ("ISO-8859-1", b"M\xfcller: gr\xf6\xdfer", "Müller: größer"),
        ("latin1", b"M\xfcller", "Müller"),
        ("ISO-8859-2", b"\xe8e\xb9ka", "češka"),
        ("Shift-JIS", b"\x83J\x81[\x83l\x83\x8b", "カーネル"),
        ("EUC-JP", b"\xa5\xab\xa1\xbc", "カー"),
        ("KOI8-R", b"\xd1\xc4\xd2\xcf", "ядро"),
        ("CP1252", b"\x93x\x94", "\u{201c}x\u{201d}"),
        ("UTF-8", "größer".as_bytes(), "größer"),
        ("x-no-such-encoding", "größer".as_bytes(), "größer"),
    ];
    for (encoding, message, subject) in rows {
        let mut object = format!("author {DATE}\ncommitter {DATE}\nencoding {encoding}\n\n").into_bytes();
        object.extend_from_slice(message);
        let (scratch, id) = on_top_of(&object);
        assert_eq!(Repo::open(scratch.path()).unwrap().commit(&id).unwrap().subject(), subject, "{encoding}");
        walks_match_git(encoding, &scratch);
    }
}

#[test]
fn a_damaged_commit_is_reported() {
    let scratch = ScratchRepo::new();
    let file = scratch.path().join(".git/odd-object");
    std::fs::write(&file, format!("parent 12\nauthor {DATE}\ncommitter {DATE}\n\nx\n")).unwrap();
    let id = scratch.git(["hash-object", "-t", "commit", "--literally", "-w", &file.to_string_lossy()]);
    let id: CommitId = id.trim().parse().unwrap();
    let error = Repo::open(scratch.path()).unwrap().walk(&id, None, 10).unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("cannot read {id}: its tree or a parent is malformed; try git fsck")),
        "{error}"
    );
}

fn git(dir: &std::path::Path, args: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(dir);
    let output =
        command.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn names() -> (RefName, RefName) {
    ("master".parse().unwrap(), "refs/ktest/u/b".parse().unwrap())
}

#[tokio::test]
async fn refs_in_the_reftable_format_are_reported_as_not_supported() {
    let dir = tempfile::tempdir().unwrap();
    let init = ["init", "-q", "-b", "master", "--ref-format=reftable", "r"];
    let made = std::process::Command::new("git").arg("-C").arg(dir.path()).args(init).output().unwrap();
    if !made.status.success() {
        // git before 2.45.
        return;
    }
    let path = dir.path().join("r");
    git(&path, &["commit", "-q", "--allow-empty", "-m", "x"]);
    let error = Repo::open(&path).unwrap_err();
    assert!(matches!(error, GitError::RefStorage { .. }), "{error}");
    assert!(error.to_string().ends_with("convert it: git refs migrate --ref-format=files"), "{error}");
    // git itself reads a remote with reftable.
    let local = ScratchRepo::new();
    let remote: Remote = path.to_string_lossy().parse().unwrap();
    let (master, into) = names();
    let fetched = Repo::open(local.path()).unwrap().fetch(&remote, &master, &into, TIME).await.unwrap();
    assert_eq!(fetched.new.as_str(), git(&path, &["rev-parse", "HEAD"]));
}

#[tokio::test]
async fn repositories_with_sha256() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["remote", "farm"] {
        git(dir.path(), &["init", "-q", "-b", "master", "--object-format=sha256", name]);
    }
    let path = dir.path().join("remote");
    for n in ["1", "2", "3"] {
        git(&path, &["commit", "-q", "--allow-empty", "-m", n]);
    }
    let remote: Remote = path.to_string_lossy().parse().unwrap();
    let (master, into) = names();
    let farm = Repo::open(&dir.path().join("farm")).unwrap();
    let tip = farm.fetch(&remote, &master, &into, TIME).await.unwrap().new;
    assert_eq!(tip.as_str(), git(&path, &["rev-parse", "HEAD"]));
    let walked = farm.walk(&tip, None, 10).unwrap();
    assert_eq!(walked.iter().map(gitio::CommitInfo::subject).collect::<Vec<_>>(), ["3", "2", "1"]);
    assert_eq!(farm.tree_id(&tip).unwrap(), git(&path, &["rev-parse", "HEAD^{tree}"]));
    assert!(farm.is_ancestor(&walked[2].id, &tip).unwrap());
    let local = ScratchRepo::new();
    let error = Repo::open(local.path()).unwrap().fetch(&remote, &master, &into, TIME).await.unwrap_err();
    assert!(error.to_string().contains("one uses SHA-1 and the other SHA-256"), "{error}");
}

#[tokio::test]
async fn shallow_clones() {
    let scratch = ScratchRepo::new();
    for n in 1..=6 {
        scratch.commit(&format!("c{n}"), &[("f", &format!("{n}\n"))]);
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", scratch.path().display());
    git(dir.path(), &["clone", "-q", "--bare", "--depth", "3", &url, "shallow"]);
    let shallow = dir.path().join("shallow");
    // A shallow repository of the farm can be read as far as its commits go.
    let repo = Repo::open(&shallow).unwrap();
    let tip = repo.resolve("master").unwrap();
    let walked = repo.walk(&tip, None, 10).unwrap();
    assert_eq!(walked.iter().map(gitio::CommitInfo::subject).collect::<Vec<_>>(), ["c6", "c5", "c4"]);
    // A shallow remote would cut off the history of the other branches.
    let local = ScratchRepo::new();
    let (master, into) = names();
    let farm = Repo::open(local.path()).unwrap();
    for remote in [shallow.to_string_lossy().into_owned(), format!("file://{}", shallow.display())] {
        let error = farm.fetch(&remote.parse().unwrap(), &master, &into, TIME).await.unwrap_err();
        assert!(matches!(error, GitError::Shallow { .. }), "{error}");
    }
    git(&shallow, &["fetch", "-q", "--unshallow", &url]);
    let remote: Remote = shallow.to_string_lossy().parse().unwrap();
    assert_eq!(farm.fetch(&remote, &master, &into, TIME).await.unwrap().new, tip);
}

#[tokio::test]
async fn a_tag_does_not_replace_a_branch_of_its_name() {
    let scratch = ScratchRepo::new();
    let old = scratch.commit("old", &[("f", "1\n")]);
    scratch.git(["tag", "-a", "-m", "annotated", "master"]);
    scratch.git(["update-ref", "refs/heads/refs/tags/v1", "HEAD"]);
    let new = scratch.commit("new", &[("f", "2\n")]);
    let local = ScratchRepo::new();
    let repo = Repo::open(local.path()).unwrap();
    let remote: Remote = scratch.url().parse().unwrap();
    for (name, commit) in [
        ("master", &new),
        ("refs/heads/master", &new),
        ("refs/tags/master", &old),
        ("refs/heads/refs/tags/v1", &old),
    ] {
        let (name, into): (RefName, RefName) = (name.parse().unwrap(), "refs/ktest/u/b".parse().unwrap());
        assert_eq!(repo.ls_remote(&remote, &name, TIME).await.unwrap().as_ref(), Some(commit), "{name}");
        assert_eq!(repo.fetch(&remote, &name, &into, TIME).await.unwrap().new, *commit, "{name}");
    }
    let missing: RefName = "refs/tags/v1".parse().unwrap();
    assert_eq!(repo.ls_remote(&remote, &missing, TIME).await.unwrap(), None);
}

/// A commit with a tree that `git mktree` writes from this text.
fn commit_of_tree(scratch: &ScratchRepo, entries: &str) -> CommitId {
    let tree = scratch.git_fed(["mktree"], entries);
    scratch.git(["commit-tree", "-m", "x", tree.trim()]).trim().parse().unwrap()
}

#[tokio::test]
async fn a_tree_that_grows_when_it_is_checked_out_is_refused() {
    let scratch = ScratchRepo::new();
    let blob = scratch.git_fed(["hash-object", "-w", "--stdin"], "x\n");
    // Ten trees of ten entries list 10^10 files.
    let mut tree = scratch.git_fed(["mktree"], &format!("100644 blob {}\tf\n", blob.trim()));
    let mut deep = tree.clone();
    for _ in 0..10 {
        let entries: String = (0..10).map(|n| format!("040000 tree {}\td{n}\n", tree.trim())).collect();
        tree = scratch.git_fed(["mktree"], &entries);
    }
    for _ in 0..300 {
        deep = scratch.git_fed(["mktree"], &format!("040000 tree {}\td\n", deep.trim()));
    }
    let repo = Repo::open(scratch.path()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (tree, what) in [(tree, "more than 1000000 files"), (deep, "more than 200 levels of directories")] {
        let commit = commit_of_tree(&scratch, &format!("040000 tree {}\tt\n", tree.trim()));
        let (to, index) = (dir.path().join("tree"), dir.path().join("index"));
        let error = repo.checkout_into(&commit, &to, &index, gitio::Checkout::default()).await.unwrap_err();
        assert!(matches!(&error, GitError::InvalidTree { message, .. } if message.contains(what)), "{error}");
    }
}

#[test]
fn large_commits_and_messages_use_bounded_memory() {
    let large = |size: usize| [who(DATE, DATE), vec![b'x'; size]].concat();
    let (scratch, id) = on_top_of(&large(17 << 20));
    let repo = Repo::open(scratch.path()).unwrap();
    let error = repo.walk(&scratch.tip("master"), None, 10).unwrap_err().to_string();
    assert!(error.contains(&format!("{id}: it is larger than 16 MiB")), "{error}");
    // The ref of a remote can lead to a file.
    let file = scratch.path().join(".git/large");
    std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    let blob = scratch.git(["hash-object", "-w", &file.to_string_lossy()]);
    scratch.git(["update-ref", "refs/ktest/blob", blob.trim()]);
    scratch.git(["tag", "-a", "-m", "tag", "of-blob", blob.trim()]);
    scratch.git(["tag", "-a", "-m", "tag", "of-commit", "master~1"]);
    scratch.git(["tag", "-a", "-m", "tag", "of-tag", "of-commit"]);
    for name in ["refs/ktest/blob", "of-blob"] {
        assert!(matches!(repo.resolve(name), Err(GitError::NoSuchCommit { .. })), "{name}");
    }
    assert_eq!(repo.resolve("of-tag").unwrap(), id);

    let (scratch, _) = on_top_of(&large(15 << 20));
    for n in 0..4 {
        let message = "y".repeat(15 << 20);
        let tree = scratch.git(["rev-parse", "HEAD^{tree}"]);
        let commit =
            scratch.git_fed(["commit-tree", tree.trim(), "-p", "HEAD"], &format!("c{n}\n\n{message}"));
        scratch.git(["update-ref", "refs/heads/master", commit.trim()]);
    }
    let repo = Repo::open(scratch.path()).unwrap();
    let walked = repo.walk(&scratch.tip("master"), None, 10).unwrap();
    let bytes: usize = walked.iter().map(|commit| commit.message.len()).sum();
    assert!(bytes < (64 << 20) + 10_000 && walked.len() == 9, "{bytes}");
    assert_eq!(walked[3].subject(), "c0");
}
