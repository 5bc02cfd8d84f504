//! The executors: one task per slot, from the claim of a batch to its verdicts.

pub mod batch;
pub mod command;
mod inherited;
mod live;
pub mod neighbors;
pub mod placement;
pub mod pool;
mod publish;
pub mod remote;
pub mod run;
mod work_file;

/// A configuration for tests: the required settings, then `rest`.
#[cfg(test)]
fn config_of(rest: &str) -> config::Config {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ci.toml");
    let required = "linux_repo = \"/srv/linux.git\"\noutput_dir = \"/srv/out\"\nktest_dir = \"/srv/kt\"\n";
    std::fs::write(&path, format!("{required}{rest}")).unwrap();
    config::load(&path).unwrap()
}
