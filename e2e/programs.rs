//! The programs of the project, as clap defines them.

/// The definition of each program.
pub fn commands() -> [clap::Command; 4] {
    [
        ktest::cli::command(),
        ci_daemon::cli::command(),
        ci_dashboard::cli::command(),
        ci_status::cli::command(),
    ]
}
