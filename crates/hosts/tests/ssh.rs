//! Runs over real sshd processes on loopback addresses, with failures.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[expect(dead_code, reason = "shared with the tests of Slurm")]
mod support;

use hosts::HostError;
use hosts::run::Output;
use rustix::process::{Pid, Signal, kill_process};
use support::{Heard, Here, Host, until};
use testkit::ScratchRepo;

#[test]
#[ignore = "the command line over there, started by the other tests"]
fn the_command_itself() {
    support::act_as_the_command();
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_remote_run_gives_the_results_of_a_local_one() {
    let Some(host) = Host::start(1).await else { return };
    let (here, heard) = (Here::new(), Heard::default());
    let job = here.job(&host, "first second");
    assert_eq!(heard.run(&job).await.unwrap(), Some(0));
    let kinds: Vec<String> = heard
        .lines()
        .iter()
        .filter_map(|line| Some(line.split("\"event\":\"").nth(1)?.split('"').next()?.to_owned()))
        .collect();
    let expected = "run_started kernel_ready subtest_started verdict subtest_started verdict run_finished";
    assert_eq!(kinds.join(" "), expected);
    assert!(heard.has("a message on standard error"));
    let read = |name: &str| std::fs::read_to_string(here.out(&host).join(name)).unwrap();
    assert_eq!(read("out/t.one.second/log"), "00001 the log of second\n");
    assert_eq!(read("out/t.one.second/core"), "core\n");
    assert_eq!(read("out/t.one"), "00001 the log of first\n00001 the log of second\n");
    // The second run uses the same connection and does not resend anything.
    assert!(job.link.is_up().await);
    assert_eq!(heard.run(&job).await.unwrap(), Some(0));
    assert_eq!(host.builds(), 1);
    until("no process is left on the host", || host.processes().is_empty()).await;
}

#[tokio::test]
async fn the_files_of_a_subtest_arrive_before_its_verdict() {
    let Some(host) = Host::start(6).await else { return };
    let here = Here::new();
    let (job, out) = (here.job(&host, "first second"), here.out(&host));
    let mut found = Vec::new();
    let mut on = |output: Output<'_>| {
        let Output::Event(line) = output else { return };
        let Some(at) = line.find("\"verdict\",\"subtest\":\"") else { return };
        let name = line[at..].split('"').nth(5).unwrap();
        let full = out.join(format!("out/t.one.{name}/artifacts/full"));
        found.push(std::fs::read_to_string(full).unwrap_or_default());
    };
    hosts::run::run(&job, &mut on).await.unwrap();
    assert_eq!(found, ["all of first\n", "all of second\n"]);
}

#[tokio::test]
async fn the_suites_of_a_run_are_sent_to_the_host() {
    let Some(host) = Host::start(7).await else { return };
    let (here, heard, suite) = (Here::new(), Heard::default(), ScratchRepo::new());
    let mut job = here.job(&host, "first");
    for text in ["one", "two"] {
        let commit = suite.commit(text, &[("check", text)]);
        let order = format!("xfstests={commit}@{}", suite.path().display());
        job.order.suites = vec![order.parse().unwrap()];
        assert_eq!(heard.run(&job).await.unwrap(), Some(0), "{:?}", heard.lines());
        // The run over there has it from the mirror.
        let suites = host.read("suites");
        let last = suites.lines().last().unwrap();
        assert!(last.starts_with(&format!("xfstests={commit}@/")), "{last}");
        assert!(last.ends_with("/mirror/linux.git") && !last.contains(suite.url()), "{last}");
    }
    // The host has it: the repository is not read again.
    job.order.suites[0].repo = "/nowhere".into();
    assert_eq!(heard.run(&job).await.unwrap(), Some(0));
    job.order.suites[0].version.commit = "1".repeat(40).parse().unwrap();
    assert!(heard.run(&job).await.is_err());
}

#[tokio::test]
async fn a_kernel_is_built_once_per_farm() {
    let mut farm = Vec::new();
    for number in 11..=14 {
        let Some(host) = Host::start(number).await else { return };
        host.write("slow", "0.5");
        farm.push(host);
    }
    let here = Here::new();
    let heard = Heard::default();
    let jobs: Vec<_> = farm.iter().map(|host| here.job(host, "first")).collect();
    let (a, b, c, d) =
        tokio::join!(heard.run(&jobs[0]), heard.run(&jobs[1]), heard.run(&jobs[2]), heard.run(&jobs[3]));
    for code in [a, b, c, d] {
        assert_eq!(code.unwrap(), Some(0));
    }
    assert_eq!(farm.iter().map(Host::builds).sum::<usize>(), 1);
    let copied = heard.lines().iter().filter(|line| line.contains("copied from another host")).count();
    assert_eq!(copied, 3, "{:?}", heard.lines());
    eprintln!("kernel_builds_per_commit 1 (4 hosts)");
}

#[tokio::test]
async fn verdicts_from_before_the_connection_broke_are_kept() {
    let Some(host) = Host::start(21).await else { return };
    let (here, heard) = (Here::new(), Heard::default());
    host.write("hold", "");
    let job = here.job(&host, "first second");
    let cut = async {
        until("the second subtest runs", || heard.has("\"subtest\":\"second\"")).await;
        let live = here.out(&host).join("out/t.one.second/log");
        until("its log arrives while it runs", || {
            std::fs::read_to_string(&live).is_ok_and(|text| text == "00001 live of second\n")
        })
        .await;
        // Kill the sshd of this connection, not the listening one.
        let config = host.sshd.ssh_config();
        let config = config.to_str().unwrap();
        until("the connection is killed", || {
            let masters = testkit::processes(config);
            masters.iter().for_each(|pid| kill(*pid, Signal::KILL));
            masters.is_empty()
        })
        .await;
    };
    let (end, ()) = tokio::join!(heard.run(&job), cut);
    assert!(matches!(end, Err(HostError::Lost { .. })), "{end:?}");
    assert!(
        heard.has("\"verdict\",\"subtest\":\"first\"") && !heard.has("\"verdict\",\"subtest\":\"second\"")
    );
    until("no process is left on the host", || host.processes().is_empty()).await;
    // The next run establishes a new connection.
    host.remove("hold");
    assert_eq!(heard.run(&job).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_run_that_loses_its_local_side_exits() {
    let Some(host) = Host::start(31).await else { return };
    let (here, heard) = (Here::new(), Heard::default());
    host.write("hold", "");
    let job = here.job(&host, "first second");
    // Dropping the run has the same effect as killing this process: ssh is killed without a message.
    tokio::select! {
        end = heard.run(&job) => panic!("it ended: {end:?}"),
        () = until("it runs", || heard.has("\"verdict\",\"subtest\":\"first\"")) => {}
    }
    until("no process is left on the host", || host.processes().is_empty()).await;
    assert!(job.link.is_up().await, "the connection stays open");
}

#[tokio::test]
async fn the_next_run_kills_a_remote_side_that_hangs() {
    let Some(host) = Host::start(41).await else { return };
    let (here, heard) = (Here::new(), Heard::default());
    host.write("hold", "");
    let job = here.job(&host, "first second");
    let stop = async {
        until("it runs", || heard.has("\"verdict\",\"subtest\":\"first\"")).await;
        let running = host.processes();
        running.iter().for_each(|pid| kill(*pid, Signal::STOP));
        running
    };
    let stopped = tokio::select! {
        end = heard.run(&job) => panic!("it ended: {end:?}"),
        running = stop => running,
    };
    assert!(stopped.len() >= 2, "{stopped:?}");
    host.remove("hold");
    assert_eq!(heard.run(&job).await.unwrap(), Some(0));
    until("no process is left on the host", || host.processes().is_empty()).await;
}

#[tokio::test]
async fn unusable_hosts_are_reported() {
    let Some(mut host) = Host::start(51).await else { return };
    let (here, heard) = (Here::new(), Heard::default());
    let job = here.job(&host, "first");
    for (answer, said) in [
        ("echo what?; exit 1", "host farm51: it sent an invalid message: \"what?\""),
        ("head -c 1000000 /dev/zero", "host farm51: it sent an invalid message"),
        (
            r#"echo 'ktest-host {"hello":{"protocol":1,"version":"0.0.1","arch":"x86_64","unix":5,"cache":"/c","free":99}}'; sleep 9"#,
            "host farm51: it has ktest 0.0.1, this is ",
        ),
        ("exit 7", "host farm51: the connection ended"),
    ] {
        host.write("ktest", &format!("#!/bin/bash\n{answer}\n"));
        let error = heard.run(&job).await.unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    // A host with an unknown key is refused, and then not retried for a while.
    host.sshd.replace_host_key();
    for pid in testkit::processes(host.sshd.ssh_config().to_str().unwrap()) {
        kill(pid, Signal::KILL);
    }
    until("the connection is gone", || {
        testkit::processes(host.sshd.ssh_config().to_str().unwrap()).is_empty()
    })
    .await;
    let error = heard.run(&job).await.unwrap_err().to_string();
    assert!(error.contains("ost key verification failed"), "{error}");
    let error = heard.run(&job).await.unwrap_err();
    assert!(matches!(error, HostError::BackedOff { .. }), "{error}");
    host.sshd.down();
    assert!(heard.lines().is_empty(), "{:?}", heard.lines());
}
