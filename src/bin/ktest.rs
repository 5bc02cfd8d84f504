//! The `ktest` command. The library of the same name implements it.

fn main() -> std::process::ExitCode {
    ktest::cli::main()
}
