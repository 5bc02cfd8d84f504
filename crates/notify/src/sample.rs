//! A report of each kind, for tests.

use model::{Finding, FindingKind, FindingRate};

use crate::report::{CommitInfo, Report};

pub(crate) fn report(kind: FindingKind) -> Report {
    let commit = |digit: &str, subject: &str| CommitInfo {
        id: digit.repeat(40).parse().expect("a commit"),
        subject: subject.into(),
        author: "Mira Adler".into(),
        email: "mira@example.org".into(),
        message_id: (digit == "b").then(|| "20261130.1-mira@example.org".into()),
        url: None,
    };
    let bad = commit("b", "ext4: punch holes extent by extent");
    let good = commit("a", "ext4: make ext4_es_lookup_extent() return the status");
    let fix = commit("c", "ext4: take the extent lock for the whole of a punch");
    let is_build = matches!(kind, FindingKind::BuildBroke | FindingKind::BuildFixed);
    let is_fix = matches!(kind, FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed);
    let is_farm = kind == FindingKind::Farm;
    let base = "https://ci.example.org";
    let finding = finding(kind, [&bad, &good, &fix]);
    let accuses = !matches!(kind, FindingKind::Farm | FindingKind::FlakyBegan | FindingKind::SuspiciousPass);
    Report {
        url: format!("{base}/ci?user=mira&branch=ext4-testing&findings#3f2a9c0011223344"),
        commit: (!is_farm).then(|| if is_fix { fix } else { bad.clone() }),
        first_bad: accuses.then_some(bad),
        last_good: accuses.then_some(good),
        before: (kind == FindingKind::Broke).then_some(FindingRate { failed: 0, runs: 60 }),
        elsewhere: if kind == FindingKind::Broke { vec!["mira/for-next".into()] } else { Vec::new() },
        log: log(kind).iter().map(|line| (*line).to_owned()).collect(),
        log_url: if is_farm {
            String::new()
        } else {
            format!("{base}/c/{}/fs.ext4.basic.punch/", "b".repeat(40))
        },
        reproduce: if is_fix || is_farm || is_build {
            Vec::new()
        } else {
            vec!["git checkout bbbbbbbbbbbb".into(), "ktest run -k . fs/ext4/basic.ktest punch".into()]
        },
        config_url: (kind == FindingKind::Broke).then(|| format!("{base}/c/b/boot/kernel.config")),
        owner: (kind == FindingKind::Broke).then(|| "Mira Adler <mira@example.org>".into()),
        finding,
    }
}

fn finding(kind: FindingKind, [bad, good, fix]: [&CommitInfo; 3]) -> Finding {
    let is_build = matches!(kind, FindingKind::BuildBroke | FindingKind::BuildFixed);
    let is_fix = matches!(kind, FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed);
    let is_farm = kind == FindingKind::Farm;
    Finding {
        id: "3f2a9c0011223344".into(),
        kind,
        branch: (!is_farm).then(|| "mira/ext4-testing".parse().expect("a branch")),
        commit: (!is_farm).then(|| if is_fix { fix.id.clone() } else { bad.id.clone() }),
        tests: if is_farm { Vec::new() } else { vec!["fs.ext4.basic.punch".parse().expect("a test")] },
        tests_total: match kind {
            FindingKind::Broke => 10,
            _ if is_build => 40,
            _ => u32::from(!is_farm),
        },
        signature: match kind {
            FindingKind::Farm => "the disk of farm1 is full: 120 MiB of 100 GiB are free",
            FindingKind::SuspiciousPass => "it took 3.2 s; the median of the 25 passes before is 41.0 s",
            _ if is_build => "fs/ext4/acl.c:143:2: error: expected ';'",
            _ => "kernel BUG in ext4_ext_remove_space",
        }
        .into(),
        first_bad: (!is_farm).then(|| bad.id.clone()),
        last_good: (!is_farm).then(|| good.id.clone()),
        rate: match kind {
            FindingKind::FlakyBegan => Some(FindingRate { failed: 3, runs: 25 }),
            FindingKind::Broke | FindingKind::Bisected => Some(FindingRate { failed: 7, runs: 25 }),
            _ => None,
        },
        at: 1_796_100_000,
    }
}

fn log(kind: FindingKind) -> &'static [&'static str] {
    match kind {
        FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed | FindingKind::Farm => &[],
        FindingKind::BuildBroke => {
            &["  CC      fs/ext4/acl.o", "fs/ext4/acl.c:143:2: error: expected ';'", "  143 |  int a = 1"]
        }
        _ => &[
            "00002 [   43.000000] kernel BUG at fs/ext4/extents.c:3211!",
            "00002 [   43.000100] RIP: 0010:ext4_ext_remove_space+0x11c4/0x15a0",
            "00002 [   43.000200] ---[ end trace 0000000000000000 ]---",
        ],
    }
}
