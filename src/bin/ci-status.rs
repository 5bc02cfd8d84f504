//! The `ci-status` command. The library of the same name implements it.

fn main() -> std::process::ExitCode {
    ci_status::cli::main()
}
