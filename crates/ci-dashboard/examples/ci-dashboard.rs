//! The `ci-dashboard` command as the installed one is; here, this package's tests can start it.

fn main() -> std::process::ExitCode {
    ci_dashboard::cli::main()
}
