//! The `ci-daemon` command. The library of the same name implements it.

fn main() -> std::process::ExitCode {
    ci_daemon::cli::main()
}
