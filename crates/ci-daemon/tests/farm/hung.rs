//! File systems that hang: the daemon reports this if possible, and SIGTERM ends it within 10 seconds.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::HungFileSystem;

use crate::support::{Daemon, Farm, until};

/// The time limit in docs/security.md.
const LIMIT: Duration = Duration::from_secs(10);

fn ends_in_time(daemon: Daemon, what: &str) {
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait_for(3 * LIMIT);
    assert!(began.elapsed() < LIMIT, "{what}: {:?}", began.elapsed());
}

#[test]
fn a_hanging_directory_of_users_is_a_problem_and_drops_no_branch() {
    let farm = Farm::new();
    std::fs::create_dir(farm.path("users")).unwrap();
    let text = "[branch.fix]\nremote = \"https://127.0.0.1/x.git\"\ntest_groups = [\"g\"]\n";
    std::fs::write(farm.path("users/amy.toml"), text).unwrap();
    let users = "users_dir = \"users\"\n[users]\nallow_remotes = [\"https://127.0.0.1/*\"]";
    farm.configure(&farm.config(users).replace("poll = 3600", "poll = 1"));
    let first = farm.commit("first", "");
    let daemon = farm.start(&[]);
    until("the first commit is tested", || farm.tally(&first) == "5 Passed");
    let hung = match HungFileSystem::mount(&farm.path("users")) {
        Ok(hung) => hung,
        Err(error) => {
            eprintln!("skipped: a_hanging_directory_of_users_is_a_problem_and_drops_no_branch: {error}");
            return;
        }
    };
    let second = farm.commit("second", "");
    until("the next commit of another user is tested", || farm.tally(&second) == "5 Passed");
    let problem = "cannot be read within 10 s; the last good configuration stays in force";
    until("it is reported", || farm.snapshot().problems.iter().any(|text| text.ends_with(problem)));
    assert!(
        farm.snapshot().branches.iter().any(|branch| branch.user.as_str() == "amy"),
        "{:?}",
        farm.snapshot()
    );
    drop(hung);
    until("it is read again", || !farm.snapshot().problems.iter().any(|text| text.ends_with(problem)));
    let _hung = HungFileSystem::mount(&farm.path("users")).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    ends_in_time(daemon, "users");
}

#[test]
fn sigterm_ends_the_daemon_even_if_a_file_system_hangs() {
    for dir in ["data/requests", "data", "data/ci-daemon-work", "kt", "."] {
        let farm = Farm::new();
        farm.configure(&farm.config("").replace("poll = 3600", "poll = 1"));
        let first = farm.commit("first", "");
        let daemon = farm.start(&[]);
        until("the first commit is tested", || farm.tally(&first) == "5 Passed");
        std::fs::create_dir_all(farm.path("data/requests")).unwrap();
        // Running tests must also be stopped.
        farm.hold(true);
        farm.commit("second", "");
        std::thread::sleep(Duration::from_secs(2));
        let _hung = match HungFileSystem::mount(&farm.path(dir)) {
            Ok(hung) => hung,
            Err(error) => {
                eprintln!("skipped: sigterm_ends_the_daemon_even_if_a_file_system_hangs: {dir}: {error}");
                continue;
            }
        };
        std::thread::sleep(Duration::from_secs(3));
        ends_in_time(daemon, dir);
    }
}
