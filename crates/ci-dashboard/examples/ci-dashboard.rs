//! The `ci-dashboard` command, where the tests of this package can start it.

fn main() -> std::process::ExitCode {
    ci_dashboard::cli::main()
}
