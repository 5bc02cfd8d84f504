//! Remotes that are hostile: nothing runs, and every fetch ends within its limits of time, memory and disk.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gitio::Repo;
use model::{RefName, Remote};
use testkit::ScratchRepo;

fn name(text: &str) -> RefName {
    text.parse().unwrap()
}

/// A `git://` server: `serve` gets each connection after the request of the client.
fn server(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Clone + Send + 'static) -> Remote {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!("git://{}/x.git", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, serve) = (stream.unwrap(), serve.clone());
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = serve(&mut stream);
            });
        }
    });
    remote
}

/// A line of git's protocol.
fn line(text: &[u8]) -> Vec<u8> {
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

const ID: &str = "1111111111111111111111111111111111111111";

/// The refs of a remote with one branch.
fn one_ref() -> Vec<u8> {
    let first = format!("{ID} refs/heads/master\0side-band-64k ofs-delta\n");
    [line(first.as_bytes()), b"0000".to_vec()].concat()
}

/// The largest resident size of a child process `git` of this test, in bytes, while `work` runs.
async fn peak_of_git<T>(work: impl Future<Output = T>) -> (T, u64) {
    let peak = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (seen, own) = (peak.clone(), std::process::id().to_string());
    let watcher = tokio::spawn(async move {
        loop {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
                let field = |name: &str| {
                    let line = status.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|line| line.split_whitespace().next()).unwrap_or("").to_owned()
                };
                if field("PPid:") == own && field("Name:").starts_with("git") {
                    let bytes = field("VmHWM:").parse::<u64>().unwrap_or(0) << 10;
                    seen.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let result = work.await;
    watcher.abort();
    (result, peak.load(std::sync::atomic::Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_without_an_end_take_limited_memory() {
    let remote = server(|stream| {
        let many: Vec<u8> =
            (0..1000).flat_map(|n| line(format!("{ID} refs/heads/{n:0>200}\n").as_bytes())).collect();
        loop {
            stream.write_all(&many)?;
        }
    });
    let ours = ScratchRepo::new();
    let repo = Repo::open(ours.path()).unwrap();
    let began = Instant::now();
    let master = name("master");
    let look_up = repo.ls_remote(&remote, &master, Duration::from_secs(20));
    let (result, peak) = peak_of_git(look_up).await;
    assert!(result.is_err());
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(peak < 1200 << 20, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn messages_without_an_end_are_limited_by_time() {
    let remote = server(|stream| {
        stream.write_all(&one_ref())?;
        let mut request = [0; 4096];
        let _ = stream.read(&mut request)?;
        stream.write_all(&line(b"NAK\n"))?;
        loop {
            // Progress on the side band.
            stream.write_all(&line(b"\x02Counting objects: 1\r"))?;
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let ours = ScratchRepo::new();
    let repo = Repo::open(ours.path()).unwrap();
    let (began, limit) = (Instant::now(), Duration::from_secs(5));
    let fetched = repo.fetch(&remote, &name("master"), &name("refs/x/y"), limit).await;
    assert!(fetched.is_err());
    assert!(began.elapsed() < 2 * limit + Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_answer_ends_at_the_limit() {
    let remote = server(|stream| {
        for byte in one_ref() {
            stream.write_all(&[byte])?;
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    });
    let ours = ScratchRepo::new();
    let repo = Repo::open(ours.path()).unwrap();
    let (began, limit) = (Instant::now(), Duration::from_secs(2));
    assert!(repo.fetch(&remote, &name("master"), &name("refs/x/y"), limit).await.is_err());
    assert!(began.elapsed() < 3 * limit, "{:?}", began.elapsed());
}

#[tokio::test]
async fn incomplete_packs_of_killed_fetches_are_removed() {
    let ours = ScratchRepo::new();
    let packs = ours.path().join(".git/objects/pack");
    std::fs::create_dir_all(&packs).unwrap();
    let age = |name: &str, hours: u64| {
        let file = std::fs::File::create(packs.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    age("tmp_pack_old", 2);
    age("tmp_idx_old", 2);
    age("tmp_pack_running", 0);
    age("pack-of-a-user.keep", 2);
    let repo = Repo::open(ours.path()).unwrap();
    let missing: Remote = "/nowhere/at/all.git".parse().unwrap();
    let fetched =
        repo.fetch(&missing, &name("refs/heads/x"), &name("refs/x/y"), Duration::from_secs(20)).await;
    assert!(fetched.is_err());
    let mut left: Vec<_> = std::fs::read_dir(&packs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["pack-of-a-user.keep", "tmp_pack_running"]);
}

/// Submodules are not fetched and not checked out, whatever URL they have.
#[tokio::test]
async fn submodules_are_ignored() {
    let (theirs, secret) = (ScratchRepo::new(), ScratchRepo::new());
    let inner = secret.commit("secret", &[("secret", "secret")]);
    let module = |url: &str| format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n\tupdate = !touch ran\n");
    for url in [secret.url(), &format!("file://{}", secret.url()), "ext::sh -c touch% ran", "-u./x"] {
        theirs.commit("modules", &[(".gitmodules", &module(url))]);
        theirs.git(["update-index", "--add", "--cacheinfo", &format!("160000,{inner},m")]);
        theirs.git(["commit", "-q", "-m", "link", "--allow-empty"]);
        let tip = theirs.git(["rev-parse", "HEAD"]).trim().parse().unwrap();
        let ours = ScratchRepo::new();
        let repo = Repo::open(ours.path()).unwrap();
        let remote: Remote = theirs.url().parse().unwrap();
        let fetched =
            repo.fetch(&remote, &name("master"), &name("refs/x/y"), Duration::from_secs(20)).await.unwrap();
        assert_eq!(fetched.new, tip);
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("tree");
        repo.checkout_into(&tip, &dir, &work.path().join("index"), gitio::Checkout::default()).await.unwrap();
        assert!(!dir.join("m/secret").exists() && !dir.join("ran").exists(), "{url}");
        assert!(repo.resolve(inner.as_str()).is_err(), "{url}");
        assert!(!ours.path().join(".git/modules").exists());
    }
}

/// Serves `dir` with the git protocol until the value is dropped.
async fn git_daemon(dir: &Path) -> (spawn::Child, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cmd = spawn::Cmd::new("git").args(["daemon", "--listen=127.0.0.1", "--export-all", "--reuseaddr"]);
    let cmd = cmd.arg(format!("--base-path={}", dir.display())).arg(format!("--port={port}"));
    let daemon = cmd.start().unwrap();
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "git daemon does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (daemon, port)
}

/// A clone has the limits of a tree that is checked out, and leaves no file if it exceeds them.
#[tokio::test]
async fn a_clone_that_grows_when_it_is_checked_out_is_refused() {
    let served = tempfile::tempdir().unwrap();
    let scratch = ScratchRepo::new();
    let (_daemon, port) = git_daemon(scratch.path().parent().unwrap()).await;
    let name = scratch.path().file_name().unwrap().to_string_lossy().into_owned();
    let remote: Remote = format!("git://127.0.0.1:{port}/{name}").parse().unwrap();
    let clone = async |to: &str| {
        let to = served.path().join(to);
        let result = gitio::clone_public(&remote, &to, Duration::from_secs(60)).await;
        let mut files: Vec<_> = std::fs::read_dir(&to).unwrap().map(|it| it.unwrap().file_name()).collect();
        files.sort();
        (result, files)
    };
    // Without a commit there is nothing to check out.
    scratch.git(["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    let (result, files) = clone("empty").await;
    assert!(result.is_ok() && files == [".git"], "{result:?} {files:?}");
    scratch.git(["symbolic-ref", "HEAD", "refs/heads/master"]);
    scratch.commit("small", &[("lib.sh", "x\n")]);
    let (result, files) = clone("small").await;
    assert!(result.is_ok() && files.contains(&"lib.sh".into()), "{result:?} {files:?}");
    let mut status = Command::new("git");
    status.arg("-C").arg(served.path().join("small")).args(["status", "--porcelain=v2", "--branch"]);
    let status = status.output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("# branch.head master\n") && !status.contains("\n1 "), "{status}");

    let blob = scratch.git_fed(["hash-object", "-w", "--stdin"], "x\n");
    let mut tree = scratch.git_fed(["mktree"], &format!("100644 blob {}\tf\n", blob.trim()));
    for _ in 0..10 {
        let entries: String = (0..10).map(|n| format!("040000 tree {}\td{n}\n", tree.trim())).collect();
        tree = scratch.git_fed(["mktree"], &entries);
    }
    let invalid = scratch.git_fed(["mktree"], &format!("100644 blob {}\t.git\n", blob.trim()));
    for (tree, what) in [(tree, "more than 1000000 files"), (invalid, "invalid path '.git'")] {
        let commit = scratch.git_fed(["commit-tree", tree.trim()], "large\n");
        scratch.git(["update-ref", "refs/heads/master", commit.trim()]);
        let (result, files) = clone(&commit).await;
        let refused =
            matches!(&result, Err(gitio::GitError::InvalidTree { message, .. }) if message.contains(what));
        assert!(refused && files == [".git"], "{result:?} {files:?}");
    }
}
