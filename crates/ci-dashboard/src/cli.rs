//! The `ci-dashboard` command: a server, or a CGI program if a web server starts it as one.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, FromArgMatches as _, Parser, Subcommand};
use http_server::{Limits, Proxies, Proxy};
use model::BranchRef;
use results::Reader;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::actions::{Actions, Control, Requests, Rerun, Token, Webhook};
use crate::export::{Export, Exported, export};
use crate::http::{PublicAddress, cgi};
use crate::page::Plural as _;
use crate::problem::Problem;
use crate::repos::Repos;
use crate::route::{self, ROOTS};
use crate::serve;
use crate::site::{Site, handle};
use crate::testfiles::TestFiles;
use crate::views;

const EXAMPLES: &str = "Examples:
  ci-dashboard --config ci.toml serve
  ci-dashboard serve --output-dir ci-data --listen 127.0.0.1:8081
  ci-dashboard serve --rerun-token-file ~/.ktest/rerun-token    # openssl rand -hex 32 > FILE; chmod 600 FILE
  ci-dashboard export /srv/www/ext4 --branch mira/ext4-testing";

const EXPORT_EXAMPLES: &str = "Examples:
  ci-dashboard export /srv/www/ext4 --branch mira/ext4-testing
  ci-dashboard export copy --commits 20 --base-url https://ci.example.org";

/// Threads for reading files, in addition to those that run handlers.
const FILE_THREADS: usize = 16;

/// Serve the results of ktest-ci as web pages and JSON.
///
/// If a web server starts this command as a CGI program (GATEWAY_INTERFACE is set), it answers one request and exits. The
/// results are then taken from $KTEST_CI_OUTPUT_DIR or the configuration.
#[derive(Parser, Debug)]
#[command(name = "ci-dashboard", version = model::build::version(), after_help = EXAMPLES)]
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
    /// Write a static copy of the pages of branches, for any web server or to open as files.
    ///
    /// The copy has the pages of the branches, of their newest commits with results, of the tests that failed at these
    /// commits, and their logs.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArguments),
}

#[derive(Args, Debug)]
struct ExportArguments {
    /// Write the copy to this directory. An earlier copy there is replaced.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Export only this branch; can be repeated [default: all branches].
    #[arg(long, value_name = "USER/BRANCH")]
    branch: Vec<BranchRef>,
    /// Export the pages of the newest N commits with results of each branch.
    #[arg(long, value_name = "N", default_value_t = 100)]
    commits: usize,
    /// Link to the dashboard at this address for pages that are not exported [default: no links to them].
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

#[derive(Args, Debug)]
struct ServeArguments {
    /// Listen on this address and port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Enable the webhook, which makes ci-daemon fetch now: POST /hook with "Authorization: Bearer TOKEN", where TOKEN is
    /// the content of this file.
    #[arg(long, value_name = "FILE")]
    hook_token_file: Option<PathBuf>,
    /// Enable reruns for users with the token in this file: a form on the page of each test, and
    /// POST /c/COMMIT/TEST/rerun with "Authorization: Bearer TOKEN". With the same token, `ci-status rerun`, `bisect` and
    /// `believe` send POST /requests.
    #[arg(long, value_name = "FILE")]
    rerun_token_file: Option<PathBuf>,
    /// Keep at most this number of connections open.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Keep at most this number of connections from one address open. An IPv6 /64 network counts as one address.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_per_address)]
    max_connections_per_address: usize,
    /// Trust this proxy to report the address of a client in X-Forwarded-For, and do not limit the proxy's connections.
    /// Give an address or a network (10.0.0.0/8); can be repeated.
    #[arg(long, value_name = "ADDRESS")]
    trusted_proxy: Vec<Proxy>,
    /// Link to pages below this path, as behind a proxy that serves the dashboard at https://HOST/PATH/ [default: the path of
    /// the configuration's ci_url]. Requests are accepted with and without it.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
}

impl ServeArguments {
    fn limits(&self) -> (Limits, Proxies) {
        let limits = Limits {
            connections: self.max_connections.max(1),
            connections_per_address: self.max_connections_per_address.max(1),
            ..Limits::default()
        };
        let limits = limits.within_open_files(http_server::raise_open_files());
        (limits, self.trusted_proxy.iter().copied().collect())
    }
}

#[derive(Args, Debug, Default)]
struct ResultsArguments {
    /// Read this configuration [default: the first of $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Read the results in this directory instead of the configuration's output_dir.
    #[arg(long, value_name = "DIR", global = true)]
    output_dir: Option<PathBuf>,
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    model::help::short_and_long(<Arguments as clap::CommandFactory>::command())
}

/// Runs the command. The exit code is 0 after a clean stop, 1 after an error, 2 after a usage error.
#[must_use]
pub fn main() -> ExitCode {
    start_log();
    let result = if cgi::is_cgi() {
        answer_cgi()
    } else {
        let Arguments { results, command } = parsed();
        let worked = fsx::stop::supervise(
            &SIGNALS,
            STOP,
            |_| 1,
            move || match command {
                Command::Serve(arguments) => run_server(&results, &arguments),
                Command::Export(arguments) => run_export(&results, arguments),
            },
        );
        worked.unwrap_or_else(|error| Err(error.into()))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stdio::error("ci-dashboard", stdio::WithCauses(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The command line of this process. A usage error or a help text ends it.
fn parsed() -> Arguments {
    Arguments::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
}

fn start_log() {
    let filter = EnvFilter::try_from_env("KTEST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colours);
    // By default, the program panics if standard error cannot be written.
    let log = log.log_internal_errors(false);
    log.with_writer(io::stderr).init();
}

fn site(arguments: &ResultsArguments) -> anyhow::Result<Site> {
    // An output directory is sufficient; a configuration adds the names of the test files.
    if let (Some(dir), None) = (&arguments.output_dir, &arguments.config) {
        return Ok(Site::new(Reader::open(dir)?, TestFiles::default()));
    }
    let file = config::find(arguments.config.as_deref())?;
    let (config, problems) = config::load_lenient(&file)?;
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let tests = config.all_branches().flat_map(|branch| config.tests_of(branch)).cloned().collect();
    let dir = arguments.output_dir.as_ref().unwrap_or(&config.top.output_dir);
    let public =
        config.top.ci_url.as_deref().map(|url| PublicAddress::from_url(url, ROOTS)).unwrap_or_default();
    Ok(Site::new(Reader::open(dir)?, tests).with_repos(Repos::of(&config)).published_at(public))
}

fn run_server(results: &ResultsArguments, arguments: &ServeArguments) -> anyhow::Result<()> {
    let mut site = site(results)?;
    if let Some(mount) = &arguments.mount {
        let public = site.public_address().clone().mounted_at(mount).context("--mount")?;
        site = site.published_at(public);
    }
    let token = |file: &Option<PathBuf>| file.as_deref().map(Token::from_file).transpose();
    let rerun_token = token(&arguments.rerun_token_file)?;
    let actions = Actions {
        hook: token(&arguments.hook_token_file)?.map(Webhook::new),
        rerun: rerun_token.clone().map(Rerun::new),
        control: rerun_token.clone().map(Control::new),
        requests: rerun_token.map(Requests::new),
    };
    let limits = arguments.limits();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Handlers can occupy all permits; the remaining threads read the files of responses.
        .max_blocking_threads(Limits::default().handlers + FILE_THREADS)
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen).await.with_context(|| {
            format!("cannot listen on {}; give another address with --listen", arguments.listen)
        })?;
        serve::serve(site, actions, listener, limits, stop_signal()?).await.context("the server failed")
    })
}

fn run_export(results: &ResultsArguments, arguments: ExportArguments) -> anyhow::Result<()> {
    let site = site(results)?;
    let ExportArguments { dir, branch: branches, commits, base_url } = arguments;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_stopped);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the thread that waits for signals")?;
    runtime.spawn(async move {
        fsx::stop::first_signal(&SIGNALS).await;
        stop.store(true, Ordering::Relaxed);
    });
    let mut line = ProgressLine::new();
    let wanted = Export { dir, branches, commits, base_url };
    let exported = export(site, &wanted, fsx::clock::unix_seconds(), |exported| {
        line.show(exported);
        !is_stopped.load(Ordering::Relaxed)
    });
    line.clear();
    let Exported { pages, logs, pages_left_out, logs_left_out, .. } = exported?;
    if pages_left_out + logs_left_out > 0 {
        stdio::message(format_args!(
            "left out, beyond the limits: {} and {}",
            pages_left_out.plural("page"),
            logs_left_out.plural("log")
        ));
    }
    stdio::line(format_args!("{}: {}, {}", wanted.dir.display(), pages.plural("page"), logs.plural("log")))?;
    Ok(())
}

/// The number of exported files, on a terminal.
struct ProgressLine {
    is_terminal: bool,
    shown: Instant,
}

impl ProgressLine {
    const INTERVAL: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), shown: Instant::now() }
    }

    fn show(&mut self, exported: &Exported) {
        if self.is_terminal && self.shown.elapsed() >= Self::INTERVAL {
            self.shown = Instant::now();
            let Exported { pages, logs, pages_left_out, logs_left_out, .. } = exported;
            let left_out = match pages_left_out + logs_left_out {
                0 => String::new(),
                count => format!(", {} left out", count.plural("file")),
            };
            let text = format!("\r{}, {}{left_out}\x1b[K", pages.plural("page"), logs.plural("log"));
            // A closed terminal does not stop the export.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// The signals that end the program.
const SIGNALS: [SignalKind; 2] = [SignalKind::interrupt(), SignalKind::terminate()];

/// The maximum time from a signal until the process exits, even if a file system hangs.
const STOP: Duration = Duration::from_millis(9500);

/// Completes on SIGINT or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
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
    let request = cgi::request(&environment, ROOTS);
    let arguments = ResultsArguments {
        config: None,
        output_dir: std::env::var_os("KTEST_CI_OUTPUT_DIR").map(PathBuf::from),
    };
    let response = match site(&arguments) {
        Ok(site) => {
            let is_local = request.client.is_some_and(|client| client.to_canonical().is_loopback());
            let request = site.public_address().locate(request.clone(), is_local);
            handle(&site, &request, fsx::clock::unix_seconds())
        }
        Err(error) => {
            tracing::error!("{}", stdio::WithCauses(error.as_ref()));
            let (format, _) = route::parse(&request);
            views::error::view(&Problem::Store, &request, format).finished(&request.method)
        }
    };
    cgi::write(response, io::stdout().lock()).context("cannot write the response")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_accepted_before_and_after_the_subcommand() {
        for words in [
            ["ci-dashboard", "--config", "ci.toml", "serve"].as_slice(),
            &["ci-dashboard", "serve", "--config", "ci.toml", "--listen", "127.0.0.1:8080"],
        ] {
            let Arguments { results, command } = Arguments::try_parse_from(words).unwrap();
            let Command::Serve(serve) = command else { panic!("another command") };
            assert_eq!(results.config, Some("ci.toml".into()));
            assert_eq!(serve.listen.port(), 8080);
        }
        assert!(Arguments::try_parse_from(["ci-dashboard"]).is_err());
        assert!(Arguments::try_parse_from(["ci-dashboard", "serve", "--listen", "8080"]).is_err());
    }
}
