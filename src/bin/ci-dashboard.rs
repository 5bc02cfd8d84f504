//! The `ci-dashboard` command. The library of the same name implements it.

fn main() -> std::process::ExitCode {
    ci_dashboard::cli::main()
}
