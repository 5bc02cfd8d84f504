//! A `.ktest` file on the host: where it is, what it declares, which subtests it lists.
//!
//! The file is somebody's bash: it runs with a time limit, and whatever it prints is checked.

mod answers;
mod confine;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Arch, SubtestName, TestPath};
use spawn::{Cmd, Limits, SpawnError};

use crate::declare::{Declarations, DeclareError, NAMES, Variables};

/// Runs `FILE deps`, evaluates what it prints, and prints the variables NUL-separated.
const DEPS_SCRIPT: &str = include_str!("deps.bash");
/// How long `list-tests` may take; `require-git` may clone meanwhile.
const LIMIT: Duration = Duration::from_secs(120);
/// How long `deps` may take: software of others may be built meanwhile (lib/suite.sh).
const DEPS_LIMIT: Duration = Duration::from_secs(1200);

/// Why a test file cannot be used. Each is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum TestFileError {
    /// It is not there.
    #[error("{0}: no such test file")]
    Missing(PathBuf),
    /// It is no test file by its name.
    #[error("{0}: a test file's name ends in .ktest")]
    NotKtest(PathBuf),
    /// It cannot be executed.
    #[error("{0}: not executable; chmod +x it")]
    NotExecutable(PathBuf),
    /// It is not below a folder `tests`.
    #[error("{0}: not below a folder named tests; say --tests-dir DIR")]
    Outside(PathBuf),
    /// Its name cannot be a result's.
    #[error(transparent)]
    Name(#[from] model::NameError),
    /// The call failed.
    #[error("{file} {call}: {what}")]
    Call {
        /// The file.
        file: PathBuf,
        /// `deps` or `list-tests`.
        call: &'static str,
        /// What went wrong.
        what: String,
    },
    /// What it declares cannot be used.
    #[error("{file} {source}")]
    Declare {
        /// The file.
        file: PathBuf,
        /// Why.
        source: DeclareError,
    },
}

/// A test file and the tree it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFile {
    /// The file, absolute.
    pub path: PathBuf,
    /// The root of its tree: the folder above `tests/`.
    pub ktest_dir: PathBuf,
    /// Its name below `tests/`.
    pub test: TestPath,
}

/// What a call of a test file on the host finds in its environment beside the contract's variables.
#[derive(Debug, Clone, Default)]
pub struct HostEnv {
    /// The architecture asked for.
    pub arch: Option<Arch>,
    /// The output folder.
    pub out: PathBuf,
    /// Where `require-git` clones to.
    pub deps_dir: PathBuf,
    /// What `make kernelversion` says.
    pub kernel_version: String,
    /// What the user or the test group sets.
    pub env: Vec<(String, String)>,
    /// Asked in a sandbox, where there is one: for who asks files that others can change.
    pub confined: bool,
}

impl HostEnv {
    /// As `ktest run` has it where nothing else is said: what test files clone goes below the cache folder.
    #[must_use]
    pub fn of_this_host() -> Self {
        let cache = kernel::Cache::from_env(|name| std::env::var_os(name));
        let deps_dir = cache.map(|cache| cache.dir.join("deps")).unwrap_or_default();
        Self { deps_dir, out: "ktest-out".into(), ..Self::default() }
    }
}

impl TestFile {
    /// Finds a test file: a path, or a path below `DIR/tests` (or `DIR` itself, where that is named `tests`) when a
    /// tests directory is given.
    pub fn find(file: &Path, tests_dir: Option<&Path>) -> Result<Self, TestFileError> {
        let roots =
            tests_dir.map(|dir| if dir.join("tests").is_dir() { dir.join("tests") } else { dir.into() });
        let mut found = None;
        for base in roots.iter().map(|root| root.join(file)).chain([file.to_path_buf()]) {
            for path in [base.clone(), PathBuf::from(format!("{}.ktest", base.display()))] {
                if path.is_file() && found.is_none() {
                    found = Some(path);
                }
            }
        }
        let found = found.ok_or_else(|| TestFileError::Missing(file.into()))?;
        if found.extension().is_none_or(|ending| ending != "ktest") {
            return Err(TestFileError::NotKtest(found));
        }
        let path = std::fs::canonicalize(&found).map_err(|_| TestFileError::Missing(found.clone()))?;
        use std::os::unix::fs::PermissionsExt;
        let executable = path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
        if !executable {
            return Err(TestFileError::NotExecutable(found));
        }
        let root = match roots.map(std::fs::canonicalize) {
            Some(Ok(root)) if path.starts_with(&root) => root,
            _ => path
                .ancestors()
                .find(|dir| dir.file_name().is_some_and(|name| name == "tests"))
                .ok_or_else(|| TestFileError::Outside(found.clone()))?
                .to_path_buf(),
        };
        let below = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        let ktest_dir = root.parent().unwrap_or(&root).to_path_buf();
        Ok(Self { test: below.parse()?, ktest_dir, path })
    }

    /// What the file declares for these subtests (all, if none are named).
    pub async fn deps(&self, subtests: &[SubtestName], env: &HostEnv) -> Result<Declarations, TestFileError> {
        self.declared(&self.variables(subtests, env).await?, env)
    }

    /// What the file declares for all its subtests, evaluated once for each content of the file and its tree's shell
    /// libraries: for those who ask many files. A file that is run is always evaluated, for it may clone what it needs.
    pub async fn deps_cached(&self, env: &HostEnv, cache: &Path) -> Result<Declarations, TestFileError> {
        let kept = answers::Answers::of(cache);
        let key = answers::key(self, env);
        if let Some(variables) = key.as_ref().and_then(|key| kept.find(key)) {
            return self.declared(&variables, env);
        }
        let variables = self.variables(&[], env).await?;
        if let Some(key) = &key {
            kept.keep(key, &variables);
        }
        self.declared(&variables, env)
    }

    fn declared(&self, variables: &Variables, env: &HostEnv) -> Result<Declarations, TestFileError> {
        let arch = env.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
        let wrong = |source| TestFileError::Declare { file: self.path.clone(), source };
        let declared = Declarations::from_variables(variables, arch, &self.ktest_dir).map_err(wrong)?;
        if !declared.no_vm && !declared.no_kbuild {
            // What is wrong whatever the source is the file's own doing, and said before anything is built.
            let flavor = kernel::Flavor::of(self.test.as_str(), &declared.kernel);
            let plan = kernel::plan::Plan::new(&flavor);
            plan.map_err(|error| wrong(DeclareError::Kernel(error.to_string())))?;
        }
        Ok(declared)
    }

    async fn variables(&self, subtests: &[SubtestName], env: &HostEnv) -> Result<Variables, TestFileError> {
        let names = NAMES.join(" ");
        let cmd = self.asking("bash", env).await.args(["--norc", "-c", DEPS_SCRIPT, "deps"]);
        let cmd = cmd.arg(names).arg(&self.path).args(subtests.iter().map(SubtestName::as_str));
        let output = cmd.output(limits(DEPS_LIMIT)).await.map_err(|error| self.call("deps", &error))?;
        if !output.exit.success() {
            let complaint = output.complaint();
            let rubbish = complaint.contains("command not found") || complaint.contains("eval: line");
            let hint = if rubbish { "; deps prints bash assignments and nothing else" } else { "" };
            let exit = match output.exit {
                // The script says of a call that a signal ended what a shell says.
                spawn::Exit::Code(code @ 129..=192) => spawn::Exit::Signal(code - 128),
                other => other,
            };
            return Err(self.failed("deps", &format!("{exit}: {complaint}{hint}")));
        }
        Ok(parse_variables(&output.text()))
    }

    /// The subtests that the file lists, in its order, each once.
    pub async fn list_tests(&self, env: &HostEnv) -> Result<Vec<SubtestName>, TestFileError> {
        let cmd = self.asking(&self.path, env).await.arg("list-tests");
        let output = cmd.output(limits(LIMIT)).await.map_err(|error| self.call("list-tests", &error))?;
        if !output.exit.success() {
            let what = format!("{}: {}", output.exit, output.complaint());
            return Err(self.failed("list-tests", &what));
        }
        let mut subtests: Vec<SubtestName> = Vec::new();
        for word in output.text().split_whitespace() {
            let subtest = word
                .parse()
                .map_err(|error: model::NameError| self.failed("list-tests", &error.to_string()))?;
            if !subtests.contains(&subtest) {
                subtests.push(subtest);
            }
        }
        Ok(subtests)
    }

    /// The beginning of a command line that asks the file something by way of `program`.
    async fn asking(&self, program: impl AsRef<OsStr>, env: &HostEnv) -> Cmd {
        let cmd = if env.confined && confine::works().await {
            confine::command(&self.ktest_dir, &env.deps_dir).arg(program)
        } else {
            Cmd::new(program)
        };
        self.environment(cmd, env)
    }

    /// Every call runs with `nounset` inside, so all of these are set or none.
    fn environment(&self, cmd: Cmd, env: &HostEnv) -> Cmd {
        let mut cmd = cmd
            .env("ktest_interactive", "false")
            .env("ktest_verbose", "false")
            .env("ktest_failfast", "false")
            .env("ktest_priority", "0")
            .env("ktest_crashdump", "false")
            .env("ktest_dir", &self.ktest_dir)
            .env("ktest_test", &self.path)
            .env("ktest_out", &env.out)
            .env("ktest_deps_dir", &env.deps_dir)
            .env("ktest_kernel_version", &env.kernel_version)
            .env("ktest_arch", env.arch.or_else(Arch::native).map_or("", Arch::as_str))
            .dir(&self.ktest_dir);
        for (name, value) in &env.env {
            cmd = cmd.env(name, value);
        }
        cmd
    }

    fn call(&self, call: &'static str, error: &SpawnError) -> TestFileError {
        match error {
            // The file was found: it is what its first line names that is missing.
            SpawnError::NotFound { .. } if self.path.exists() => {
                self.failed(call, "the interpreter that its first line names is not there")
            }
            other => self.failed(call, &other.to_string()),
        }
    }

    fn failed(&self, call: &'static str, what: &str) -> TestFileError {
        TestFileError::Call { file: self.path.clone(), call, what: what.chars().take(400).collect() }
    }
}

fn limits(time: Duration) -> Limits {
    Limits { time, bytes: 4 << 20 }
}

/// `NAME NUL count NUL value NUL ...`, as `deps.bash` prints them. What does not fit ends the list.
#[must_use]
pub fn parse_variables(text: &str) -> Variables {
    let mut fields = text.split('\0');
    let mut variables = Variables::new();
    while let (Some(name), Some(count)) = (fields.next(), fields.next()) {
        let Ok(count) = count.parse::<usize>() else { break };
        variables.insert(name.into(), fields.by_ref().take(count).map(Into::into).collect());
    }
    variables
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(super) fn tree(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tests/fs/x.ktest");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("#!/bin/bash\nset -o nounset\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, file)
    }

    async fn deps(script: &str) -> Result<Declarations, String> {
        let (dir, file) = tree(script);
        let file = TestFile::find(&file, None).unwrap();
        let real = std::fs::canonicalize(dir.path()).unwrap().display().to_string();
        file.deps(&[], &HostEnv::default()).await.map_err(|error| error.to_string().replace(&real, "DIR"))
    }

    #[tokio::test]
    async fn declarations_are_evaluated_by_bash() {
        let script = r#"[ "$1" = deps ] && echo "ktest_mem=$((512*2)); ktest_kernel_append=('a b' c=\"\$ktest_mem\")" && exit 0"#;
        let declared = deps(script).await.unwrap();
        assert_eq!(declared.mem_mib, 1024);
        assert_eq!(declared.kernel_append, ["a b", "c=1024"]);
    }

    #[tokio::test]
    async fn rubbish_is_one_line() {
        let error = deps("echo 'hello world, no assignments'").await.unwrap_err();
        assert!(error.starts_with("DIR/tests/fs/x.ktest deps: exit code "), "{error}");
        assert!(error.contains("hello: command not found"), "{error}");
        let error = deps("echo").await.unwrap_err();
        assert_eq!(error, "DIR/tests/fs/x.ktest declares no ktest_mem; say it with config-mem 1G");
        let error = deps("echo 'ktest_mem=('").await.unwrap_err();
        assert!(error.contains("unexpected EOF"), "{error}");
        let error = deps("echo oops >&2; exit 3").await.unwrap_err();
        assert_eq!(error, "DIR/tests/fs/x.ktest deps: exit code 3: oops");
    }

    #[tokio::test]
    async fn what_a_file_declares_in_the_sandbox_it_knows_from_its_tree_alone() {
        if kernel::sandbox::probe().await.is_err() {
            eprintln!("skipped: what_a_file_declares_in_the_sandbox: bubblewrap does not work here");
            return;
        }
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let (_dir, path) = tree(&format!(
            r#"mem=64; [[ -e {0}/secret || -n ${{CARGO_MANIFEST_DIR-}} ]] && mem=666
               (: >"$ktest_dir/x") 2>/dev/null && mem=667
               : >"$ktest_deps_dir/cloned" && . "$ktest_dir/tests/lib.sh" && echo "ktest_mem=$mem"; exit 0"#,
            outside.path().display()
        ));
        let file = TestFile::find(&path, None).unwrap();
        std::fs::write(file.ktest_dir.join("tests/lib.sh"), "").unwrap();
        let deps_dir = outside.path().join("deps");
        let env = HostEnv { confined: true, deps_dir: deps_dir.clone(), ..HostEnv::default() };
        assert_eq!(
            file.deps(&[], &env).await.map(|declared| declared.mem_mib).map_err(|e| e.to_string()),
            Ok(64)
        );
        assert!(deps_dir.join("cloned").exists());
    }

    #[tokio::test]
    async fn listing() {
        let (_dir, file) = tree("echo a generic/001; echo a b");
        let file = TestFile::find(&file, None).unwrap();
        assert_eq!(file.test.as_str(), "fs/x");
        let subtests = file.list_tests(&HostEnv::default()).await.unwrap();
        assert_eq!(subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>(), ["a", "generic/001", "b"]);
        let (_dir, file) = tree("echo ../../etc");
        let error = TestFile::find(&file, None).unwrap().list_tests(&HostEnv::default()).await.unwrap_err();
        assert!(error.to_string().contains("is not a subtest"), "{error}");
    }

    #[test]
    fn finding() {
        let (dir, file) = tree("");
        let by_tree = TestFile::find(Path::new("fs/x"), Some(dir.path())).unwrap();
        assert_eq!(by_tree, TestFile::find(&file, None).unwrap());
        assert!(matches!(TestFile::find(Path::new("/no/such.ktest"), None), Err(TestFileError::Missing(_))));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(TestFile::find(&file, None), Err(TestFileError::NotExecutable(_))));
    }
}
