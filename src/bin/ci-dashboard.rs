//! The `ci-dashboard` command. The library of the same name implements it.

fn main() -> std::process::ExitCode {
    model::build::set_commit(option_env!("KTEST_CI_COMMIT"));
    ci_dashboard::cli::main()
}
