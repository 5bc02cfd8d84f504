//! The `ci-status` command, implemented by the library with the same name.

fn main() -> std::process::ExitCode {
    model::build::set_commit(option_env!("KTEST_CI_COMMIT"));
    ci_status::cli::main()
}
