//! The `ci-daemon` command: everything it does is in the library of the same name.

fn main() -> std::process::ExitCode {
    ci_daemon::cli::main()
}
