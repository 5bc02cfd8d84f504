//! The user of a sandboxed program on the host, and the owners of its files. To be run as root and as an ordinary user.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use sandbox::Sandbox;
use spawn::{Limits, Stream};
use tokio::io::AsyncReadExt;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The fields `Uid`, `Gid` and `Groups` of all processes with `mark` in the command line.
fn users(mark: &str) -> Vec<[String; 3]> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let of = |dir: &Path| {
        let line = std::fs::read(dir.join("cmdline")).ok()?;
        let status = std::fs::read_to_string(dir.join("status")).ok()?;
        let field =
            |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
        let is_marked = String::from_utf8_lossy(&line).contains(mark);
        if is_marked { Some([field("Uid:")?, field("Gid:")?, field("Groups:")?]) } else { None }
    };
    processes.filter_map(|dir| of(&dir)).collect()
}

#[tokio::test]
async fn no_process_of_a_sandbox_is_root() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let mark = format!("mark-{}-", std::process::id());
    let cmd = Sandbox::new().command("bash").args(["-c", "echo ready; sleep 60; true", &mark]);
    let mut child = cmd.streams(Stream::Null, Stream::Pipe, Stream::Null).start().unwrap();
    let mut word = [0; 6];
    child.take_stdout().unwrap().read_exact(&mut word).await.unwrap();
    let users = users(&mark);
    // bwrap twice, and the program.
    assert!(users.len() >= 3, "{users:?}");
    let own = rustix::process::getuid().as_raw().to_string();
    for [uid, gid, groups] in &users {
        let ids: Vec<&str> = uid.split_whitespace().collect();
        assert!(ids.iter().all(|id| *id == ids[0] && *id != "0"), "{users:?}");
        if is_root() {
            assert!(gid == uid && groups.is_empty(), "{users:?}");
        } else {
            assert_eq!(ids[0], own);
        }
    }
}

#[tokio::test]
async fn its_files_belong_to_the_user_of_this_process() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["out", "out/old", "in"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::set_permissions(path(name), Permissions::from_mode(0o700)).unwrap();
    }
    for name in ["out/old/file", "in/file"] {
        std::fs::write(path(name), "old\n").unwrap();
        std::fs::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
    }
    let _listener = UnixListener::bind(path("out/socket")).unwrap();
    let sandbox = Sandbox::new().writable(path("out"), "/out").read_only(path("in"), "/in").dir("/out");
    let script = r#"cat /in/file old/file; echo more >>old/file; echo new >old/new
        if [[ -e made ]]; then echo again >>made/file; else mkdir -m 700 made; (umask 077; echo x >made/file); fi
        chmod 640 old/file; stat -c '%u %g %A' old/file made; rm -f link; ln old/file link
        perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un("socket")) or print $!'
        echo stdout >/dev/stdout; echo stderr >/dev/stderr
        echo x >/in/file || echo x >/in/new || echo read-only"#;
    for text in ["old\nold\n", "old\nold\nmore\n"] {
        let output = sandbox.command("bash").args(["-c", script]).output(Limits::seconds(60)).await.unwrap();
        let rest = "1000 1000 -rw-r-----\n1000 1000 drwx------\nstdout\nread-only\n";
        assert_eq!(output.text(), format!("{text}{rest}"), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("stderr"), "{output:?}");
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for name in ["out", "out/old/file", "out/old/new", "out/made", "out/made/file", "out/link"] {
        let data = path(name).metadata().unwrap();
        assert_eq!((data.uid(), data.gid()), (uid, gid), "{name}");
    }
    assert_eq!(std::fs::read_to_string(path("out/made/file")).unwrap(), "x\nagain\n");
}

#[tokio::test]
async fn a_device_of_this_process_can_be_used() {
    let is_usable = |path: &&str| std::fs::OpenOptions::new().read(true).write(true).open(path).is_ok();
    let device = ["/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/loop-control"].into_iter().find(is_usable);
    let Some(device) = device else {
        eprintln!("SKIPPED: this user can use no device");
        return;
    };
    if let Err(error) = sandbox::probe().await {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let script = "open(my $f, '+<', $ARGV[0]) or die $!; print 'opened' if -c $f";
    let output = Sandbox::new().device(device).command("perl").args(["-e", script, device]);
    let output = output.output(Limits::seconds(60)).await.unwrap();
    assert_eq!(output.text(), "opened", "{device}: {output:?}");
}

#[tokio::test]
async fn a_directory_whose_owners_cannot_be_mapped_is_not_writable_for_root() {
    if !is_root() || sandbox::probe().await.is_err() {
        eprintln!("SKIPPED: it needs root and a sandbox");
        return;
    }
    // sysfs has no mapped mounts.
    let output =
        Sandbox::new().writable("/sys/kernel", "/x").command("true").output(Limits::seconds(60)).await;
    let text = output
        .map_err(|error| format!("{error} {}", std::error::Error::source(&error).unwrap()))
        .unwrap_err();
    assert!(text.contains("/sys/kernel: ") && text.contains("ordinary user"), "{text}");
    let output = Sandbox::new().read_only("/sys/kernel", "/x").command("ls").arg("/x");
    assert!(output.output(Limits::seconds(60)).await.unwrap().exit.success());
}

/// Root of a user namespace has no other user. Its sandboxes are those of the user that created the namespace.
#[test]
fn root_of_a_user_namespace_has_a_sandbox() {
    let mut test = Command::new("setpriv");
    if is_root() {
        test.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    test.args(["unshare", "--user", "--map-root-user"]).arg(std::env::current_exe().unwrap());
    let output = test.args(["--exact", "--ignored", "--nocapture", "in_a_user_namespace"]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if ["unshare: ", "setpriv: ", "SKIPPED"].iter().any(|word| complaint.contains(word)) {
        eprintln!("SKIPPED: {complaint}");
        return;
    }
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
#[ignore = "run by root_of_a_user_namespace_has_a_sandbox"]
async fn in_a_user_namespace() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let attempts = sandbox::try_to_escape().await.unwrap();
    let broke: Vec<_> = attempts.iter().filter(|attempt| !attempt.held).collect();
    assert!(broke.is_empty(), "{broke:?}");
}
