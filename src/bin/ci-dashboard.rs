//! The `ci-dashboard` command: everything it does is in the library of the same name.

fn main() -> std::process::ExitCode {
    ci_dashboard::cli::main()
}
