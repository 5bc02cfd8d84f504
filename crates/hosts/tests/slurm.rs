//! Batches as jobs of a real Slurm cluster with one node on this machine: a job is requeued or cancelled, and the
//! controller is stopped and restarted.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be set up fails the test")]

#[expect(dead_code, reason = "shared with the tests over ssh")]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use hosts::HostError;
use hosts::frame::RemoteOrder;
use hosts::run::Output;
use hosts::slurm::{Resources, SlurmJob, Task};
use spawn::{Child, Cmd, Exit, Limits, Stream};
use support::{Heard, Here, until};
use tempfile::TempDir;

#[test]
#[ignore = "the command line on a node, started by the other tests"]
fn the_command_itself() {
    support::act_as_the_command();
}

const PROGRAMS: [&str; 2] = ["/usr/sbin/slurmctld", "/usr/sbin/slurmd"];

/// A cluster with this machine as its only node.
struct Cluster {
    dir: TempDir,
    controller: Option<Child>,
    _node: Child,
}

impl Cluster {
    async fn start(dir: TempDir) -> Self {
        let start = |program: &str| {
            let log = dir.path().join(program.rsplit('/').next().unwrap());
            let cmd = Cmd::new(program).args(["-D", "-L"]).arg(log.with_extension("log"));
            cmd.streams(Stream::Null, Stream::Null, Stream::Null).start().unwrap()
        };
        let controller = start(PROGRAMS[0]);
        let node = start(PROGRAMS[1]);
        Self { controller: Some(controller), _node: node, dir }
    }

    async fn up_again(&mut self) {
        let log = self.dir.path().join("slurmctld.log");
        self.controller = Some(Cmd::new(PROGRAMS[0]).args(["-D", "-L"]).arg(log).start().unwrap());
        for _ in 0..100 {
            if Cmd::new("squeue").output(Limits::seconds(20)).await.is_ok_and(|output| output.exit.success())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the controller does not answer");
    }

    /// Waits until the node is free.
    async fn up(&mut self) {
        for _ in 0..300 {
            let nodes =
                Cmd::new("sinfo").args(["--noheader", "--format=%T"]).output(Limits::seconds(20)).await;
            if nodes.is_ok_and(|nodes| nodes.text().trim() == "idle") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!(
            "the node is not idle: {}",
            std::fs::read_to_string(self.dir.path().join("slurmctld.log")).unwrap()
        );
    }

    fn down(&mut self) {
        self.controller = None;
    }
}

fn configuration(dir: &std::path::Path) -> String {
    let port = || std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let (controller, node) = (port(), port());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (host, dir) = (host.trim().split('.').next().unwrap(), dir.display());
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
         AuthType=auth/none\nCredType=cred/none\nAuthInfo=cred_expire=5\n\
         SlurmctldPort={controller}\nSlurmdPort={node}\n\
         StateSaveLocation={dir}/state\nSlurmdSpoolDir={dir}/spool\n\
         SlurmctldPidFile={dir}/ctld.pid\nSlurmdPidFile={dir}/slurmd.pid\n\
         ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n\
         JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU_Memory\n\
         SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2\n\
         SlurmdParameters=config_overrides\nReturnToService=2\nKillWait=2\n\
         NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=6000 Features=x86_64,aarch64\n\
         PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    )
}

#[tokio::test]
async fn batches_are_jobs_of_a_real_cluster() {
    let missing = PROGRAMS.iter().any(|program| !PathBuf::from(program).exists());
    if missing || !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: no Slurm here, or not root; apt-get install slurm-wlm");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["state", "spool"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let conf = dir.path().join("slurm.conf");
    std::fs::write(&conf, configuration(dir.path())).unwrap();
    // The Slurm commands find the cluster through their environment.
    let mut inner = Cmd::new(std::env::current_exe().unwrap())
        .args(["--exact", "on_the_cluster", "--ignored", "--nocapture"])
        .env("SLURM_CONF", &conf)
        .env("HOSTS_TEST_CLUSTER", dir.path())
        .streams(Stream::Null, Stream::Inherit, Stream::Inherit)
        .start()
        .unwrap();
    let end = tokio::time::timeout(Duration::from_secs(150), inner.wait()).await;
    assert_eq!(end.expect("it ends in time").unwrap(), Exit::Code(0));
}

/// A suite in the repository of the kernel.
fn suite(here: &Here) -> String {
    format!("xfstests={}@{}", here.commit, here.repo.path().display())
}

fn job(here: &Here, dir: &std::path::Path, subtests: &str) -> SlurmJob {
    let out = here.dir.path().join("out");
    std::fs::create_dir_all(&out).unwrap();
    SlurmJob {
        name: "big".into(),
        slot: "test-0".into(),
        resources: Resources::declared(512, Some(1), Duration::from_secs(60), 2, "x86_64".into()),
        ktest: dir.join("ktest").display().to_string(),
        cache_dir: Some(dir.join("cache")),
        task: Task {
            linux_repo: here.repo.path().into(),
            tests_dir: here.dir.path().join("kt"),
            out,
            order: RemoteOrder {
                commit: Some(here.commit.clone()),
                kernel: None,
                test: "t/one".parse().unwrap(),
                subtests: subtests.split(' ').map(|name| name.parse().unwrap()).collect(),
                merge: Vec::new(),
                tolerate: Vec::new(),
                image: model::ShippedImage::default(),
                packages: Vec::new(),
                env: model::Env::default(),
                suites: vec![suite(here).parse().unwrap()],
                arch: None,
                trust_domain: None,
                verify_builds: 0,
                kernel_repos: Vec::new(),
            },
        },
    }
}

async fn run(job: &SlurmJob, heard: &Heard) -> Result<Option<i32>, HostError> {
    hosts::slurm::run(job, &mut |output| {
        let (Output::Event(line) | Output::Message(line)) = output;
        heard.push(line);
    })
    .await
}

fn id(heard: &Heard) -> String {
    let lines = heard.lines();
    let line = lines.iter().find_map(|line| line.strip_prefix("Slurm job ")).unwrap();
    line.split(':').next().unwrap().into()
}

async fn slurm(program: &str, args: &[&str]) {
    let output = Cmd::new(program).args(args).output(Limits::seconds(30)).await.unwrap();
    assert!(output.exit.success(), "{program}: {}", output.error_line());
}

#[tokio::test]
#[ignore = "needs a cluster; started by the other test"]
async fn on_the_cluster() {
    let Some(dir) = std::env::var_os("HOSTS_TEST_CLUSTER").map(PathBuf::from) else { return };
    let mut cluster = Cluster::start(tempfile::tempdir_in(&dir).unwrap()).await;
    cluster.up().await;
    support::install(&dir);
    let here = Here::new();
    let runs = "first second";

    // A complete run.
    let heard = Heard::default();
    assert_eq!(run(&job(&here, &dir, runs), &heard).await.unwrap(), Some(0));
    assert!(heard.has("\"verdict\",\"subtest\":\"second\""), "{:?}", heard.lines());
    assert_eq!(std::fs::read_to_string(dir.join("suites")).unwrap().trim(), suite(&here));
    eprintln!("a job ran");

    // Requeued during the run: subtests with a verdict are not repeated.
    let hold = dir.join("hold");
    std::fs::write(&hold, "").unwrap();
    let (heard, requeued) = (Heard::default(), job(&here, &dir, runs));
    let requeue = async {
        until("the second subtest runs", || heard.has("\"subtest_started\",\"subtest\":\"second\"")).await;
        slurm("scontrol", &["requeue", &id(&heard)]).await;
        until("it runs again", || heard.has("was requeued")).await;
        std::fs::remove_file(&hold).unwrap();
    };
    let (end, ()) = tokio::join!(run(&requeued, &heard), requeue);
    assert_eq!(end.unwrap(), Some(0));
    let verdicts = |name: &str| {
        let text = format!("\"verdict\",\"subtest\":\"{name}\"");
        heard.lines().iter().filter(|line| line.contains(&text)).count()
    };
    assert_eq!((verdicts("first"), verdicts("second")), (1, 1), "{:?}", heard.lines());
    assert!(heard.has("was requeued"));
    eprintln!("a job was requeued");

    // Cancelled by a user: an infrastructure error, no verdict.
    cluster.up().await;
    std::fs::write(&hold, "").unwrap();
    let (heard, cancelled) = (Heard::default(), job(&here, &dir, runs));
    let cancel = async {
        until("the second subtest runs", || heard.has("\"subtest_started\",\"subtest\":\"second\"")).await;
        slurm("scancel", &[&id(&heard)]).await;
    };
    let (end, ()) = tokio::join!(run(&cancelled, &heard), cancel);
    let error = end.unwrap_err().to_string();
    assert!(error.contains("cancelled") || error.contains("no longer exists"), "{error}");
    let fake = dir.join("fake-ktest").display().to_string();
    until("its processes are gone", || testkit::processes(&fake).is_empty()).await;
    eprintln!("a job was cancelled");

    // The controller is restarted; the job is not affected.
    cluster.up().await;
    let (heard, followed) = (Heard::default(), job(&here, &dir, runs));
    let outage = async {
        until("the second subtest runs", || heard.has("\"subtest_started\",\"subtest\":\"second\"")).await;
        cluster.down();
        until("the outage is reported", || heard.has("the cluster does not respond")).await;
        cluster.up_again().await;
        std::fs::remove_file(&hold).unwrap();
    };
    let (end, ()) = tokio::join!(run(&followed, &heard), outage);
    assert_eq!(end.unwrap(), Some(0));
    eprintln!("the controller was unavailable");

    // Without a controller nothing can be submitted.
    cluster.down();
    let error = run(&followed, &Heard::default()).await.unwrap_err();
    assert!(matches!(error, HostError::Unreachable { .. }), "{error}");
}
