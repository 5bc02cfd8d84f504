//! Tests that fail only next to other work on the host.

use crate::support::Farm;

#[test]
fn a_flaky_failure_is_retried_on_a_host_of_its_own() {
    let farm = Farm::new();
    farm.configure(&farm.config("confirm_failures = 4\n[host.local]\nslots = 2\n"));
    let commit = farm.commit("one", "busy");
    farm.once();
    assert_eq!(farm.tally(&commit), "1 Failed, 4 Passed");
    let results = farm.reader().commit(&commit).unwrap().unwrap();
    let entry = results.get(&"t.one.a".parse().unwrap()).unwrap();
    let mut attempts: Vec<_> = std::iter::once(&entry.decisive).chain(&entry.others).collect();
    attempts.sort_by_key(|attempt| attempt.number);
    let alone: Vec<Option<bool>> = attempts.iter().map(|attempt| attempt.conditions.alone).collect();
    assert_eq!((alone[0], &alone[2..]), (Some(false), &[Some(true); 3][..]), "{alone:?}");
}
