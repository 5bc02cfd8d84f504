//! The daemon as a process, with a real repository and a fake `ktest`.

mod believe;
mod bisect;
mod chaos;
mod controls;
mod daemon;
mod hung;
mod inherit;
mod known;
mod load;
mod options;
mod pushes;
mod support;
mod unattended;
mod users;

#[test]
#[ignore = "not a test: the process that the tests start"]
fn the_daemon_itself() {
    support::act_as_the_daemon();
}
