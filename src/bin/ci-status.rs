//! The `ci-status` command. The library of the same name implements it.

fn main() -> std::process::ExitCode {
    model::build::set_commit(option_env!("KTEST_CI_COMMIT"));
    ci_status::cli::main()
}
