//! The steps between the phases of a run.

use std::path::{Path, PathBuf};

use kernel::{Cache, Kernel};
use model::{RootImage, ShippedImage, SubtestName};
use testfile::{Declarations, HostEnv, Roots, TestFile, Trust, clones};

use super::error::{RunError, Stop};
use super::phases::{Declared, KernelReady, Listed, Prepared};
use super::request::RunRequest;
use super::results::Results;
use super::{kernel as kernels, machine, selftests, suites};
use crate::out::files_of;
use crate::report::Reporter;

impl<'a> Listed<'a> {
    /// Finds the test file, lists its subtests and evaluates its declarations.
    pub(super) async fn new(request: &'a RunRequest, reporter: &mut Reporter) -> Result<Self, RunError> {
        let tests_dir = request.order.test.tests_dir.as_deref();
        let file = TestFile::find(&request.file, tests_dir)?;
        let stored = kernels::from_store(request, reporter).await?;
        let (host_env, no_source) = host_env(request, stored.as_ref()).await?;
        let (listed, declared) = match file.list_tests(&host_env).await {
            Ok(listed) => (listed, file.deps(&request.subtests, &host_env).await),
            Err(error) => (request.subtests.clone(), Err(error)),
        };
        let declared = declared.map(|mut declared| {
            declared.kernel.make_append.extend(request.order.make_arg.iter().cloned());
            declared
        });
        let declared = match declared {
            Err(error) if error.is_of_host() || !request.for_farm() || listed.is_empty() => {
                return Err(error.into());
            }
            other => other,
        };
        match (&declared, no_source) {
            (Ok(declared), Some(error)) if !declared.no_vm => return Err(error),
            _ => {}
        }
        if let (Ok(declared), Trust::Own) = (&declared, request.trust()) {
            report_refused(&file, declared, &host_env, reporter)?;
        }
        let any_name = declared.as_ref().is_ok_and(|declared| declared.tests_unknown);
        let (mut subtests, mut unlisted) = choose(&file, &listed, request, any_name)?;
        // A farm reports them as results.
        if let (Ok(declared), false) = (&declared, request.for_farm()) {
            let (found, missing) = find_unselected(&file, declared, &host_env, unlisted).await;
            unlisted = Vec::new();
            for (name, setting) in found {
                reporter.note(&format!("{name} is not selected; the file lists it with --env {setting}"));
                subtests.push(name);
            }
            subtests.sort_by_key(|name| request.subtests.iter().position(|asked| asked == name));
            for name in missing {
                let problem = format!("{}: no subtest {name}", file.path.display());
                let hint = nearest(&name, &listed);
                if subtests.is_empty() {
                    return Err(RunError::Usage(format!("{problem}; {hint}")));
                }
                reporter.note(&format!("{problem}; skipped; {hint}"));
            }
        }
        Ok(Self { request, file, subtests, unlisted, declared, host_env, stored })
    }
}

/// Reports the declarations that a farm would refuse; this run carries them out.
fn report_refused(
    file: &TestFile,
    declared: &Declarations,
    env: &HostEnv,
    reporter: &Reporter,
) -> Result<(), RunError> {
    let roots = Roots { tree: &file.ktest_dir, deps: &env.deps_dir };
    for error in testfile::refused(declared, roots).map_err(RunError::infrastructure)? {
        reporter.note(&format!("{} {error}", file.test.file()));
    }
    Ok(())
}

impl<'a> Declared<'a> {
    /// Gets the kernel: `stored`, or one built from the source.
    pub(super) async fn kernel(
        self,
        stored: Option<Kernel>,
        results: &mut Results<'_>,
    ) -> Result<KernelReady<'a>, Stop> {
        let kernel = kernels::get(&self, stored, results).await?;
        results.out.file("kernel", format!("{}\n", kernel.id).as_bytes())?;
        Ok(KernelReady { run: self, kernel })
    }
}

impl<'a> KernelReady<'a> {
    /// Finds or builds the root image and the kernel's selftests.
    pub(super) async fn prepare(self, results: &mut Results<'_>) -> Result<Prepared<'a>, RunError> {
        let Self { run, kernel } = self;
        let root = root_image(&run, results.reporter).await?;
        let kselftests = match &run.declared.kselftests[..] {
            [] => None,
            names => selftests::build(run.request, run.declared.kernel.arch, names, results).await?,
        };
        Ok(Prepared { run, kernel, root, kselftests, saved: None })
    }
}

async fn root_image(run: &Declared<'_>, reporter: &mut Reporter) -> Result<PathBuf, RunError> {
    match &run.request.order.test.image {
        Some(RootImage::File(image)) if fsx::own::is_file(image).map_err(RunError::infrastructure)? => {
            Ok(image.clone())
        }
        Some(RootImage::File(image)) => {
            Err(RunError::Usage(format!("{}: no such root image", image.display())))
        }
        Some(RootImage::Shipped(image)) => {
            machine::shipped_image(run.request, *image, run.declared.kernel.arch, reporter).await
        }
        None => {
            let standard = ShippedImage::default();
            machine::shipped_image(run.request, standard, run.declared.kernel.arch, reporter).await
        }
    }
}

/// Splits the requested subtests into those to run, in the requested order, and those that the file does not list.
/// `any_name`: the file accepts names that it does not list.
fn choose(
    file: &TestFile,
    listed: &[SubtestName],
    request: &RunRequest,
    any_name: bool,
) -> Result<(Vec<SubtestName>, Vec<SubtestName>), RunError> {
    let asked = &request.subtests;
    if asked.is_empty() {
        if listed.is_empty() {
            return Err(RunError::Usage(format!("{}: list-tests prints no subtests", file.path.display())));
        }
        return Ok((listed.to_vec(), Vec::new()));
    }
    let mut seen = std::collections::BTreeSet::new();
    let once = asked.iter().filter(|subtest| seen.insert((*subtest).clone())).cloned();
    Ok(once.partition(|subtest| any_name || listed.contains(subtest)))
}

/// Splits subtests into those that the file lists with one of its declared settings, such as another group of cases, each
/// with the setting, and the others.
async fn find_unselected(
    file: &TestFile,
    declared: &Declarations,
    host_env: &HostEnv,
    names: Vec<SubtestName>,
) -> (Vec<(SubtestName, String)>, Vec<SubtestName>) {
    let (mut found, mut missing) = (Vec::new(), names);
    for (variable, value) in &declared.list_env {
        if missing.is_empty() {
            break;
        }
        let mut env = host_env.clone();
        env.env.retain(|(other, _)| other != variable);
        env.env.push((variable.clone(), value.clone()));
        if let Ok(listed) = file.list_tests(&env).await {
            let (new, rest): (Vec<_>, _) = missing.into_iter().partition(|name| listed.contains(name));
            let setting = format!("{variable}={}", spawn::quote(value));
            found.extend(new.into_iter().map(|name| (name, setting.clone())));
            missing = rest;
        }
    }
    (found, missing)
}

/// The maximum number of subtests in a message.
const NAMED: usize = 5;

/// The listed subtests whose names are nearest to one that is not listed, and how to list all of them.
fn nearest(name: &SubtestName, listed: &[SubtestName]) -> String {
    if listed.is_empty() {
        return "list-tests prints no subtests".into();
    }
    // The computation of the distance takes quadratic time.
    let cut = |name: &SubtestName| name.as_str().chars().take(100).collect::<String>();
    let mut names: Vec<_> = listed.iter().collect();
    if listed.len() > NAMED {
        names.sort_by_cached_key(|other| strsim::damerau_levenshtein(&cut(name), &cut(other)));
    }
    let shown = names.iter().take(NAMED).map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    match listed.len() {
        ..=NAMED => format!("the file lists: {shown}"),
        all => format!("the closest of its {all} subtests: {shown}; to print all: ktest list"),
    }
}

/// The environment of the test file's calls, and the error if there is no kernel source to read the version from.
pub(super) async fn host_env(
    request: &RunRequest,
    stored: Option<&Kernel>,
) -> Result<(HostEnv, Option<RunError>), RunError> {
    let order = &request.order;
    let out = std::path::absolute(&order.test.out).map_err(|error| RunError::Usage(error.to_string()))?;
    let deps_dir = deps_dir(request)?;
    let (kernel_version, no_source) = match kernels::version(&request.kernel, stored).await {
        Ok(version) => (version, None),
        Err(error) => (String::new(), Some(error)),
    };
    let env = HostEnv {
        arch: order.test.arch,
        out: files_of(&out),
        deps_dir,
        suites: suites::of_order(&order.test.suites, &request.cache)
            .await
            .map_err(RunError::infrastructure)?,
        kernel_version,
        env: request.env().collect(),
        sandboxed: request.for_farm() && request.sandbox(),
        trust: request.trust(),
        ktest: std::env::current_exe().ok(),
    };
    Ok((env, no_source))
}

/// The directory of the clones of `require-git`: that of `--deps-dir`, or that of the trust domain. The guest mounts it
/// at its path, which is absolute.
fn deps_dir(request: &RunRequest) -> Result<PathBuf, RunError> {
    let order = &request.order;
    let absolute = |dir: &Path| std::path::absolute(dir).map_err(|error| RunError::Usage(error.to_string()));
    if let Some(dir) = &order.deps_dir {
        return absolute(dir);
    }
    let cache = Cache { dir: absolute(&request.cache)? };
    clones::of_domain(&cache, order.test.trust_domain.as_ref()).map_err(RunError::infrastructure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::kernel_arg::KernelFrom;

    #[test]
    fn each_domain_has_its_own_clones() {
        let cache = tempfile::tempdir().unwrap();
        let deps = |domain: Option<&str>, chosen: Option<&str>| {
            let kernel = KernelFrom::Named("debian/trixie".parse().unwrap());
            let mut request = RunRequest::new("x.ktest", kernel, cache.path().into());
            request.order.test.trust_domain = domain.map(|name| name.parse().unwrap());
            request.order.deps_dir = chosen.map(Into::into);
            deps_dir(&request).unwrap()
        };
        let (own, a, b) = (deps(None, None), deps(Some("user/a"), None), deps(Some("user/b"), None));
        assert_eq!(own, cache.path().join("deps"));
        assert!(own != a && a != b && b != own && a.starts_with(cache.path().join("domains")));
        assert_eq!(deps(Some("user/a"), Some("/srv/clones")), Path::new("/srv/clones"));
    }

    #[test]
    fn an_unlisted_subtest_is_reported_with_the_nearest_names() {
        let names =
            |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<SubtestName>>();
        let text = |name: &str, listed: &[SubtestName]| nearest(&name.parse().unwrap(), listed);
        assert_eq!(text("x", &[]), "list-tests prints no subtests");
        assert_eq!(text("pumch", &names(&["one", "punch"])), "the file lists: one punch");
        let many: Vec<String> = (1..=832).map(|n| format!("generic/{n:03}")).collect();
        let many = names(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let message = text("generic/833", &many);
        assert!(message.starts_with("the closest of its 832 subtests: generic/"), "{message}");
        assert!(message.ends_with("; to print all: ktest list") && message.len() < 150, "{message}");
    }
}
