//! A dashboard process, for tests that use it over HTTP.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use assert_cmd::cargo::cargo_bin;

/// A dashboard on a loopback port. It is killed when dropped.
pub struct Dashboard {
    pub child: Child,
    pub address: String,
}

impl Dashboard {
    /// Starts a dashboard for a results directory.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with these arguments.
    pub fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(cargo_bin("ci-dashboard"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--output-dir"]).arg(dir).args(arguments);
        command
            .env_clear()
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("listening on")).unwrap().unwrap();
        let address = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().into();
        // A full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
