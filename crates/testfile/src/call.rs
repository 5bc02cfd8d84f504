//! The two calls of a test file on the host: `list-tests` and `deps`.
//!
//! A call has a time limit and an output limit; every name and value in its output is validated.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use model::{Arch, SubtestName};
use spawn::{Cmd, Limits, SpawnError};

use crate::declare::{Declarations, DeclareError, NAMES, Variables};
use crate::trust::{self, Roots, Trust};
use crate::{HostEnv, TestFile, TestFileError, call_sandbox::of_call, deps_cache};

/// Runs `FILE deps`, evaluates its output, and prints the variables NUL-separated.
const DEPS_SCRIPT: &str = include_str!("deps.bash");
/// The time limit of `list-tests`, which may clone with `require-git`.
const LIST_LIMIT: Duration = Duration::from_secs(120);
/// The time limit of `deps`, which may build a test suite (lib/suite.sh).
const DEPS_LIMIT: Duration = Duration::from_secs(1200);

impl TestFile {
    /// Evaluates the declarations for these subtests; for all subtests if the slice is empty.
    pub async fn deps(&self, subtests: &[SubtestName], env: &HostEnv) -> Result<Declarations, TestFileError> {
        self.declarations(&self.variables(subtests, env).await?, env)
    }

    /// Evaluates the declarations for all subtests, or takes them from the cache in `cache` if neither the file nor
    /// its tree's shell libraries have changed. A run never uses this: evaluation can clone what the run needs.
    pub async fn deps_cached(&self, env: &HostEnv, cache: &Path) -> Result<Declarations, TestFileError> {
        let cache = deps_cache::DepsCache::of(cache);
        let key = deps_cache::key(self, env);
        if let Some(variables) = key.as_ref().and_then(|key| cache.get(key)) {
            return self.declarations(&variables, env);
        }
        let variables = self.variables(&[], env).await?;
        if let Some(key) = &key {
            cache.put(key, &variables);
        }
        self.declarations(&variables, env)
    }

    fn declarations(&self, variables: &Variables, env: &HostEnv) -> Result<Declarations, TestFileError> {
        let arch = env.arch.or_else(Arch::native).unwrap_or(Arch::X86_64);
        let invalid = |source| TestFileError::Declare { file: self.path.clone(), source };
        let mut declared = Declarations::from_variables(variables, arch, &self.ktest_dir).map_err(invalid)?;
        if env.trust == Trust::Confined {
            let roots = Roots { tree: &self.ktest_dir, deps: &env.deps_dir };
            if let Some(refused) = trust::refused(&declared, roots).into_iter().next() {
                return Err(invalid(refused));
            }
            trust::resolve(&mut declared, roots);
        }
        if !declared.no_vm && !declared.no_kbuild {
            // Requirements that contradict each other are the file's fault, whatever the kernel source:
            // report them before anything is built.
            let flavor = kernel::Flavor::of(self.test.as_str(), &declared.kernel);
            let plan = kernel::plan::BuildPlan::new(&flavor);
            plan.map_err(|error| invalid(DeclareError::Kernel(error.to_string())))?;
        }
        Ok(declared)
    }

    async fn variables(&self, subtests: &[SubtestName], env: &HostEnv) -> Result<Variables, TestFileError> {
        let names = NAMES.join(" ");
        let cmd = self.command("bash", env).await?.args(["--norc", "-c", DEPS_SCRIPT, "deps"]);
        let cmd = cmd.arg(names).arg(&self.path).args(subtests.iter().map(SubtestName::as_str));
        let output =
            cmd.output(limits(DEPS_LIMIT)).await.map_err(|error| self.spawn_error("deps", &error))?;
        if !output.exit.success() {
            let complaint = output.error_line();
            let is_text = complaint.contains("command not found") || complaint.contains("eval: line");
            let hint = if is_text { "; deps must print bash assignments and nothing else" } else { "" };
            let exit = match output.exit {
                // bash reports a child that was killed by signal N as exit code 128 + N.
                spawn::Exit::Code(code @ 129..=192) => spawn::Exit::Signal(code - 128),
                other => other,
            };
            return Err(self.call_error("deps", &format!("{exit}: {complaint}{hint}")));
        }
        Ok(parse_variables(&output.text()))
    }

    /// Lists the subtests in the file's order, without duplicates.
    pub async fn list_tests(&self, env: &HostEnv) -> Result<Vec<SubtestName>, TestFileError> {
        let cmd = self.command(&self.path, env).await?.arg("list-tests");
        let output =
            cmd.output(limits(LIST_LIMIT)).await.map_err(|error| self.spawn_error("list-tests", &error))?;
        if !output.exit.success() {
            let problem = format!("{}: {}", output.exit, output.error_line());
            return Err(self.call_error("list-tests", &problem));
        }
        let mut subtests: Vec<SubtestName> = Vec::new();
        for word in output.text().split_whitespace() {
            let subtest = word
                .parse()
                .map_err(|error: model::NameError| self.call_error("list-tests", &error.to_string()))?;
            if !subtests.contains(&subtest) {
                subtests.push(subtest);
            }
        }
        Ok(subtests)
    }

    /// A command with the file's environment, in the sandbox if `env` asks for one.
    async fn command(&self, program: impl AsRef<OsStr>, env: &HostEnv) -> Result<Cmd, TestFileError> {
        let variables = self.environment(env);
        if env.sandboxed {
            sandbox::probe()
                .await
                .map_err(|source| TestFileError::Sandbox { file: self.path.clone(), source })?;
            let sandbox = of_call(&self.ktest_dir, &env.deps_dir);
            let sandbox = variables.iter().fold(sandbox, |sandbox, (name, value)| sandbox.env(name, value));
            return Ok(sandbox.command(program));
        }
        let cmd = Cmd::new(program).dir(&self.ktest_dir);
        Ok(variables.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value)))
    }

    /// Every variable of the contract: test files run with `nounset`. Those of the user or the test group come last.
    fn environment(&self, env: &HostEnv) -> Vec<(String, OsString)> {
        let own: [(&str, OsString); 11] = [
            ("ktest_interactive", "false".into()),
            ("ktest_verbose", "false".into()),
            ("ktest_failfast", "false".into()),
            ("ktest_priority", "0".into()),
            ("ktest_crashdump", "false".into()),
            ("ktest_dir", self.ktest_dir.clone().into()),
            ("ktest_test", self.path.clone().into()),
            ("ktest_out", env.out.clone().into()),
            ("ktest_deps_dir", env.deps_dir.clone().into()),
            ("ktest_kernel_version", env.kernel_version.clone().into()),
            ("ktest_arch", env.arch.or_else(Arch::native).map_or("", Arch::as_str).into()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(env.env.iter().map(|(name, value)| (name.clone(), value.into()))).collect()
    }

    fn spawn_error(&self, call: &'static str, error: &SpawnError) -> TestFileError {
        match error {
            // The file itself exists, so execve() did not find its interpreter.
            SpawnError::NotFound { .. } if self.path.exists() => {
                self.call_error(call, "the interpreter in its first line does not exist")
            }
            other => self.call_error(call, &other.to_string()),
        }
    }

    fn call_error(&self, call: &'static str, problem: &str) -> TestFileError {
        TestFileError::Call { file: self.path.clone(), call, problem: problem.chars().take(400).collect() }
    }
}

fn limits(time: Duration) -> Limits {
    Limits { time, bytes: 4 << 20 }
}

/// Parses `NAME NUL count NUL value NUL ...` as printed by `deps.bash`. Stops at the first malformed field.
pub fn parse_variables(text: &str) -> Variables {
    let mut fields = text.split('\0');
    let mut variables = Variables::new();
    while let (Some(name), Some(count)) = (fields.next(), fields.next()) {
        let Ok(count) = count.parse::<usize>() else { break };
        variables.insert(name.into(), fields.by_ref().take(count).map(Into::into).collect());
    }
    variables
}
