//! The `ci-dashboard` command: a server, or a CGI program where the environment says so.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use results::Reader;
use tracing_subscriber::EnvFilter;

use crate::cgi;
use crate::hook::Hook;
use crate::rerun::Rerun;
use crate::serve::{self, Writes};
use crate::site::{Site, handle};
use crate::testfiles::TestFiles;
use crate::token::Token;

const EXAMPLES: &str = "Examples:
  ci-dashboard --config ci.toml serve
  ci-dashboard serve --output-dir ci-data --listen 127.0.0.1:8081
  ci-dashboard serve --rerun-token-file ~/.ktest/rerun-token    # openssl rand -hex 32 > FILE; chmod 600 FILE";

/// Web pages and JSON views over the results of ktest-ci.
///
/// Started by a web server as a CGI program (GATEWAY_INTERFACE is set), it answers one request and exits; where the
/// results are then comes from $KTEST_CI_OUTPUT_DIR or the configuration.
#[derive(Parser, Debug)]
#[command(name = "ci-dashboard", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    results: ResultsArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the dashboard over HTTP.
    Serve(ServeArguments),
}

#[derive(Args, Debug)]
struct ServeArguments {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Lets whoever knows the token in this file ask ci-daemon to look at its remotes now: POST /hook with
    /// "Authorization: Bearer TOKEN".
    #[arg(long, value_name = "FILE")]
    hook_token_file: Option<PathBuf>,
    /// Lets whoever knows the token in this file have a test run again: a form on the test's page, and
    /// POST /c/COMMIT/TEST/rerun with "Authorization: Bearer TOKEN".
    #[arg(long, value_name = "FILE")]
    rerun_token_file: Option<PathBuf>,
}

#[derive(Args, Debug, Default)]
struct ResultsArguments {
    /// The configuration; without it $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The folder of results, instead of the configuration's output_dir.
    #[arg(long, value_name = "DIR", global = true)]
    output_dir: Option<PathBuf>,
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command; 0 after a clean stop, 1 if something is wrong, 2 for wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    start_log();
    let done = if cgi::is_cgi() {
        answer_cgi()
    } else {
        let Arguments { results, command: Command::Serve(arguments) } = Arguments::parse();
        run_server(&results, &arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ci-dashboard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_env("KTEST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colours);
    log.with_writer(io::stderr).init();
}

fn site(arguments: &ResultsArguments) -> anyhow::Result<Site> {
    // A folder alone is enough; a configuration also says which test files there are.
    if let (Some(dir), None) = (&arguments.output_dir, &arguments.config) {
        return Ok(Site::new(Reader::open(dir)?, TestFiles::default()));
    }
    let file = config::find(arguments.config.as_deref())?;
    let (config, problems) = config::load_lenient(&file)?;
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let tests = config.all_branches().flat_map(|branch| config.tests_of(branch)).cloned().collect();
    let dir = arguments.output_dir.as_ref().unwrap_or(&config.output_dir);
    Ok(Site::new(Reader::open(dir)?, tests))
}

fn run_server(results: &ResultsArguments, arguments: &ServeArguments) -> anyhow::Result<()> {
    let site = site(results)?;
    let token = |file: &Option<PathBuf>| file.as_deref().map(Token::from_file).transpose();
    let writes = Writes {
        hook: token(&arguments.hook_token_file)?.map(Hook::new),
        rerun: token(&arguments.rerun_token_file)?.map(Rerun::new),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen).await.with_context(|| {
            format!("cannot listen on {}; choose another address with --listen", arguments.listen)
        })?;
        serve::serve(site, writes, listener, stop_signal()?).await.context("the server stopped")
    })
}

/// Ready at SIGINT or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn answer_cgi() -> anyhow::Result<()> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let request = cgi::request(&environment);
    let arguments = ResultsArguments {
        config: None,
        output_dir: std::env::var_os("KTEST_CI_OUTPUT_DIR").map(PathBuf::from),
    };
    let response = match site(&arguments) {
        Ok(site) => {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            handle(&site, &request, i64::try_from(seconds).unwrap_or(i64::MAX))
        }
        Err(error) => {
            tracing::error!("{error:#}");
            let (form, _) = crate::route::parse(&request);
            crate::views::error::view(&crate::problem::Problem::Store, &request, form)
                .finished(&request.method)
        }
    };
    cgi::write(response, io::stdout().lock()).context("cannot write the response")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_before_or_after_the_verb() {
        for words in [
            ["ci-dashboard", "--config", "ci.toml", "serve"].as_slice(),
            &["ci-dashboard", "serve", "--config", "ci.toml", "--listen", "127.0.0.1:8080"],
        ] {
            let Arguments { results, command: Command::Serve(serve) } =
                Arguments::try_parse_from(words).unwrap();
            assert_eq!(results.config, Some("ci.toml".into()));
            assert_eq!(serve.listen.port(), 8080);
        }
        assert!(Arguments::try_parse_from(["ci-dashboard"]).is_err());
        assert!(Arguments::try_parse_from(["ci-dashboard", "serve", "--listen", "8080"]).is_err());
    }
}
