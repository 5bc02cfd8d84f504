//! `make chaos`: kills the daemon repeatedly with SIGKILL. No verdict is lost or duplicated, every job ends, and no
//! process remains.
//!
//! `CHAOS_KILLS` is the number of kills (default 100), at random times derived from `CHAOS_SEED`. The executors are
//! simulated, or run VMs if `CHAOS_KTEST` is the `ktest` command and `CHAOS_LINUX` is the demo's kernel repository.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use model::CommitId;
use results::Reader;
use rustix::process::Signal;
use spawn::Exit;

use crate::support::{Farm, runs, until};

/// The generator splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Final verdicts by `commit key`: status, start time, number of attempts.
type Verdicts = BTreeMap<String, (String, Option<i64>, u32)>;

fn verdicts(data: &Path, commits: &[CommitId]) -> Verdicts {
    let Ok(reader) = Reader::open(data) else { return Verdicts::new() };
    let results = commits.iter().filter_map(|commit| reader.commit(commit).ok().flatten());
    let entries = results.flat_map(|results| {
        let commit = results.commit.clone();
        let ended = results.entries.into_iter().filter(|entry| entry.decisive.status.is_final());
        ended.map(move |entry| {
            (
                format!("{commit} {}", entry.key),
                (entry.decisive.status.to_string(), entry.decisive.started, entry.attempts()),
            )
        })
    });
    entries.collect()
}

/// Checks that every verdict from before the kill is unchanged.
fn nothing_lost(before: &Verdicts, after: &Verdicts) {
    for (job, verdict) in before {
        assert_eq!(after.get(job), Some(verdict), "{job}: its verdict was lost or reported again");
    }
}

#[test]
#[ignore = "takes minutes: make chaos"]
fn random_kills_under_load_with_simulated_executors() {
    let (kills, seed) = (number("CHAOS_KILLS", 100), number("CHAOS_SEED", 2026));
    let mut rng = Rng(seed);
    let farm = Farm::new();
    farm.configure(&farm.config("[host.local]\nslots = 8\n"));
    let names = |prefix: &str| (0..80).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(" ");
    farm.test_file("t/one", &names("a"));
    farm.test_file("t/two", &names("b"));
    farm.delay("0.05");
    let mut commits: Vec<CommitId> = (0..30).map(|n| farm.commit(&format!("c{n}"), "")).collect();
    let data = farm.path("data");
    let (mut seen, mut at_work, mut most) = (Verdicts::new(), 0, Duration::ZERO);
    let began = Instant::now();
    for kill in 0..kills {
        // The queue must not become empty, and pushes are part of the load.
        if kill % 10 == 9 {
            commits.push(farm.commit(&format!("push{kill}"), if kill % 20 == 9 { "fail" } else { "" }));
        }
        let daemon = farm.start(&[]);
        // Most daemons are killed while they work, some while they start.
        if kill % 8 != 0 {
            until("it works", || runs(&farm.path("fake/ktest")));
        }
        std::thread::sleep(Duration::from_millis(rng.below(1000)));
        let before = verdicts(&data, &commits);
        at_work += u64::from(runs(&farm.path("fake/ktest")));
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait(), Exit::Signal(9), "kill {kill}: it was running until then");
        let killed = Instant::now();
        until("the processes of its run have ended", || !runs(&farm.path("fake/ktest")));
        most = most.max(killed.elapsed());
        nothing_lost(&seen, &before);
        seen = before;
    }
    farm.delay("0");
    farm.once();
    let last = verdicts(&data, &commits);
    nothing_lost(&seen, &last);
    assert_eq!(
        last.len(),
        commits.len() * 160,
        "every subtest of every commit has its verdict: none is stuck"
    );
    assert!(last.values().all(|(status, ..)| status == "Passed" || status == "Failed"));
    assert!(last.values().all(|(.., attempts)| *attempts == 1), "none was judged twice");
    assert!(at_work * 4 > kills * 3, "most kills hit a daemon at work: {at_work} of {kills}");
    let starts = farm.starts();
    let rerun: u64 = starts.values().map(|times| u64::from(*times) - 1).sum();
    farm.once();
    assert_eq!(farm.starts(), starts, "nothing was left to do");
    println!(
        "chaos_kills {kills} kills\nchaos_kills_at_work {at_work} kills\nchaos_verdicts {} verdicts\nchaos_lost 0 verdicts\nchaos_twice 0 verdicts\n\
         chaos_repeated_runs {rerun} runs\nchaos_children_gone_max_ms {} ms\nchaos_seconds {} s",
        last.len(),
        most.as_millis(),
        began.elapsed().as_secs()
    );
}

#[test]
#[ignore = "takes minutes, real virtual machines: make chaos"]
fn kills_with_real_virtual_machines() {
    let (Ok(ktest), Ok(linux)) = (std::env::var("CHAOS_KTEST"), std::env::var("CHAOS_LINUX")) else {
        println!("skipped: CHAOS_KTEST and CHAOS_LINUX are not set; make chaos sets them");
        return;
    };
    let kills = number("CHAOS_VM_KILLS", 5);
    let mut rng = Rng(number("CHAOS_SEED", 2026));
    let farm = Farm::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    std::fs::create_dir_all(farm.path("linux.git/objects/info")).unwrap();
    farm.borrow_objects(&linux);
    farm.configure(&format!(
        "linux_repo = \"linux.git\"\noutput_dir = \"data\"\nktest_dir = {root:?}\nuser = \"u\"\npoll = 3600\n\
         confirm_failures = 0\n[test_group.g]\ntests = [\"boot.ktest\", \"fs/ext4/basic.ktest\"]\nmax_commits = 1\n\
         [branch.demo]\nremote = {linux:?}\nref = \"demo\"\ntest_groups = [\"g\"]\n[host.local]\nslots = 1\n"
    ));
    let commits = farm.commits_of(&linux, "demo", 1);
    let data = farm.path("data");
    let (mut seen, mut most) = (Verdicts::new(), Duration::ZERO);
    let mine = data.join("ci-daemon-work");
    let began = Instant::now();
    for kill in 0..kills {
        let daemon = farm.start_with(Path::new(&ktest), &[]);
        // Waits until a VM runs a subtest, and some more time.
        let running = || {
            let jobs = farm.snapshot().executors;
            jobs.iter().any(|of| of.batch.as_ref().is_some_and(|batch| batch.current.is_some()))
        };
        crate::support::until_within(Duration::from_secs(1500), "a subtest runs in a machine", || {
            running() || verdicts(&data, &commits).len() > seen.len()
        });
        std::thread::sleep(Duration::from_millis(rng.below(4000)));
        let before = verdicts(&data, &commits);
        let machine = runs_word("qemu-system", &mine);
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait(), Exit::Signal(9));
        let killed = Instant::now();
        until("its virtual machines are gone", || !runs_word("", &mine));
        most = most.max(killed.elapsed());
        println!("kill {kill}: a machine ran: {machine}, {} verdicts so far", before.len());
        nothing_lost(&seen, &before);
        seen = before;
    }
    let daemon = farm.start_with(Path::new(&ktest), &["--once"]);
    assert_eq!(daemon.wait_for(Duration::from_secs(1800)), Exit::Code(0));
    let last = verdicts(&data, &commits);
    nothing_lost(&seen, &last);
    assert!(last.len() > 10 && last.values().all(|(.., attempts)| *attempts == 1), "{last:?}");
    assert!(!runs_word("", &mine), "nothing is left running");
    println!(
        "chaos_vm_kills {kills} kills\nchaos_vm_verdicts {} verdicts\nchaos_vm_lost 0 verdicts\nchaos_vm_twice 0 verdicts\n\
         chaos_vm_gone_max_ms {} ms\nchaos_vm_seconds {} s",
        last.len(),
        most.as_millis(),
        began.elapsed().as_secs()
    );
}

/// Whether a process has both in its command line.
fn runs_word(word: &str, path: &Path) -> bool {
    let path = path.display().to_string();
    std::fs::read_dir("/proc").expect("/proc is there").filter_map(Result::ok).any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&path) && line.contains(word)
    })
}
