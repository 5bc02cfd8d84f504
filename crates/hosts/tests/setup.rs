//! `packaging/host-setup`, run as an ordinary user with a fake sudo that logs the commands and changes nothing.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use spawn::{Cmd, Exit, Limits, Output};
use tempfile::TempDir;

const KEY: &str = "ssh-ed25519 AAAA farm";
/// Logs its arguments. Executes only commands that have no side effects.
const SUDO: &str = r#"shift
echo "$*" >>"$FAKES/log"
case $1 in
tee) sed 's/^/wrote: /' >>"$FAKES/log" ;;
grep) exec "$@" ;;
true) [ ! -e "$FAKES/no-sudo" ] ;;
env)
	case "$*" in *update*) exit 0 ;; esac
	[ ! -e "$FAKES/no-packages" ] || exit 100
	echo '0 upgraded, 45 newly installed, 0 to remove and 0 not upgraded.'
	for i in $(seq 45); do echo "Setting up p$i (1.0) ..."; done
	;;
esac"#;

/// A machine with only the standard Unix programs.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.fake("sudo", SUDO);
        machine.fake("id", "[ $1 != -u ] || { echo 1000; exit; }; [ $1 = -un ] && echo kim");
        machine.fake("getent", r#"[ $1 != passwd ] || echo "$2:x:9:9::$FAKES/home:/bin/sh""#);
        machine.fake("dpkg-query", "[ $4 = git ] && echo install ok installed");
        machine.fake("apt-get", "exit 1");
        machine.fake("ktest", "echo ktest 9.9");
        machine.write("upload", "the new ktest");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn fake(&self, name: &str, script: &str) {
        self.write(name, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Runs the script. Returns its output and exit status, and the log of sudo.
    async fn set_up(&self, key: &str) -> (Output, String) {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let output = Cmd::new("sh")
            .args(["-s", "--", "--user", "nobody-here", "--key", key, "--binary"])
            .arg(self.path("upload"))
            .env_clear()
            .env("PATH", path)
            .env("FAKES", self.0.path())
            .input(hosts::check::SETUP)
            .output(Limits::seconds(60))
            .await
            .unwrap();
        (output, std::fs::read_to_string(self.path("log")).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_new_machine_is_set_up_as_a_worker() {
    let machine = Machine::new();
    let (output, asked) = machine.set_up(KEY).await;
    assert!(output.exit.success(), "{}", output.error_line());
    for wanted in [
        "useradd --system --create-home",
        "usermod --append --groups kvm nobody-here",
        "usermod --add-subuids",
        "usermod --add-subgids",
        // The key permits neither forwarding nor a terminal.
        "wrote: restrict ssh-ed25519 AAAA farm\n",
        "wrote: nobody-here hard nofile 65536",
        "upload /usr/local/bin/ktest.new",
    ] {
        assert!(asked.contains(wanted), "{wanted} is not in\n{asked}");
    }
    let said = output.text();
    assert!(said.contains("host-setup: 20 of 45 packages\nhost-setup: 40 of 45 packages\n"), "{said}");
    assert!(said.trim_end().ends_with("host-setup: ktest 9.9\nhost-setup: done"), "{said}");
    assert!(!machine.path("upload").exists());
}

#[tokio::test]
async fn existing_parts_are_not_created_again() {
    let machine = Machine::new();
    machine.fake("dpkg-query", "echo install ok installed");
    machine.fake("id", "[ $1 != -u ] || echo 1000");
    machine.write("home/.ssh/authorized_keys", &format!("restrict {KEY}\n"));
    let (output, asked) = machine.set_up(KEY).await;
    assert!(output.exit.success(), "{}", output.error_line());
    for unwanted in ["apt-get", "useradd", "authorized_keys\nwrote"] {
        assert!(!asked.contains(unwanted), "{unwanted} is in\n{asked}");
    }
}

#[tokio::test]
async fn errors_are_reported_and_nothing_else_runs() {
    let ends = async |machine: &Machine, key: &str| {
        let (output, asked) = machine.set_up(key).await;
        assert!(!asked.contains("useradd") && !asked.contains("ktest.new"), "{asked}");
        (output.exit, output.error_line())
    };
    let machine = Machine::new();
    let two = format!("{KEY}\nssh-rsa BBBB unrestricted");
    let (exit, said) = ends(&machine, &two).await;
    assert_eq!((exit, said.as_str()), (Exit::Code(2), "host-setup: --key takes one public key on one line"));

    machine.write("no-packages", "");
    assert!(!ends(&machine, KEY).await.0.success());

    let machine = Machine::new();
    machine.write("no-sudo", "");
    let (exit, said) = ends(&machine, KEY).await;
    assert_eq!(exit, Exit::Code(1));
    assert!(said.starts_with("host-setup: kim is not root and has no passwordless sudo"), "{said}");
    assert!(!machine.path("upload").exists(), "the uploaded files are removed");

    let machine = Machine::new();
    machine.fake("ktest", "exit 127");
    let (output, _) = machine.set_up(KEY).await;
    assert!(output.error_line().contains("does not run on this host"), "{}", output.error_line());
}
