//! Valid and invalid events, with the expected actions and ends of a batch.

use super::*;

fn batch() -> BatchState {
    let job = |name: &str| (name.parse().unwrap(), format!("fs.a.{name}").parse().unwrap());
    BatchState::new("fs/a".parse().unwrap(), [job("x"), job("y")])
}

fn feed(state: &mut BatchState, events: &[&str]) -> String {
    let mut shown = String::new();
    for event in events {
        for action in state.on_line(&format!(r#"{{"v":1,"at_ms":0,{event}}}"#)) {
            match action {
                Action::Record(reported) => shown.push_str(&format!(
                    "record {} {:?} {} {}\n",
                    reported.job,
                    reported.verdict,
                    reported.dir.display(),
                    reported.kernel.is_some()
                )),
                other => shown.push_str(&format!("{other:?}\n")),
            }
        }
    }
    shown
}

const X_PASSED: &str = r#""event":"verdict","subtest":"x","status":"Passed","duration_ms":7,"dir":"out/a.x""#;
const Y_FAILED: &str =
    r#""event":"verdict","subtest":"y","status":"Failed","reason":"oops","duration_ms":7,"dir":"out/a.y""#;
const FINISHED: &str = r#""event":"run_finished","exit_code":1"#;

#[test]
fn a_whole_run() {
    let mut state = batch();
    let kernel = format!(
        r#""event":"kernel_ready","kernel":"{:064}","image_hash":"h","cached":false,"duration_ms":61000"#,
        0
    );
    let mut shown = feed(
        &mut state,
        &[
            r#""event":"run_started","test":"fs/a","subtests":["x","y"]"#,
            r#""event":"build_started""#,
            r#""event":"build_progress","done":3,"total":9"#,
        ],
    );
    assert_eq!((state.phase(), state.built()), (Phase::Building, Some((3, Some(9)))));
    let events = [
        &kernel,
        r#""event":"boot_started","vm":1,"accel":"tcg""#,
        r#""event":"booted","vm":1,"duration_ms":1200"#,
        r#""event":"subtest_started","subtest":"x""#,
    ];
    shown += &feed(&mut state, &events);
    assert_eq!((state.phase(), state.current().unwrap().as_str()), (Phase::Testing, "x"));
    shown += &feed(&mut state, &[X_PASSED, r#""event":"subtest_started","subtest":"y""#, Y_FAILED, FINISHED]);
    insta::assert_snapshot!(shown, @r#"
    Log("2 subtests")
    Log("building the kernel")
    Log("kernel 000000000000 built in 61 s")
    Build(ReportedBuild { outcome: Built, duration_ms: 61000, error: None })
    Log("VM 1 starts (tcg)")
    Log("VM 1 is up after 1200 ms")
    Begin(0)
    Log("x starts")
    Log("x: Passed (7 ms)")
    record 0 Passed out/a.x true
    Begin(1)
    Log("y starts")
    Log("y: Failed: oops (7 ms)")
    record 1 Failed { reason: "oops" } out/a.y true
    "#);
    assert_eq!(state.end(Exit::Code(1), ""), BatchEnd::Complete);
    assert_eq!(state.progress(), (2, 2));
}

#[test]
fn only_the_first_verdict_counts_and_unknown_subtests_are_ignored() {
    let mut state = batch();
    let again = X_PASSED.replace("Passed", "Not run").replace("\"duration", "\"reason\":\"\",\"duration");
    let shown = feed(
        &mut state,
        &[
            X_PASSED,
            &again,
            r#""event":"subtest_started","subtest":"x""#,
            &X_PASSED.replace(r#":"x""#, r#":"z""#),
        ],
    );
    insta::assert_snapshot!(shown, @r#"
    Log("x: Passed (7 ms)")
    record 0 Passed out/a.x false
    Log("ignored: a second verdict of x")
    Log("x starts again; its first verdict stands")
    Log("ignored: a verdict of z, not a subtest of the batch")
    "#);
}

#[test]
fn a_subtest_without_a_verdict_returns_to_the_queue() {
    let end = |events: &[&str], exit| {
        let mut state = batch();
        feed(&mut state, events);
        let left: Vec<_> = state.unfinished().map(|(_, subtest, _)| subtest.to_string()).collect();
        (state.end(exit, ""), left.join(" "))
    };
    let infra = |text: &str| BatchEnd::Infrastructure(text.into());
    assert_eq!(
        end(&[X_PASSED], Exit::Signal(9)),
        (infra("ktest run ended before its last event (killed by signal 9)"), "y".into())
    );
    assert_eq!(
        end(&[X_PASSED, FINISHED], Exit::Code(1)),
        (
            infra("ktest run finished (exit code 1) without a verdict for 1 subtests; the first is y"),
            "y".into()
        )
    );
    let disk = r#""event":"infrastructure","what":"no space left""#;
    assert_eq!(end(&[disk, Y_FAILED, FINISHED], Exit::Code(125)), (infra("no space left"), "x".into()));
    assert_eq!(
        end(&[X_PASSED, Y_FAILED], Exit::Signal(15)),
        (infra("ktest run ended before its last event (killed by signal 15)"), String::new())
    );
}

#[test]
fn a_refused_file_is_not_an_infrastructure_error() {
    let mut state = batch();
    let finished = FINISHED.replace('1', "2");
    feed(&mut state, &[X_PASSED, &finished]);
    let reason = "fs/a.ktest: config-no-vm: not supported";
    assert_eq!(state.end(Exit::Code(2), reason), BatchEnd::Refused(reason.into()));
    assert!(matches!(state.end(Exit::Signal(9), reason), BatchEnd::Infrastructure(_)));
    assert_eq!(
        batch().end(Exit::Code(2), reason),
        BatchEnd::Infrastructure(format!("ktest run ended before its last event (exit code 2): {reason}"))
    );
}

#[test]
fn failed_to_run_because_of_the_host_runs_again() {
    let mut state = batch();
    let full = r#""event":"verdict","subtest":"y","status":"Failed to run","reason":"cannot create y: No space left on device (os error 28)","duration_ms":0,"dir":"y""#;
    let finished = FINISHED.replace('1', "125");
    feed(&mut state, &[X_PASSED, full, &finished]);
    assert_eq!(state.unfinished().map(|(at, ..)| at).collect::<Vec<_>>(), [1]);
    let reason = "y: cannot create y: No space left on device (os error 28)";
    assert_eq!(state.end(Exit::Code(125), ""), BatchEnd::Infrastructure(reason.into()));
    let mut state = batch();
    feed(&mut state, &[&FINISHED.replace('1', "2")]);
    let reason = "fs/a.ktest: Too many open files (os error 24)";
    assert_eq!(state.end(Exit::Code(2), reason), BatchEnd::Infrastructure(reason.into()));
}

#[test]
fn a_verdict_that_cannot_be_recorded_does_not_count() {
    let mut state = batch();
    feed(&mut state, &[X_PASSED, Y_FAILED]);
    state.fail(Some(0), "disk full".into());
    assert_eq!(state.unfinished().map(|(at, ..)| at).collect::<Vec<_>>(), [0]);
    assert_eq!(state.end(Exit::Code(1), ""), BatchEnd::Infrastructure("disk full".into()));
}

#[test]
fn invalid_lines_are_skipped_and_a_child_with_invalid_events_is_stopped() {
    let mut state = batch();
    assert!(matches!(&state.on_line("make: *** oops")[..], [Action::Log(_)]));
    assert!(matches!(&state.on_line("")[..], [Action::Log(_)]));
    assert!(state.on_line(r#"{"v":1,"at_ms":0,"event":"new_kind"}"#).is_empty());
    assert_eq!(
        state.end(Exit::Code(0), ""),
        BatchEnd::Infrastructure("ktest run ended before its last event (exit code 0)".into())
    );
    assert_eq!(state.on_line(r#"{"v":2,"at_ms":0,"event":"run_finished"}"#).last(), Some(&Action::Stop));
    let mut state = batch();
    let wrong = r#""event":"run_started","test":"fs/b","subtests":[]"#;
    assert!(feed(&mut state, &[wrong]).ends_with("Stop\n"));
    assert!(
        matches!(state.end(Exit::Code(0), ""), BatchEnd::Infrastructure(reason) if reason.contains("fs/b"))
    );
    for dir in ["../x", "/etc", "a/../../b"] {
        let mut state = batch();
        assert!(feed(&mut state, &[&X_PASSED.replace("out/a.x", dir)]).ends_with("Stop\n"), "{dir}");
        assert_eq!(state.progress(), (2, 0));
    }
}

#[test]
fn heartbeats_are_expected_between_the_first_one_and_the_end() {
    let mut state = batch();
    assert!(!state.sends_heartbeats());
    assert_eq!(feed(&mut state, &[r#""event":"heartbeat""#]), "");
    assert!(state.sends_heartbeats());
    feed(&mut state, &[FINISHED]);
    assert!(!state.sends_heartbeats());
}

proptest::proptest! {
    #[test]
    fn no_line_panics(line in "\\PC{0,80}") {
        let _ = batch().on_line(&line);
    }
}

#[test]
fn a_build_is_reported_once() {
    let mut state = batch();
    let line = |at_ms: u32, event: &str| format!(r#"{{"v":1,"at_ms":{at_ms},{event}}}"#);
    let failed = r#""event":"build_failed","reason":"fs/inode.c:1: error""#;
    state.on_line(&line(500, r#""event":"build_started""#));
    let build = ReportedBuild {
        outcome: BuildOutcome::Failed,
        duration_ms: 1500,
        error: Some("fs/inode.c:1: error".into()),
    };
    assert_eq!(state.on_line(&line(2000, failed))[1..], [Action::Build(build)]);
    assert_eq!(state.on_line(&line(3000, failed)).len(), 1);
}
