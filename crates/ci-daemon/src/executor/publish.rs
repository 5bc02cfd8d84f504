//! Publishes the files of a run: logs and artifacts. The verdict is already durable, so an error is only reported.

use std::path::Path;

use model::{ArtifactName, ResultKey};
use results::{LogKind, PlainFile};

use super::run::BatchRun;
use super::work_file;

/// The maximum number of entries of the directory of artifacts.
const MAX_ARTIFACTS: u64 = 100;

impl BatchRun<'_> {
    /// Opens a file of the work directory, if it exists.
    pub(super) async fn open(&self, relative: &Path) -> Option<PlainFile> {
        let error = match work_file::open(&self.slot.work, relative).await {
            Ok(file) => return file,
            Err(error) => error,
        };
        tracing::error!("{} of a run of {} is lost: {error}", relative.display(), self.first.unit.test);
        self.log.line(format!("{} is lost: {error}", relative.display()));
        None
    }

    /// Publishes a log. The verdict is already durable, so an error is only reported.
    pub(super) async fn publish_log(&self, key: &ResultKey, attempt: u32, log: PlainFile) {
        let published =
            self.slot.writer.publish_log(&self.first.commit, key, attempt, LogKind::Subtest, log).await;
        if let Err(error) = published {
            tracing::error!("the log of {key} is lost: {error}");
            self.log.line(format!("the log of {key} is lost: {error}"));
        }
    }

    /// Publishes the log and the artifacts that all subtests of the run share.
    pub(super) async fn publish_shared(&self) {
        if self.recorded.is_empty() {
            return;
        }
        let (writer, commit) = (&self.slot.writer, &self.first.commit);
        let log = self.open(&Path::new("out").join(self.first.unit.test.dotted())).await;
        if let Some(log) = log
            && let Err(error) = writer.publish_logs(commit, &self.recorded, LogKind::Full, log).await
        {
            tracing::error!("the log of a run of {} is lost: {error}", self.first.unit.test);
        }
        let keys: Vec<ResultKey> = self.recorded.iter().map(|(key, _)| key.clone()).collect();
        for (name, file) in [
            ("kernel.config", "kernel.config"),
            ("build.log", "out/build.log"),
            ("coverage.info", "out/coverage.info"),
        ] {
            self.publish_artifact(&keys, of_runner(name), Path::new(file)).await;
        }
    }

    /// Publishes the artifacts that the test left for the subtest.
    pub(super) async fn publish_artifacts_of_test(&self, key: &ResultKey, dir: &Path) {
        let names = match work_file::list(&self.slot.work, dir, MAX_ARTIFACTS).await {
            Ok(names) => names,
            Err(error) => return self.log.line(format!("{} is lost: {error}", dir.display())),
        };
        let names = names.into_iter().filter_map(|name| name.parse().ok());
        for name in names.filter(ArtifactName::is_of_test) {
            let file = dir.join(name.as_str());
            self.publish_artifact(std::slice::from_ref(key), name, &file).await;
        }
    }

    /// Publishes an artifact, if the run created it.
    pub(super) async fn publish_artifact(&self, keys: &[ResultKey], name: ArtifactName, file: &Path) {
        if let Some(file) = self.open(file).await
            && let Err(error) =
                self.slot.writer.publish_artifact(&self.first.commit, keys, name.clone(), file).await
        {
            tracing::error!("the {name} of a run of {} is lost: {error}", self.first.unit.test);
        }
    }
}

/// The name of an artifact that the runner makes.
pub(super) fn of_runner(name: &str) -> ArtifactName {
    name.parse().expect("the name of an artifact")
}
