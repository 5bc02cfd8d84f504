//! The `ci-dashboard` command, as an example so that the tests of this package can start it.

fn main() -> std::process::ExitCode {
    ci_dashboard::cli::main()
}
