//! Distribution kernels that the mirror does not have. Their tests are not run, so that they do not stop the executors
//! again and again. After a pause they are tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use std::path::Path;

use config::Config;
use model::StoreKernel;
use spawn::{Cmd, Limits};

use crate::upstream;
use crate::watch::fetch_loop::View;

/// The pause, in seconds.
const PAUSE_S: i64 = 3600;
/// The time limit to read the index of a mirror, in seconds.
const LOOK_UP_S: u64 = 120;

/// The kernels of the configuration that neither the store nor the mirror has, one error for each.
pub async fn look_up(config: &Config, ktest: &Path) -> Vec<String> {
    let mut groups: BTreeMap<&StoreKernel, &str> = BTreeMap::new();
    for group in config.all_groups() {
        for kernel in &group.kernels {
            groups.entry(kernel).or_insert(group.name.as_str());
        }
    }
    let upstream = upstream::resolve(config);
    let mut problems = Vec::new();
    for (kernel, group) in groups {
        if let Some(build) = upstream.get(kernel) {
            problems
                .extend(build.as_ref().err().map(|error| format!("test group {group}: {kernel}: {error}")));
            continue;
        }
        let mut cmd = Cmd::new(ktest).args(["kernel", "fetch", "--dry-run", kernel.as_str()]);
        for source in &config.kernel_sources {
            cmd = cmd.arg("--kernel-repo").arg(source.to_string());
        }
        let problem = match cmd.output(Limits::seconds(LOOK_UP_S)).await {
            Ok(output) if output.exit.success() => continue,
            Ok(output) => output.error_line().trim_start_matches("ktest: ").to_owned(),
            Err(error) => error.to_string(),
        };
        problems.push(format!("test group {group}: {problem}"));
    }
    problems
}

/// The kernel of a job, if the error of its run says that the mirror does not have it.
pub fn named_by(error: &str, kernel: Option<&StoreKernel>) -> Option<StoreKernel> {
    let kernel = kernel?;
    let rest = error.strip_prefix("kernel ")?.strip_prefix(kernel.as_str())?;
    // The error has the complete name, which ends with the architecture.
    let rest = if rest.starts_with('/') { rest.split_once(' ')?.1 } else { rest.strip_prefix(' ')? };
    rest.starts_with(model::KERNEL_NOT_FOUND).then(|| kernel.clone())
}

/// The kernels, each with the cause and the time of the report in Unix seconds.
#[derive(Debug, Default)]
pub struct MissingKernels(BTreeMap<StoreKernel, (String, i64)>);

impl MissingKernels {
    /// Records a report of an executor.
    pub fn report(&mut self, kernel: StoreKernel, cause: String, now: i64) {
        self.0.insert(kernel, (cause, now));
    }

    /// An error for each kernel.
    pub fn errors(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(kernel, (cause, _))| format!("the tests on {kernel} did not run: {cause}"))
    }

    /// Removes the kernels from the test groups of a view, and adds an error for each group.
    pub fn apply(&mut self, view: &mut View, now: i64) {
        self.0.retain(|_, (_, reported)| now < *reported + PAUSE_S);
        let failed = |(name, build): (StoreKernel, Result<_, String>)| Some((name, build.err()?));
        let mut missing: BTreeMap<StoreKernel, String> =
            upstream::resolve(&view.config).into_iter().filter_map(failed).collect();
        let paused = |cause: &String| format!("{cause}; tried again within an hour");
        missing.extend(self.0.iter().map(|(name, (cause, _))| (name.clone(), paused(cause))));
        if !missing.is_empty() {
            remove_kernels(view, &missing);
        }
    }
}

/// Removes kernels from the test groups of a view, and adds an error for each group.
fn remove_kernels(view: &mut View, missing: &BTreeMap<StoreKernel, String>) {
    let mut config = (*view.config).clone();
    let user_groups = config.user_groups.values_mut().flat_map(BTreeMap::values_mut);
    for group in config.test_groups.values_mut().chain(user_groups) {
        let removed: Vec<_> = group.kernels.extract_if(.., |name| missing.contains_key(name)).collect();
        for kernel in &removed {
            view.problems.push(format!(
                "test group {}: its tests on {kernel} do not run: {}",
                group.name, missing[kernel]
            ));
        }
        if !removed.is_empty() && group.kernels.is_empty() {
            // Without a kernel of the store they would run on the kernel of the commit.
            group.tests.clear();
        }
    }
    view.config = Arc::new(config);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn view(kernels: &str) -> View {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ci.toml");
        let text = format!(
            "linux_repo = \"linux\"\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"op\"\n\
             [test_group.a]\ntests = [\"a.ktest\"]\nkernels = [{kernels}]\n\
             [test_group.b]\ntests = [\"b.ktest\"]\n\
             [branch.next]\nremote = \"https://git.example.org/x\"\ntest_groups = [\"a\", \"b\"]\n"
        );
        std::fs::write(&file, text).unwrap();
        View {
            config: Arc::new(config::load(&file).unwrap()),
            branches: BTreeMap::new(),
            suites: BTreeMap::new(),
            listings: HashMap::new(),
            known_issues: Arc::default(),
            problems: Vec::new(),
            complete: true,
        }
    }

    fn planned(view: &View) -> Vec<String> {
        let groups = view.config.test_groups.values();
        let units = groups.flat_map(crate::plan::units_of);
        units
            .map(|unit| format!("{} {:?}", unit.test, unit.kernel.as_ref().map(StoreKernel::as_str)))
            .collect()
    }

    #[test]
    fn tests_on_a_missing_kernel_pause_and_others_run() {
        let mut missing = MissingKernels::default();
        let mut all = view("\"debian/sid\", \"debian/gone\"");
        missing.apply(&mut all, 0);
        assert_eq!(planned(&all), ["a Some(\"debian/sid\")", "a Some(\"debian/gone\")", "b None"]);

        missing.report("debian/gone".parse().unwrap(), "no such suite".into(), 1000);
        missing.apply(&mut all, 1001);
        assert_eq!(planned(&all), ["a Some(\"debian/sid\")", "b None"]);
        assert_eq!(
            all.problems,
            ["test group a: its tests on debian/gone do not run: no such suite; tried again within an hour"]
        );

        // Without any kernel, the tests do not run on the kernel of the commit instead.
        let mut only = view("\"debian/gone\"");
        missing.apply(&mut only, 1001);
        assert_eq!(planned(&only), ["b None"]);

        let mut later = view("\"debian/gone\"");
        missing.apply(&mut later, 1000 + PAUSE_S);
        assert_eq!(planned(&later), ["a Some(\"debian/gone\")", "b None"]);
        assert!(later.problems.is_empty());
    }

    /// Kernels of upstream without a tag in the repository.
    #[test]
    fn a_kernel_that_cannot_be_built_does_not_run() {
        let mut all = view("\"upstream/v6.17-kasan\", \"debian/sid\"");
        MissingKernels::default().apply(&mut all, 0);
        assert_eq!(planned(&all), ["a Some(\"debian/sid\")", "b None"]);
        assert!(all.problems[0].starts_with("test group a: its tests on upstream/v6.17-kasan do not run: "));
    }

    #[test]
    fn only_the_error_of_its_own_kernel_counts() {
        let kernel: StoreKernel = "debian/gone".parse().unwrap();
        let named = |error: &str| named_by(error, Some(&kernel)).is_some();
        assert!(named(&format!("kernel debian/gone/amd64 {}: no suite", model::KERNEL_NOT_FOUND)));
        assert!(named(&format!("kernel debian/gone {}: no suite", model::KERNEL_NOT_FOUND)));
        assert!(!named(&format!("kernel debian/gone2 {}: no suite", model::KERNEL_NOT_FOUND)));
        assert!(!named(&format!("a.c: kernel debian/gone {}", model::KERNEL_NOT_FOUND)));
        assert!(!named("kernel debian/gone/amd64: apt-get download: no route to host"));
        assert!(named_by("kernel debian/gone is not on the mirror", None).is_none());
    }

    #[tokio::test]
    async fn the_check_names_the_group() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let ktest = dir.path().join("ktest");
        let script = "#!/bin/sh\n[ \"$4\" = debian/sid ] && exit 0\necho \"ktest: kernel $4 is not on the mirror\" >&2\nexit 125\n";
        std::fs::write(&ktest, script).unwrap();
        std::fs::set_permissions(&ktest, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = view("\"debian/sid\", \"debian/gone\"").config;
        let problems = look_up(&config, &ktest).await;
        assert_eq!(problems, ["test group a: kernel debian/gone is not on the mirror"]);
    }
}
