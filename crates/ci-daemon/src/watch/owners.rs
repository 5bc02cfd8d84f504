//! The owners that the test files declare, published for the dashboard.

use std::collections::BTreeSet;
use std::path::Path;

use model::TestPath;
use results::owners::Owners;
use testfile::owners::declared;

/// The maximum size of a test file, in bytes.
const TEST_FILE_MAX: u64 = 1 << 20;

/// The owners as last published, and the problems of the test files.
#[derive(Debug, Default)]
pub(super) struct PublishedOwners {
    last: Option<Owners>,
    pub(super) problems: Vec<String>,
}

impl PublishedOwners {
    /// Reads the test files, and publishes their owners if they have changed.
    pub(super) async fn refresh(&mut self, ktest_dir: &Path, output_dir: &Path, tests: BTreeSet<TestPath>) {
        let dir = ktest_dir.to_path_buf();
        let Ok((owners, problems)) = tokio::task::spawn_blocking(move || read(&dir, tests)).await else {
            return;
        };
        self.problems = problems;
        if self.last.as_ref() == Some(&owners) {
            return;
        }
        match owners.publish(output_dir) {
            Ok(()) => self.last = Some(owners),
            Err(error) => {
                self.problems.push(format!("the owners of test files cannot be published: {error}"));
            }
        }
    }
}

fn read(ktest_dir: &Path, tests: BTreeSet<TestPath>) -> (Owners, Vec<String>) {
    let mut problems = Vec::new();
    let mut of = |test: TestPath| {
        let path = ktest_dir.join("tests").join(test.file());
        // The listing reports a file that cannot be read.
        let text = fsx::own::read(&path, TEST_FILE_MAX).unwrap_or_default();
        let (owners, error) = declared(&String::from_utf8_lossy(&text));
        problems.extend(error.map(|error| format!("{}: {error}", path.display())));
        (test, owners)
    };
    (tests.into_iter().map(&mut of).collect(), problems)
}
