//! The two calls of a test file on the host: `list-tests` and `deps`.
//!
//! A call has a time limit and an output limit. Every name and value in its output is validated.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::{BuildError, SourceError};
use model::run_order::NETWORK_VARIABLE;
use model::{Arch, SubtestName};
use sandbox::Resources;
use spawn::{Cmd, Exit, Limits, Output, SpawnError};

use crate::call_sandbox::{GitRequests, RequestError};
use crate::declare::{Declarations, DeclareError, NAMES, Variables, bad};
use crate::suites::SuiteSource;
use crate::trust::{self, Roots, Trust};
use crate::{HostEnv, TestFile, TestFileError, call_sandbox, deps_cache};

/// Runs `FILE deps`, evaluates its output, and prints the variables separated by NUL.
const DEPS_SCRIPT: &str = include_str!("deps.bash");
/// The time limit of `list-tests`.
const LIST_LIMIT: Duration = Duration::from_secs(120);
/// The time limit of `deps`, which may build a test suite (lib/suite.sh).
const DEPS_LIMIT: Duration = Duration::from_secs(1200);

/// The maximum number of subtests of a file.
const MAX_SUBTESTS: usize = 50_000;
/// The maximum number of repositories that a call may request.
const MAX_CLONES: usize = 16;

/// One call of a test file.
struct Call {
    name: &'static str,
    argv: Vec<OsString>,
    time: Duration,
    /// The limits in the sandbox.
    resources: Resources,
}

impl Call {
    fn limits(&self) -> Limits {
        Limits { time: self.time, bytes: 4 << 20 }
    }
}

impl TestFile {
    /// Evaluates the declarations for these subtests; an empty slice means all subtests.
    pub async fn deps(&self, subtests: &[SubtestName], env: &HostEnv) -> Result<Declarations, TestFileError> {
        self.declarations(&self.variables(subtests, env).await?, env)
    }

    /// Like [`Self::deps`] for all subtests, but uses the result cached in `cache` if neither the file nor the shell
    /// libraries of its tree have changed. A run never uses the cache: the evaluation may clone what the run needs.
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
        if env.trust == Trust::Sandboxed {
            let roots = Roots { tree: &self.ktest_dir, deps: &env.deps_dir };
            let refused =
                trust::refused(&declared, roots).map_err(|error| self.host_error("deps", &error))?;
            if let Some(refused) = refused.into_iter().next() {
                return Err(invalid(refused));
            }
            if declared.network && !env.grants_network() {
                let why = "a farm refuses it: the operator allows it with network = true in the test group";
                return Err(invalid(bad(NETWORK_VARIABLE, "true", why)));
            }
            trust::resolve(&mut declared, roots);
        }
        if !declared.no_vm && !declared.no_kbuild {
            // Contradictory requirements are an error of the file, independent of the kernel source: report them before
            // anything is built.
            let flavor = kernel::Flavor::of(self.test.as_str(), &declared.kernel);
            let plan = kernel::plan::BuildPlan::new(&flavor);
            plan.map_err(|error| match error {
                BuildError::Source(SourceError::BaseConfig { ref cause, .. })
                    if TestFileError::is_failure_of_host(cause) =>
                {
                    TestFileError::Host { file: self.path.clone(), problem: error.to_string() }
                }
                error => invalid(DeclareError::Kernel(error.to_string())),
            })?;
        }
        Ok(declared)
    }

    async fn variables(&self, subtests: &[SubtestName], env: &HostEnv) -> Result<Variables, TestFileError> {
        let names = NAMES.join(" ");
        let mut argv: Vec<OsString> =
            ["bash", "--norc", "-c", DEPS_SCRIPT, "deps", &names].map(OsString::from).into();
        argv.push(self.path.clone().into());
        argv.extend(subtests.iter().map(|subtest| subtest.as_str().into()));
        let call = Call { name: "deps", argv, time: DEPS_LIMIT, resources: Resources::of_this_host() };
        let output = self.call(&call, env).await?;
        if let Some(clone) = FailedClone::missing(&output, &self.ktest_dir) {
            return Err(self.host_error("deps", &clone));
        }
        if !output.exit.success() {
            let complaint = complaint(&output);
            let is_text = complaint.contains("command not found") || complaint.contains("eval: line");
            let hint = match is_text {
                true => "; deps must print bash assignments and nothing else",
                false if wants_arguments(&output) => {
                    "; this file needs a subtest as its argument: name it after the file"
                }
                false => "",
            };
            let exit = exit_of_child(output.exit);
            return Err(self.call_error("deps", &format!("{exit}: {complaint}{hint}")));
        }
        Ok(parse_variables(&output.text()))
    }

    /// Lists the subtests in the order of the file, without duplicates.
    pub async fn list_tests(&self, env: &HostEnv) -> Result<Vec<SubtestName>, TestFileError> {
        let argv = vec![self.path.clone().into(), "list-tests".into()];
        let call = Call { name: "list-tests", argv, time: LIST_LIMIT, resources: call_sandbox::small() };
        let output = self.call(&call, env).await?;
        if let Some(clone) = FailedClone::missing(&output, &self.ktest_dir) {
            return Err(self.host_error("list-tests", &clone));
        }
        if !output.exit.success() {
            let problem = format!("{}: {}", exit_of_child(output.exit), complaint(&output));
            return Err(self.call_error("list-tests", &problem));
        }
        self.parse_list(&output.text())
    }

    fn parse_list(&self, text: &str) -> Result<Vec<SubtestName>, TestFileError> {
        let mut subtests: Vec<SubtestName> = Vec::new();
        let mut known = HashSet::new();
        for word in text.split_whitespace() {
            let subtest: SubtestName = word
                .parse()
                .map_err(|error: model::NameError| self.call_error("list-tests", &error.to_string()))?;
            if known.len() == MAX_SUBTESTS && !known.contains(&subtest) {
                let problem = format!("it lists more than {MAX_SUBTESTS} subtests; split the file");
                return Err(self.call_error("list-tests", &problem));
            }
            if known.insert(subtest.clone()) {
                subtests.push(subtest);
            }
        }
        Ok(subtests)
    }

    /// Makes a call, in the sandbox if `env` says so. In the sandbox, it is repeated after each clone for
    /// `require-git`.
    async fn call(&self, call: &Call, env: &HostEnv) -> Result<Output, TestFileError> {
        if !env.sandboxed {
            let cmd = Cmd::new(&call.argv[0]).args(&call.argv[1..]).dir(&self.ktest_dir);
            let variables = self.environment(env);
            let cmd = variables.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value));
            let cmd = env.ktest.iter().fold(cmd, |cmd, ktest| cmd.env("ktest_command", ktest));
            return cmd.output(call.limits()).await.map_err(|error| self.spawn_error(call.name, &error));
        }
        let sandbox_error = |source| TestFileError::Sandbox { file: self.path.clone(), source };
        sandbox::probe().await.map_err(sandbox_error)?;
        let request_error = |error| match error {
            RequestError::Refused(problem) => self.call_error(call.name, &problem),
            RequestError::Failed(problem) => self.host_error(call.name, &problem),
        };
        let mut copy = None;
        for _ in 0..=MAX_CLONES + 1 {
            let requests = GitRequests::new().map_err(|error| self.host_error(call.name, &error))?;
            let mut output = self.in_sandbox(call, env, &requests, copy.as_deref()).await?;
            if !output.exit.success() && output.error_line().starts_with("bwrap: ") {
                // Either this host had a temporary failure, or the file itself prints that message.
                sandbox::probe_now().await.map_err(sandbox_error)?;
                output = self.in_sandbox(call, env, &requests, copy.as_deref()).await?;
            }
            let requests = requests.read().map_err(request_error)?;
            if requests.is_empty() {
                let top = call_sandbox::top_of(&self.ktest_dir, &self.path);
                if copy.is_some() || top.is_none() || !call_sandbox::wants_copy(&output) {
                    return Ok(output);
                }
                copy = top;
            }
            for request in requests {
                request.carry_out(&env.deps_dir).await.map_err(request_error)?;
            }
        }
        Err(self.call_error(call.name, &format!("it requires more than {MAX_CLONES} repositories")))
    }

    async fn in_sandbox(
        &self,
        call: &Call,
        env: &HostEnv,
        requests: &GitRequests,
        copy: Option<&Path>,
    ) -> Result<Output, TestFileError> {
        let sandbox = call_sandbox::of_call(&self.ktest_dir, env, requests, copy);
        let sandbox = sandbox.map_err(|error| self.host_error(call.name, &error))?.resources(call.resources);
        let variables = self.environment(env);
        let sandbox = variables.iter().fold(sandbox, |sandbox, (name, value)| sandbox.env(name, value));
        let cmd = call_sandbox::command(&sandbox, &call.argv, copy);
        cmd.output(call.limits()).await.map_err(|error| self.spawn_error(call.name, &error))
    }

    /// All variables of the contract: test files run with `nounset`. Those of the user or the test group come last.
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
        let suites = env.suites.iter().map(SuiteSource::variable).map(|(name, dir)| (name, dir.into()));
        own.chain(suites).chain(env.env.iter().map(|(name, value)| (name.clone(), value.into()))).collect()
    }

    fn spawn_error(&self, call: &'static str, error: &SpawnError) -> TestFileError {
        match error {
            // The file itself exists, so execve() did not find its interpreter. In the sandbox, bubblewrap reports
            // that.
            SpawnError::NotFound { program, .. }
                if self.path.to_str() == Some(program) && self.path.exists() =>
            {
                self.call_error(call, "the interpreter in its first line does not exist")
            }
            SpawnError::Start { .. } | SpawnError::Io { .. } | SpawnError::NotFound { .. } => {
                self.host_error(call, error)
            }
            other => self.call_error(call, &other.to_string()),
        }
    }

    fn host_error(&self, call: &str, error: &dyn std::fmt::Display) -> TestFileError {
        TestFileError::Host { file: self.path.clone(), problem: format!("{call}: {error}") }
    }

    fn call_error(&self, call: &'static str, problem: &str) -> TestFileError {
        TestFileError::Call { file: self.path.clone(), call, problem: problem.chars().take(400).collect() }
    }
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

/// The error of a failed call: the last line of standard error, or of standard output if there is none.
fn complaint(output: &Output) -> String {
    let printed = output.text();
    let last = printed.lines().rev().map(str::trim).find(|line| !line.is_empty());
    match last.filter(|_| output.error_text().trim().is_empty()) {
        Some(line) => line.into(),
        None => output.error_line(),
    }
}

/// A `git clone` that failed. The existing library continues after it, and may even succeed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("require-git {}: the clone failed: {reason}", dir.file_name().unwrap_or(dir.as_os_str()).display())]
struct FailedClone {
    dir: PathBuf,
    /// The error of git.
    reason: String,
}

impl FailedClone {
    /// The first one whose directory does not exist. Git removes it after an error; another clone may have created it.
    fn missing(output: &Output, work_dir: &Path) -> Option<Self> {
        let text = output.error_text();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let begin =
            |line: &str| Some(PathBuf::from(line.strip_prefix("Cloning into '")?.strip_suffix("'...")?));
        let clones = lines.iter().enumerate().filter_map(|(at, line)| Some((at, begin(line)?)));
        let mut failed = clones.filter_map(|(at, dir)| {
            // The remote and the progress may print lines in between.
            let own = lines[at + 1..].iter().take_while(|line| begin(line).is_none());
            let reason = own.into_iter().find_map(|line| line.strip_prefix("fatal: "))?;
            Some(Self { dir, reason: (*reason).into() })
        });
        failed.find(|clone| !work_dir.join(&clone.dir).exists())
    }
}

/// Whether bash ended the call because a positional parameter is not set.
fn wants_arguments(output: &Output) -> bool {
    output.error_text().lines().any(|line| {
        let parameter = line.strip_suffix(": unbound variable").and_then(|line| line.rsplit(": ").next());
        parameter.is_some_and(|name| {
            let name = name.trim_start_matches('$');
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// bash and bubblewrap report a child that was killed by signal N with exit code 128 + N.
fn exit_of_child(exit: Exit) -> Exit {
    match exit {
        Exit::Code(code @ 129..=192) => Exit::Signal(code - 128),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stderr: &str) -> Output {
        Output { exit: Exit::Code(0), stdout: Vec::new(), stderr: stderr.into() }
    }

    #[test]
    fn a_failed_clone_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let found =
            |stderr: &str| FailedClone::missing(&output(stderr), dir.path()).map(|clone| clone.to_string());
        let failed =
            "Cloning into '/none/deps/tool'...\nremote: no\nfatal: unable to access 'http://h/': no host\n";
        let message = "require-git tool: the clone failed: unable to access 'http://h/': no host";
        assert_eq!(found(failed).as_deref(), Some(message));
        assert_eq!(found(&format!("{failed}popd: directory stack empty\n")).as_deref(), Some(message));
        let other = format!("Cloning into '/none/other'...\n{failed}");
        assert_eq!(found(&other).as_deref(), Some(message));
        for fine in ["", "Cloning into 'tool'...\n", "fatal: not a git repository\n"] {
            assert_eq!(found(fine), None, "{fine}");
        }
        // The file tried a second address.
        std::fs::create_dir(dir.path().join("tool")).unwrap();
        assert_eq!(found("Cloning into 'tool'...\nfatal: no host\nCloning into 'tool'...\n"), None);
    }

    #[test]
    fn the_error_can_be_on_standard_output() {
        let on = |stdout: &str, stderr: &str| complaint(&Output { stdout: stdout.into(), ..output(stderr) });
        assert_eq!(on("a\nrequire-make: tool not found\n\n", " \n"), "require-make: tool not found");
        assert_eq!(on("ktest_mem=64\n", "x: line 3: oops\n"), "x: line 3: oops");
        assert_eq!(on("", ""), "it printed no error message");
    }

    #[test]
    fn a_missing_argument_is_recognized() {
        assert!(wants_arguments(&output("/t/a.ktest: line 17: $2: unbound variable\n")));
        assert!(wants_arguments(&output("a: line 1: 1: unbound variable\n")));
        assert!(!wants_arguments(&output("/t/a.ktest: line 17: name: unbound variable\n")));
        assert!(!wants_arguments(&output("/t/a.ktest: line 17: $name: unbound variable\n")));
    }

    #[test]
    fn on_a_farm_only_the_operator_grants_the_network() {
        let file =
            TestFile { path: "/t/tests/a.ktest".into(), ktest_dir: "/t".into(), test: "a".parse().unwrap() };
        let variables: Variables = [("ktest_mem", "64"), ("ktest_no_vm", "true"), (NETWORK_VARIABLE, "true")]
            .map(|(name, value)| (name.to_owned(), vec![value.to_owned()]))
            .into();
        let granted = vec![(NETWORK_VARIABLE.to_owned(), "true".to_owned())];
        for (trust, env, accepted) in [
            (Trust::Own, Vec::new(), true),
            (Trust::Sandboxed, Vec::new(), false),
            (Trust::Sandboxed, granted, true),
        ] {
            let env = HostEnv { trust, env, ..HostEnv::default() };
            let declared = file.declarations(&variables, &env);
            assert_eq!(declared.is_ok(), accepted, "{declared:?}");
        }
    }
}
